//! Connections that say nothing, on a listener that has few descriptors.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shardfuse_fleetkit::{TIMEOUT, command};

/// So few that connections use them up: the program itself has about ten, and needs more for files.
const DESCRIPTORS: u32 = 20;
const CROWD: usize = 100;

/// Killed, by its id, when the test is over.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds of processor time that a process has used.
fn seconds_used(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // SAFETY: asks for a number of this machine, and touches no memory.
    ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

#[test]
#[cfg(target_os = "linux")]
fn silent_connections_beyond_the_descriptors_neither_spin_nor_shut_anybody_out() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" coordinator --listen 127.0.0.1:{port} --state \"$1\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_shardfuse")]).arg(dir.path()).stdin(Stdio::null());
    let coordinator = Coordinator(shell.stderr(Stdio::null()).spawn().unwrap());
    let serves = || {
        let url = format!("http://127.0.0.1:{port}");
        command(crate::BINARY).args(["health", "--coordinator", &url]).output().unwrap().status.success()
    };
    let until_it_serves = |what: &str| {
        let deadline = Instant::now() + TIMEOUT;
        while !serves() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until_it_serves("it starts");
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let (before, began) = (seconds_used(coordinator.0.id()), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let share = (seconds_used(coordinator.0.id()) - before) / began.elapsed().as_secs_f64();
    assert!(share < 0.2, "it spins: {share:.2} of a processor");
    // With all of them still open on this side.
    until_it_serves("others are let in");
    drop(crowd);
}
