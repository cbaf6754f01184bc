//! Running the binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardfuse"));
    command.stdin(Stdio::null()).env_remove("SHARDFUSE_LOG");
    command
}

/// `shardfuse merge` with small parts, so that a small model has many.
pub fn merge(base: &Path, loras: &[&str], output: &Path) -> Command {
    let mut command = command();
    command.arg("merge").arg("--base").arg(base).arg("--output").arg(output);
    for lora in loras {
        command.args(["--lora", lora]);
    }
    command.args(["--part-size", "4KiB", "--memory", "32MiB", "--error-format", "json"]);
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

/// Runs and expects success.
pub fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs and expects a failure: exit code, kind, message with hint.
pub fn fail(command: &mut Command) -> (i32, String, String) {
    let output = run(command);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = stderr.lines().last().unwrap_or_default();
    let value: Value =
        serde_json::from_str(last).unwrap_or_else(|e| panic!("the last line of stderr is not JSON ({e}):\n{stderr}"));
    let text = |key: &str| value["error"][key].as_str().unwrap_or_default().to_owned();
    (output.status.code().unwrap_or(-1), text("kind"), format!("{} / {}", text("message"), text("hint")))
}
