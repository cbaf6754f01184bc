//! Object storage against real servers, which `tests/services/run.sh` starts: SeaweedFS, Azurite, fake-gcs-server and
//! rclone. Without it these tests are ignored; with it, a server that is missing fails them.

mod azure;
mod faults;
mod others;
mod place;
mod proxy;
mod s3;
