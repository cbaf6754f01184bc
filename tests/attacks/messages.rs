//! Messages that are too large, too many, or no messages.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use prost::Message as _;
use shardfuse_proto::v1::{self, from_worker, merges_client::MergesClient, work_client::WorkClient};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tonic::{Code, Request};

use shardfuse_fleetkit::Fleet;
use shardfuse_testkit::checkpoint::{Model, lora};

#[tokio::test]
async fn messages_beyond_the_bounds_are_refused_and_harm_nobody() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    let mut merges = MergesClient::new(fleet.channel("submitter").await);
    let mut submit = async |spec: v1::MergeSpec| {
        let request = v1::SubmitRequest { spec: Some(spec), ..Default::default() };
        merges.submit(request).await.expect_err("it is refused").code()
    };
    let spec = fleet.spec("outputs/never");
    // More bytes than a message may have.
    let huge = v1::MergeSpec { base: "x".repeat(MAX_MESSAGE + 1), ..spec.clone() };
    assert_eq!(submit(huge).await, Code::OutOfRange);
    // A URL, and a list, that are longer than any that is meant.
    let long = v1::MergeSpec { base: format!("s3://b/{}", "x".repeat(5_000)), ..spec.clone() };
    assert_eq!(submit(long).await, Code::InvalidArgument);
    let many = v1::MergeSpec { lora: vec![spec.lora[0].clone(); 100_000], ..spec.clone() };
    assert_eq!(submit(many).await, Code::InvalidArgument);
    let option = |name: &str, value: &str| v1::SpecOption { name: name.into(), value: value.into() };
    for value in ["1", "3000", "18446744073709551615"] {
        let options = vec![option("part_size", value)];
        assert_eq!(submit(v1::MergeSpec { options, ..spec.clone() }).await, Code::InvalidArgument, "{value}");
    }
    // More values than any merge has, a value without end, and an option that does not exist.
    for options in [
        vec![option("ignore_files", "x"); 100_000],
        vec![option("ignore_files", &"x".repeat(100_000))],
        vec![option("shell", "true")],
    ] {
        assert_eq!(submit(v1::MergeSpec { options, ..spec.clone() }).await, Code::InvalidArgument);
    }
    let weights = [f64::NAN, f64::INFINITY];
    for weight in weights {
        let lora = vec![v1::Lora { weight: Some(weight), ..spec.lora[0].clone() }];
        assert_eq!(submit(v1::MergeSpec { lora, ..spec.clone() }).await, Code::InvalidArgument, "{weight}");
    }
    // Headers without end.
    let mut request = Request::new(v1::ListRequest::default());
    request.metadata_mut().insert("x-filler", "y".repeat(64 << 10).parse().unwrap());
    assert!(MergesClient::new(fleet.channel("submitter").await).list(request).await.is_err());
    assert!(!fleet.path("outputs/never").exists());
    fleet.assert_well();
}

#[tokio::test]
async fn a_session_that_makes_no_sense_ends_alone() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    let say = |message| v1::FromWorker { message: Some(message) };
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: 1,
        name: "w".into(),
        device_class: "cpu".into(),
        memory_bytes: 1,
        slots: 1,
        ..v1::Hello::default()
    };
    let of_version =
        |protocol_version| say(from_worker::Message::Hello(v1::Hello { protocol_version, ..hello.clone() }));
    let piece = |merge: &str| {
        let attempt = v1::Attempt { task: u32::MAX, epoch: u32::MAX, merge: merge.into() };
        let receipt = v1::PartReceipt { store_id: "x".into(), length: u64::MAX, chaining: vec![0; 3] };
        let result = Some(v1::piece_done::Result::Part(receipt));
        say(from_worker::Message::PieceDone(v1::PieceDone {
            attempt: Some(attempt),
            piece: u32::MAX,
            result,
            ..Default::default()
        }))
    };
    let openings: Vec<Vec<v1::FromWorker>> = vec![
        vec![v1::FromWorker { message: None }],
        vec![piece("nobody's")],
        vec![of_version(PROTOCOL_VERSION + 1)],
        vec![say(from_worker::Message::Hello(v1::Hello { slots: 0, ..hello.clone() }))],
    ];
    for opening in openings {
        let mut work = WorkClient::new(fleet.channel("worker").await);
        let refused = match work.session(tokio_stream::iter(opening.clone())).await {
            Err(status) => Some(status),
            // A refusal may also come as the end of the stream.
            Ok(session) => session.into_inner().message().await.err(),
        };
        assert!(refused.is_some(), "{opening:?}");
    }
    // Welcome, and then nonsense about merges that do not exist: it is passed over, and the others go on.
    let mut work = WorkClient::new(fleet.channel("worker").await);
    let nonsense = [of_version(PROTOCOL_VERSION), piece("nobody's"), piece(""), v1::FromWorker { message: None }];
    if let Ok(session) = work.session(tokio_stream::iter(nonsense)).await {
        let mut session = session.into_inner();
        while let Ok(Some(_)) = session.message().await {}
    }
    fleet.assert_well();
}

#[test]
fn bytes_that_are_no_handshake_are_dropped() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff]] {
        let mut stream = TcpStream::connect(("127.0.0.1", fleet.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // An alert, or nothing; then the end. A timeout would be an open door.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
        assert!(answer.len() < 64, "{answer:?}");
    }
    fleet.assert_well();
}

/// A status as HTTP/2 counts it.
fn header_bytes(status: &tonic::Status) -> usize {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

#[tokio::test]
async fn an_adapter_of_another_base_is_refused_in_words_however_many_keys_it_has() {
    let mut fleet = Fleet::new(crate::BINARY);
    // An adapter of 80 layers for a base of two: 468 keys find nothing.
    let deep = Model { layers: 80, ..Model::SMALL };
    lora(&fleet.path("models/deep"), &deep, 4, "a");
    fleet.coordinator(&["models", "outputs"]);
    let mut merges = MergesClient::new(fleet.channel("submitter").await);
    let mut spec = fleet.spec("outputs/x");
    spec.lora[0].path = fleet.url("models/deep");
    let status = merges.plan(v1::PlanRequest { spec: Some(spec.clone()) }).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(header_bytes(&status) < 8 << 10, "{}", header_bytes(&status));
    let failure = v1::Failure::decode(status.details()).unwrap();
    assert_eq!(failure.kind, "unmatched_keys");
    assert!(
        failure.message.contains("468 of 480") && failure.message.contains("2 more patterns"),
        "{}",
        failure.message
    );
    assert!(!failure.hint.is_empty());
    // The merge tells the same.
    let submitted = merges.submit(v1::SubmitRequest { spec: Some(spec), ..Default::default() }).await.unwrap();
    let id = submitted.into_inner().merge.unwrap().id;
    let mut states = merges.watch(v1::WatchRequest { id }).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        last = state.merge;
    }
    let shown = last.unwrap().failure.unwrap();
    assert_eq!((shown.kind.as_str(), shown.message), ("unmatched_keys", failure.message));
}

#[tokio::test]
async fn a_heartbeat_with_too_many_attempts_ends_its_session_and_no_other() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs"]);
    fleet.worker("honest", &["models", "outputs"]);
    let say = |message| v1::FromWorker { message: Some(message) };
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: 1,
        name: "w".into(),
        device_class: "cpu".into(),
        memory_bytes: 1,
        slots: 1,
        secret: Vec::new(),
    };
    // Two bytes each.
    let beat = v1::Heartbeat { running: vec![v1::Attempt::default(); 200_000], ..Default::default() };
    let said = [say(from_worker::Message::Hello(hello)), say(from_worker::Message::Heartbeat(beat))];
    let mut work = WorkClient::new(fleet.channel("worker").await);
    // The stream stays open on this side: it is the coordinator that ends the session.
    let said = tokio_stream::StreamExt::chain(tokio_stream::iter(said), tokio_stream::pending());
    let mut session = work.session(said).await.unwrap().into_inner();
    let refused = loop {
        match session.message().await {
            Ok(Some(v1::ToWorker { message: Some(v1::to_worker::Message::Welcome(_)) })) => {}
            Ok(other) => panic!("it is answered: {other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("200000 attempts"), "{refused}");
    let (base, lora) = (fleet.url("models/base"), fleet.url("models/lora"));
    let done = fleet.submit(&base, &lora, &fleet.url("outputs/out"), &["--wait", "--quiet"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fleet.assert_well();
}
