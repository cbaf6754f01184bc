//! What every HTTP client of this program has in common.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use rustls::crypto::{CryptoProvider, ring};

/// A client that names this program and follows no redirect: whoever sends a request elsewhere decides who sees its credentials.
pub fn client() -> ClientBuilder {
    // reqwest is built without cryptography of its own. The installation fails if another thread was faster, which is as good.
    if CryptoProvider::get_default().is_none() {
        let _ = ring::default_provider().install_default();
    }
    reqwest::Client::builder().user_agent(concat!("shardfuse/", env!("CARGO_PKG_VERSION"))).redirect(Policy::none())
}
