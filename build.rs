//! Tells the binary what it was built from: `SHARDFUSE_VERSION`, such as `0.1.0 (1a2b3c4d5 2026-11-30)`.
//!
//! In parentheses stands the text of the variable `SHARDFUSE_REVISION`, where images and packages set it; else the commit that
//! is checked out and its date, with `modified` behind it if sources of the binary differ from it. Without either (sources
//! from an archive) the number stands alone.
//!
//! And has a release build's debug data compressed, which halves the binary. Backtraces have files and lines as before.
//!
//! Only release builds ask git. A debug build says `debug build`: otherwise every commit would build the tests again, which
//! are of this package too.

use std::path::Path;
use std::process::Command;

/// What the binary is built from. Changes elsewhere, such as in docs, make no other binary.
const SOURCES: [&str; 9] =
    ["build.rs", "Cargo.toml", "Cargo.lock", "cli", "coordinator", "merge", "proto", "store", "worker"];

/// Digits of a commit that are shown.
const DIGITS: usize = 9;

fn main() {
    let number = env("CARGO_PKG_VERSION");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SHARDFUSE_REVISION");
    let named = Some(env("SHARDFUSE_REVISION")).filter(|text| !text.is_empty());
    let revision = match named {
        // It goes into HTTP headers, too.
        Some(text) if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            println!("cargo::error=SHARDFUSE_REVISION is {text:?}, expected printable ASCII");
            return;
        }
        Some(text) => Some(text),
        None if env("PROFILE") == "release" => checked_out(Path::new(&env("CARGO_MANIFEST_DIR"))),
        None => Some("debug build".to_owned()),
    };
    let version = revision.map_or_else(|| number.clone(), |revision| format!("{number} ({revision})"));
    println!("cargo::rustc-env=SHARDFUSE_VERSION={version}");
    if env("PROFILE") == "release" && env("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The commit, its date, and whether sources differ from it. `None` if the sources are no git checkout.
fn checked_out(top: &Path) -> Option<String> {
    // Sources in an archive may lie somewhere in another project's checkout.
    if !top.join(".git").exists() {
        return None;
    }
    let git = |args: &[&str]| git(top, args);
    let described = git(&["log", "-1", "--format=%H %cs"]).and_then(|commit| {
        let changes = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
        Ok((commit, !changes.is_empty()))
    });
    let (commit, modified) = match described {
        Ok(described) => described,
        Err(why) => {
            println!("cargo::warning=the version names no commit: {why}");
            return None;
        }
    };
    watch(top, &git);
    let (hash, date) = commit.split_once(' ')?;
    let modified = if modified { ", modified" } else { "" };
    Some(format!("{} {date}{modified}", hash.get(..DIGITS)?))
}

/// Looks again once another commit is checked out, or sources change. Paths that are not there would make cargo look each time.
fn watch(top: &Path, git: &dyn Fn(&[&str]) -> Result<String, String>) {
    // In a worktree HEAD lies in the worktree's own folder, and branches in that of the repository.
    let path = |name: &str| git(&["rev-parse", "--git-path", name]).map(|path| top.join(path)).ok();
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).ok().and_then(|branch| path(&branch));
    // A branch without a file of its own is in packed-refs, and its next commit makes the file.
    let branch = branch.map(|file| file.ancestors().find(|path| path.exists()).map_or(file.clone(), Path::to_path_buf));
    let sources = SOURCES.iter().map(|name| Some(top.join(name)));
    let all = [path("HEAD"), branch, path("packed-refs")].into_iter().chain(sources);
    for path in all.flatten().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn git(top: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(top)
        .args(args)
        .output()
        .map_err(|e| format!("git: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
