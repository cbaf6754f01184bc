use std::time::Duration;

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
