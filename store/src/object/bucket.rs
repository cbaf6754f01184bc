//! A bucket: its client, its credentials, and calls to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::aws::AwsCredentialProvider;
use object_store::azure::AzureCredentialProvider;
use object_store::gcp::GcpCredentialProvider;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, PutPayload};

use super::deletes::Deletes;
use super::failure;
use super::pending::Pending;
use super::server_copy::ServerCopy;
use super::wire::Seen;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, Scheme};

/// What all three clients do.
pub(super) trait Client: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Client for T {}

/// Where a client's credentials come from, asked before each call so that a failure to get them is told apart from one
/// of the store.
pub(super) enum Login {
    Anonymous,
    Aws(AwsCredentialProvider),
    Google(GcpCredentialProvider),
    Azure(AzureCredentialProvider),
}

/// One bucket, or container.
pub(crate) struct Bucket {
    pub(super) scheme: Scheme,
    pub(super) name: String,
    pub(super) client: Arc<dyn Client>,
    pub(super) login: Login,
    pub(super) pending: Pending,
    pub(super) deletes: Deletes,
    pub(super) server_copy: ServerCopy,
    /// The smallest part that the service takes, where its settings say so.
    pub(super) min_part: Option<u64>,
    /// Whether the pin is looked at again after a read: nobody promises that an answer is of one version.
    pub(super) second_look: bool,
    /// Whether there ever were credentials.
    pub(super) logged_in: AtomicBool,
}

/// Clients show what they are made of, credentials included.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}://{})", self.scheme, self.name)
    }
}

impl Bucket {
    /// The bucket in which `at` lies.
    pub(super) fn new(
        at: &Location,
        client: Arc<dyn Client>,
        login: Login,
        pending: Pending,
        deletes: Deletes,
    ) -> Bucket {
        Bucket {
            scheme: at.scheme(),
            name: at.authority().to_owned(),
            client,
            login,
            pending,
            deletes,
            server_copy: ServerCopy::None { why: "is read and put: only S3 is asked to copy" },
            min_part: None,
            second_look: true,
            logged_in: AtomicBool::new(false),
        }
    }

    /// The key of an object or folder, as the client takes it.
    pub(super) fn path(&self, at: &Location) -> Result<Path> {
        if (at.scheme(), at.authority()) != (self.scheme, &self.name) {
            return Err(Error::new(ErrorKind::Unsupported, at, format!("does not lie in {}", self.name)));
        }
        Path::parse(at.key()).map_err(|e| Error::new(ErrorKind::Permanent, at, "is no key of an object").with_source(e))
    }

    /// The key of an object.
    pub(super) fn object(&self, at: &Location) -> Result<Path> {
        match at.key() {
            "" => Err(Error::new(ErrorKind::Permanent, at, "names all of a bucket, not an object")),
            _ => self.path(at),
        }
    }

    /// Makes a call, after making sure of the credentials; a failure is told with what was attempted ("cannot read").
    pub(super) async fn call<T>(
        &self,
        at: &Location,
        doing: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        self.log_in(at).await?;
        let seen = Seen::default();
        seen.watch(call).await.map_err(|e| failure::error(at, doing, e, seen.take()))
    }

    pub(super) async fn log_in(&self, at: &Location) -> Result<()> {
        let seen = Seen::default();
        let result = seen
            .watch(async {
                match &self.login {
                    Login::Anonymous => Ok(()),
                    Login::Aws(from) => from.get_credential().await.map(|_| ()),
                    Login::Google(from) => from.get_credential().await.map(|_| ()),
                    Login::Azure(from) => from.get_credential().await.map(|_| ()),
                }
            })
            .await;
        match result {
            Ok(()) => {
                self.logged_in.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(failure::no_credentials(at, e, seen.take(), self.logged_in.load(Ordering::Relaxed))),
        }
    }

    pub(super) fn refuse_anonymous(&self, at: &Location) -> Result<()> {
        match self.login {
            Login::Anonymous => Err(Error::new(ErrorKind::Permission, at, "is reached anonymously, for reading only")),
            _ => Ok(()),
        }
    }
}

/// A body in pieces, so that its progress can be seen. The bytes are shared, not copied.
pub(super) fn payload(bytes: &Bytes) -> PutPayload {
    const PIECE: usize = 256 << 10;
    (0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect()
}
