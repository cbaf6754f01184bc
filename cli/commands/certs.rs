//! `shardfuse certs`: an authority and certificates for the roles of a fleet.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use shardfuse_merge::{Error, Kind, Result};

use super::{print, print_json};
use crate::args::{Certs, Format, Global};
use crate::net::{Authority, Bearer, Pair};
use crate::text::Text;

/// A file to be.
struct File {
    name: String,
    text: String,
    secret: bool,
}

/// Makes them.
pub fn run(args: Certs, global: &Global) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let days = u64::from(args.days);
    let authority = match (&args.ca_cert, &args.ca_key) {
        (Some(cert), Some(key)) => Authority::existing(Pair { cert: read(cert)?, key: read(key)? }, now, days)?,
        _ => Authority::new(now, days)?,
    };
    let pairs: Vec<(Bearer, Pair)> = Bearer::ALL
        .into_iter()
        .map(|bearer| Ok((bearer, authority.certificate(bearer, &args.host)?)))
        .collect::<Result<_>>()?;
    if let Some(dir) = &args.out {
        let files = files(&authority, &pairs, args.ca_cert.is_none());
        write_all(dir, &files, args.force)?;
        if args.kubernetes_secret.is_none() {
            return told(dir, &files, global);
        }
    }
    match &args.kubernetes_secret {
        Some(name) => print(&Text::lines_of(&secrets(checked(name)?, &authority, &pairs))),
        None => Ok(()),
    }
}

fn files(authority: &Authority, pairs: &[(Bearer, Pair)], new: bool) -> Vec<File> {
    let file = |name: String, text: &str, secret| File { name, text: text.to_owned(), secret };
    let mut all = vec![file("ca.pem".into(), &authority.pair().cert, false)];
    if new {
        all.push(file("ca.key".into(), &authority.pair().key, true));
    }
    for (bearer, pair) in pairs {
        all.push(file(format!("{}.pem", bearer.name()), &pair.cert, false));
        all.push(file(format!("{}.key", bearer.name()), &pair.key, true));
    }
    all
}

fn read(path: &Path) -> Result<String> {
    #[allow(clippy::disallowed_methods, reason = "certificates are read before any store exists")]
    std::fs::read_to_string(path)
        .map_err(|e| Error::new(Kind::Usage, format!("{} cannot be read: {e}", path.display())))
}

/// Writes all or, where one is in the way, none.
fn write_all(dir: &Path, files: &[File], force: bool) -> Result<()> {
    let io =
        |what: &str, path: &Path, e: std::io::Error| Error::new(Kind::Io, format!("{what} {}: {e}", path.display()));
    #[allow(clippy::disallowed_methods, reason = "keys are written with a mode of their own, which no store sets")]
    std::fs::create_dir_all(dir).map_err(|e| io("cannot make", dir, e))?;
    let there: Vec<&str> = files.iter().filter(|f| dir.join(&f.name).exists()).map(|f| f.name.as_str()).collect();
    if !there.is_empty() && !force {
        return Err(Error::new(Kind::OutputExists, format!("{} holds {} already", dir.display(), there.join(", "))).hint(
            "--force replaces them; with --ca-cert and --ca-key the new certificates are of the same authority, and the old \
             ones go on to work",
        ));
    }
    for file in files {
        let path = dir.join(&file.name);
        write(&path, file).map_err(|e| io("cannot write", &path, e))?;
    }
    Ok(())
}

/// Beside its place first, so that no process reads half a file, and a key is never readable by others, not for a moment.
#[allow(clippy::disallowed_methods, reason = "keys are written with a mode of their own, which no store sets")]
fn write(path: &Path, file: &File) -> std::io::Result<()> {
    let beside = path.with_file_name(format!(".{}.{}", file.name, std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if file.secret { 0o600 } else { 0o644 });
    let mut out = options.open(&beside)?;
    let written = out.write_all(file.text.as_bytes()).and_then(|()| out.sync_all());
    match written.and_then(|()| std::fs::rename(&beside, path)) {
        Err(e) => {
            let _ = std::fs::remove_file(&beside);
            Err(e)
        }
        Ok(()) => Ok(()),
    }
}

fn told(dir: &Path, files: &[File], global: &Global) -> Result<()> {
    let path = |name: &str| -> PathBuf { dir.join(name) };
    if global.format == Format::Json {
        let all: Vec<_> = files.iter().map(|f| path(&f.name)).collect();
        return print_json(&serde_json::json!({ "files": all }));
    }
    if global.quiet {
        return Ok(());
    }
    let flags = |name: &str| {
        format!(
            "--tls-ca {} --tls-cert {} --tls-key {}",
            path("ca.pem").display(),
            path(&format!("{name}.pem")).display(),
            path(&format!("{name}.key")).display()
        )
    };
    let mut text = Text::new();
    for (who, command, role) in [
        ("coordinator", "coordinator", "coordinator"),
        ("workers", "worker", "worker"),
        ("submitters", "submit", "submitter"),
        ("jobs", "job", "job"),
    ] {
        text.line(format_args!("{who:11}  shardfuse {command} {}", flags(role)));
    }
    if files.iter().any(|f| f.name == "ca.key") {
        let key = path("ca.key");
        text.line(format_args!(
            "{} signs certificates of every role: keep it away from the fleet, for renewals",
            key.display()
        ));
    }
    print(&text)
}

/// A Secret's name is part of a DNS name.
fn checked(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.len() > 200 || !name.chars().all(plain) || !name.starts_with(end) || !name.ends_with(end) {
        return Err(Error::new(Kind::Usage, format!("--kubernetes-secret {name:?} is no name that Kubernetes takes"))
            .hint("lowercase letters, digits, - and . between them"));
    }
    Ok(name)
}

/// A Secret of the type kubernetes.io/tls for each bearer, with the keys that cert-manager uses too.
fn secrets(name: &str, authority: &Authority, pairs: &[(Bearer, Pair)]) -> String {
    let block = |text: &str| text.lines().map(|l| format!("    {l}\n")).collect::<String>();
    let secret = |(bearer, pair): &(Bearer, Pair)| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}-{0}-tls\n  labels:\n    app.kubernetes.io/name: shardfuse\n    \
             app.kubernetes.io/component: {0}\ntype: kubernetes.io/tls\nstringData:\n  ca.crt: |\n{1}  tls.crt: |\n{2}  tls.key: |\n{3}",
            bearer.name(),
            block(&authority.pair().cert),
            block(&pair.cert),
            block(&pair.key)
        )
    };
    pairs.iter().map(secret).collect::<Vec<_>>().join("---\n")
}
