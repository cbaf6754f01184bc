//! Roles: what a certificate opens and what it does not.

use shardfuse_proto::PROTOCOL_VERSION;
use shardfuse_proto::v1::{self, from_worker, merges_client::MergesClient, work_client::WorkClient};
use tonic::Code;

use shardfuse_fleetkit::{Fleet, command, failed};

fn hello() -> v1::FromWorker {
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: 7,
        name: "intruder".into(),
        device_class: "cpu".into(),
        memory_bytes: 1 << 30,
        slots: 4,
        ..v1::Hello::default()
    };
    v1::FromWorker { message: Some(from_worker::Message::Hello(hello)) }
}

#[tokio::test]
async fn a_submitter_takes_no_tasks() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    for (role, expected) in [("submitter", Code::PermissionDenied), ("coordinator", Code::PermissionDenied)] {
        let mut work = WorkClient::new(fleet.channel(role).await);
        let status = work.session(tokio_stream::once(hello())).await.map(drop).expect_err("it is refused");
        assert_eq!(status.code(), expected, "{role}: {status}");
    }
    // The same message with a worker's certificate is welcome: it was the role.
    let mut work = WorkClient::new(fleet.channel("worker").await);
    let (say, said) = tokio::sync::mpsc::channel(1);
    say.send(hello()).await.unwrap();
    let mut session = work.session(tokio_stream::wrappers::ReceiverStream::new(said)).await.unwrap().into_inner();
    let first = session.message().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(v1::to_worker::Message::Welcome(_))), "{first:?}");
}

/// Opens a session as worker 7 and returns what it is told first, with the session.
async fn join(
    fleet: &Fleet,
    secret: &[u8],
) -> Result<(v1::Welcome, tokio::sync::mpsc::Sender<v1::FromWorker>, tonic::Streaming<v1::ToWorker>), tonic::Status> {
    let mut first = hello();
    if let Some(from_worker::Message::Hello(hello)) = &mut first.message {
        hello.secret = secret.to_vec();
    }
    let (say, said) = tokio::sync::mpsc::channel(4);
    say.send(first).await.unwrap();
    let mut work = WorkClient::new(fleet.channel("worker").await);
    let mut session = work.session(tokio_stream::wrappers::ReceiverStream::new(said)).await?.into_inner();
    match session.message().await?.and_then(|m| m.message) {
        Some(v1::to_worker::Message::Welcome(welcome)) => Ok((welcome, say, session)),
        other => panic!("a welcome is due, not {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_with_the_same_certificate_does_not_get_anothers_number_not_even_after_a_restart() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    let (welcome, _say, mut session) = join(&fleet, &[]).await.expect("the number is free");
    for secret in [&[][..], &welcome.secret[1..], &[7; 56]] {
        let refused = join(&fleet, secret).await.map(|_| ()).expect_err("it shows no secret");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
    let idle = tokio::time::timeout(std::time::Duration::from_millis(200), session.message()).await;
    assert!(idle.is_err(), "the session goes on: {idle:?}");
    let (again, _say, _session) = join(&fleet, &welcome.secret).await.expect("it is the same worker");
    assert_eq!(again.secret, welcome.secret);

    fleet.kill("coordinator");
    fleet.coordinator(&["models", "outputs"]);
    let (_, _say, mut thief) = join(&fleet, &[]).await.expect("a new coordinator does not know who comes back");
    let (again, _say, _session) = join(&fleet, &welcome.secret).await.expect("the key is below --state");
    assert_eq!(again.secret, welcome.secret);
    let ended = thief.message().await;
    assert!(matches!(ended, Ok(None) | Err(_)), "the thief's session ends: {ended:?}");
}

#[tokio::test]
async fn a_worker_submits_and_sees_nothing() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    let spec = fleet.spec("outputs/by-worker");
    for role in ["worker", "coordinator", "job"] {
        let mut merges = MergesClient::new(fleet.channel(role).await);
        let submit = v1::SubmitRequest { spec: Some(spec.clone()), ..Default::default() };
        let plan = v1::PlanRequest { spec: Some(spec.clone()) };
        let id = || "any".to_owned();
        let codes = [
            merges.submit(submit).await.err(),
            merges.plan(plan).await.err(),
            merges.list(v1::ListRequest::default()).await.err(),
            merges.get(v1::GetRequest { id: id() }).await.err(),
            merges.watch(v1::WatchRequest { id: id() }).await.err(),
            merges.cancel(v1::CancelRequest { id: id(), discard: true }).await.err(),
        ]
        .map(|status| status.map(|s| s.code()));
        assert_eq!(codes, [Some(Code::PermissionDenied); 6], "{role}");
    }
    let (code, _, message) = failed(&fleet.client("list", "worker", &[]));
    assert!(code != 0 && message.contains("submitter"), "{message}");
    let merges = MergesClient::new(fleet.channel("submitter").await).list(v1::ListRequest::default()).await.unwrap();
    assert!(merges.get_ref().merges.is_empty(), "nothing was taken on");
    assert!(!fleet.path("outputs/by-worker").exists());
}

#[test]
fn no_certificate_a_foreign_one_and_plain_text_open_nothing() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    fleet.certs("theirs");
    // Their authority does not believe our coordinator.
    let (code, kind, message) = failed(&fleet.client_of("theirs", "list", "submitter", &[]));
    assert_eq!((code, kind.as_str()), (5, "io"), "{message}");
    // Ours believed, their certificate shown.
    std::fs::create_dir(fleet.path("mixed")).unwrap();
    std::fs::copy(fleet.path("tls/ca.pem"), fleet.path("mixed/ca.pem")).unwrap();
    for end in ["pem", "key"] {
        std::fs::copy(fleet.path(&format!("theirs/submitter.{end}")), fleet.path(&format!("mixed/submitter.{end}")))
            .unwrap();
    }
    let (code, kind, message) = failed(&fleet.client_of("mixed", "list", "submitter", &[]));
    assert_eq!((code, kind.as_str()), (5, "io"), "{message}");
    assert!(message.contains("cannot be reached"), "{message}");
    // Plain text.
    let plain = format!("http://localhost:{}", fleet.port);
    let output =
        command(crate::BINARY).args(["list", "--error-format", "json", "--coordinator", &plain]).output().unwrap();
    let (code, kind, message) = failed(&output);
    assert_eq!((code, kind.as_str()), (5, "io"), "{message}");
    assert!(message.contains("https://"), "the hint says what to try: {message}");
    fleet.assert_well();
}

#[test]
fn a_coordinator_lets_other_machines_in_with_tls_only() {
    let fleet = Fleet::new(crate::BINARY);
    let state = fleet.url("state");
    let output = command(crate::BINARY)
        .args(["coordinator", "--error-format", "json", "--listen", "0.0.0.0:0", "--state", &state])
        .output()
        .unwrap();
    let (code, kind, message) = failed(&output);
    assert_eq!((code, kind.as_str()), (2, "usage"), "{message}");
    assert!(message.contains("--insecure") && message.contains("--tls-cert"), "{message}");
    let output = command(crate::BINARY)
        .args(["worker", "--error-format", "json", "--coordinator", "http://coordinator.example:7070"])
        .output()
        .unwrap();
    let (code, kind, message) = failed(&output);
    assert_eq!((code, kind.as_str()), (2, "usage"), "{message}");
    assert!(message.contains("without TLS"), "{message}");
}
