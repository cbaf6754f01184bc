//! Who may use a worker's number.
//!
//! A worker chooses its number, and its session is known by it. So that another worker cannot take the number over, a
//! session gets a secret with its welcome, and a reconnect under the number must show it. The secret says when the number
//! was registered, under a MAC: the coordinator keeps no list, and one that starts again on the same state still knows its
//! secrets.
//!
//! ```text
//! secret = registered (8 bytes, milliseconds since 1970, little-endian) | nonce (16 bytes) | MAC (32 bytes)
//! MAC    = BLAKE3 keyed hash of context | number | registered | nonce | the certificate's name of the worker
//! ```
//!
//! | the number is | the session shows | it |
//! |---|---|---|
//! | free | anything | gets the number |
//! | taken | the secret of the session that has it | goes on with the number |
//! | taken | the secret of an older registration | takes the number over: the one that has it came between |
//! | taken | no secret, one of somebody else, one of a newer registration | is refused |
//!
//! A number is free again once its worker left, or was silent for two leases. A secret that this coordinator did not give
//! out counts as none.

use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use shardfuse_proto::v1;
use shardfuse_store::{ErrorKind, Location, Stores};

use super::clock::clock;
use crate::failure::{io, join};

/// The object below `--state` that holds the key.
const FILE: &str = "session-key";
const CONTEXT: &[u8] = b"shardfuse worker session v1";
const NONCE: usize = 16;
const MAC: usize = 32;

/// What a coordinator makes its secrets with.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

/// When a number was registered. The older one of two comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Registration {
    at_ms: u64,
    nonce: [u8; NONCE],
}

/// A worker that wants to open a session, and when its number was registered.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub(super) hello: Box<v1::Hello>,
    /// Its device class, read.
    pub(super) class: DeviceClass,
    pub(super) registration: Registration,
    /// Whether its secret proves that, or the number is registered now.
    proven: bool,
    secret: Vec<u8>,
}

impl Enrolment {
    /// Whether it may use a number that `taken` has: as the same worker, or as one that had it before.
    pub(super) fn beats(&self, taken: Registration) -> bool {
        self.proven && self.registration <= taken
    }

    /// What the worker is to show when it connects again.
    pub fn secret(&self) -> Vec<u8> {
        self.secret.clone()
    }
}

impl SessionKey {
    /// A key that ends with the process.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<SessionKey> {
        random().map(SessionKey)
    }

    /// The key below a state; the first one to ask makes it.
    ///
    /// # Errors
    /// If it can be neither read nor written, or is no key.
    pub async fn kept(stores: &Stores, state: &Location) -> Result<SessionKey> {
        let at = join(state, FILE)?;
        let store = stores.open(&at);
        match store.get(&at, 32).await {
            Ok((bytes, _)) => return SessionKey::read(&at, &bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        let key = random()?;
        match store.create(&at, key.to_vec().into()).await {
            Ok(()) => Ok(SessionKey(key)),
            // Another coordinator was faster.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let (bytes, _) = store.get(&at, 32).await.map_err(io)?;
                SessionKey::read(&at, &bytes)
            }
            Err(e) => Err(io(e)),
        }
    }

    fn read(at: &Location, bytes: &[u8]) -> Result<SessionKey> {
        <[u8; 32]>::try_from(bytes).map(SessionKey).map_err(|_| {
            Error::new(Kind::Io, format!("{at} has {} bytes, a session key has 32", bytes.len()))
                .hint("remove it: a new one is made, and workers that are connected register again")
        })
    }

    /// Takes a worker's hello, with the name that its certificate gives to it alone, if it has one.
    ///
    /// # Errors
    /// If its device class is none, or the system has no randomness.
    pub(super) fn enrol(&self, hello: v1::Hello, name: Option<&str>) -> Result<Enrolment> {
        let class = hello.device_class.parse()?;
        let shown = self.shown(&hello, name);
        let proven = shown.is_some();
        let registration = match shown {
            Some(shown) => shown,
            None => {
                let drawn = random()?;
                let mut nonce = [0; NONCE];
                nonce.copy_from_slice(&drawn[..NONCE]);
                Registration { at_ms: clock(), nonce }
            }
        };
        let secret = self.secret(hello.worker_id, registration, name);
        Ok(Enrolment { hello: Box::new(hello), class, registration, proven, secret })
    }

    /// The registration that a hello proves.
    fn shown(&self, hello: &v1::Hello, name: Option<&str>) -> Option<Registration> {
        let (at_ms, rest) = hello.secret.split_first_chunk::<8>()?;
        let (nonce, mac) = rest.split_first_chunk::<NONCE>()?;
        let registration = Registration { at_ms: u64::from_le_bytes(*at_ms), nonce: *nonce };
        let shown = blake3::Hash::from_bytes(<[u8; MAC]>::try_from(mac).ok()?);
        // The comparison of these hashes takes the same time wherever they differ.
        (shown == self.mac(hello.worker_id, registration, name)).then_some(registration)
    }

    fn secret(&self, number: u64, registration: Registration, name: Option<&str>) -> Vec<u8> {
        let mut secret = registration.at_ms.to_le_bytes().to_vec();
        secret.extend(registration.nonce);
        secret.extend(self.mac(number, registration, name).as_bytes());
        secret
    }

    fn mac(&self, number: u64, registration: Registration, name: Option<&str>) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(CONTEXT);
        hasher.update(&number.to_le_bytes());
        hasher.update(&registration.at_ms.to_le_bytes());
        hasher.update(&registration.nonce);
        // The name is last and the rest is of a fixed length, so no two inputs are the same text.
        hasher.update(&[u8::from(name.is_some())]);
        hasher.update(name.unwrap_or_default().as_bytes());
        hasher.finalize()
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Internal, format!("the system has no randomness for a session's secret: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use shardfuse_store::memory::Memory;
    use std::sync::Arc;

    use super::*;

    fn hello(worker_id: u64, secret: &[u8]) -> v1::Hello {
        v1::Hello { worker_id, device_class: "cpu".into(), secret: secret.to_vec(), ..v1::Hello::default() }
    }

    #[test]
    fn a_secret_proves_a_registration_for_its_number_its_name_and_its_key_alone() {
        let key = SessionKey([7; 32]);
        for name in [None, Some("a")] {
            let first = key.enrol(hello(1, &[]), name).unwrap();
            let again = key.enrol(hello(1, &first.secret()), name).unwrap();
            assert_eq!((again.registration, again.secret()), (first.registration, first.secret()));
            let other_name = if name.is_some() { None } else { Some("") };
            for (key, number, name, why) in [
                (SessionKey([7; 32]), 2, name, "another number"),
                (SessionKey([8; 32]), 1, name, "another key"),
                (SessionKey([7; 32]), 1, other_name, "another name"),
            ] {
                let taken = key.enrol(hello(number, &first.secret()), name).unwrap();
                assert_ne!(taken.registration, first.registration, "{why}");
            }
        }
    }

    #[test]
    fn a_secret_that_was_changed_cut_or_made_longer_proves_nothing() {
        let key = SessionKey([7; 32]);
        let first = key.enrol(hello(1, &[]), None).unwrap();
        let right = first.secret();
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            assert_eq!(key.shown(&hello(1, &wrong), None), None, "byte {at} is another");
            assert_eq!(key.shown(&hello(1, &right[..at]), None), None, "{at} bytes");
        }
        let longer = [right.as_slice(), &[0]].concat();
        assert_eq!(key.shown(&hello(1, &longer), None), None);
        assert_eq!(key.shown(&hello(1, &right), None), Some(first.registration));
    }

    #[tokio::test]
    async fn the_key_of_a_state_is_made_once_and_survives() {
        let stores = Stores::all(Arc::new(Memory::new()));
        let state: Location = "s3://b/state".parse().unwrap();
        let (a, b) = tokio::join!(SessionKey::kept(&stores, &state), SessionKey::kept(&stores, &state));
        assert_eq!(a.unwrap().0, b.unwrap().0);
        let other = SessionKey::kept(&stores, &"s3://b/other".parse().unwrap()).await.unwrap();
        assert_ne!(SessionKey::kept(&stores, &state).await.unwrap().0, other.0);
        let at = state.join(FILE).unwrap();
        stores.open(&at).put(&at, "short".into()).await.unwrap();
        assert!(SessionKey::kept(&stores, &state).await.unwrap_err().message().contains("has 5 bytes"));
    }
}
