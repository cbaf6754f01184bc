//! Who works on an output, so that a second merge into it is refused while the first one is alive.
//!
//! On a disk of this machine the owner locks the output's folder: the lock ends with its process. One that took over has the lock as soon
//! as the other one is gone. Elsewhere it writes a beat every
//! five seconds into the state, and another merge takes it for dead once the beat has not changed for fifteen seconds, or says that its
//! owner stopped. Clocks of two machines are not compared: whoever looks measures the silence by its own.
//!
//! This only keeps people from starting the same work twice. What decides between two coordinators is the epoch (see
//! [`crate::state`]): a coordinator that takes over at once, or one that was taken for dead, does no damage.

mod beat;
mod heir;

use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Hold, Location, Lock, Store, Stores};
use tokio::time::Instant;
use tracing::warn;

use crate::failure::{io, join};
use crate::state::STATE;
use beat::{Beat, Beating};
use heir::Heir;

/// A beat that does not change for so long has lost its owner.
const SILENCE: Duration = Duration::from_secs(15);
/// Between two looks at the beat of another one.
const LOOK: Duration = Duration::from_secs(1);

/// What a coordinator does about another one that works on the same output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owning {
    /// It neither asks nor tells. For tests that count what a store is asked.
    #[default]
    Off,
    /// It takes over at once: a coordinator that was started again, or index 0 of a Job.
    AtOnce,
    /// It is refused while the other one is alive, and waits until it is known to be dead.
    Patient,
}

/// This process's place at an output.
#[derive(Debug, Default)]
pub struct Owner {
    /// Released when it is dropped.
    hold: Option<Hold>,
    heir: Option<Heir>,
    beating: Option<Beating>,
}

impl Owner {
    /// Becomes the owner of an output.
    ///
    /// # Errors
    /// `output_busy` if another owner is alive, and this one is patient.
    pub async fn of(stores: &Stores, output: &Location, owning: Owning) -> Result<Owner> {
        if owning == Owning::Off {
            return Ok(Owner::default());
        }
        let store = stores.open(output);
        match store.lock(output).await.map_err(io)? {
            Lock::Held(hold) => return Ok(Owner { hold: Some(hold), ..Owner::default() }),
            Lock::Taken if owning == Owning::Patient => return Err(busy(output, "on this machine")),
            // The other one notices by its epoch that it is not the owner any more.
            Lock::Taken => return Ok(Owner { heir: Some(Heir::of(store, output.clone())), ..Owner::default() }),
            Lock::Unsupported => {}
        }
        let at = join(output, &format!("{STATE}/owner"))?;
        if owning == Owning::Patient {
            wait(&*store, output, &at).await?;
        }
        Ok(Owner { beating: Some(Beating::start(store, at).await?), ..Owner::default() })
    }

    /// Gives the output up. `begun` says that an unfinished merge stays there.
    pub async fn release(self, begun: bool) {
        if let Some(beating) = self.beating {
            beating.stop(begun).await;
        }
        if let Some(heir) = self.heir {
            heir.stop().await;
        }
        drop(self.hold);
    }
}

/// Waits until the owner of an output is known to be dead.
async fn wait(store: &dyn Store, output: &Location, at: &Location) -> Result<()> {
    let Some(first) = look(store, at).await? else { return Ok(()) };
    if first.stopped {
        return Ok(());
    }
    warn!(%output, owner = %first, "a merge into it was begun and not ended; waiting {} s for a sign of life", SILENCE.as_secs());
    let until = Instant::now() + SILENCE;
    while Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        match look(store, at).await? {
            None => return Ok(()),
            Some(now) if now.stopped => return Ok(()),
            Some(now) if now != first => return Err(busy(output, &now.to_string())),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The beat at an output. What cannot be read counts as none: the epoch decides.
async fn look(store: &dyn Store, at: &Location) -> Result<Option<Beat>> {
    match store.get(at, beat::MOST).await {
        Ok((bytes, _)) => Ok(Beat::parse(&bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(e)),
    }
}

fn busy(output: &Location, owner: &str) -> Error {
    Error::new(Kind::OutputBusy, format!("another shardfuse is merging into {output}: {owner}"))
        .hint("let it end, or stop it; --take-over begins at once, and the other one ends with output_busy")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shardfuse_store::memory::Memory;

    use super::*;

    fn place() -> (Stores, Location) {
        (Stores::all(Arc::new(Memory::new())), "s3://bucket/out".parse().unwrap())
    }

    async fn there(stores: &Stores, output: &Location) -> Option<Beat> {
        look(&*stores.open(output), &join(output, ".shardfuse/owner").unwrap()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_owner_is_refused_while_the_first_is_alive_and_its_name_is_told() {
        let (stores, output) = place();
        let first = Owner::of(&stores, &output, Owning::Patient).await.unwrap();
        let error = Owner::of(&stores, &output, Owning::Patient).await.unwrap_err();
        assert_eq!(error.kind(), Kind::OutputBusy);
        assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
        first.release(false).await;
        assert!(there(&stores, &output).await.is_none(), "nothing is left of an owner whose merge ended");
        Owner::of(&stores, &output, Owning::Patient).await.unwrap().release(false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_took_over_has_the_lock_once_the_other_is_gone_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let (stores, output) = (Stores::new(), Location::at_path(&dir.path().join("out")).unwrap());
        let first = Owner::of(&stores, &output, Owning::Patient).await.unwrap();
        let second = Owner::of(&stores, &output, Owning::AtOnce).await.unwrap();
        first.release(true).await;
        // Whoever tries may be first; it goes again.
        let mut refused = None;
        for _ in 0..100 {
            match Owner::of(&stores, &output, Owning::Patient).await {
                Ok(third) => third.release(true).await,
                Err(error) => refused = Some(error),
            }
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(refused.map(|e| e.kind()), Some(Kind::OutputBusy));
        second.release(true).await;
        Owner::of(&stores, &output, Owning::Patient).await.unwrap().release(true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_was_killed_is_waited_for_and_then_taken_for_dead() {
        let (stores, output) = place();
        drop(Owner::of(&stores, &output, Owning::Patient).await.unwrap());
        let began = Instant::now();
        let second = Owner::of(&stores, &output, Owning::Patient).await.unwrap();
        assert!(began.elapsed() >= SILENCE && began.elapsed() < SILENCE + 2 * LOOK, "{:?}", began.elapsed());
        second.release(false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_stopped_in_order_is_not_waited_for() {
        let (stores, output) = place();
        Owner::of(&stores, &output, Owning::Patient).await.unwrap().release(true).await;
        assert!(there(&stores, &output).await.unwrap().stopped);
        let began = Instant::now();
        Owner::of(&stores, &output, Owning::Patient).await.unwrap().release(false).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_was_started_again_takes_over_at_once() {
        let (stores, output) = place();
        let _first = Owner::of(&stores, &output, Owning::Patient).await.unwrap();
        let began = Instant::now();
        let second = Owner::of(&stores, &output, Owning::AtOnce).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        second.release(false).await;
    }
}
