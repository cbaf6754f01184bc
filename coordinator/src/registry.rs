//! What a coordinator must know to go on after a restart, below its `--state` URL.
//!
//! ```text
//! merges/<id>        a merge: what was asked for, what its submitter allowed that is not done yet, and how it ended
//! unreadable/<id>    what stood there and is no record that this version reads
//! session-key        what the secrets of workers' sessions are made with (`hub/enrol.rs`)
//! ```
//!
//! One object a merge, replaced in one step. How far a merge is stands in its output's own state.
//!
//! No record is a reason not to start. One that is damaged, or of a newer version, is set aside below `unreadable/` and
//! named in a warning; a version that can read it takes it back when it starts. One that the store does not give is left
//! where it is, and asked for again later.

use std::sync::Arc;

use futures::StreamExt;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Stores, settled};
use tracing::{info, warn};

use crate::failure::{io, join};

#[cfg(not(test))]
mod record;
#[cfg(test)]
pub(crate) mod record;
mod totals;

use record::FORMAT;
pub use record::{Ended, Outcome, Record};
pub use totals::Totals;

/// The largest record that is read, in bytes. What is written stays far below: a spec has at most [`MAX_SPEC`] bytes.
const MAX_RECORD: u64 = 16 << 20;
/// The largest spec that is taken on, in bytes of JSON: 1,024 adapters with addresses of 200 bytes.
pub const MAX_SPEC: usize = 256 << 10;
/// Records that are read at a time.
const CONCURRENT: usize = 16;

/// Names a merge: the first 16 hex digits of BLAKE3 over its spec as JSON. The same spec is the same merge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergeId(String);

impl MergeId {
    /// The id of a spec.
    pub fn of(spec: &MergeSpec) -> MergeId {
        // A struct of strings, numbers and lists in a fixed order: this cannot fail, and equal specs give equal bytes.
        let bytes = serde_json::to_vec(spec).unwrap_or_default();
        MergeId(blake3::hash(&bytes).to_hex().as_str()[..16].to_owned())
    }

    /// An id as it is written; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<MergeId> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (text.len() == 16 && hex).then(|| MergeId(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MergeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The records of one coordinator.
#[derive(Debug, Clone)]
pub struct Registry {
    stores: Arc<Stores>,
    state: Location,
    at: Location,
    aside: Location,
}

/// What a coordinator finds when it starts.
#[derive(Debug, Default)]
pub struct Found {
    /// The records, the oldest first.
    pub merges: Vec<(MergeId, Record)>,
    /// Those that were no records, and were set aside.
    pub unreadable: Vec<MergeId>,
    /// Those that the store did not give.
    pub unread: Vec<MergeId>,
}

/// What stands in the place of a record.
enum Stored {
    Record(Box<Record>),
    Nothing,
    /// No record that this version reads, and why.
    Unreadable(String),
}

impl Registry {
    /// Records below a URL.
    pub fn new(stores: Arc<Stores>, state: &Location) -> Result<Registry> {
        Ok(Registry { stores, at: join(state, "merges")?, aside: join(state, "unreadable")?, state: state.clone() })
    }

    /// The stores that reach it. The list of allowed places does not hold for them: the state may lie outside.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The folder that the coordinator keeps for itself.
    pub fn state(&self) -> &Location {
        &self.state
    }

    /// Writes a record. When this returns, a coordinator that starts will find it.
    pub async fn put(&self, id: &MergeId, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::new(Kind::Internal, format!("merge {id} cannot be recorded: {e}")))?;
        self.stores.open(&self.at).put(&join(&self.at, id.as_str())?, bytes.into()).await.map_err(io)
    }

    /// Forgets a merge.
    pub async fn delete(&self, id: &MergeId) -> Result<()> {
        self.stores.open(&self.at).delete(&join(&self.at, id.as_str())?).await.map_err(io)
    }

    /// Reads everything. What is not named like a merge is left alone.
    ///
    /// # Errors
    /// Only if the records cannot be listed: then nobody can tell which merges there are.
    pub async fn all(&self) -> Result<Found> {
        self.take_back().await?;
        let names = self.names(&self.at).await?;
        let mut read = futures::stream::iter(names)
            .map(|id| async move { (self.get(&self.at, &id).await, id) })
            .buffer_unordered(CONCURRENT)
            .boxed();
        let mut found = Found::default();
        while let Some((stored, id)) = read.next().await {
            match stored {
                Ok(Stored::Record(record)) => found.merges.push((id, *record)),
                Ok(Stored::Nothing) => {}
                Ok(Stored::Unreadable(why)) => {
                    self.set_aside(&id, &why).await;
                    found.unreadable.push(id);
                }
                Err(e) => {
                    warn!(merge = %id, error = %e, "a record cannot be read; it is tried again later");
                    found.unread.push(id);
                }
            }
        }
        found.merges.sort_by(|(a, x), (b, y)| (x.submitted, a).cmp(&(y.submitted, b)));
        Ok(found)
    }

    /// A record that the store did not give at the start; `None` if there is none (any more).
    pub async fn again(&self, id: &MergeId) -> Result<Option<Record>> {
        match self.get(&self.at, id).await? {
            Stored::Record(record) => Ok(Some(*record)),
            Stored::Nothing => Ok(None),
            Stored::Unreadable(why) => {
                self.set_aside(id, &why).await;
                Ok(None)
            }
        }
    }

    async fn names(&self, at: &Location) -> Result<Vec<MergeId>> {
        let entries = self.stores.open(at).list(at).await.map_err(io)?;
        Ok(entries.into_iter().filter_map(|e| MergeId::parse(&e.name)).collect())
    }

    async fn get(&self, folder: &Location, id: &MergeId) -> Result<Stored> {
        let at = join(folder, id.as_str())?;
        let store = self.stores.open(&at);
        let read = match settled::read(&*store, &at, MAX_RECORD, |b| serde_json::from_slice::<Record>(b)).await {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Stored::Nothing),
            Err(e) => {
                return match store.head(&at).await {
                    Ok(meta) if meta.size > MAX_RECORD => {
                        let why = format!("it has {} bytes, a record at most {MAX_RECORD}", meta.size);
                        Ok(Stored::Unreadable(why))
                    }
                    _ => Err(io(e)),
                };
            }
        };
        Ok(match read {
            Ok(record) if record.format() != FORMAT => {
                Stored::Unreadable(format!("it has format {}, this version reads {FORMAT}", record.format()))
            }
            Ok(record) => Stored::Record(Box::new(record)),
            Err(e) => Stored::Unreadable(format!("it is not the record of a merge: {e}")),
        })
    }

    /// Moves what is no record out of the way, where a person and a later version find it.
    async fn set_aside(&self, id: &MergeId, why: &str) {
        metrics::counter!("shardfuse_records_unreadable_total").increment(1);
        let moved = async {
            let (from, to) = (join(&self.at, id.as_str())?, join(&self.aside, id.as_str())?);
            let store = self.stores.open(&from);
            store.copy(&from, &to, None).await.map_err(io)?;
            store.delete(&from).await.map_err(io)?;
            Ok::<_, Error>(to)
        };
        match moved.await {
            Ok(to) => {
                warn!(merge = %id, why, "a record cannot be read; the merge is not known here, and the record lies at {to}")
            }
            Err(e) => warn!(merge = %id, why, error = %e, "a record cannot be read; the merge is not known here"),
        }
    }

    /// Takes back what an earlier start set aside and this version can read, unless the merge was asked for again since.
    async fn take_back(&self) -> Result<()> {
        for id in self.names(&self.aside).await? {
            let Ok(Stored::Record(record)) = self.get(&self.aside, &id).await else { continue };
            if !matches!(self.get(&self.at, &id).await, Ok(Stored::Nothing)) {
                continue;
            }
            let back = async {
                self.put(&id, &record).await?;
                let at = join(&self.aside, id.as_str())?;
                self.stores.open(&at).delete(&at).await.map_err(io)
            };
            match back.await {
                Ok(()) => info!(merge = %id, "a record that was set aside can be read, and counts again"),
                Err(e) => warn!(merge = %id, error = %e, "a record that was set aside cannot be taken back"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_store::Store as _;
    use shardfuse_store::memory::Memory;

    use super::record::spec;
    use super::*;

    #[test]
    fn an_id_depends_on_the_spec_alone_and_is_hex() {
        let id = MergeId::of(&spec("s3://b/out"));
        assert_eq!(id, MergeId::of(&spec("s3://b/out")));
        assert_ne!(id, MergeId::of(&spec("s3://b/other")));
        assert_eq!(MergeId::parse(id.as_str()), Some(id));
        for bad in ["", "0123", "0123456789abcdeF", "../../../../etc/x", "0123456789abcdef0"] {
            assert_eq!(MergeId::parse(bad), None, "{bad}");
        }
    }

    fn registry() -> (Arc<Stores>, Registry) {
        let stores = Arc::new(Stores::all(Arc::new(Memory::new())));
        let registry = Registry::new(stores.clone(), &"s3://b/state".parse().unwrap()).unwrap();
        (stores, registry)
    }

    #[tokio::test]
    async fn records_come_back_in_the_order_of_submission() {
        let (_, registry) = registry();
        let mut expected = Vec::new();
        for (submitted, output) in [(3, "s3://b/c"), (1, "s3://b/a"), (2, "s3://b/b")] {
            let mut record = Record::new(spec(output), "cpu", 7, submitted);
            let error = Error::new(Kind::NonFinite, "NaN").hint("look");
            record.ended =
                Some(Ended { at: 9, outcome: Outcome::failed(&error), plan: None, device_class: None, totals: None });
            assert_eq!(record.ended.as_ref().unwrap().outcome.error(), Some(error));
            registry.put(&MergeId::of(&record.spec), &record).await.unwrap();
            expected.push(record);
        }
        expected.sort_by_key(|r| r.submitted);
        let all: Vec<Record> = registry.all().await.unwrap().merges.into_iter().map(|(_, r)| r).collect();
        assert_eq!(all, expected);
        registry.delete(&MergeId::of(&spec("s3://b/a"))).await.unwrap();
        assert_eq!(registry.all().await.unwrap().merges.len(), 2);
    }

    async fn write(stores: &Stores, name: &str, bytes: Vec<u8>) {
        let at: Location = format!("s3://b/state/{name}").parse().unwrap();
        stores.open(&at).put(&at, bytes.into()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_record_is_set_aside_and_the_others_are_read() {
        let (stores, registry) = registry();
        let good = Record::new(spec("s3://b/good"), "cpu", 0, 1);
        registry.put(&MergeId::of(&good.spec), &good).await.unwrap();
        let newer = serde_json::to_string(&good).unwrap().replace("\"format\":1", "\"format\":2");
        let wrong: [(&str, Vec<u8>); 4] = [
            ("0000000000000001", b"{".to_vec()),
            ("0000000000000002", Vec::new()),
            ("0000000000000003", newer.into_bytes()),
            ("0000000000000004", vec![b' '; MAX_RECORD as usize + 1]),
        ];
        for (id, bytes) in &wrong {
            write(&stores, &format!("merges/{id}"), bytes.clone()).await;
        }
        let found = registry.all().await.unwrap();
        assert_eq!(found.merges, [(MergeId::of(&good.spec), good)]);
        let mut unreadable: Vec<&str> = found.unreadable.iter().map(MergeId::as_str).collect();
        unreadable.sort_unstable();
        assert_eq!(unreadable, wrong.each_ref().map(|w| w.0));
        // Nothing is lost: each lies where the warning says.
        for (id, bytes) in wrong {
            let at: Location = format!("s3://b/state/unreadable/{id}").parse().unwrap();
            assert_eq!(stores.open(&at).get(&at, 2 * MAX_RECORD).await.unwrap().0, bytes);
        }
        let again = registry.all().await.unwrap();
        assert_eq!((again.merges.len(), again.unreadable.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_record_that_can_be_read_again_is_taken_back() {
        let (stores, registry) = registry();
        let record = Record::new(spec("s3://b/out"), "cpu", 0, 1);
        let id = MergeId::of(&record.spec);
        write(&stores, &format!("unreadable/{id}"), serde_json::to_vec(&record).unwrap()).await;
        assert_eq!(registry.all().await.unwrap().merges, [(id, record)]);
        assert_eq!(registry.all().await.unwrap().merges.len(), 1);
    }

    #[tokio::test]
    async fn a_record_that_the_store_does_not_give_is_no_reason_not_to_start() {
        use shardfuse_store::fault::{Fault, Faulty, Operation};
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::new())));
        let stores = Arc::new(Stores::all(faulty.clone()));
        let registry = Registry::new(stores, &"s3://b/state".parse().unwrap()).unwrap();
        let record = Record::new(spec("s3://b/out"), "cpu", 0, 1);
        let id = MergeId::of(&record.spec);
        registry.put(&id, &record).await.unwrap();
        faulty.plan(Operation::Read, 1, Fault::Before(ErrorKind::Permanent));
        let found = registry.all().await.unwrap();
        assert_eq!((found.merges.len(), found.unread), (0, vec![id.clone()]));
        assert_eq!(registry.again(&id).await.unwrap(), Some(record));
    }

    #[tokio::test]
    async fn a_torn_read_of_a_record_is_read_again_and_a_bad_record_is_set_aside() {
        let memory = Arc::new(Memory::new());
        let stores = Arc::new(Stores::all(memory.clone()));
        let registry = Registry::new(stores, &"s3://b/state".parse().unwrap()).unwrap();
        let record = Record::new(spec("s3://b/a"), "cpu", 7, 1);
        let id = MergeId::of(&record.spec);
        let at: Location = format!("s3://b/state/merges/{id}").parse().unwrap();
        // The older version is shorter: what is read of the newer one under its length is no record.
        memory.put(&at, "{}".into()).await.unwrap();
        memory.tear(&at, serde_json::to_vec(&record).unwrap().into());
        assert_eq!(registry.again(&id).await.unwrap(), Some(record));
        memory.put(&at, "{}".into()).await.unwrap();
        assert_eq!(registry.again(&id).await.unwrap(), None);
        assert_eq!(registry.all().await.unwrap().merges, []);
    }
}
