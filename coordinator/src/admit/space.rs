//! Room for everything that is written, noticed before work starts where the store can tell.

use shardfuse_merge::output::SmallFile;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::units::bytes;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, UploadId};

use crate::failure::{io, join};
use crate::journal;
use crate::state::OutputState;

/// Fails with `no_space` if the output cannot hold what the plan writes. What a restart discards counts as free.
pub(super) async fn check(state: &OutputState, output: &Location, plan: &Plan, restart: bool) -> Result<()> {
    let Some(free) = state.store.space(output).await.map_err(io)? else { return Ok(()) };
    let carried = plan.output.sidecars.iter().map(|(_, file)| match file {
        SmallFile::Copy(id) => plan.objects[id.0 as usize].size,
        SmallFile::Text(text) => text.len() as u64,
    });
    let need: u64 = plan.output.files.iter().map(|f| f.size).chain(carried).sum();
    let freed = if restart { occupied(state, output).await? } else { 0 };
    match free.checked_add(freed) {
        Some(room) if room < need => Err(Error::new(
            Kind::NoSpace,
            format!("{output} has {} free, the merge writes {}", bytes(room), bytes(need)),
        )
        .hint("make room, or name another folder with --output")),
        _ => Ok(()),
    }
}

/// The bytes that a merge's state holds: its objects, and its uploads at their full length.
async fn occupied(state: &OutputState, output: &Location) -> Result<u64> {
    let listed = state.store.list(&state.at).await.map_err(io)?;
    let mut held: u64 = listed.iter().map(|e| e.size).sum();
    // A plan or journal that this version cannot read names no uploads.
    let Ok(Some((plan, history))) = journal::read(state).await else { return Ok(held) };
    for (file, upload) in &history.uploads {
        let Some(f) = plan.output.files.get(*file as usize) else { continue };
        if state.store.probe(&join(output, &f.name)?, &UploadId::new(upload)).await.map_err(io)? {
            held += f.size;
        }
    }
    Ok(held)
}
