//! The connections of one process, and how long they may take.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::web;

use super::reach::{PublicOnly, Reach, Way};

/// How long a server may take before it counts as gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub answer: Duration,
    /// In every span of this length a body must bring `least` bytes. A limit on the whole body would have to know
    /// how large it is and how fast the line.
    pub window: Duration,
    /// See `window`.
    pub least: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            window: Duration::from_secs(30),
            least: 32 << 10,
        }
    }
}

/// A client, made when it is first used: making it reads the machine's certificates, which may fail. Clones share
/// their connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(super) free: Made,
    /// Its connections lead to public addresses.
    pub(super) public: Made,
    pub reach: Reach,
    pub timeouts: Timeouts,
}

type Made = Arc<OnceLock<Result<reqwest::Client, String>>>;

impl Client {
    /// The client that may connect to an address. `at` is what an error names; `NotAllowed` if none may.
    pub fn toward(&self, at: &Location, url: &Url) -> Result<&reqwest::Client> {
        let (made, way) = match self.reach.way(at, url)? {
            Way::Free => (&self.free, web::client()),
            Way::Public => (&self.public, web::client().no_proxy().dns_resolver(Arc::new(PublicOnly))),
        };
        let made = made.get_or_init(|| {
            // Redirects are followed by hand, where it is decided who sees a token.
            way.referer(false)
                .connect_timeout(self.timeouts.connect)
                // Many ranges at a time go faster over as many connections than over the streams of one.
                .http1_only()
                .build()
                .map_err(|e| chain(&e.without_url()))
        });
        made.as_ref().map_err(|e| Error::new(ErrorKind::Permanent, at, format!("no connection can be made: {e}")))
    }
}

/// An error of the client with its causes. Addresses stay out: one that was redirected to may be signed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
