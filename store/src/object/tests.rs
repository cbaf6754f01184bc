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
        let entry = config.find(&at).map(|(_, entry)| entry);
        connect(&at, entry, &env, &connections()).unwrap().limits(&at)
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
        let bucket = connect(&at, None, &env, &connections()).unwrap();
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
    let bucket = connect(&at, None, &env, &connections()).unwrap();
    let error = bucket.head(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(error.chain().contains("without encryption"), "{}", error.chain());
}

#[test]
fn credentials_that_are_not_there_are_named() {
    let refused = |config: &str, place: &str, env: &Environment| {
        let (config, at) = (Config::parse(config).unwrap(), at(place));
        connect(&at, config.find(&at).map(|(_, entry)| entry), env, &connections()).err().unwrap()
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
    assert!(connect(&place, None, &env, &connections()).is_ok());
}

#[tokio::test]
async fn what_lies_elsewhere_or_is_no_object_is_refused() {
    let env = environment(closed());
    let bucket = connect(&at("s3://bucket/x"), None, &env, &connections()).unwrap();
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
    let entry = config.find(&at).map(|(_, entry)| entry);
    let bucket = connect(&at, entry, &Environment::default(), &connections()).unwrap();
    assert_eq!(bucket.put(&at, "x".into()).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(bucket.begin(&at, 1).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(bucket.check_output(&at).await.unwrap_err().kind(), ErrorKind::Permission);
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
    let bucket = connect(&at, None, &env, &connections()).unwrap();
    assert_eq!(bucket.head(&at).await.unwrap().pin, pin);
    let error = bucket.read(&at, 0, vec![0; 4], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.chain());
    assert!(error.to_string().contains("was \"one\" and is now \"two\""), "{error}");
    // Where nothing changes any more, one look is enough.
    assert_eq!(bucket.read(&at, 0, vec![0; 4], Some(&Pin::new("\"two\""))).await.unwrap(), b"new!");
}
