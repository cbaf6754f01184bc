//! Secrets of the processes appear nowhere: not in the state, the journal, the plan, the output, a log or an error.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shardfuse_fleetkit::{Fleet, walk};

const SECRETS: [(&str, &str); 5] = [
    ("AWS_SECRET_ACCESS_KEY", "q7Rz0secretAws"),
    ("AWS_SESSION_TOKEN", "q7Rz0sessionAws"),
    ("HF_TOKEN", "hf_q7Rz0secretHub"),
    ("AZURE_STORAGE_ACCOUNT_KEY", "cTdSejBzZWNyZXRBenVyZQ=="),
    ("GOOGLE_SERVICE_ACCOUNT_KEY", "q7Rz0secretGoogle"),
];

/// A store that refuses everybody, in the words that stores have for it, and the requests that it saw with a signature.
fn refusing_store() -> (u16, Arc<AtomicUsize>) {
    let signed = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&signed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut request = [0; 16 << 10];
                while let Ok(read @ 1..) = stream.read(&mut request) {
                    if String::from_utf8_lossy(&request[..read]).contains("AWS4-HMAC-SHA256") {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
                    let answer = format!(
                        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, signed)
}

#[test]
fn secrets_of_the_environment_appear_nowhere() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.env = SECRETS.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let (port, signed) = refusing_store();
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIDPUBLIC"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}")),
        ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        // Everything that is ever logged, of this program and of what it is made of.
        (
            "SHARDFUSE_LOG",
            "trace,h2=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,tonic=trace,tower=trace,object_store=trace",
        ),
    ] {
        fleet.env.push((name.to_owned(), value.to_owned()));
    }
    let allow = ["models", "outputs", "s3://models"];
    fleet.coordinator(&allow);
    fleet.worker("worker", &allow);
    let key = std::fs::read_to_string(fleet.path("tls/submitter.key")).unwrap();

    // One that is done, one that is refused by a store that saw credentials, one of a place that holds nothing.
    let done =
        fleet.submit(&fleet.url("models/base"), &fleet.url("models/lora"), &fleet.url("outputs/done"), &["--wait"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(fleet.path("outputs/done/shardfuse.json").exists());
    let mut said = vec![("the submitter of what is done".to_owned(), [done.stdout, done.stderr].concat())];
    for base in ["s3://models/base", &fleet.url("models/nothing")] {
        let failed = fleet.submit(base, &fleet.url("models/lora"), &fleet.url("outputs/failed"), &["--wait"]);
        assert!(!failed.status.success(), "{base}");
        said.push((format!("the submitter of {base}"), [failed.stdout, failed.stderr].concat()));
    }
    assert!(signed.load(Ordering::Relaxed) > 0, "no request was signed, so no secret was used");
    let all = fleet.client("list", "submitter", &["--format", "json"]);
    said.push(("the list".into(), all.stdout));
    // Not stopped: a merge that is under way leaves a plan and a journal, too.
    let listed = walk(fleet.dir.path()).into_iter().filter(|p| !p.starts_with(fleet.path("tls")));
    said.extend(listed.map(|p| (p.display().to_string(), std::fs::read(&p).unwrap_or_default())));

    let trace = said.iter().find(|(name, _)| name.ends_with("coordinator.stderr")).unwrap();
    assert!(trace.1.len() > 10_000, "the log is as talkative as asked for, or this test shows nothing");
    let lines: Vec<&str> = key.lines().filter(|l| !l.starts_with("-----")).collect();
    for (name, bytes) in &said {
        let text = String::from_utf8_lossy(bytes);
        for secret in SECRETS.iter().map(|s| s.1).chain(lines.iter().copied()) {
            if let Some(at) = text.find(secret) {
                let around: String = text[at.saturating_sub(200)..].chars().take(300).collect();
                panic!("{name} holds {secret}:\n{around}");
            }
        }
    }
}
