//! Object storage against real servers, which `tests/services/run.sh` starts: SeaweedFS, Azurite, fake-gcs-server,
//! rclone and, where Go is installed, versitygw. Without it these tests are ignored; with it, a server that is missing
//! fails them.

mod azure;
mod copies;
mod faults;
mod others;
mod place;
mod proxy;
mod s3;
mod versitygw;
