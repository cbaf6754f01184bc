use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::fails::fails;
use crate::http::Token;
use crate::http::reach::Reach;
use crate::read_only::ReadOnly;
use crate::{Store, conformance};
use shardfuse_testkit::servers::{self, Files};

fn model() -> Files {
    let files = Files::of_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tiny-llama"));
    files.write("sub folder/notes.txt", "in a folder");
    files
}

fn store(hub: &servers::Hub, token: Option<&str>) -> Arc<dyn Store> {
    let token = token.map(|token| Token::new(token, "test").unwrap());
    Arc::new(ReadOnly(Hub::new(hub.url(), token).unwrap()))
}

fn at(text: &str) -> Location {
    text.parse().unwrap()
}

#[tokio::test]
async fn conforms() {
    let hub = servers::Hub::start().await;
    let files = Files::default();
    for (name, bytes) in conformance::prepared() {
        files.write(&format!("sub/{name}"), bytes);
    }
    let commit = hub.commit("org/model", "main", &files);
    for root in ["hf://org/model/sub".to_owned(), format!("hf://org/model@{commit}/sub")] {
        conformance::run_read_only(store(&hub, None), at(&root)).await;
    }
}

#[tokio::test]
async fn a_revision_becomes_the_commit_that_it_means_now() {
    let hub = servers::Hub::start().await;
    let first = hub.commit("org/model", "main", &model());
    let other = hub.commit("org/model", "refs%2Fpr%2F1", &model());
    let store = store(&hub, None);
    let resolve = async |text: &str| store.resolve(&at(text)).await.map(|at| at.to_string());
    assert_eq!(resolve("hf://org/model").await.unwrap(), format!("hf://org/model@{first}"));
    assert_eq!(resolve("hf://org/model@main/a/b").await.unwrap(), format!("hf://org/model@{first}/a/b"));
    assert_eq!(resolve("hf://org/model@refs%2Fpr%2F1").await.unwrap(), format!("hf://org/model@{other}"));
    let asked = hub.server.seen().len();
    assert_eq!(resolve(&format!("hf://org/model@{first}/x")).await.unwrap(), format!("hf://org/model@{first}/x"));
    assert_eq!(hub.server.seen().len(), asked, "a commit is what it is");
    let error = fails(resolve("hf://org/model@v9").await, ErrorKind::NotFound, "no revision v9");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn what_is_pinned_is_read_wherever_main_is_now() {
    let hub = servers::Hub::start().await;
    let files = model();
    let first = hub.commit("org/model", "main", &files);
    let store = store(&hub, None);
    for name in ["model.safetensors", "config.json"] {
        let moving = at(&format!("hf://org/model/{name}"));
        let before = files.get(name).unwrap().bytes;
        let meta = store.head(&moving).await.unwrap();
        assert_eq!(meta.size, before.len() as u64);
        assert!(meta.pin.as_str().starts_with(&format!("hub:{first}:{}:", before.len())), "{}", meta.pin);
        let fixed = store.resolve(&moving).await.unwrap();

        let after: Vec<u8> = before.iter().rev().copied().collect();
        let newer = files.fork();
        newer.write(name, after.clone());
        let second = hub.commit("org/model", "main", &newer);
        assert_eq!(store.read(&moving, 3, vec![0; 40], None).await.unwrap(), after[3..43]);
        assert_eq!(store.read(&moving, 3, vec![0; 40], Some(&meta.pin)).await.unwrap(), before[3..43]);
        assert_eq!(store.read(&fixed, 3, vec![0; 40], Some(&meta.pin)).await.unwrap(), before[3..43]);
        let other = at(&format!("hf://org/model@{second}/{name}"));
        fails(store.read(&other, 3, vec![0; 40], Some(&meta.pin)).await, ErrorKind::Changed, &first);
        // Back, for the next turn.
        hub.back_to("org/model", "main", &first);
    }
}

#[tokio::test]
async fn a_listing_goes_through_all_pages_and_tells_the_size_of_what_a_pointer_stands_for() {
    let hub = servers::Hub::start().await;
    let files = model();
    hub.commit("org/model", "main", &files);
    let store = store(&hub, None);
    let listed = store.list(&at("hf://org/model")).await.unwrap();
    let expected: Vec<Entry> = files
        .names()
        .into_iter()
        .map(|name| Entry::file(name.clone(), files.get(&name).unwrap().bytes.len() as u64))
        .collect();
    assert_eq!(listed, expected);
    assert!(hub.server.seen().iter().filter(|seen| seen.path.contains("/tree/")).count() > 2, "there were pages");
    files.write("deep/a/b.json", "{}");
    files.write("deep/c.json", "{}");
    hub.commit("org/model", "main", &files);
    let below: Vec<String> =
        store.list(&at("hf://org/model/deep")).await.unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(below, ["a/b.json", "c.json"]);
    assert_eq!(store.list(&at("hf://org/model/nowhere")).await.unwrap(), [], "a folder that is not there is empty");
}

#[tokio::test]
async fn the_token_opens_the_hub_and_is_not_shown_to_the_host_of_the_files() {
    let hub = servers::Hub::start().await;
    let files = model();
    hub.commit("org/model", "main", &files);
    hub.close("org/model", "RepoNotFound");
    let store = store(&hub, Some(servers::Hub::TOKEN));
    let weights = at("hf://org/model/model.safetensors");
    let meta = store.head(&weights).await.unwrap();
    assert_eq!(hub.blobs.server.seen().len(), 0, "the hub itself tells size and version");
    let bytes = files.get("model.safetensors").unwrap().bytes;
    assert_eq!(store.read(&weights, 9, vec![0; 100], Some(&meta.pin)).await.unwrap(), bytes[9..109]);
    store.list(&at("hf://org/model")).await.unwrap();
    let asked = hub.server.seen();
    assert_eq!(hub.server.tokens(), vec![format!("Bearer {}", servers::Hub::TOKEN); asked.len()]);
    assert_eq!(hub.blobs.server.seen().len(), 1);
    assert_eq!(hub.blobs.server.tokens(), [""; 0]);
    assert_eq!(store.get(&at("hf://org/model/sub folder/notes.txt"), 99).await.unwrap().0, "in a folder");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_shows_neither_token_nor_signature() {
    let hub = servers::Hub::start().await;
    hub.commit("org/open", "main", &model());
    hub.commit("org/gated", "main", &model());
    hub.close("org/gated", "GatedRepo");
    let (anybody, somebody) = (store(&hub, None), store(&hub, Some(servers::Hub::TOKEN)));
    let stranger = store(&hub, Some("hf_expired"));
    for (store, place, kind, says, hint) in [
        (&anybody, "hf://org/gated", ErrorKind::Permission, "org/gated is a gated model", "accept its terms"),
        (&anybody, "hf://org/none", ErrorKind::NotFound, "knows no model org/none", "HF_TOKEN"),
        (&somebody, "hf://org/none", ErrorKind::NotFound, "to this account", "check the name"),
        (&stranger, "hf://org/open", ErrorKind::Permission, "does not accept the token", "valid one"),
        (&anybody, "hf://org/open@v9", ErrorKind::NotFound, "has no revision v9", "a tag"),
    ] {
        for error in [
            fails(store.list(&at(place)).await, kind, says),
            fails(store.head(&at(&format!("{place}/config.json"))).await, kind, says),
        ] {
            assert!(error.hint().is_some_and(|text| text.contains(hint)), "{place}: {:?}", error.hint());
            assert!(!error.chain().contains("hf_"), "{}", error.chain());
        }
    }
    fails(anybody.head(&at("hf://org/open/none.json")).await, ErrorKind::NotFound, "no file none.json");
    fails(
        anybody.read(&at("hf://org/open"), 0, vec![0; 1], None).await,
        ErrorKind::Permanent,
        "is a model, not a file",
    );

    let weights = at("hf://org/open/model.safetensors");
    hub.blobs.set(|quirks| quirks.body = servers::Body::Cut(7));
    let cut = fails(anybody.read(&weights, 0, vec![0; 99], None).await, ErrorKind::Transient, "broke");
    hub.blobs.set(|quirks| quirks.statuses = [403].into());
    let late = fails(anybody.read(&weights, 0, vec![0; 99], None).await, ErrorKind::Permission, "");
    for error in [cut, late] {
        assert!(!error.chain().contains("Signature"), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_host_of_files_that_gives_others_is_noticed() {
    let hub = servers::Hub::start().await;
    let files = model();
    hub.commit("org/model", "main", &files);
    let store = store(&hub, None);
    let weights = at("hf://org/model/model.safetensors");
    let meta = store.head(&weights).await.unwrap();
    let blob = hub.blobs.files.names().remove(0);
    hub.blobs.files.write(&blob, "other");
    fails(store.read(&weights, 0, vec![0; 5], Some(&meta.pin)).await, ErrorKind::Changed, "5 bytes");
}

#[tokio::test]
async fn the_hub_may_send_a_fleet_to_named_hosts_of_files_only() {
    let hub = servers::Hub::start().await;
    hub.commit("org/model", "main", &model());
    let weights = at("hf://org/model/model.safetensors");
    let fleet =
        |named: &[&str]| ReadOnly(Hub::new(hub.url(), None).unwrap().within(Reach::named(named.iter().copied())));
    // Small files come from the hub itself, and weights from a host that its redirect names.
    let narrow = fleet(&[hub.url()]);
    narrow.get(&at("hf://org/model/config.json"), 1 << 20).await.unwrap();
    let error = fails(narrow.read(&weights, 0, vec![0; 9], None).await, ErrorKind::NotAllowed, hub.blobs.url());
    assert!(!error.chain().contains("Signature"), "{}", error.chain());
    assert!(hub.blobs.server.seen().is_empty());
    let wide = fleet(&[hub.url(), hub.blobs.url()]);
    wide.read(&weights, 0, vec![0; 9], None).await.unwrap();
    // The hub itself must be named too, where its address is not a public one.
    fails(fleet(&[]).head(&weights).await, ErrorKind::NotAllowed, "which is not https");
}
