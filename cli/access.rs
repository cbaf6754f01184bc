//! Which places a process of a fleet reaches, as the flags say.

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::config::Config;
use shardfuse_store::{Allow, Location, Stores};

use crate::args::{Access, StoresFile};

impl Access {
    /// The allow list. A prefix is a URL, or an absolute path of this machine.
    pub fn allowed(&self) -> Result<Allow> {
        let prefix = |text: &String| {
            text.trim().parse::<Location>().map_err(|e| {
                Error::new(Kind::Usage, format!("--allow: {}", e.chain()))
                    .hint("a URL such as s3://bucket/folder, or an absolute path")
            })
        };
        Ok(Allow::prefixes(self.allow.iter().map(prefix).collect::<Result<_>>()?))
    }

    /// The stores, held to the allow list.
    pub fn open(&self) -> Result<Stores> {
        Ok(self.stores.open()?.only(&self.allowed()?))
    }
}

impl StoresFile {
    /// The stores, with the settings of `--stores` and the environment where those say nothing.
    pub fn open(&self) -> Result<Stores> {
        match &self.stores {
            None => Ok(Stores::new()),
            Some(path) => {
                let config =
                    Config::read(path).map_err(|e| Error::new(Kind::Usage, format!("--stores: {}", e.chain())))?;
                Ok(Stores::from_config(config))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(prefixes: &[&str]) -> Result<Allow> {
        Access { allow: prefixes.iter().map(|p| (*p).to_owned()).collect(), stores: StoresFile::default() }.allowed()
    }

    #[test]
    fn prefixes_are_urls_or_absolute_paths() {
        let allow = allowed(&["s3://models", " /data"]).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("s3://models/a") && check("file:///data/x"));
        assert!(!check("s3://other/a") && !check("/etc/passwd"));
        for wrong in ["data", "", "s3://", "s3://key:secret@bucket"] {
            let error = allowed(&[wrong]).unwrap_err();
            assert!(error.kind() == Kind::Usage && !error.message().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_stores_file_that_is_wrong_is_named() {
        let stores = StoresFile { stores: Some("/nowhere/stores.yaml".into()) };
        let error = stores.open().unwrap_err();
        assert!(error.kind() == Kind::Usage && error.message().contains("/nowhere/stores.yaml"), "{error}");
        assert!(Access::default().open().is_ok());
    }

    #[test]
    fn without_a_prefix_files_and_plain_http_are_closed() {
        let allow = allowed(&[]).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("s3://any/thing"));
        assert!(!check("/etc/passwd") && !check("http://169.254.169.254/latest"));
    }
}
