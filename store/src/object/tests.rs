use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::*;
use crate::config::Config;

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
const AZURE_KEY: &str = "d0phbHJYVXRuRkVNSUs3TURFTkdiUHhSZmlDWUVYQU1QTEVLRVk=";

fn connections() -> Connections {
    Connections::new(Timeouts::default()).unwrap()
}

fn at(text: &str) -> Location {
    text.parse().unwrap()
}

/// A port that nobody listens on.
fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn environment(port: u16) -> Environment {
    let endpoint = format!("http://127.0.0.1:{port}");
    Environment::of([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", SECRET),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "mine"),
        ("AZURE_STORAGE_SAS_KEY", &format!("sv=1&sig={SECRET}")),
        ("AZURE_STORAGE_ENDPOINT", &endpoint),
        ("AZURE_ALLOW_HTTP", "true"),
        ("GOOGLE_BEARER_TOKEN", SECRET),
        ("GOOGLE_BASE_URL", &endpoint),
        ("GOOGLE_ALLOW_HTTP", "true"),
    ])
}

#[tokio::test]
async fn a_bucket_takes_the_parts_of_its_protocol_unless_its_settings_say_smaller() {
    let env = environment(closed());
    let limits = |place: &str, settings: &str| {
        let (at, config) = (at(place), Config::parse(settings).unwrap());
        connect(&at, &config, &env, &connections()).unwrap().limits(&at)
    };
    let s3 = Limits { min_part: 5 << 20, max_part: 5 << 30, max_parts: 10_000 };
    assert_eq!(limits("s3://bucket/x", "{}"), s3);
    assert_eq!(limits("gs://bucket/x", "{}"), s3);
    assert_eq!(limits("az://bucket/x", "{}"), Limits { min_part: 0, max_part: 4_000 << 20, max_parts: 50_000 });
    let small = "s3://bucket: { endpoint: https://localhost, min_part_size: 1024 }";
    assert_eq!(limits("s3://bucket/x", small), Limits { min_part: 1024, ..s3 });
}

#[tokio::test]
async fn no_secret_is_shown() {
    let env = environment(closed());
    for place in ["s3://bucket/x", "gs://bucket/x", "az://bucket/x"] {
        let at = at(place);
        let bucket = connect(&at, &Config::default(), &env, &connections()).unwrap();
        let upload = ids::Upload::new(None, ids::name()).written();
        let mut shown = format!("{env:?} {bucket:?}");
        let errors = [
            bucket.head(&at).await.unwrap_err(),
            bucket.read(&at, 0, vec![0; 9], None).await.unwrap_err(),
            bucket.list(&at).await.unwrap_err(),
            bucket.put(&at, "x".into()).await.unwrap_err(),
            bucket.create(&at, "x".into()).await.unwrap_err(),
            bucket.begin(&at, 1).await.unwrap_err(),
            bucket.probe(&at, &upload).await.unwrap_err(),
            bucket.delete_tree(&at).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
            shown = format!("{shown}\n{error:?} {}", error.chain());
        }
        for secret in [SECRET, "ignature", "sig=", "Bearer"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_without_encryption_must_be_allowed() {
    let mut env = environment(closed());
    env = Environment::of([
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT_URL", env.get("AWS_ENDPOINT_URL").unwrap()),
    ]);
    let at = at("s3://bucket/x");
    let bucket = connect(&at, &Config::default(), &env, &connections()).unwrap();
    let error = bucket.head(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(error.chain().contains("without encryption"), "{}", error.chain());
}

#[test]
fn credentials_that_are_not_there_are_named() {
    let refused = |config: &str, place: &str, env: &Environment| {
        let (config, at) = (Config::parse(config).unwrap(), at(place));
        connect(&at, &config, env, &connections()).err().unwrap()
    };
    let none = Environment::default();
    let error = refused(
        "s3://a: { credentials: { env: { access_key_id: OUR_KEY, secret_access_key: OUR_SECRET } } }",
        "s3://a/x",
        &none,
    );
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.to_string().contains("OUR_KEY"), "{error}");
    let error = refused("s3://a: { credentials: web-identity }", "s3://a/x", &none);
    assert!(error.to_string().contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{error}");
    let error = refused("s3://a: { credentials: { profile: team } }", "s3://a/x", &none);
    assert!(error.to_string().contains("team"), "{error}");
    let error = refused("{}", "s3://a/x", &Environment::of([("AWS_PROFILE", "team")]));
    assert!(error.to_string().contains("profile team"), "{error}");
    let error = refused("{}", "az://a/x", &none);
    assert!(error.to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"), "{error}");
}

#[test]
fn azure_places_name_their_account() {
    let env = Environment::of([("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)]);
    let place = at("abfss://models@mine.dfs.core.windows.net/out");
    assert!(connect(&place, &Config::default(), &env, &connections()).is_ok());
}

#[tokio::test]
async fn what_lies_elsewhere_or_is_no_object_is_refused() {
    let env = environment(closed());
    let bucket = connect(&at("s3://bucket/x"), &Config::default(), &env, &connections()).unwrap();
    let error = bucket.head(&at("s3://other/x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(bucket.put(&at("s3://bucket"), "x".into()).await.unwrap_err().to_string().contains("all of a bucket"));
    assert!(bucket.delete_tree(&at("s3://bucket")).await.is_err(), "a whole bucket is not removed");
    let pin = Pin::new("\"a\"\r\nx-evil: 1");
    let error = bucket.read(&at("s3://bucket/x"), 0, vec![0; 1], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "a pin that is no ETag is never sent");
}

#[tokio::test]
async fn an_anonymous_store_is_only_read() {
    let config = Config::parse("s3://a: { credentials: anonymous }").unwrap();
    let at = at("s3://a/x");
    let bucket = connect(&at, &config, &Environment::default(), &connections()).unwrap();
    assert_eq!(bucket.put(&at, "x".into()).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(bucket.begin(&at, 1).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(bucket.check_output(&at).await.unwrap_err().kind(), ErrorKind::Permission);
}

const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>trial</UploadId></InitiateMultipartUploadResult>";

/// A server that gives every request one answer, and a HEAD the ETag `now`. Returns its port, and the heads of the requests.
fn answering(
    status: &'static str,
    body: &'static str,
    now: &'static str,
) -> (u16, std::sync::mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let (status, body) = match head.first() {
                Some(first) if first.starts_with("POST ") => ("200 OK", BEGUN),
                Some(first) if first.starts_with("DELETE ") => ("204 No Content", ""),
                Some(first) if first.starts_with("HEAD ") => (&*format!("200 OK\r\nETag: \"{now}\""), ""),
                _ => (status, body),
            };
            let _ = tell.send(head);
            let length = body.len();
            write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    (port, heads)
}

async fn copied(port: u16, from: &str) -> Result<PartId> {
    let bucket = connect(&at("s3://bucket/x"), &Config::default(), &environment(port), &connections()).unwrap();
    compose(&bucket, from).await
}

async fn compose(bucket: &Bucket, from: &str) -> Result<PartId> {
    let at = at("s3://bucket/out/x");
    let upload = ids::Upload::new(None, "up+load".to_owned()).written();
    let chunk = Chunk::Copy { from: from.parse().unwrap(), range: 5..15, pin: Pin::new("\"one\"") };
    bucket.compose_part(&at, &upload, PartSlot { number: 6, offset: 0 }, vec![chunk]).await
}

#[tokio::test]
async fn a_copy_names_its_source_by_version_and_signs_that() {
    let body = "<CopyPartResult><LastModified>2026</LastModified><ETag>&quot;abc&quot;</ETag></CopyPartResult>";
    let (port, heads) = answering("200 OK", body, "one");
    assert_eq!(copied(port, "s3://other/base/a b+ü").await.unwrap(), PartId::new("10.\"abc\""));
    let heads: Vec<Vec<String>> = heads.try_iter().collect();
    let lines: Vec<&str> = heads.iter().map(|head| head[0].as_str()).collect();
    for (line, method) in lines.iter().zip(["POST", "PUT", "DELETE"]) {
        assert!(line.starts_with(&format!("{method} /bucket/out/.shardfuse/trial-")), "{lines:?}");
    }
    let head = heads.get(3).unwrap_or_else(|| panic!("{lines:?}"));
    assert!(head[0].starts_with("PUT /bucket/out/x?partNumber=7&uploadId=up%2Bload&"), "{}", head[0]);
    assert!(
        head[0]
            .contains("SignedHeaders=host%3Bx-amz-copy-source%3Bx-amz-copy-source-if-match%3Bx-amz-copy-source-range"),
        "{}",
        head[0]
    );
    for line in [
        "x-amz-copy-source: /other/base/a%20b%2B%C3%BC",
        "x-amz-copy-source-range: bytes=5-14",
        "x-amz-copy-source-if-match: \"one\"",
        "content-length: 0",
    ] {
        assert!(head.iter().any(|found| found == line), "no {line} in {head:?}");
    }
}

/// It would take the copy for a part without bytes.
#[tokio::test]
async fn a_store_that_knows_no_copies_is_asked_once_and_not_for_a_part_of_the_upload() {
    let (port, heads) = answering("200 OK", "", "one");
    let bucket = connect(&at("s3://bucket/x"), &Config::default(), &environment(port), &connections()).unwrap();
    for _ in 0..2 {
        let error = compose(&bucket, "s3://bucket/base").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain());
    }
    let asked: Vec<String> = heads.try_iter().map(|head| head[0].clone()).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|line| line.contains("/out/.shardfuse/trial-")), "{asked:?}");
}

/// Some stores ignore the condition, and some hold one version to it and copy the next.
#[tokio::test]
async fn a_copy_that_races_an_overwrite_is_not_taken_for_the_version_of_its_pin() {
    let (port, heads) = answering("200 OK", "<CopyPartResult><ETag>abc</ETag></CopyPartResult>", "two");
    let error = copied(port, "s3://other/base").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.chain());
    assert!(error.to_string().contains("was \"one\" and is now \"two\""), "{error}");
    let last = heads.try_iter().last().unwrap();
    assert_eq!(last[0], "HEAD /other/base HTTP/1.1", "its own bucket is asked");
}

#[tokio::test]
async fn an_answer_to_a_copy_is_read_to_its_end() {
    for (status, body, kind) in [
        ("200 OK", "  \n <Error><Code>InternalError</Code><Message>again</Message></Error>", ErrorKind::Transient),
        ("200 OK", "<Error><Code>AccessDenied</Code></Error>", ErrorKind::Unsupported),
        ("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>", ErrorKind::Changed),
        ("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>", ErrorKind::NoSuchUpload),
        ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", ErrorKind::NoBucket),
        ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", ErrorKind::Unsupported),
        ("403 Forbidden", "<Error><Code>ExpiredToken</Code></Error>", ErrorKind::Permission),
        ("403 Forbidden", "<Error><Code>SignatureDoesNotMatch</Code></Error>", ErrorKind::Permission),
        ("400 Bad Request", "<Error><Code>KMS.DisabledException</Code></Error>", ErrorKind::Unsupported),
        ("501 Not Implemented", "", ErrorKind::Unsupported),
        ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", ErrorKind::Transient),
    ] {
        let (port, _heads) = answering(status, body, "one");
        let error = copied(port, "s3://bucket/base").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}: {}", error.chain());
        let shown = format!("{error:?} {}", error.chain());
        assert!(!shown.contains(SECRET) && !shown.contains("X-Amz"), "{shown}");
    }
}

#[tokio::test]
async fn only_objects_of_the_same_service_are_copied() {
    let config = "s3://open: { credentials: anonymous }";
    let connected = |place: &str| {
        connect(&at(place), &Config::parse(config).unwrap(), &environment(closed()), &connections()).unwrap()
    };
    let copies = async |from: &str, to: &str| connected(to).copies(&at(from), &at(to)).await.unwrap();
    assert_eq!(copies("s3://one/x", "s3://two/y").await, Copies::Parts { max: 5 << 30 });
    let none = [
        ("s3://open/x", "s3://two/y"),
        ("s3://open/x", "s3://open/y"),
        ("gs://two/x", "s3://two/y"),
        ("/x", "s3://two/y"),
        ("gs://two/x", "gs://two/y"),
        ("az://two/x", "az://two/y"),
    ];
    for (from, to) in none {
        let answer = copies(from, to).await;
        assert!(matches!(&answer, Copies::None { why } if why.starts_with(from)), "{from} to {to}: {answer:?}");
    }
    // What the guess forbids is never sent.
    let error = copied(closed(), "gs://bucket/base").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain());
}

/// A server that answers a GET with the ETag "one" and then is overwritten: from then on a HEAD says "two". Returns its port.
fn overwritten_by_a_read() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut now = "one";
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().unwrap().unwrap() != "" {}
            let head = |tag: &str, status: &str| {
                format!(
                    "HTTP/1.1 {status}\r\nETag: \"{tag}\"\r\nLast-Modified: Sun, 29 Nov 2026 06:00:00 GMT\r\n\
                     Content-Range: bytes 0-3/4\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
                )
            };
            let answer = match request.starts_with("GET ") {
                true => head(std::mem::replace(&mut now, "two"), "206 Partial Content") + "new!",
                false => head(now, "200 OK"),
            };
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_read_that_races_an_overwrite_is_not_taken_for_the_version_of_its_pin() {
    let at = at("s3://bucket/x");
    let (env, pin) = (environment(overwritten_by_a_read()), Pin::new("\"one\""));
    let bucket = connect(&at, &Config::default(), &env, &connections()).unwrap();
    assert_eq!(bucket.head(&at).await.unwrap().pin, pin);
    let error = bucket.read(&at, 0, vec![0; 4], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.chain());
    assert!(error.to_string().contains("was \"one\" and is now \"two\""), "{error}");
    // Where nothing changes any more, one look is enough.
    assert_eq!(bucket.read(&at, 0, vec![0; 4], Some(&Pin::new("\"two\""))).await.unwrap(), b"new!");
}
