//! Metrics as a coordinator and a worker expose them during a merge, against what asks for them: the dashboard, the alerts, the
//! chart, and the page that lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shardfuse_fleetkit::{Fleet, TIMEOUT, walk};

const ALLOW: [&str; 2] = ["models", "outputs"];

/// What is known of a metric: its type and its labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What `/metrics` says; empty while nobody serves it.
fn scrape(port: u16) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Adds what an exposition holds. A type without a series does not count: nobody could ask for it.
fn note(text: &str, into: &mut Metrics) {
    let types: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let end = line.find(['{', ' ']).unwrap();
        let series = &line[..end];
        let base = ["_bucket", "_sum", "_count"].iter().filter_map(|s| series.strip_suffix(s));
        let name = base.into_iter().find(|b| types.get(b) == Some(&"histogram")).unwrap_or(series);
        let kind = types.get(name).unwrap_or_else(|| panic!("{series} has no type"));
        let labels = match line[end..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}')) {
            Some((labels, _)) => {
                labels.split("\",").filter_map(|l| l.split_once('=')).map(|(n, _)| n.to_owned()).collect()
            }
            None => BTreeSet::new(),
        };
        let known = into.entry(name.to_owned()).or_insert_with(|| ((*kind).to_owned(), BTreeSet::new()));
        known.1.extend(labels.into_iter().filter(|l| l != "le"));
    }
}

/// Every metric that a text names, with the histograms' own names.
fn named(text: &str, histograms: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("shardfuse_"));
    words
        .map(|word| {
            let base = ["_bucket", "_sum", "_count"].iter().filter_map(|s| word.strip_suffix(s));
            base.into_iter().find(|b| histograms.contains(*b)).unwrap_or(word).to_owned()
        })
        .collect()
}

/// The two tables of the page: what is always there, and what comes with an event.
fn listed() -> (Metrics, Metrics) {
    let page = std::fs::read_to_string(deploy("observability/metrics.md")).unwrap();
    let (always, once) = page.split_once("## Once it happens").expect("the page has two tables");
    (rows(always), rows(once))
}

fn rows(text: &str) -> Metrics {
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut all = Metrics::new();
    for line in text.lines().filter(|l| l.starts_with("| `shardfuse_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let kind = cells[2].split([',', ' ']).next().unwrap().to_owned();
        // Values stand in brackets behind their label.
        let mut labels = String::new();
        let mut depth = 0;
        for c in cells[3].chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                labels.push(c);
            }
        }
        all.insert(quoted(cells[1]).remove(0), (kind, quoted(&labels).into_iter().collect()));
    }
    all
}

/// What the dashboard, the alerts and the chart ask for.
fn asked(histograms: &BTreeSet<String>) -> BTreeSet<String> {
    let mut files = vec![deploy("observability/dashboard.json"), deploy("observability/alerts.yaml")];
    files.extend(walk(&deploy("helm/shardfuse/templates")));
    let mut all = BTreeSet::new();
    for file in files {
        let found = named(&std::fs::read_to_string(&file).unwrap(), histograms);
        all.extend(found);
    }
    assert!(all.len() > 15, "only {all:?} are asked for");
    all
}

#[test]
fn what_dashboard_alerts_and_chart_ask_for_is_there() {
    let (at, of) = (free_port(), free_port());
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator_with(&ALLOW, &["--http", &format!("127.0.0.1:{at}")]);
    // So slow that the merge lasts as long as it is looked at.
    fleet.worker_with("worker", &ALLOW, &["--http", &format!("127.0.0.1:{of}"), "--limit-rate", "4KiB"]);
    let submitted = fleet.submit(&fleet.url("models/base"), &fleet.url("models/lora"), &fleet.url("outputs/one"), &[]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let id = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();

    let (always, once) = listed();
    let histograms =
        always.iter().chain(&once).filter(|(_, (kind, _))| kind == "histogram").map(|(n, _)| n.clone()).collect();
    let mut wanted = asked(&histograms);
    wanted.extend(always.keys().cloned());
    let mut exposed = Metrics::new();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        note(&scrape(at), &mut exposed);
        note(&scrape(of), &mut exposed);
        let missing: Vec<_> = wanted.iter().filter(|name| !exposed.contains_key(*name)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "nobody exposes {missing:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let series = format!("shardfuse_merge_progress_ratio{{merge=\"{id}\"}}");
    assert!(scrape(at).contains(&series), "the merge ended before it was looked at");
    for (name, (kind, labels)) in &exposed {
        let (kind_there, labels_there) =
            always.get(name).or_else(|| once.get(name)).unwrap_or_else(|| panic!("metrics.md does not list {name}"));
        assert_eq!(kind_there, kind, "{name}");
        assert!(labels.is_subset(labels_there), "{name} has the labels {labels:?}, metrics.md says {labels_there:?}");
        if always.contains_key(name) {
            assert_eq!(labels, labels_there, "{name}: metrics.md names labels that it does not have");
        }
    }

    // A merge that has ended leaves no series behind.
    assert!(fleet.client("cancel", "submitter", &[&id]).status.success());
    let deadline = Instant::now() + TIMEOUT;
    while scrape(at).contains("{merge=") {
        assert!(Instant::now() < deadline, "series of an ended merge stay:\n{}", scrape(at));
        std::thread::sleep(Duration::from_millis(200));
    }
    let ended = "shardfuse_merges_ended_total{outcome=\"cancelled\"} 1";
    assert!(scrape(at).contains(ended), "no {ended:?}");
}

#[test]
fn the_status_page_answers_under_names_of_its_own_only() {
    let mut fleet = Fleet::new(crate::BINARY);
    let port = free_port();
    let http = format!("127.0.0.1:{port}");
    fleet.coordinator_with(&ALLOW, &["--http", &http, "--status-host", "status.example"]);
    let status = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for path in ["/", "/page/main.js", "/api/status", "/api/ended", "/api/merges/0123456789abcdef/grid"] {
        for host in ["localhost", "127.0.0.1:1", "[::1]", "status.example:80"] {
            assert_ne!(status(path, host), "421", "{path} {host}");
        }
        assert_eq!(status(path, "rebound.example"), "421", "{path}");
    }
    assert_eq!(status("/metrics", "rebound.example"), "200", "metrics are asked for under every name");
    for path in ["/api/status", "/api/about", "/api/ended", "/page/page.css", "/page/stream.js"] {
        assert_eq!(status(path, "localhost"), "200", "{path}");
    }
    for path in ["/api/merges/0123456789abcdef", "/api/merges/..%2f", "/page/main.rs"] {
        assert_eq!(status(path, "localhost"), "404", "{path}");
    }
}
