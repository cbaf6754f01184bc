//! Flags that several commands of a fleet share.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::headings;

/// The default port of a coordinator.
pub const DEFAULT_PORT: u16 = 7070;

/// The identity of this process, and the authority that it trusts.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = headings::SECURITY)]
pub struct Tls {
    /// Certificates (PEM) of the authority that signed the other side's certificate
    #[arg(long, value_name = "FILE", env = "SHARDFUSE_TLS_CA", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate (PEM), which carries its role
    #[arg(long, value_name = "FILE", env = "SHARDFUSE_TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, value_name = "FILE", env = "SHARDFUSE_TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,
    /// Connect to other machines without TLS: anyone who reaches the port may do everything
    #[arg(long, env = "SHARDFUSE_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    pub insecure: bool,
}

/// Where a coordinator waits for its workers and submitters.
#[derive(Debug, Clone, ClapArgs)]
pub struct Listen {
    /// Address and port to listen on
    ///
    /// An address beyond this machine needs the --tls flags, or --insecure.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "SHARDFUSE_LISTEN")]
    pub listen: String,
    #[command(flatten)]
    pub tls: Tls,
}

/// Which coordinator, and how to reach it.
#[derive(Debug, Clone, ClapArgs)]
pub struct Connect {
    /// Where the coordinator listens
    ///
    /// A URL with https, which needs the --tls flags, or with http, which is without TLS. The port is 7070 if none is given.
    #[arg(long, value_name = "URL", env = "SHARDFUSE_COORDINATOR")]
    pub coordinator: String,
    #[command(flatten)]
    pub way: Way,
}

/// How a coordinator is reached.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Way {
    #[command(flatten)]
    pub tls: Tls,
    /// The name in the coordinator's certificate, if it differs from the one in the URL
    #[arg(long, value_name = "NAME", env = "SHARDFUSE_TLS_NAME", help_heading = headings::SECURITY)]
    pub tls_name: Option<String>,
}

/// Which stores a process of a fleet uses.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = headings::STORAGE)]
pub struct Access {
    /// Read and write only below these URLs, also through links and redirects
    ///
    /// May be given several times, or hold several separated by commas. Without it a coordinator and a worker use everything but
    /// file:// and http://, and a job what its spec names.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', env = "SHARDFUSE_ALLOW")]
    pub allow: Vec<String>,
    #[command(flatten)]
    pub stores: StoresFile,
}

/// How stores are reached.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct StoresFile {
    /// A YAML file that says how stores are reached: URL prefix, endpoint, region, and where credentials come from
    #[arg(long, value_name = "FILE", env = "SHARDFUSE_STORES", help_heading = headings::STORAGE)]
    pub stores: Option<PathBuf>,
}
