//! Where the servers are, and stores that reach them.

use shardfuse_store::{Config, Location, Stores};

/// What a start script said of a server.
pub fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run tests/services/run.sh"))
}

/// SeaweedFS with keys of full rights, through `endpoint`.
pub fn s3_at(endpoint: &str) -> (Stores, Location) {
    s3_with(endpoint, "SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_S3_SECRET")
}

/// SeaweedFS with the keys in these variables.
pub fn s3_with(endpoint: &str, key: &str, secret: &str) -> (Stores, Location) {
    let root = format!("s3://{}", told("SHARDFUSE_TEST_S3_BUCKET"));
    let stores = stores(&format!(
        "{root}: {{ endpoint: \"{endpoint}\", allow_http: true, region: us-east-1, \
         credentials: {{ env: {{ access_key_id: {key}, secret_access_key: {secret} }} }} }}"
    ));
    (stores, root.parse().unwrap())
}

/// SeaweedFS itself.
pub fn s3() -> (Stores, Location) {
    s3_at(&told("SHARDFUSE_TEST_S3_ENDPOINT"))
}

/// Azurite.
pub fn azure() -> (Stores, Location) {
    let root = format!("az://{}", told("SHARDFUSE_TEST_AZURE_CONTAINER"));
    let endpoint = told("SHARDFUSE_TEST_AZURE_ENDPOINT");
    let stores = stores(&format!(
        "{root}: {{ endpoint: \"{endpoint}\", allow_http: true, account: devstoreaccount1, \
         credentials: {{ env: {{ account_key: SHARDFUSE_TEST_AZURE_KEY }} }} }}"
    ));
    (stores, root.parse().unwrap())
}

/// Stores with the settings of this text.
pub fn stores(config: &str) -> Stores {
    Stores::from_config(Config::parse(config).unwrap())
}

/// A folder of its own for a test.
pub fn fresh(root: &Location, test: &str) -> Location {
    root.join(&format!("{test}-{}", std::process::id())).unwrap()
}

/// Bytes that differ from one seed to the next, and from one offset to the next.
pub fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
