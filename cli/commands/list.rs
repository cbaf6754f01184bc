//! `shardfuse list`: a coordinator's merges.

use shardfuse_merge::Result;
use shardfuse_proto::v1::MergeState;

use super::{print, print_json};
use crate::args::{Format, Global, List};
use crate::client::{self, Client};
use crate::text::Text;

/// Lists.
pub async fn run(args: List, global: &Global) -> Result<()> {
    let most = (!args.all).then_some(args.limit as usize);
    let (merges, more) = Client::connect(&args.connect).await?.list(most).await?;
    if global.format == Format::Json {
        let all: Vec<_> = merges.iter().map(client::json).collect();
        return print_json(&serde_json::json!({ "merges": all, "more": more }));
    }
    let head = ["id", "state", "done", "workers", "priority", "submitted", "output"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(merges.iter().map(client::line)).collect();
    print(&Text::table(&rows))?;
    if !global.quiet {
        for merge in merges.iter().filter(|m| m.state() == MergeState::Held) {
            let reason = merge.failure.as_ref().map_or("", |f| f.message.as_str());
            Text::of(format_args!("{} is held: {reason}; shardfuse retry {} begins it again", merge.id, merge.id))
                .say();
        }
        if more {
            Text::of("there are older merges: --limit N or --all shows them").say();
        }
    }
    Ok(())
}
