//! The state of a merge, below `<output>/.shardfuse/`, on any store.
//!
//! ```text
//! plan                            the plan, created if absent: one plan an output
//! replaces                        an older output goes when this one is published
//! epoch/<n>                       taken by create-if-absent: the highest number is the coordinator that counts
//! header/<file>                   the bytes that begin an output file
//! measured/<id>/<block>           sums of one block; measured/<id>/all: folded over all blocks
//! journal/<n>-<token>/<seq>       the records of one coordinator, read by GET until one is missing
//! ```
//!
//! **Which coordinator counts.** No lock and no heartbeat: a coordinator takes the number above all that are there, and stops
//! if it finds a higher one. A number alone does not say which one took it (the state may have been discarded and begun anew), so
//! each coordinator draws a token, which its epoch object holds and its journal's name carries. What a coordinator that
//! lost its place still appends lands in a journal of its own: the next one reads it if it comes in time, since the
//! parts are there and their bytes are determined, and nobody reads it otherwise.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Pin, Store, settled};

use crate::failure::{io, join};

/// The folder of a merge's state, below the output.
pub const STATE: &str = ".shardfuse";
/// The format of what lies in it, beside the plan's own.
const FORMAT: u32 = 1;
/// The largest state object that is read, in bytes. A plan is by far the largest.
const MAX_OBJECT: u64 = 1 << 30;

/// Refuses an output whose state is, or holds, a link to a folder: what a coordinator writes and removes there would be
/// somebody else's. Returns the other links to folders in the output.
///
/// # Errors
/// `UnsafePath` with the link.
pub async fn links(store: &dyn Store, output: &Location) -> Result<Vec<String>> {
    let links = store.links(output).await.map_err(io)?;
    let of_state = |name: &&String| *name == STATE || name.starts_with(&format!("{STATE}/"));
    match links.iter().find(of_state) {
        Some(link) => Err(Error::new(
            Kind::UnsafePath,
            format!("{output}/{link} is a link to a folder: the state of a merge holds no links"),
        )
        .hint("remove the link")),
        None => Ok(links),
    }
}

/// Whether an output holds the state of a merge that has not ended.
///
/// # Errors
/// If the store cannot be asked.
pub async fn is_there(store: &dyn Store, output: &Location) -> Result<bool> {
    match store.head(&join(output, &format!("{STATE}/plan"))?).await {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(e)),
    }
}

/// What an epoch object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    format: u32,
    /// The coordinator that took it.
    pub token: String,
    /// The digest of the plan that it is about; empty if it only keeps others away while the state is removed.
    pub plan: String,
    /// When, in seconds since 1970, by the clock of that machine.
    pub at: u64,
}

impl Taken {
    /// Whether this is the end of a state that is being removed.
    pub fn is_seal(&self) -> bool {
        self.plan.is_empty()
    }

    fn render(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// A coordinator's place: its epoch, and the token that says that it is this coordinator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The number.
    pub epoch: u64,
    /// The token.
    pub token: String,
}

/// Whether a claim still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody came later.
    Holds,
    /// A later coordinator goes on with this state, and with its uploads.
    TakenOver,
    /// The state was removed, and perhaps begun anew: nobody knows this coordinator's uploads any more.
    Gone,
}

/// The state folder of one output.
#[derive(Debug, Clone)]
pub struct OutputState {
    /// The output's store.
    pub store: Arc<dyn Store>,
    /// The state folder.
    pub at: Location,
}

impl OutputState {
    /// The state folder below an output.
    pub fn of(store: Arc<dyn Store>, output: &Location) -> Result<OutputState> {
        Ok(OutputState { store, at: join(output, STATE)? })
    }

    /// A place below the state folder.
    pub fn place(&self, name: &str) -> Result<Location> {
        join(&self.at, name)
    }

    /// The whole of a state object, if it is there.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.held(name).await?.map(|(bytes, _)| bytes))
    }

    /// A state object as `parse` reads it, if it is there. One that does not parse is read again before it counts as bad:
    /// on some stores a read that races a write returns a mix of two versions.
    pub async fn read<T, E>(
        &self,
        name: &str,
        parse: impl Fn(&[u8]) -> std::result::Result<T, E>,
    ) -> Result<Option<std::result::Result<T, E>>> {
        match settled::read(&*self.store, &self.place(name)?, MAX_OBJECT, parse).await {
            Ok(parsed) => Ok(Some(parsed)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(e)),
        }
    }

    /// Whether a state object is there.
    pub async fn has(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.place(name)?).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io(e)),
        }
    }

    /// Writes a state object.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&self.place(name)?, bytes).await.map_err(io)
    }

    /// Removes a state object.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(&self.place(name)?).await.map_err(io)
    }

    /// The whole of a state object, if it is there, and its version.
    pub async fn held(&self, name: &str) -> Result<Option<(Bytes, Pin)>> {
        match self.store.get(&self.place(name)?, MAX_OBJECT).await {
            Ok((bytes, meta)) => Ok(Some((bytes, meta.pin))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(e)),
        }
    }

    /// Removes a state object if it still is that version; a newer one stays.
    pub async fn delete_if(&self, name: &str, pin: &Pin) -> Result<()> {
        match self.store.delete_if(&self.place(name)?, pin).await {
            Err(e) if e.kind() == ErrorKind::Changed => Ok(()),
            deleted => deleted.map_err(io),
        }
    }

    /// Creates a state object; false if another one is there. One of the same bytes counts as created: the reply to an
    /// earlier try may have been lost.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        match self.store.create(&self.place(name)?, bytes.clone()).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(self.get(name).await? == Some(bytes)),
            Err(e) => Err(io(e)),
        }
    }

    /// Stores a plan; false if another one is there. What cannot be read again is not written.
    pub async fn store_plan(&self, plan: &Plan) -> Result<bool> {
        let bytes = plan.to_stored()?;
        if bytes.len() as u64 > MAX_OBJECT {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the plan has {} bytes, at most {MAX_OBJECT} can be stored and read again", bytes.len()),
            ));
        }
        self.create("plan", bytes.into()).await
    }

    /// The stored plan.
    pub async fn plan(&self) -> Result<Option<Plan>> {
        self.read("plan", Plan::from_bytes).await?.transpose()
    }

    /// What the epoch object of a number says, if it is there.
    pub async fn taken(&self, epoch: u64) -> Result<Option<Taken>> {
        let Some(read) = self.read(&format!("epoch/{epoch}"), |b| serde_json::from_slice::<Taken>(b)).await? else {
            return Ok(None);
        };
        let taken = read.map_err(|e| Error::new(Kind::Io, format!("{}/epoch/{epoch} cannot be read: {e}", self.at)))?;
        if taken.format != FORMAT {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the state in {} has format {}, this version reads {FORMAT}", self.at, taken.format),
            )
            .hint("finish the merge with the version that began it, or discard it with --restart"));
        }
        Ok(Some(taken))
    }

    /// The epochs that are taken, from 1 on, found by asking for one after the other: numbers are taken without gaps, and
    /// never given back.
    pub async fn epochs(&self) -> Result<Vec<Taken>> {
        let mut found = Vec::new();
        while let Some(taken) = self.taken(found.len() as u64 + 1).await? {
            found.push(taken);
        }
        Ok(found)
    }

    /// Whether the epoch objects that are there have the numbers from 1 on, without a gap.
    pub async fn in_sequence(&self) -> Result<bool> {
        let listed = self.store.list(&self.place("epoch")?).await.map_err(io)?;
        let mut numbers: Vec<u64> = listed.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok((1..).zip(numbers).all(|(expected, number)| expected == number))
    }

    /// Takes the next epoch above `past`, for a plan of this digest.
    ///
    /// Each of several coordinators gets its own: creation decides, and a coordinator that comes second tries the next number.
    pub async fn take_epoch(&self, plan: &str, past: u64) -> Result<Claim> {
        let taken = Taken { format: FORMAT, token: token(), plan: plan.to_owned(), at: now() };
        let mut epoch = past + 1;
        while !self.create(&format!("epoch/{epoch}"), taken.render()).await? {
            epoch += 1;
        }
        Ok(Claim { epoch, token: taken.token })
    }

    /// Closes the state for good, in one step with the question whether a claim holds, and returns the seal; `None` if the
    /// claim does not hold. Afterwards no coordinator continues with the state, and the next one removes it.
    pub async fn seal(&self, claim: &Claim) -> Result<Option<Claim>> {
        if self.standing(claim).await? != Standing::Holds {
            return Ok(None);
        }
        let seal = Taken { format: FORMAT, token: token(), plan: String::new(), at: now() };
        let name = format!("epoch/{}", claim.epoch + 1);
        if !self.create(&name, seal.render()).await? {
            return Ok(None);
        }
        // Between the question and the seal another coordinator may have come, finished, and removed everything.
        // That this cannot be told changes nothing: the seal is there.
        if let Ok(taken) = self.taken(claim.epoch).await
            && taken.is_none_or(|t| t.token != claim.token)
        {
            if let Some((found, pin)) = self.held(&name).await?
                && found == seal.render()
            {
                self.delete_if(&name, &pin).await?;
            }
            return Ok(None);
        }
        Ok(Some(Claim { epoch: claim.epoch + 1, token: seal.token }))
    }

    /// Whether a claim still holds.
    pub async fn standing(&self, claim: &Claim) -> Result<Standing> {
        if self.taken(claim.epoch).await?.is_none_or(|t| t.token != claim.token) {
            return Ok(Standing::Gone);
        }
        // Numbers are taken without gaps, so one look above is enough.
        Ok(match self.has(&format!("epoch/{}", claim.epoch + 1)).await? {
            true => Standing::TakenOver,
            false => Standing::Holds,
        })
    }

    /// Fails with `output_busy` if a claim does not hold any more.
    pub async fn check(&self, claim: &Claim) -> Result<()> {
        let what = match self.standing(claim).await? {
            Standing::Holds => return Ok(()),
            Standing::TakenOver => "another shardfuse took over the merge",
            Standing::Gone => "another shardfuse finished or discarded the merge",
        };
        Err(Error::new(Kind::OutputBusy, format!("{what} in {} (this was epoch {})", self.at, claim.epoch))
            .hint("let the other one finish"))
    }
}

/// Seconds since 1970, as this machine has it. Only for people and for `clean`: nothing else is decided by it.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A name that nobody else draws: the keys of the standard hasher come from the system's randomness.
pub(crate) fn token() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(()))
}
