//! `shardfuse cancel`: stops a merge.

use shardfuse_merge::Result;
use shardfuse_proto::v1::MergeState;

use super::{print, print_json};
use crate::args::{Cancel, Format, Global};
use crate::client::{self, Client};
use crate::text::Text;

/// Stops it. A merge that has ended is left as it is, and that is no failure.
pub async fn run(args: Cancel, global: &Global) -> Result<()> {
    let merge = Client::connect(&args.connect).await?.cancel(&args.id, args.discard).await?;
    match global.format {
        Format::Json => print_json(&client::json(&merge)),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&Text::of(match merge.state() {
            MergeState::Cancelled => format!("{} is cancelled", merge.id),
            MergeState::Done | MergeState::Failed => format!("{} had ended: {}", merge.id, client::line(&merge)[1]),
            _ => format!("{} is being cancelled", merge.id),
        })),
    }
}
