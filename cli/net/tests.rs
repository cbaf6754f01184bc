//! A real listener on this machine, and clients with every kind of certificate.

#![allow(clippy::disallowed_methods, reason = "tests make files as a user does")]

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use hyper_util::rt::TokioIo;
use shardfuse_coordinator::service::role::Role;
use shardfuse_merge::{Kind, Result};
use shardfuse_proto::v1::{self, work_client::WorkClient, work_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::connections::Limits;
use super::listen::serve_within;
use super::{Authority, Bearer, Pair, Services, Target, connect, listen};
use crate::args;

/// Answers with the role that the listener gave.
struct Echo;

#[tonic::async_trait]
impl work_server::Work for Echo {
    type SessionStream = Pin<Box<dyn Stream<Item = std::result::Result<v1::ToWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> std::result::Result<Response<Self::SessionStream>, Status> {
        let role = Role::of(&request).map_or("none", Role::as_str);
        Err(Status::failed_precondition(role))
    }
}

fn authority() -> Authority {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Authority::new(now, 1).unwrap()
}

/// Files of one side, and the flags that name them.
fn files(dir: &Path, name: &str, ca: &Authority, pair: &Pair) -> args::Tls {
    let path = |end: &str| dir.join(format!("{name}.{end}"));
    std::fs::write(path("ca"), &ca.pair().cert).unwrap();
    std::fs::write(path("pem"), &pair.cert).unwrap();
    std::fs::write(path("key"), &pair.key).unwrap();
    args::Tls { tls_ca: Some(path("ca")), tls_cert: Some(path("pem")), tls_key: Some(path("key")), insecure: false }
}

struct Listening {
    port: u16,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<Result<()>>,
}

async fn start(tls: args::Tls) -> Listening {
    start_within(Limits::of_process(), tls).await
}

async fn start_within(limits: Limits, tls: args::Tls) -> Listening {
    let (listener, security) = listen(&args::Listen { listen: "127.0.0.1:0".into(), tls }).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let services = Services::new().unwrap().with(work_server::WorkServer::new(Echo));
    let (stop, stopped) = oneshot::channel::<()>();
    let done = tokio::spawn(serve_within(limits, listener, services, security, async {
        let _ = stopped.await;
    }));
    Listening { port, stop, done }
}

/// The role that a client is given, or why it is not let in.
async fn role(url: &str, tls: args::Tls) -> std::result::Result<String, String> {
    let target = Target::new(url, &args::Way { tls, tls_name: None }).map_err(|e| e.message().to_owned())?;
    let channel = connect(&target).await.map_err(|e| e.message().to_owned())?;
    let status = WorkClient::new(channel).session(tokio_stream::empty()).await.map(drop).expect_err("the echo refuses");
    match status.code() {
        Code::FailedPrecondition => Ok(status.message().to_owned()),
        _ => Err(super::failure(&target, &status).message().to_owned()),
    }
}

#[tokio::test]
async fn the_role_is_that_of_the_certificate_and_nobody_else_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let server = start(files(dir.path(), "server", &ours, &ours.certificate(Bearer::Coordinator, &[]).unwrap())).await;
    let url = format!("https://localhost:{}", server.port);
    let of = |name: &str, ca: &Authority, pair: &Pair| files(dir.path(), name, ca, pair);

    for (bearer, expected) in [
        (Bearer::Worker, "worker"),
        (Bearer::Submitter, "submitter"),
        (Bearer::Job, "worker"),
        (Bearer::Coordinator, "none"),
    ] {
        let pair = ours.certificate(bearer, &[]).unwrap();
        assert_eq!(role(&url, of(bearer.name(), &ours, &pair)).await.as_deref(), Ok(expected), "{bearer:?}");
    }
    // By address too: it is in the certificate.
    let worker = ours.certificate(Bearer::Worker, &[]).unwrap();
    let by_address = format!("https://127.0.0.1:{}", server.port);
    assert_eq!(role(&by_address, of("w", &ours, &worker)).await.as_deref(), Ok("worker"));

    // A certificate of ours without a role: it shakes hands, and is nobody.
    let plain = {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["someone".to_owned()]).unwrap();
        let ca_key = rcgen::KeyPair::from_pem(&ours.pair().key).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ours.pair().cert, ca_key).unwrap();
        Pair { cert: params.signed_by(&key, &issuer).unwrap().pem(), key: key.serialize_pem() }
    };
    assert_eq!(role(&url, of("plain", &ours, &plain)).await.as_deref(), Ok("none"));

    // A certificate of another authority with the right role.
    let theirs = authority();
    let foreign = theirs.certificate(Bearer::Worker, &[]).unwrap();
    let refused = role(&url, of("foreign", &ours, &foreign)).await.unwrap_err();
    assert!(refused.contains("cannot be reached"), "{refused}");
    // A coordinator of another authority.
    let refused = role(&url, of("wary", &theirs, &worker)).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // A worker's certificate does not pass for a coordinator's.
    let posing = start(files(dir.path(), "posing", &ours, &worker)).await;
    let refused = role(&format!("https://localhost:{}", posing.port), of("w", &ours, &worker)).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    // No certificate at all: the request does not get through.
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ours.pair().cert));
    let bare = Endpoint::from_shared(url.clone()).unwrap().tls_config(config).unwrap().connect_lazy();
    let status = WorkClient::new(bare.clone()).session(tokio_stream::empty()).await.err().unwrap();
    assert_ne!(status.code(), Code::FailedPrecondition, "{status}");
    let status = HealthClient::new(bare).check(HealthCheckRequest::default()).await.err().unwrap();
    assert!(super::is_broken(&status), "{status}");

    // Plain text to a TLS port.
    let refused = role(&format!("http://localhost:{}", server.port), args::Tls::default()).await.unwrap_err();
    assert!(refused.contains("cannot be reached"), "{refused}");
    // TLS to a plain port.
    let open = start(args::Tls::default()).await;
    let refused = role(&format!("https://localhost:{}", open.port), of("w", &ours, &worker)).await.unwrap_err();
    assert!(refused.contains("cannot be reached"), "{refused}");
    // Whom a plain port on this machine lets in, it trusts.
    let all = role(&format!("http://127.0.0.1:{}", open.port), args::Tls::default()).await;
    assert_eq!(all.as_deref(), Ok("trusted"));
}

#[tokio::test]
async fn health_needs_no_role_and_says_when_the_end_comes() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let server = start(files(dir.path(), "server", &ours, &ours.certificate(Bearer::Coordinator, &[]).unwrap())).await;
    let tls = files(dir.path(), "s", &ours, &ours.certificate(Bearer::Submitter, &[]).unwrap());
    let url = format!("https://localhost:{}", server.port);
    let target = Target::new(&url, &args::Way { tls, tls_name: None }).unwrap();
    let mut client = HealthClient::new(connect(&target).await.unwrap());
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    for service in ["", "shardfuse.v1.Work"] {
        assert_eq!(client.check(ask(service)).await.unwrap().get_ref().status, 1, "{service}");
    }
    let unknown = client.check(ask("shardfuse.v1.Other")).await.err().unwrap();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watching = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watching.message().await.unwrap().unwrap().status, 1);
    server.stop.send(()).unwrap();
    assert_eq!(watching.message().await.unwrap().unwrap().status, 2, "NOT_SERVING before the end");
    drop((watching, client));
    let ended = tokio::time::timeout(Duration::from_secs(60), server.done).await.expect("it ends");
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn other_machines_take_tls_or_an_explicit_word() {
    let at = |listen: &str, tls: args::Tls| args::Listen { listen: listen.into(), tls };
    let error = listen(&at("0.0.0.0:0", args::Tls::default())).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.message().contains("without TLS") && error.advice().unwrap().contains("--insecure"), "{error:?}");
    assert!(listen(&at("0.0.0.0:0", args::Tls { insecure: true, ..args::Tls::default() })).await.is_ok());
    assert_eq!(listen(&at("nonsense", args::Tls::default())).await.err().unwrap().kind(), Kind::Usage);
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let pair = ours.certificate(Bearer::Coordinator, &[]).unwrap();
    assert!(listen(&at("0.0.0.0:0", files(dir.path(), "s", &ours, &pair))).await.is_ok());
}

#[tokio::test]
async fn files_that_are_wrong_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let pair = ours.certificate(Bearer::Worker, &[]).unwrap();
    let read = |tls: &args::Tls| {
        Target::new("https://localhost", &args::Way { tls: tls.clone(), tls_name: None })
            .err()
            .map(|e| e.message().to_owned())
    };
    let good = files(dir.path(), "w", &ours, &pair);
    assert_eq!(read(&good), None);

    let old = Authority::new(1_000_000_000, 10).unwrap();
    let expired = files(dir.path(), "old", &ours, &old.certificate(Bearer::Worker, &[]).unwrap());
    let message = read(&expired).unwrap();
    assert!(message.contains("old.pem expired on "), "{message}");

    let mut swapped = good.clone();
    std::mem::swap(&mut swapped.tls_cert, &mut swapped.tls_key);
    assert!(read(&swapped).unwrap().contains("holds no PEM block CERTIFICATE"), "{:?}", read(&swapped));
    let mut missing = good.clone();
    missing.tls_ca = Some(dir.path().join("nowhere"));
    assert!(read(&missing).unwrap().contains("nowhere cannot be read"));

    // A key of another certificate shows when TLS is set up.
    let other = ours.certificate(Bearer::Worker, &[]).unwrap();
    let mixed = files(dir.path(), "mixed", &ours, &Pair { key: other.key, ..pair });
    let target = Target::new("https://localhost", &args::Way { tls: mixed, tls_name: None }).unwrap();
    let error = connect(&target).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.message().contains("mixed.key"), "{error}");
}

/// Long enough for any machine: this is when a test gives up.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What never happens within a test.
const NEVER: Duration = Duration::from_secs(3600);

/// A connection that says nothing, or the first bytes of HTTP/2.
async fn silent(port: u16, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(says).await.unwrap();
    stream
}

/// Waits until the other side has closed it.
async fn is_dropped(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    // Closed with or without a last word, or reset.
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("it is dropped");
}

/// A client with a request under way, and what keeps that.
async fn watching(
    port: u16,
) -> (HealthClient<tonic::transport::Channel>, Streaming<tonic_health::pb::HealthCheckResponse>) {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: String::new() };
    let mut states = client.watch(request).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status, 1);
    (client, states)
}

/// The preface of HTTP/2 and empty settings: a handshake, and no request.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn half_open_and_idle_connections_are_dropped_and_those_with_a_request_stay() {
    let soon = Duration::from_millis(100);
    let server = start_within(Limits { most: 100, greeting: soon, idle: soon }, args::Tls::default()).await;
    let (mut client, mut states) = watching(server.port).await;
    for says in [&b""[..], b"PRI", GREETING] {
        is_dropped(silent(server.port, says).await).await;
    }
    // One that had a request, and has none any more: the next request finds the connection closed, and makes another.
    let connected = Arc::new(AtomicU32::new(0));
    let (counter, port) = (Arc::clone(&connected), server.port);
    let connector = tower::service_fn(move |_: Uri| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { TcpStream::connect(("127.0.0.1", port)).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut idle = HealthClient::new(endpoint.connect_with_connector(connector).await.unwrap());
    let again = async {
        while connected.load(Ordering::Relaxed) < 2 {
            // May meet the moment in which it is dropped.
            let _ = idle.check(HealthCheckRequest::default()).await;
            tokio::time::sleep(15 * soon).await;
        }
    };
    tokio::time::timeout(TIMEOUT, again).await.expect("an idle connection is dropped");
    // What was under way all the time still is, on its first connection.
    client.check(HealthCheckRequest::default()).await.unwrap();
    server.stop.send(()).unwrap();
    assert_eq!(states.message().await.unwrap().unwrap().status, 2, "the stream lives to the end");
}

#[tokio::test]
async fn silent_connections_give_way_to_those_that_ask_something() {
    let server = start_within(Limits { most: 8, greeting: NEVER, idle: NEVER }, args::Tls::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..8 {
        crowd.push(silent(server.port, GREETING).await);
    }
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(tokio::time::timeout(TIMEOUT, watching(server.port)).await.expect("it is let in"));
    }
    // The oldest went first.
    for stream in crowd.drain(..4) {
        is_dropped(stream).await;
    }
    for (client, _) in &mut kept {
        client.check(HealthCheckRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn connections_with_requests_are_never_dropped_for_others() {
    let server = start_within(Limits { most: 2, greeting: NEVER, idle: NEVER }, args::Tls::default()).await;
    let (mut first, second) = (watching(server.port).await, watching(server.port).await);
    is_dropped(silent(server.port, b"").await).await;
    first.0.check(HealthCheckRequest::default()).await.unwrap();
    // A place that is given back is another's.
    drop(second);
    let third = async {
        loop {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.port)).unwrap();
            let Ok(channel) = endpoint.connect().await else { continue };
            if HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, third).await.expect("it is let in");
}

#[tokio::test]
async fn a_handshake_that_is_not_made_is_dropped_with_tls_too() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let tls = files(dir.path(), "server", &ours, &ours.certificate(Bearer::Coordinator, &[]).unwrap());
    let soon = Duration::from_millis(100);
    let server = start_within(Limits { most: 4, greeting: soon, idle: soon }, tls).await;
    is_dropped(silent(server.port, b"").await).await;
}
