//! Bases and adapters on a web server and on the hub. The weights are those of the merge of the same files on disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::output::files;
use crate::tool::{command, fail, succeed};
use shardfuse_fleetkit::{Fleet, failed};
use shardfuse_testkit::servers::{Files, Hub, Quirks, Web};

const COMMIT: usize = 40;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// `shardfuse merge` of two adapters, with small parts so that there are many reads.
fn merge(base: &str, loras: [&str; 2], output: &Path) -> Command {
    let mut command = clean(command());
    command.args(["merge", "--base", base, "--lora", loras[0], "--lora", loras[1], "--output"]).arg(output);
    command.args(["--part-size", "64KiB", "--memory", "32MiB", "--error-format", "json"]);
    command
}

/// Without what the machine says of the hub.
fn clean(mut command: Command) -> Command {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", "/nowhere");
    command
}

/// The merge of the examples on disk.
fn on_disk(dir: &Path) -> PathBuf {
    let at = |name: &str| examples().join(name).to_str().unwrap().to_owned();
    let output = dir.join("on-disk");
    succeed(&mut merge(&at("tiny-llama"), [&at("lora-dialogue"), &at("dora-orders")], &output));
    output
}

/// The binary blocks its thread, and the servers need theirs.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn assert_same_files(left: &Path, right: &Path) {
    crate::output::assert_same(left, right);
    assert!(files(left).contains_key("tokenizer.json") && files(left).contains_key("model.safetensors"));
}

fn manifest(output: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(output.join("shardfuse.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_and_adapters_on_a_web_server_give_the_weights_of_those_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let server = Web::start(Files::of_folder(&examples()), Quirks::default()).await;
    let (root, url) = (dir.path().to_owned(), server.url().to_owned());
    let output = apart(move || {
        let (disk, output) = (on_disk(&root), root.join("by-web"));
        let at = |name: &str| format!("{url}/{name}");
        succeed(&mut merge(&at("tiny-llama"), [&at("lora-dialogue"), &at("dora-orders")], &output));
        assert_same_files(&disk, &output);
        output
    })
    .await;
    for input in manifest(&output)["inputs"].as_array().unwrap() {
        assert!(input["url"].as_str().unwrap().starts_with(server.url()), "{input}");
        assert!(input["pin"].as_str().unwrap().starts_with("etag:"), "{input}");
    }
    let weights = "/tiny-llama/model.safetensors";
    let reads: Vec<_> =
        server.server.seen().into_iter().filter(|seen| seen.path == weights && seen.method == "GET").collect();
    assert!(reads.len() > 4, "the base is read in parts: {} reads", reads.len());
    assert!(reads.iter().all(|seen| seen.header("range").is_some() && seen.header("if-match").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_hub_is_read_at_the_commit_that_main_was_when_planned() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start().await;
    let base = Files::of_folder(&examples().join("tiny-llama"));
    let commit = hub.commit("org/base", "main", &base);
    hub.commit("me/dialogue", "main", &Files::of_folder(&examples().join("lora-dialogue")));
    hub.commit("me/orders", "v2", &Files::of_folder(&examples().join("dora-orders")));
    for model in ["org/base", "me/dialogue", "me/orders"] {
        hub.close(model, "GatedRepo");
    }
    // After the first look at the revision main moves to a base whose weights are other ones.
    let moved = base.fork();
    let mut bytes = base.get("model.safetensors").unwrap().bytes;
    bytes.iter_mut().rev().take(100_000).for_each(|byte| *byte ^= 1);
    moved.write("model.safetensors", bytes);
    hub.commit_when_resolved("org/base", "main", &moved);

    let (root, endpoint) = (dir.path().to_owned(), hub.url().to_owned());
    let output = apart(move || {
        let (disk, output) = (on_disk(&root), root.join("by-hub"));
        let mut merge = merge("hf://org/base", ["hf://me/dialogue", "hf://me/orders@v2"], &output);
        succeed(merge.env("HF_ENDPOINT", endpoint).env("HF_TOKEN", Hub::TOKEN));
        assert_same_files(&disk, &output);
        output
    })
    .await;
    let manifest = manifest(&output);
    assert_eq!(manifest["spec"]["base"], "hf://org/base");
    let inputs = manifest["inputs"].as_array().unwrap();
    for input in inputs {
        let url = input["url"].as_str().unwrap();
        let revision = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
        assert!(revision.len() == COMMIT && revision.bytes().all(|b| b.is_ascii_hexdigit()), "{url}");
        assert!(input["pin"].as_str().unwrap().starts_with(&format!("hub:{revision}:")), "{input}");
    }
    assert!(inputs.iter().any(|input| input["url"] == format!("hf://org/base@{commit}/model.safetensors")));
    let resolved = hub.server.seen().iter().filter(|seen| seen.path.contains("/org/base/revision/")).count();
    assert_eq!(resolved, 1, "the revision is resolved once");
    assert_ne!(hub.branch("org/base", "main"), commit, "main has moved");
    assert!(!hub.blobs.server.seen().is_empty(), "the weights came from the other host");
    assert_eq!(hub.blobs.server.tokens(), [""; 0], "which saw no token");
    let text = format!("{:?}", crate::output::everything(&output));
    assert!(!text.contains(Hub::TOKEN) && !text.contains("Signature"), "nothing secret is written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_that_pass_do_not_stop_a_merge() {
    let dir = tempfile::tempdir().unwrap();
    // The first answers of all are refusals for now.
    let statuses = [503, 429, 500].into();
    let server = Web::start(Files::of_folder(&examples()), Quirks { statuses, ..Quirks::default() }).await;
    let (root, url) = (dir.path().to_owned(), server.url().to_owned());
    apart(move || {
        let (disk, output) = (on_disk(&root), root.join("by-web"));
        let at = |name: &str| format!("{url}/{name}");
        succeed(&mut merge(&at("tiny-llama"), [&at("lora-dialogue"), &at("dora-orders")], &output));
        assert_same_files(&disk, &output);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_model_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start().await;
    hub.commit("org/base", "main", &Files::of_folder(&examples().join("tiny-llama")));
    hub.close("org/base", "GatedRepo");
    let (root, endpoint) = (dir.path().to_owned(), hub.url().to_owned());
    let (_, _, text) = apart(move || {
        fail(merge("hf://org/base", ["hf://me/a", "hf://me/b"], &root.join("out")).env("HF_ENDPOINT", endpoint))
    })
    .await;
    assert!(text.contains("org/base is a gated model") && text.contains("HF_TOKEN"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_changes_between_plan_and_read_stops_the_merge() {
    let dir = tempfile::tempdir().unwrap();
    let server = Web::start(Files::of_folder(&examples()), Quirks::default()).await;
    let files = server.files.clone();
    // The adapters are looked at after the base: when the last one's weights are asked for, the base is another one.
    server.when_asked("/dora-orders/adapter_model.safetensors", move || {
        let mut bytes = files.get("tiny-llama/model.safetensors").unwrap().bytes;
        *bytes.last_mut().unwrap() ^= 1;
        files.write("tiny-llama/model.safetensors", bytes);
    });
    let (root, url) = (dir.path().to_owned(), server.url().to_owned());
    let (code, kind, text) = apart(move || {
        let at = |name: &str| format!("{url}/{name}");
        fail(&mut merge(&at("tiny-llama"), [&at("lora-dialogue"), &at("dora-orders")], &root.join("out")))
    })
    .await;
    assert_eq!((code, kind.as_str()), (3, "input_changed"), "{text}");
    assert!(text.contains("tiny-llama/model.safetensors"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_cannot_be_listed_are_refused_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let server = Web::start(Files::of_folder(&examples()), Quirks::default()).await;
    for (soft_404, ranges, base, says) in [
        (false, true, "nowhere", "is not there, or holds no files"),
        (true, true, "tiny-llama", "answers to names that are not there"),
        (false, false, "tiny-llama", "has no ranges"),
    ] {
        server.set(|quirks| (quirks.soft_404, quirks.no_ranges) = (soft_404, !ranges));
        let (out, base) = (dir.path().join("out"), format!("{}/{base}", server.url()));
        let (_, _, text) = apart(move || fail(&mut merge(&base, ["/a", "/b"], &out))).await;
        assert!(text.contains(says), "{text}");
    }
    let (code, kind, text) = fail(&mut merge("/base", ["/a", "/b"], Path::new("https://example.com/out")));
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_reads_folders_and_files_of_servers() {
    let hub = Hub::start().await;
    hub.commit("org/base", "main", &Files::of_folder(&examples().join("tiny-llama")));
    let server = Web::start(Files::of_folder(&examples()), Quirks::default()).await;
    let (url, endpoint) = (server.url().to_owned(), hub.url().to_owned());
    apart(move || {
        for (path, kind, name) in [
            (format!("{url}/tiny-llama"), "checkpoint", "model.embed_tokens.weight"),
            (format!("{url}/lora-dialogue"), "adapter", "lora_A"),
            (format!("{url}/tiny-llama/model.safetensors"), "file", "model.embed_tokens.weight"),
            ("hf://org/base".to_owned(), "checkpoint", "model.embed_tokens.weight"),
            ("hf://org/base/model.safetensors".to_owned(), "file", "model.embed_tokens.weight"),
        ] {
            let mut inspect = clean(command());
            inspect.args(["inspect", &path, "--format", "json"]).env("HF_ENDPOINT", &endpoint);
            let text = succeed(&mut inspect);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["kind"] == kind && text.contains(name), "{path}: {}", value["kind"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_reads_an_output_that_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let disk = apart(move || on_disk(&root)).await;
    let server = Web::start(Files::of_folder(&disk), Quirks::default()).await;
    let url = server.url().to_owned();
    let text = apart(move || succeed(clean(command()).args(["verify", &url, "--sample", "4"]))).await;
    assert!(
        text.contains("files are as they were written")
            && text.contains("as exact as the format allows")
            && text.contains("largest error"),
        "{text}"
    );
    let mut bytes = server.files.get("model.safetensors").unwrap().bytes;
    *bytes.last_mut().unwrap() ^= 1;
    server.files.write("model.safetensors", bytes);
    let url = server.url().to_owned();
    let (code, kind, _) =
        apart(move || fail(clean(command()).args(["verify", &url, "--quiet", "--error-format", "json"]))).await;
    assert_eq!((code, kind.as_str()), (1, "verify_failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_sub_folders_and_beside_the_adapter_are_found_on_the_hub_as_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start().await;
    let base = Files::of_folder(&examples().join("tiny-llama"));
    base.write("2_Dense/model.safetensors", vec![7; 70]);
    base.write("consolidated.00.pth", vec![8; 80]);
    hub.commit("org/base", "main", &base);
    let adapter = Files::of_folder(&examples().join("lora-dialogue"));
    adapter.write("optimizer.pt", vec![9; 90]);
    hub.commit("me/dialogue", "main", &adapter);
    adapter.write("value_head.safetensors", vec![1; 10]);
    hub.commit("me/with-head", "main", &adapter);
    let (root, endpoint) = (dir.path().to_owned(), hub.url().to_owned());
    apart(move || {
        let output = root.join("by-hub");
        let run = |lora: &str| {
            let mut merge = merge("hf://org/base", [lora, "hf://me/dialogue"], &output);
            merge.env("HF_ENDPOINT", &endpoint);
            merge
        };
        let (code, kind, text) = fail(&mut run("hf://me/with-head"));
        assert!(code == 3 && kind == "unused_file" && text.contains("value_head.safetensors"), "{kind} {text}");
        succeed(run("hf://me/with-head").args(["--ignore-file", "value_head.safetensors"]));
        assert_eq!(std::fs::read(output.join("2_Dense/model.safetensors")).unwrap(), [7; 70]);
        assert!(!output.join("consolidated.00.pth").exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_known_names_are_asked_for_where_nothing_can_be_listed() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::of_folder(&examples());
    files.write("lora-dialogue/new_embeddings.safetensors", vec![1; 10]);
    files.write("lora-dialogue/custom.bin", vec![1; 10]);
    let server = Web::start(files, Quirks::default()).await;
    let (root, url) = (dir.path().to_owned(), server.url().to_owned());
    apart(move || {
        let output = root.join("by-web");
        let at = |name: &str| format!("{url}/{name}");
        let run = || merge(&at("tiny-llama"), [&at("lora-dialogue"), &at("dora-orders")], &output);
        let (code, kind, text) = fail(&mut run());
        assert!(
            code == 3 && kind == "unused_file" && text.contains("new_embeddings.safetensors appends rows"),
            "{text}"
        );
        let ignored = ["--ignore-file", "new_embeddings.safetensors"];
        let (code, _, text) = fail(run().args(ignored).args(["--extra-weights", "absent.bin"]));
        assert!(code == 2 && text.contains("--extra-weights names absent.bin"), "{text}");
        // What the user names is asked for, too.
        let (_, kind, text) = fail(run().args(ignored).args(["--extra-weights", "custom.bin"]));
        assert!(kind == "bad_pickle" && text.contains("custom.bin"), "{kind} {text}");
        let json = succeed(run().args(ignored).args(["--format", "json"]));
        assert!(json.contains("only files of common names travel"), "{json}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_follows_a_redirect_to_no_address_of_its_own_network() {
    let server = Web::start(Files::of_folder(&examples()), Quirks::default()).await;
    // Whoever connects was led there.
    let wire = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    wire.set_nonblocking(true).unwrap();
    let inner = format!("http://{}/", wire.local_addr().unwrap());
    let (url, target) = (server.url().to_owned(), inner.clone());
    let fleet = apart(move || {
        let mut fleet = Fleet::new(crate::BINARY);
        fleet.coordinator(&[&url, "outputs"]);
        fleet.worker("worker", &[&url, "outputs"]);
        fleet
    })
    .await;
    server.set(|quirks| quirks.redirects = vec![("/tiny-llama/".to_owned(), target)]);
    let url = server.url().to_owned();
    let submit = move |fleet: &Fleet, output: &str| {
        let at = |name: &str| format!("{url}/{name}");
        let more = ["--wait", "--quiet"];
        let (base, lora) = (at("tiny-llama"), at("lora-dialogue"));
        let text = fleet.submit(&base, &lora, &fleet.url(output), &more);
        (fleet.path(output), text)
    };
    let (fleet, submit, (_, refused)) = apart(move || {
        let refused = submit(&fleet, "outputs/never");
        (fleet, submit, refused)
    })
    .await;
    let (code, kind, text) = failed(&refused);
    assert_eq!((code, kind.as_str()), (3, "not_allowed"), "{text}");
    assert!(text.contains(inner.trim_end_matches('/')) && text.contains("--allow"), "{text}");
    assert_eq!(
        wire.accept().map(drop).map_err(|e| e.kind()),
        Err(std::io::ErrorKind::WouldBlock),
        "somebody connected"
    );
    // Without the redirect the same merge goes through.
    server.set(|quirks| quirks.redirects = Vec::new());
    let (_fleet, good) = apart(move || {
        let good = submit(&fleet, "outputs/good").1;
        (fleet, good)
    })
    .await;
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
}
