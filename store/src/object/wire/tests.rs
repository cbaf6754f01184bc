use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::*;

fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Answer::read(&response.body(()).unwrap().into_parts().0, body.as_bytes())
}

#[test]
fn codes_are_read_from_every_dialect() {
    let s3 = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Please  reduce\nyour rate &amp; wait</Message></Error>";
    let answer = read(503, &[("retry-after", "7")], s3).unwrap();
    assert_eq!(answer.to_string(), "503 SlowDown: Please reduce your rate & wait");
    assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));

    let azure = read(409, &[("x-ms-error-code", "BlobAlreadyExists")], "").unwrap();
    assert_eq!(azure.to_string(), "409 BlobAlreadyExists");

    let google = r#"{"error": {"code": 429, "message": "too fast", "errors": [{"reason": "rateLimitExceeded"}]}}"#;
    assert_eq!(read(429, &[], google).unwrap().to_string(), "429 rateLimitExceeded: too fast");

    let plain = read(502, &[], "<html>bad gateway</html>").unwrap();
    assert_eq!((plain.to_string().as_str(), plain.code), ("502 Bad Gateway", None));
}

#[test]
fn an_error_behind_a_success_is_seen_and_a_success_is_none() {
    let late = "<Error><Code>InternalError</Code><Message>again</Message></Error>";
    assert_eq!(read(200, &[], late).unwrap().code.as_deref(), Some("InternalError"));
    assert_eq!(read(200, &[], "<CompleteMultipartUploadResult/>"), None);
}

#[test]
fn what_was_signed_is_not_repeated() {
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no match</Message>\
        <StringToSign>AWS4-HMAC-SHA256 secret</StringToSign></Error>";
    let shown = format!("{0} {0:?}", read(403, &[], body).unwrap());
    assert!(!shown.contains("HMAC"), "{shown}");
}

#[test]
fn messages_have_an_end() {
    let body = format!("<Error><Message>{}</Message></Error>", "ä".repeat(10_000));
    assert!(read(400, &[], &body).unwrap().to_string().chars().count() < 400);
}

/// A server that takes connections, reads what comes while `reads` holds, and says `answer`, then nothing.
fn stalling(reads: bool, answer: &'static [u8]) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut connection in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = connection.read(&mut head);
            let _ = connection.write_all(answer);
            if reads {
                let mut from = connection.try_clone().unwrap();
                std::thread::spawn(move || while from.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {});
            }
            kept.push(connection);
        }
    });
    format!("http://127.0.0.1:{port}/x")
}

async fn exchange(method: Method, url: &str, body: Bytes) -> Outcome {
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { body: short, answer: short, completion: short };
    let connections = Connections::new(timeouts).unwrap();
    let client =
        connections.connector("s3://bucket".to_owned()).connect(&ClientOptions::new().with_allow_http(true)).unwrap();
    let pieces: object_store::PutPayload =
        (0..body.len()).step_by(65536).map(|at| body.slice(at..at + 65536)).collect();
    let mut request = HttpRequest::new(pieces.into());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap();
    let seen = Seen::default();
    let result = seen.watch(async { client.execute(request).await?.into_body().bytes().await }).await;
    assert!(result.is_err());
    seen.take().unwrap()
}

/// Nothing is waited for without end: not for an answer, not for the rest of one, not for a peer that takes no more.
#[tokio::test]
async fn a_standstill_is_noticed_wherever_it_is() {
    let empty = Bytes::new();
    let upload = Bytes::from(vec![0; 64 << 20]);
    for (method, url, body, expected) in [
        (Method::GET, stalling(true, b""), empty.clone(), "no answer came"),
        (
            Method::GET,
            stalling(true, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            empty,
            "nothing was received",
        ),
        (Method::PUT, stalling(false, b""), upload, "nothing could be sent"),
    ] {
        match exchange(method, &url, body).await {
            Outcome::Broken(broken) => {
                assert!(!broken.for_good);
                assert!(broken.to_string().contains(expected), "{broken}");
            }
            Outcome::Answer(answer) => panic!("{answer}"),
        }
    }
}
