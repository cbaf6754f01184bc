//! `shardfuse worker` as a process: without a coordinator it waits for one, and leaves when it is told to.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::tool::{command, fail};

/// A port that nobody listens on.
fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_worker_waits_for_its_coordinator_and_leaves_on_sigterm() {
    let mut worker = command();
    worker.args(["worker", "--memory", "64MiB", "--coordinator", &format!("http://127.0.0.1:{}", closed())]);
    let mut child = worker.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|l| l.contains("no session with the coordinator")).expect("it says once what is wrong");
    assert!(line.contains("cannot be reached"), "{line}");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(lines.any(|l| l.starts_with("leaving")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_a_worker_cannot_mean_is_a_usage_error() {
    let address = format!("http://127.0.0.1:{}", closed());
    for (flags, named) in [
        (&["--grace", "soon"][..], "--grace"),
        (&["--memory", "much"], "--memory"),
        (
            &["--memory", "1KiB"],
            "--memory of 1KiB is too little for parts of 1KiB: four parts must fit, which take 4KiB / give more --memory",
        ),
        (&["--allow", "models"], "--allow"),
        (&["--spot-notice", "ec2"], "ec2"),
        (&["--threads", "0"], "--threads"),
        (&["--coordinator", "ftp://x"], "ftp"),
    ] {
        let mut worker = command();
        worker.args(["worker", "--error-format", "json"]).args(flags);
        if !flags.contains(&"--coordinator") {
            worker.args(["--coordinator", &address]);
        }
        let (code, kind, message) = fail(&mut worker);
        assert_eq!((code, kind.as_str()), (2, "usage"), "{message}");
        assert!(message.contains(named), "{message}");
    }
}
