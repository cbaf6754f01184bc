//! Places that a spec must not reach.

use std::net::TcpListener;
use std::time::Instant;

use shardfuse_proto::v1::{self, merges_client::MergesClient};
use tonic::Code;

use shardfuse_fleetkit::{Fleet, TIMEOUT, failed, walk};

/// Every way to smuggle `place` into a spec.
fn specs(fleet: &Fleet, place: &str) -> Vec<(&'static str, v1::MergeSpec)> {
    let spec = fleet.spec("outputs/never");
    let lora = vec![spec.lora[0].clone(), v1::Lora { path: place.into(), weight: None }];
    let options = vec![v1::SpecOption { name: "tokenizer".into(), value: place.into() }];
    vec![
        ("base", v1::MergeSpec { base: place.into(), ..spec.clone() }),
        ("lora", v1::MergeSpec { lora, ..spec.clone() }),
        ("tokenizer", v1::MergeSpec { options, ..spec.clone() }),
        ("output", v1::MergeSpec { output: place.into(), ..spec }),
    ]
}

#[tokio::test]
async fn a_spec_reaches_what_is_allowed_and_nothing_is_read_before_that_is_known() {
    // Whoever connects to it has read something.
    let wire = TcpListener::bind("127.0.0.1:0").unwrap();
    wire.set_nonblocking(true).unwrap();
    let port = wire.local_addr().unwrap().port();
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.env.push(("AWS_ENDPOINT_URL".into(), format!("http://127.0.0.1:{port}")));
    fleet.env.push(("AWS_ALLOW_HTTP".into(), "true".into()));
    fleet.coordinator(&["models", "outputs"]);
    let mut merges = MergesClient::new(fleet.channel("submitter").await);
    let private = fleet.url("private");
    let up = format!("{}/../private", fleet.url("models"));
    let encoded = format!("{}/%2e%2e/private", fleet.url("models"));
    let beside = format!("{}-too", fleet.url("models"));
    let tripwire = format!("http://127.0.0.1:{port}/base");
    let places = [
        private.as_str(),
        &up,
        &encoded,
        &beside,
        "/etc",
        "file:///",
        "file://elsewhere/etc",
        &tripwire,
        "http://169.254.169.254/latest/meta-data/iam/security-credentials",
        "https://metadata.google.internal/computeMetadata/v1",
        "s3://models/base",
        "s3://key:hunter2@models/base",
        "s3://evil.example:9000/base",
        "gs://models/base",
        "az://models/base",
        "abfss://models@evil.example/base",
        "https://user:hunter2@evil.example/base",
        "https://evil.example/base?X-Amz-Signature=hunter2",
        "hf://org/model",
        "ftp://evil.example/base",
        "relative/path",
    ];
    for place in places {
        for (field, spec) in specs(&fleet, place) {
            let plan = merges.plan(v1::PlanRequest { spec: Some(spec.clone()) }).await.err();
            let submit = merges.submit(v1::SubmitRequest { spec: Some(spec), ..Default::default() }).await.err();
            for status in [plan, submit] {
                let status = status.unwrap_or_else(|| panic!("{field} {place} is let through"));
                let refused = matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument);
                assert!(refused, "{field} {place}: {status}");
                assert!(!status.message().contains("hunter2"), "{field} {place}: {status}");
            }
        }
    }
    let listed = merges.list(v1::ListRequest::default()).await.unwrap();
    assert!(listed.get_ref().merges.is_empty(), "nothing was taken on");
    let nobody = wire.accept().err().map(|e| e.kind());
    assert_eq!(nobody, Some(std::io::ErrorKind::WouldBlock), "somebody connected");
    assert!(walk(&fleet.path("outputs")).is_empty());
    // The same request with a place that is allowed is taken: it was the place.
    let good = v1::SubmitRequest { spec: Some(fleet.spec("outputs/good")), ..Default::default() };
    assert!(merges.submit(good).await.is_ok());
    fleet.assert_well();
}

#[test]
fn by_default_files_and_plain_http_are_closed_and_the_refusal_helps() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&[]);
    let path = |name: &str| fleet.path(name).display().to_string();
    let output = fleet.submit(&path("models/base"), &path("models/lora"), &path("outputs/x"), &[]);
    let (code, kind, message) = failed(&output);
    assert_ne!(code, 0);
    assert!(message.contains("--allow") && message.contains("file://"), "{kind}: {message}");
    assert!(!fleet.path("outputs/x").exists());
}

#[test]
fn a_worker_reads_and_writes_below_its_own_list_only() {
    // The coordinator may use the private folder, its worker may not: what one is trusted with, the other need not be.
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&["models", "outputs", "private"]);
    fleet.worker("narrow", &["models", "outputs"]);
    let submitted = fleet.submit(&fleet.url("private"), &fleet.url("models/lora"), &fleet.url("outputs/x"), &[]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let id = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();

    // The worker is asked, and says no, with the place.
    let deadline = Instant::now() + TIMEOUT;
    let said = loop {
        let got = fleet.client("get", "submitter", &[&id, "--format", "json"]);
        let merge: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
        let log = std::fs::read_to_string(fleet.path("narrow.stderr")).unwrap();
        let told = format!("{merge}\n{log}");
        if told.contains("is not a place that may be used here") {
            break told;
        }
        assert!(Instant::now() < deadline, "nobody refused: {told}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert!(said.contains("private"), "{said}");
    // No byte of a weight came out.
    let weights: Vec<_> = walk(&fleet.path("outputs"))
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    assert!(weights.is_empty(), "{weights:?}");

    // It stops the merge, because no other worker of a fleet whose lists agree would do it. One with the wider list does.
    fleet.kill("narrow");
    fleet.worker("wide", &["models", "outputs", "private"]);
    let again =
        fleet.submit(&fleet.url("private"), &fleet.url("models/lora"), &fleet.url("outputs/x"), &["--wait", "--quiet"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

/// Submits, waits, and gives the exit code, kind and text of the failure.
fn refusal(fleet: &Fleet, base: &str, output: &str) -> (i32, String, String) {
    let more = ["--wait", "--quiet", "--force"];
    failed(&fleet.submit(&fleet.url(base), &fleet.url("models/lora"), &fleet.url(output), &more))
}

#[test]
fn no_submission_reaches_what_the_coordinator_keeps() {
    let mut fleet = Fleet::new(crate::BINARY);
    // The state lies below what is allowed, as the documentation has it.
    fleet.coordinator(&[""]);
    fleet.worker("worker", &[""]);
    let first =
        fleet.submit(&fleet.url("models/base"), &fleet.url("models/lora"), &fleet.url("outputs/a"), &["--wait"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    std::os::unix::fs::symlink("../state", fleet.path("outputs/link")).unwrap();
    // Each record, and the output of its merge.
    let records = || -> Vec<(std::path::PathBuf, String)> {
        let output = |path: &std::path::PathBuf| {
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            record["spec"]["output"].as_str().unwrap().to_owned()
        };
        let mut all = walk(&fleet.path("state/merges"));
        // A record on its way has a hidden name.
        all.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        all.into_iter().map(|path| (path.clone(), output(&path))).collect()
    };
    let before = records();
    assert_eq!(before.len(), 1);
    for (base, output, says) in [
        ("models/base", "state", "is /"),
        ("models/base", "state/merges", "lies in"),
        ("models/base", "state/new/x", "lies in"),
        ("models/base", "outputs/link/merges", "lies in"),
        ("models/base", "", "contains"),
        ("state", "outputs/x", "the input"),
        ("state/merges", "outputs/x", "the input"),
    ] {
        let (code, kind, text) = refusal(&fleet, base, output);
        assert_eq!((code, kind.as_str()), (2, "usage"), "{base} {output}: {text}");
        assert!(text.contains(says), "{base} {output}: {text}");
        // The folder above everything holds the base as well, which is said first.
        assert!(output.is_empty() || text.contains("--state"), "{base} {output}: {text}");
        assert!(records() == before, "{base} {output} changed a record");
    }
    // Nor is an output an input here, by another name.
    std::os::unix::fs::symlink("../models/base", fleet.path("outputs/base")).unwrap();
    let (code, kind, text) = refusal(&fleet, "models/base", "outputs/base");
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
    assert!(text.contains("is the input"), "{text}");
    fleet.assert_well();
}

#[test]
fn links_lead_to_allowed_places_only() {
    let mut fleet = Fleet::new(crate::BINARY);
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, fleet.path(name)).unwrap();
    link("../private", "models/out-of-it");
    link("../private", "outputs/out-of-it");
    link("../outputs/real", "models/between");
    // A folder of links to single files, one of which leads away.
    std::fs::create_dir(fleet.path("models/mixed")).unwrap();
    for file in walk(&fleet.path("models/base")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let from = if name == "model-00002-of-00002.safetensors" { "private" } else { "models/base" };
        link(&format!("../../{from}/{name}"), &format!("models/mixed/{name}"));
    }
    std::fs::create_dir(fleet.path("outputs/real")).unwrap();
    for file in walk(&fleet.path("models/base")) {
        std::fs::copy(&file, fleet.path("outputs/real").join(file.file_name().unwrap())).unwrap();
    }
    let private = walk(&fleet.path("private"));
    fleet.coordinator(&["models", "outputs"]);
    fleet.worker("worker", &["models", "outputs"]);
    for (base, output) in [
        ("models/out-of-it", "outputs/x"),
        ("models/mixed", "outputs/x"),
        ("models/base", "outputs/out-of-it"),
        ("models/base", "outputs/out-of-it/new"),
    ] {
        let (code, kind, text) = refusal(&fleet, base, output);
        assert_eq!((code, kind.as_str()), (3, "not_allowed"), "{base} {output}: {text}");
        assert!(text.contains("/private") && text.contains("/models"), "both places are named: {text}");
    }
    assert_eq!(walk(&fleet.path("private")), private, "nothing was written there");
    assert!(!fleet.path("outputs/x").exists());
    // From one allowed folder into another is fine.
    let more = ["--wait", "--quiet"];
    let good = fleet.submit(&fleet.url("models/between"), &fleet.url("models/lora"), &fleet.url("outputs/good"), &more);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    fleet.assert_well();
}

#[test]
fn no_merge_gets_at_what_the_coordinator_keeps_by_a_link() {
    let mut fleet = Fleet::new(crate::BINARY);
    // The state lies below what merges may use, as the documents have it.
    fleet.coordinator(&[""]);
    fleet.worker("worker", &[""]);
    let state = fleet.path("state");
    let key = std::fs::read(state.join("session-key")).unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, fleet.path(name)).unwrap();
    for name in ["models/file", "models/folder"] {
        std::fs::create_dir(fleet.path(name)).unwrap();
        for file in walk(&fleet.path("models/base")) {
            std::fs::copy(&file, fleet.path(name).join(file.file_name().unwrap())).unwrap();
        }
    }
    link("../../state/session-key", "models/file/notes.txt");
    link("../../state", "models/folder/more");
    for (base, expected) in [("models/file", (3, "not_allowed")), ("models/folder", (2, "usage"))] {
        let (code, kind, text) = refusal(&fleet, base, "outputs/x");
        assert_eq!((code, kind.as_str()), expected, "{base}: {text}");
    }
    assert!(!walk(&fleet.path("outputs")).iter().any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == key)));
    assert_eq!(std::fs::read(state.join("session-key")).unwrap(), key);
    let more = ["--wait", "--quiet"];
    let good = fleet.submit(&fleet.url("models/base"), &fleet.url("models/lora"), &fleet.url("outputs/good"), &more);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    fleet.assert_well();
}

#[test]
fn a_worker_reads_no_file_behind_a_link_that_its_own_list_does_not_cover() {
    let mut fleet = Fleet::new(crate::BINARY);
    std::os::unix::fs::symlink("../private", fleet.path("models/link")).unwrap();
    // The coordinator may follow the link, its only worker may not.
    fleet.coordinator(&["models", "outputs", "private"]);
    fleet.worker("narrow", &["models", "outputs"]);
    let (code, kind, text) = refusal(&fleet, "models/link", "outputs/x");
    assert_eq!((code, kind.as_str()), (3, "not_allowed"), "{text}");
    assert!(text.contains("/private") && text.contains("really lies"), "{text}");
    let weights = walk(&fleet.path("outputs")).into_iter().any(|p| p.extension().is_some_and(|e| e == "safetensors"));
    assert!(!weights);
}
