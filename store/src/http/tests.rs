use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::client::Timeouts;
use super::*;
use crate::fails::fails;
use crate::read_only::ReadOnly;
use crate::{Store, conformance};
use shardfuse_testkit::servers::{self, Body, Files, Marks, Quirks};

const ALL_MARKS: [Marks; 5] = [Marks::Strong, Marks::Weak, Marks::WeakTagOnly, Marks::Date, Marks::None];

fn examples() -> Files {
    Files::of_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"))
}

/// A server of the examples, a store, and where the small model's weights are.
async fn served(quirks: Quirks) -> (servers::Web, Arc<dyn Store>, Location, Vec<u8>) {
    let server = servers::Web::start(examples(), quirks).await;
    let at = format!("{}/tiny-llama/model.safetensors", server.url()).parse().unwrap();
    let bytes = server.files.get("tiny-llama/model.safetensors").unwrap().bytes;
    (server, Arc::new(ReadOnly(Web::default())), at, bytes)
}

#[tokio::test]
async fn conforms_whatever_marks_its_versions() {
    for marks in ALL_MARKS {
        for no_head in [false, true] {
            let files = Files::default();
            for (name, bytes) in conformance::prepared() {
                files.write(&format!("some folder/{name}"), bytes);
            }
            // The server sees paths as they are on the wire.
            for name in files.names() {
                files.write(&name.replace(' ', "%20"), files.get(&name).unwrap().bytes);
            }
            let server = servers::Web::start(files, Quirks { marks, no_head, ..Quirks::default() }).await;
            let root: Location = format!("{}/some%20folder", server.url()).parse().unwrap();
            conformance::run_read_only(Arc::new(ReadOnly(Web::default())), root).await;
        }
    }
}

#[tokio::test]
async fn a_read_is_a_range_under_the_pin() {
    let (server, store, at, bytes) = served(Quirks::default()).await;
    let meta = store.head(&at).await.unwrap();
    assert_eq!(meta.size, bytes.len() as u64);
    assert!(meta.pin.as_str().starts_with("etag:"), "{}", meta.pin);
    assert_eq!(store.read(&at, 1000, vec![0; 64], Some(&meta.pin)).await.unwrap(), bytes[1000..1064]);
    let seen = server.server.seen();
    let read = seen.last().unwrap();
    assert_eq!(read.header("range"), Some("bytes=1000-1063"));
    assert!(read.header("if-match").is_some_and(|tag| meta.pin.as_str().ends_with(tag)));
    assert_eq!(read.header("accept-encoding"), Some("identity"));
    fails(store.list(&at.parent().unwrap()).await, ErrorKind::Unsupported, "cannot be listed");
}

#[tokio::test]
async fn a_version_that_was_replaced_is_noticed_by_listening_and_by_deaf_servers() {
    for deaf in [false, true] {
        for marks in ALL_MARKS {
            let (server, store, at, mut bytes) = served(Quirks { marks, deaf, ..Quirks::default() }).await;
            let meta = store.head(&at).await.unwrap();
            assert_eq!(meta.pin.as_str().starts_with("weak:"), marks != Marks::Strong, "{}", meta.pin);
            bytes[0] ^= 1;
            if marks == Marks::None {
                // Without any mark only the size can tell.
                bytes.push(0);
            }
            server.files.write("tiny-llama/model.safetensors", bytes.clone());
            for length in [16, 0] {
                fails(store.read(&at, 0, vec![0; length], Some(&meta.pin)).await, ErrorKind::Changed, "");
            }
            let past = bytes.len() as u64 + 9;
            let kind = store.read(&at, past, vec![0; 1], Some(&meta.pin)).await.unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Changed | ErrorKind::ShortRead), "{kind:?}");
            let (renewed, now) = store.get(&at, 1 << 30).await.unwrap();
            assert!(renewed == bytes && now.pin != meta.pin);
        }
    }
}

#[tokio::test]
async fn a_server_without_ranges_gives_whole_objects_and_no_parts() {
    let (server, store, at, bytes) = served(Quirks { no_ranges: true, ..Quirks::default() }).await;
    let (whole, meta) = store.get(&at, 1 << 30).await.unwrap();
    assert!(whole == bytes);
    // A body that never ends: whoever reads it for the part would wait.
    server.set(|quirks| quirks.body = Body::Stalls(1));
    for pin in [None, Some(&meta.pin)] {
        fails(store.read(&at, 8, vec![0; 16], pin).await, ErrorKind::Unsupported, "no ranges");
        fails(store.read(&at, 0, vec![0; 16], pin).await, ErrorKind::Unsupported, "no ranges");
    }
    server.files.write("tiny-llama/model.safetensors", &bytes[1..]);
    fails(store.read(&at, 8, vec![0; 16], Some(&meta.pin)).await, ErrorKind::Changed, "");
}

#[tokio::test]
async fn bodies_that_end_early_are_told_apart() {
    let (server, _, at, bytes) = served(Quirks::default()).await;
    let timeouts = Timeouts { window: Duration::from_millis(200), ..Timeouts::default() };
    let store = Web { client: Client { timeouts, ..Client::default() }, tokens: Vec::new() };
    let meta = store.head(&at).await.unwrap();
    for (body, kind, says) in [
        (Body::Cut(100), ErrorKind::Transient, "broke after"),
        (Body::Ends(100), ErrorKind::ShortRead, "ends after 100 of 5000 bytes"),
        (Body::Stalls(100), ErrorKind::Transient, "100 bytes came in 0.2 s"),
        (Body::Stalls(0), ErrorKind::Transient, "0 bytes came in 0.2 s"),
    ] {
        server.set(|quirks| quirks.body = body);
        fails(store.read(&at, 7, vec![0; 5000], Some(&meta.pin)).await, kind, says);
    }
    server.set(|quirks| quirks.body = Body::Whole);
    assert_eq!(store.read(&at, 7, vec![0; 5000], Some(&meta.pin)).await.unwrap(), bytes[7..5007]);
}

#[tokio::test]
async fn a_status_that_passes_passes() {
    let (server, store, at, bytes) = served(Quirks::default()).await;
    for (status, kind) in [
        (503, ErrorKind::Transient),
        (429, ErrorKind::Transient),
        (403, ErrorKind::Permission),
        (410, ErrorKind::NotFound),
        (400, ErrorKind::Permanent),
    ] {
        server.set(|quirks| quirks.statuses = [status, status].into());
        fails(store.head(&at).await, kind, &status.to_string());
        fails(store.read(&at, 0, vec![0; 9], None).await, kind, &status.to_string());
        assert_eq!(store.read(&at, 0, vec![0; 9], None).await.unwrap(), bytes[..9]);
    }
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at: Location = format!("http://{}/x", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    fails(Web::default().look_up(&at).await, ErrorKind::Transient, "no answer");
}

#[tokio::test]
async fn an_encoding_that_nobody_asked_for_is_refused() {
    let (_server, store, at, _) = served(Quirks { encoding: Some("gzip"), ..Quirks::default() }).await;
    fails(store.head(&at).await, ErrorKind::Unsupported, "gzip");
    fails(store.read(&at, 0, vec![0; 9], None).await, ErrorKind::Unsupported, "gzip");
}

#[tokio::test]
async fn a_token_goes_to_its_prefix_and_over_no_redirect_to_another_origin() {
    let (other, _, _, bytes) = served(Quirks::default()).await;
    let (server, _, at, _) = served(Quirks::default()).await;
    server.set(|quirks| {
        quirks.redirects =
            vec![("/away/".to_owned(), format!("{}/", other.url())), ("/here/".to_owned(), "/tiny-llama/".to_owned())];
        quirks.password = Some("Bearer hunter2".to_owned());
    });
    let root: Location = server.url().parse().unwrap();
    let below = |name: &str| root.join(name).unwrap();
    let bare = Web::default();
    fails(bare.head(&at).await, ErrorKind::Permission, "401");
    let store = Web::new(vec![(root.clone(), Some(Token::new("hunter2", "test").unwrap()))]);
    assert_eq!(store.read(&at, 0, vec![0; 9], None).await.unwrap(), bytes[..9]);
    let here = below("here/model.safetensors");
    assert_eq!(store.read(&here, 0, vec![0; 9], None).await.unwrap(), bytes[..9], "within the origin it goes");
    let away = below("away/tiny-llama/model.safetensors");
    let meta = store.head(&away).await.unwrap();
    assert_eq!(store.read(&away, 5, vec![0; 9], Some(&meta.pin)).await.unwrap(), bytes[5..14]);
    assert_eq!(other.server.seen().len(), 2);
    assert_eq!(other.server.tokens(), [""; 0], "the other host sees no token");

    // Back again: what has left stays without it.
    other.set(|quirks| quirks.redirects = vec![("/".to_owned(), format!("{}/", server.url()))]);
    fails(store.head(&away).await, ErrorKind::Permission, "401");

    // Nor does it go to what lies beside its prefix.
    let store = Web::new(vec![(below("secret"), Some(Token::new("hunter2", "test").unwrap()))]);
    fails(store.head(&at).await, ErrorKind::Permission, "401");
}

#[tokio::test]
async fn the_nearest_token_counts() {
    let (server, ..) = served(Quirks { password: Some("Bearer near".to_owned()), ..Quirks::default() }).await;
    let root: Location = server.url().parse().unwrap();
    let near = root.join("tiny-llama").unwrap();
    let token = |text: &str| Some(Token::new(text, "test").unwrap());
    let store = Web::new(vec![(root.clone(), token("far")), (near.clone(), token("near"))]);
    store.head(&near.join("config.json").unwrap()).await.unwrap();
    let store = Web::new(vec![(root, token("near")), (near.clone(), None)]);
    fails(store.head(&near.join("config.json").unwrap()).await, ErrorKind::Permission, "401");
}

#[tokio::test]
async fn redirects_end_and_errors_show_no_signed_address() {
    let (server, store, at, _) = served(Quirks::default()).await;
    server.set(|quirks| quirks.redirects = vec![("/tiny-llama/".to_owned(), "/tiny-llama/".to_owned())]);
    fails(store.head(&at).await, ErrorKind::Permanent, "more than 10 times");
    for (target, says) in [("ftp://h/", "neither http nor https"), ("http://[/", "no address")] {
        server.set(|quirks| quirks.redirects = vec![("/tiny-llama/".to_owned(), target.to_owned())]);
        fails(store.head(&at).await, ErrorKind::Permanent, says);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}/?Signature=hunter2&x=", listener.local_addr().unwrap());
    drop(listener);
    server.set(|quirks| quirks.redirects = vec![("/tiny-llama/".to_owned(), gone)]);
    let error = fails(store.read(&at, 0, vec![0; 9], None).await, ErrorKind::Transient, "no answer");
    assert!(!error.chain().contains("hunter2"), "{}", error.chain());
}

#[test]
fn an_encoded_parent_does_not_lead_out() {
    for text in
        ["http://h/a/%2e%2e/b", "http://h/a/.%2E/b", "https://h/a/%2e/b", "http://h/a/..%2fb", "http://h/a%5c..%5cb"]
    {
        let at: Location = text.parse().unwrap();
        fails(address(&at), ErrorKind::Permanent, "encoded");
    }
    for text in ["http://h/a%20b/c..d", "http://h/%2ehidden", "http://h"] {
        let at: Location = text.parse().unwrap();
        let url = address(&at).unwrap();
        assert_eq!(url.path(), at.path(), "the path goes over the wire as it is");
    }
}

#[test]
fn https_is_never_left_for_http() {
    // Without a server that speaks TLS: the rule is a function of the two addresses.
    let at: Location = "https://h/x".parse().unwrap();
    let redirect = |from: &str, to: &str| {
        let response = http::Response::builder().status(302).header("location", to).body("").unwrap();
        exchange::next(&at, &Url::parse(from).unwrap(), &response.into())
    };
    fails(redirect("https://h/x", "http://h/x"), ErrorKind::Permanent, "from https to http");
    assert_eq!(redirect("http://h/x", "https://u:p@h/y#z").unwrap().unwrap().as_str(), "https://h/y");
    assert_eq!(redirect("https://h/a/x", "y").unwrap().unwrap().as_str(), "https://h/a/y");
}

/// A web server that redirects to `target`, and a store of a process that may reach the server and what else is named.
async fn redirected(target: &str, named: &[&str]) -> (servers::Web, Arc<dyn Store>, Location) {
    let (server, _, at, _) = served(Quirks::default()).await;
    server.set(|quirks| quirks.redirects = vec![("/".to_owned(), target.to_owned())]);
    let named: Vec<&str> = std::iter::once(server.url()).chain(named.iter().copied()).collect();
    let reach = reach::tests::reach(&named, |_| false);
    (server, Arc::new(ReadOnly(Web::default().within(reach))), at)
}

#[tokio::test]
async fn a_redirect_reaches_no_address_of_the_own_network() {
    // Whoever connects has been led there.
    let wire = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    wire.set_nonblocking(true).unwrap();
    let port = wire.local_addr().unwrap().port();
    for (target, says) in [
        (format!("http://127.0.0.1:{port}/"), "which is not https"),
        (format!("https://127.0.0.1:{port}/"), "not a public address"),
        (format!("https://localhost:{port}/"), "not a public address"),
        (format!("https://[::ffff:127.0.0.1]:{port}/"), "not a public address"),
        ("http://169.254.169.254/latest/".to_owned(), "which is not https"),
    ] {
        let (_server, store, at) = redirected(&target, &[]).await;
        let error = fails(store.head(&at).await, ErrorKind::NotAllowed, says);
        assert!(error.hint().unwrap().contains("--allow"), "{error}");
        fails(store.read(&at, 0, vec![0; 9], None).await, ErrorKind::NotAllowed, says);
    }
    assert_eq!(wire.accept().map(drop).map_err(|e| e.kind()), Err(std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn the_address_that_a_name_has_when_it_is_connected_to_is_the_one_that_counts() {
    let client = Client { reach: reach::tests::reach(&[], |_| false), ..Client::default() };
    let at: Location = "https://cdn.example/x".parse().unwrap();
    // The client for names that are not known to be private. Its own look-up finds a private address, as if the name
    // had been moved there after a check.
    let public = client.toward(&at, &address(&at).unwrap()).unwrap();
    let error = public.get("https://localhost/x").send().await.unwrap_err();
    let error = exchange::broken(&at, "no answer", error);
    fails::<()>(Err(error), ErrorKind::NotAllowed, "localhost has no public address");
}

#[tokio::test]
async fn a_redirect_goes_to_an_origin_that_is_named() {
    let (other, _, _, bytes) = served(Quirks::default()).await;
    let (server, store, at) = redirected(&format!("{}/", other.url()), &[other.url()]).await;
    let meta = store.head(&at).await.unwrap();
    assert_eq!(store.read(&at, 5, vec![0; 9], Some(&meta.pin)).await.unwrap(), bytes[5..14]);
    // Within the own origin every path may be asked for.
    server.set(|quirks| quirks.redirects = vec![("/moved/".to_owned(), "/tiny-llama/".to_owned())]);
    let moved: Location = format!("{}/moved/model.safetensors", server.url()).parse().unwrap();
    assert_eq!(store.read(&moved, 0, vec![0; 9], None).await.unwrap(), bytes[..9]);
}
