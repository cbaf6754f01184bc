//! Which objects are on the same service as a bucket: those that have its endpoint, region and credentials in the settings.
//!
//! A store copies what its own credentials may read. Another entry of `--stores` may name other ones, or another service where
//! the same name is another object.

use crate::config::{Config, Credentials, Entry};
use crate::location::Location;

/// The service of a bucket.
pub(super) struct Service {
    config: Config,
    at: Location,
}

impl Service {
    /// The service of `at`.
    pub(super) fn of(at: &Location, config: &Config) -> Self {
        Self { config: config.clone(), at: at.clone() }
    }

    /// Why `from` is not on this service; `None` if it is.
    pub(super) fn excludes(&self, from: &Location) -> Option<&'static str> {
        if from.scheme() != self.at.scheme() {
            return Some("is in another store");
        }
        let reached = |at| self.config.find(at).map_or((&None, &None, &None), |(_, entry)| reached(entry));
        (reached(from) != reached(&self.at)).then_some("has another endpoint, region or credentials")
    }
}

/// What a service is reached by. Nothing else of an entry decides which objects are there.
fn reached(entry: &Entry) -> (&Option<String>, &Option<String>, &Option<Credentials>) {
    (&entry.endpoint, &entry.region, &entry.credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_settings_lead_to_one_service() {
        let config = "
s3://models: { endpoint: https://one.example.com, region: a, credentials: { profile: team } }
s3://models/base: { endpoint: https://one.example.com, region: a, credentials: { profile: team }, min_part_size: 1024 }
s3://same: { endpoint: https://one.example.com, region: a, credentials: { profile: team }, path_style: false }
s3://elsewhere: { endpoint: https://two.example.com, region: a, credentials: { profile: team } }
s3://region: { endpoint: https://one.example.com, region: b, credentials: { profile: team } }
s3://keys: { endpoint: https://one.example.com, region: a, credentials: { profile: other } }
s3://models/open: { endpoint: https://one.example.com, region: a, credentials: anonymous }
";
        let at = |text: &str| text.parse::<Location>().unwrap();
        let service = Service::of(&at("s3://models/out"), &Config::parse(config).unwrap());
        for same in ["s3://models/x", "s3://models/base/x", "s3://same/x"] {
            assert_eq!(service.excludes(&at(same)), None, "{same}");
        }
        for other in [
            "s3://elsewhere/x",
            "s3://region/x",
            "s3://keys/x",
            "s3://models/open/x",
            "s3://environment/x",
            "gs://models/x",
            "/models/x",
        ] {
            assert!(service.excludes(&at(other)).is_some(), "{other}");
        }
        let environment = Service::of(&at("s3://a/x"), &Config::default());
        assert_eq!(environment.excludes(&at("s3://b/x")), None, "the environment has the same for all");
    }
}
