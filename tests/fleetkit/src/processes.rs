//! A coordinator and workers on this machine, and clients with certificates of their own.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shardfuse_proto::v1;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use shardfuse_testkit::checkpoint::{Model, lora};

/// A condition may take so long on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Variables of the processes that must not be those of whoever runs the tests.
const FOREIGN: [&str; 6] =
    ["SHARDFUSE_LOG", "SHARDFUSE_COORDINATOR", "SHARDFUSE_ALLOW", "SHARDFUSE_STORES", "SHARDFUSE_INSECURE", "HF_TOKEN"];

/// A command of the binary.
pub fn command(binary: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

/// A folder with models, certificates, and the processes that use them.
pub struct Fleet {
    binary: PathBuf,
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// Variables of every process.
    pub env: Vec<(String, String)>,
    processes: Vec<Process>,
}

/// A process that is killed, by its id, when the test is over.
struct Process {
    name: String,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fleet {
    /// Models below `models/`, certificates below `tls/`, room for outputs below `outputs/`, and something that is
    /// nobody's business below `private/`.
    pub fn new(binary: impl Into<PathBuf>) -> Fleet {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let base = Model::SMALL.write(&at("models/base"));
        lora(&at("models/lora"), &Model::SMALL, 4, "a");
        for folder in ["outputs", "private"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for file in std::fs::read_dir(base).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), at("private").join(file.file_name())).unwrap();
        }
        let fleet = Fleet { binary: binary.into(), port: free_port(), dir, env: Vec::new(), processes: Vec::new() };
        fleet.certs("tls");
        fleet
    }

    /// An authority and its certificates in a folder.
    pub fn certs(&self, folder: &str) {
        let made = command(&self.binary).arg("certs").arg("--out").arg(self.path(folder)).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn tls(&self, folder: &str, role: &str) -> Vec<String> {
        let file = |name: &str| self.path(folder).join(name).display().to_string();
        let flags = [
            ("--tls-ca", file("ca.pem")),
            ("--tls-cert", file(&format!("{role}.pem"))),
            ("--tls-key", file(&format!("{role}.key"))),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    fn allow(&self, names: &[&str]) -> Vec<String> {
        let prefix = |n: &&str| if n.contains("://") { (*n).to_owned() } else { self.url(n) };
        names.iter().flat_map(|n| ["--allow".to_owned(), prefix(n)]).collect()
    }

    fn start(&mut self, name: &str, args: Vec<String>) {
        let log = |end: &str| File::create(self.path(&format!("{name}.{end}"))).unwrap();
        let mut command = command(&self.binary);
        command.args(args).envs(self.env.iter().cloned()).stdout(log("stdout")).stderr(log("stderr"));
        let child = command.spawn().unwrap();
        self.processes.push(Process { name: name.to_owned(), child });
    }

    /// A coordinator that may use these folders; waits until it serves.
    pub fn coordinator(&mut self, allow: &[&str]) {
        self.coordinator_with(allow, &[]);
    }

    /// The same with more flags.
    pub fn coordinator_with(&mut self, allow: &[&str], more: &[&str]) {
        let mut args: Vec<String> = ["coordinator", "--listen"].map(str::to_owned).into();
        args.extend([format!("127.0.0.1:{}", self.port), "--state".into(), self.url("state")]);
        args.extend(self.tls("tls", "coordinator"));
        args.extend(self.allow(allow));
        args.extend(more.iter().map(|flag| (*flag).to_owned()));
        self.start("coordinator", args);
        let deadline = Instant::now() + TIMEOUT;
        while !self.client("health", "submitter", &[]).status.success() {
            self.assert_alive();
            assert!(Instant::now() < deadline, "the coordinator does not serve");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A worker that may use these folders.
    pub fn worker(&mut self, name: &str, allow: &[&str]) {
        self.worker_with(name, allow, &[]);
    }

    /// The same with more flags.
    pub fn worker_with(&mut self, name: &str, allow: &[&str], more: &[&str]) {
        let mut args: Vec<String> = ["worker", "--coordinator"].map(str::to_owned).into();
        args.extend([self.coordinator_url(), "--memory".into(), "32MiB".into()]);
        args.extend(self.tls("tls", "worker"));
        args.extend(self.allow(allow));
        args.extend(more.iter().map(|flag| (*flag).to_owned()));
        self.start(name, args);
    }

    /// Ends a process.
    pub fn kill(&mut self, name: &str) {
        self.processes.retain(|p| p.name != name);
    }

    /// Tells a process to end, and waits for it.
    #[cfg(unix)]
    pub fn terminate(&mut self, name: &str) {
        let at = self.processes.iter().position(|p| p.name == name).expect("it runs");
        let mut process = self.processes.remove(at);
        let pid = libc::pid_t::try_from(process.child.id()).unwrap();
        // SAFETY: sends a signal to a process that this one started and has not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        let status = process.child.wait().unwrap();
        assert!(status.success(), "{name} ended with {status}");
    }

    fn assert_alive(&mut self) {
        for process in &mut self.processes {
            if let Some(status) = process.child.try_wait().unwrap() {
                let log = self.dir.path().join(format!("{}.stderr", process.name));
                panic!("{} ended with {status}:\n{}", process.name, std::fs::read_to_string(log).unwrap());
            }
        }
    }

    pub fn coordinator_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A client command with a certificate of a role.
    pub fn client(&self, name: &str, role: &str, args: &[&str]) -> Output {
        self.client_of("tls", name, role, args)
    }

    /// The same with a certificate of another authority's folder.
    pub fn client_of(&self, folder: &str, name: &str, role: &str, args: &[&str]) -> Output {
        self.command_of(folder, name, role, args).output().unwrap()
    }

    /// A client command that is not run yet.
    pub fn command(&self, name: &str, role: &str, args: &[&str]) -> Command {
        self.command_of("tls", name, role, args)
    }

    fn command_of(&self, folder: &str, name: &str, role: &str, args: &[&str]) -> Command {
        let mut command = command(&self.binary);
        command.arg(name).args(["--error-format", "json", "--coordinator"]).arg(self.coordinator_url());
        command.args(self.tls(folder, role)).args(args).envs(self.env.iter().cloned());
        command
    }

    /// Submits a merge of these places.
    pub fn submit(&self, base: &str, lora: &str, output: &str, more: &[&str]) -> Output {
        let mut args = vec!["--base", base, "--output", output, "--part-size", "4KiB", "--lora", lora];
        args.extend(more);
        self.client("submit", "submitter", &args)
    }

    /// A channel with the certificate of a role.
    pub async fn channel(&self, role: &str) -> Channel {
        let read = |name: &str| std::fs::read(self.path("tls").join(name)).unwrap();
        let identity = Identity::from_pem(read(&format!("{role}.pem")), read(&format!("{role}.key")));
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem"))).identity(identity);
        Endpoint::from_shared(self.coordinator_url()).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// A spec of the fleet's own models, by URL.
    pub fn spec(&self, output: &str) -> v1::MergeSpec {
        v1::MergeSpec {
            base: self.url("models/base"),
            lora: vec![v1::Lora { path: self.url("models/lora"), weight: None }],
            output: self.url(output),
            options: vec![v1::SpecOption { name: "part_size".into(), value: "4KiB".into() }],
        }
    }

    /// Whether the coordinator still serves, and every process still runs.
    pub fn assert_well(&mut self) {
        self.assert_alive();
        let health = self.client("health", "submitter", &[]);
        assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    }
}

/// What a command said when it failed: exit code, kind, message with hint.
pub fn failed(output: &Output) -> (i32, String, String) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    let value: Value =
        serde_json::from_str(last).unwrap_or_else(|e| panic!("the last line of stderr is not JSON ({e}):\n{stderr}"));
    let text = |key: &str| value["error"][key].as_str().unwrap_or_default().to_owned();
    (output.status.code().unwrap_or(-1), text("kind"), format!("{} / {}", text("message"), text("hint")))
}

/// Every file below a folder.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
