//! A bucket's client, from the settings of its prefix and the environment.

use super::bucket::Bucket;
use super::environment::Environment;
use super::wire::Connections;
use crate::config::Config;
use crate::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, Scheme};

mod azure;
mod google;
mod profile;
mod s3;
mod settings;

use settings::Settings;

/// The client of the bucket in which `at` lies.
pub(crate) fn connect(at: &Location, config: &Config, env: &Environment, connections: &Connections) -> Result<Bucket> {
    let connector = connections.connector(counted::name(at));
    let entry = config.find(at).map(|(_, entry)| entry);
    let settings = Settings { at, config, entry, env };
    let mut bucket = match at.scheme() {
        Scheme::S3 => s3::connect(settings, connector),
        Scheme::Gs => google::connect(settings, connector),
        Scheme::Azure => azure::connect(settings, connector),
        other => Err(Error::new(ErrorKind::Unsupported, at, format!("{other}:// is no object storage"))),
    }?;
    bucket.min_part = entry.and_then(|entry| entry.min_part_size);
    Ok(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Copies;
    use crate::object::Timeouts;
    use crate::store::Store;

    #[test]
    fn only_amazon_and_google_themselves_are_read_without_a_second_look() {
        let second_look = |place: &str, endpoint: Option<&str>| {
            let at: Location = place.parse().unwrap();
            let root = format!("{}://{}", at.scheme(), at.authority());
            let account = if at.scheme() == Scheme::Azure { ", account: mine" } else { "" };
            let endpoint = endpoint.map_or_else(String::new, |endpoint| format!(", endpoint: \"{endpoint}\""));
            let config = Config::parse(&format!("{root}: {{ credentials: anonymous{account}{endpoint} }}")).unwrap();
            let connections = Connections::new(Timeouts::default()).unwrap();
            connect(&at, &config, &Environment::default(), &connections).unwrap().second_look
        };
        assert!(!second_look("s3://b/x", None) && !second_look("gs://b/x", None));
        assert!(!second_look("s3://b/x", Some("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com")));
        assert!(second_look("s3://b/x", Some("https://minio.example.com")));
        assert!(second_look("s3://b/x", Some("https://amazonaws.com.example.com")));
        assert!(second_look("s3://b/x", Some("https://notamazonaws.com")));
        assert!(second_look("gs://b/x", Some("https://gcs.example.com")));
        assert!(second_look("az://b/x", None));
    }

    /// R2 takes parts of one size only, and around copies parts have several.
    #[tokio::test]
    async fn r2_is_not_asked_to_copy() {
        let copies = async |endpoint: &str| {
            let (from, to): (Location, Location) = ("s3://b/base".parse().unwrap(), "s3://b/out".parse().unwrap());
            let keys = "env: { access_key_id: ID, secret_access_key: KEY }";
            let config = format!("s3://b: {{ endpoint: \"{endpoint}\", region: auto, credentials: {{ {keys} }} }}");
            let config = Config::parse(&config).unwrap();
            let env = Environment::of([("ID", "id"), ("KEY", "key")]);
            let connections = Connections::new(Timeouts::default()).unwrap();
            connect(&to, &config, &env, &connections).unwrap().copies(&from, &to).await.unwrap()
        };
        assert!(matches!(copies("https://account.r2.cloudflarestorage.com").await, Copies::None { .. }));
        assert!(matches!(copies("https://minio.example.com").await, Copies::Parts { .. }));
    }
}
