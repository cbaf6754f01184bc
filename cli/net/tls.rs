//! Certificates and keys from files.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use shardfuse_merge::{Error, Kind, Result};
use tonic::transport::{Certificate, Identity};
use tracing::warn;
use x509_parser::pem::Pem;

use super::{certificate, chain::chain};
use crate::args;

/// The largest PEM file that is read.
const MAX_PEM: u64 = 1 << 20;

/// The three files of one side of a connection.
#[derive(Debug, Clone)]
pub struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    /// The files that the flags name: all three, or none.
    pub fn new(flags: &args::Tls) -> Result<Option<Files>> {
        match (&flags.tls_ca, &flags.tls_cert, &flags.tls_key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() }))
            }
            (ca, cert, key) => {
                let flags = [("--tls-ca", ca), ("--tls-cert", cert), ("--tls-key", key)];
                let names = |given: bool| {
                    let names = flags.iter().filter(|f| f.1.is_some() == given).map(|f| f.0);
                    names.collect::<Vec<_>>().join(" and ")
                };
                Err(Error::new(Kind::Usage, format!("{} without {}", names(true), names(false)))
                    .hint("mutual TLS takes all three files; shardfuse certs makes them"))
            }
        }
    }

    /// Reads them. A certificate that has expired is refused; a key that others can read is warned of.
    pub fn read(&self) -> Result<Credentials> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let (ca, cert, key) = (read(&self.ca)?, read(&self.cert)?, read(&self.key)?);
        expire("authority", check_certificates(&self.ca, &ca, now)?);
        expire("own", check_certificates(&self.cert, &cert, now)?);
        check_key(&self.key, &key)?;
        Ok(Credentials { ca: Certificate::from_pem(ca), identity: Identity::from_pem(cert, key) })
    }

    /// Files that do not work together, such as a key of another certificate.
    pub fn refused(&self, why: &dyn std::error::Error) -> Error {
        Error::new(
            Kind::Usage,
            format!(
                "{}, {} and {} do not make a TLS configuration: {}",
                self.ca.display(),
                self.cert.display(),
                self.key.display(),
                chain(why)
            ),
        )
        .hint("the key must be that of the certificate, and the authority's file must hold certificates")
    }
}

/// What the files hold: whom to trust, and who this process is.
pub struct Credentials {
    /// Whom to believe.
    pub ca: Certificate,
    /// Who this process is.
    pub identity: Identity,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let wrong = |why: String| Error::new(Kind::Usage, format!("{} {why}", path.display()));
    #[allow(clippy::disallowed_methods, reason = "certificates are read before any store exists")]
    let size = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?.len();
    if size > MAX_PEM {
        return Err(wrong(format!("is {size} bytes long, a PEM file has at most {MAX_PEM}")));
    }
    #[allow(clippy::disallowed_methods, reason = "certificates are read before any store exists")]
    std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))
}

/// Tells metrics when the first certificate of a file expires.
fn expire(file: &'static str, at: i64) {
    metrics::gauge!("shardfuse_certificate_expiry_timestamp_seconds", "certificate" => file).set(at as f64);
}

/// Every certificate of a file is one, and good today. When the first of them expires, in seconds since 1970.
fn check_certificates(path: &Path, pem: &[u8], now: i64) -> Result<i64> {
    let wrong = |why: &str| {
        Error::new(Kind::Usage, format!("the certificate {} {why}", path.display()))
            .hint("shardfuse certs --ca-cert CA --ca-key KEY makes new ones of the same authority")
    };
    let mut first = None;
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|e| wrong(&format!("is no PEM file: {e}")))?;
        if block.label == "CERTIFICATE" {
            if let Some(fault) = certificate::fault(&block.contents, now) {
                return Err(wrong(&fault));
            }
            let expires = certificate::expires(&block.contents).unwrap_or(now);
            first = Some(first.map_or(expires, |first: i64| first.min(expires)));
        }
    }
    first.ok_or_else(|| wrong("holds no PEM block CERTIFICATE"))
}

fn check_key(path: &Path, pem: &[u8]) -> Result<()> {
    let wrong = |why: &str| Error::new(Kind::Usage, format!("the key {} {why}", path.display()));
    // What is wrong is said without a word of the content.
    let mut labels = Pem::iter_from_buffer(pem).filter_map(|block| block.ok().map(|b| b.label));
    match labels.find(|label| label.ends_with("PRIVATE KEY")) {
        None => return Err(wrong("holds no PEM block PRIVATE KEY")),
        Some(label) if label.starts_with("ENCRYPTED") => {
            return Err(wrong("is encrypted, and there is nobody to ask for a passphrase").hint(
                "openssl pkey -in KEY -out PLAIN takes the passphrase off; keep the result unreadable to others",
            ));
        }
        Some(_) => {}
    }
    warn_if_readable(path);
    Ok(())
}

#[cfg(unix)]
fn warn_if_readable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    #[allow(clippy::disallowed_methods, reason = "certificates are read before any store exists")]
    let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
    // A group may read it: this is how secrets are mounted for a process that is not root.
    if mode & 0o007 != 0 {
        warn!(key = %path.display(), mode = format!("{:o}", mode & 0o777), "everybody on this machine can read the private key; chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_readable(_: &Path) {}
