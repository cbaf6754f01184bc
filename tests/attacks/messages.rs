//! Messages that are too large, too many, or no messages.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use shardfuse_proto::v1::{self, from_worker, merges_client::MergesClient, work_client::WorkClient};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tonic::{Code, Request};

use crate::fleet::Fleet;

#[tokio::test]
async fn messages_beyond_the_bounds_are_refused_and_harm_nobody() {
    let mut fleet = Fleet::new();
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
    for part_size in [1, 3000, u64::MAX] {
        assert_eq!(submit(v1::MergeSpec { part_size, ..spec.clone() }).await, Code::InvalidArgument, "{part_size}");
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
    let mut fleet = Fleet::new();
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
    let mut fleet = Fleet::new();
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
