//! `shardfuse index`: reads a base once, so that merges know the digests of what the store copies.

use std::collections::BTreeSet;

use shardfuse_coordinator::failure::io;
use shardfuse_coordinator::index;
use shardfuse_coordinator::inspect::{self, Folder, Objects};
use shardfuse_merge::Result;
use shardfuse_merge::checkpoint::files::{Asked, DIGESTS};
use shardfuse_merge::checkpoint::meant::Wanted;
use shardfuse_merge::inventory::{Grain, ObjectId};
use shardfuse_store::Scheme;
use tokio::sync::watch;

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::place;
use crate::progress::{self, Show, State};
use crate::size;
use crate::text::Text;
use crate::version::VERSION;

/// Reads the base and writes its index.
pub async fn run(args: args::Index, global: &Global) -> Result<()> {
    let base = place::parse(&args.base)?;
    let stores = args.stores.open()?;
    let folder = Folder::open(&stores, &base.to_string(), Wanted::Checkpoint, &[]).await?;
    let asked = Asked { look: true, ..Asked::default() };
    let mut objects = Objects::default();
    let read = inspect::base(&folder, &mut objects, &asked).await?;
    let weights: BTreeSet<u32> = read.shards.iter().flat_map(|s| &s.tensors).map(|tensor| tensor.object.0).collect();
    let total = weights.iter().map(|id| objects.size(ObjectId(*id))).sum();
    let names: Vec<String> = read.shards.into_iter().map(|shard| shard.name).collect();
    let to = match &args.to {
        Some(to) => place::parse(to)?,
        None => base.join(DIGESTS).map_err(io)?,
    };
    let grain = if base.scheme() == Scheme::File { Grain::FILES } else { Grain::OBJECTS };
    let (shown, receive) = watch::channel(State::default());
    shown.send_modify(|state| state.progress.bytes_total = total);
    let show = tokio::spawn(progress::show(receive, Show::of(global)));
    let read = |bytes| shown.send_modify(|state| state.progress.bytes_done += bytes);
    let made = index::make(&stores, &base, &names, grain.least, format!("shardfuse {VERSION}"), read).await;
    drop(shown);
    let _ = show.await;
    let made = made?;
    index::write(&stores, &to, &made).await?;
    let (files, bytes) = (made.files.len(), made.files.iter().map(|file| file.size).sum());
    match global.format {
        Format::Json => print_json(&serde_json::json!({
            "base": base.to_string(), "index": to.to_string(), "files": files, "bytes": bytes, "block": made.block,
        })),
        Format::Text if global.quiet => Ok(()),
        Format::Text => {
            let mut out = Text::new();
            out.line(format_args!("{to}: the digests of {} in {files} files of {base}", size::show(bytes)));
            print(&out)
        }
    }
}
