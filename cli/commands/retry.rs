//! `shardfuse retry`: begins a merge again.

use shardfuse_merge::Result;

use super::{print, print_json};
use crate::args::{Format, Global, Retry};
use crate::client::{self, Client};
use crate::text::Text;

/// Begins it again. A merge that is on its way or done is left as it is, and that is no failure.
pub async fn run(args: Retry, global: &Global) -> Result<()> {
    let merge = Client::connect(&args.connect).await?.retry(&args.id).await?;
    match global.format {
        Format::Json => print_json(&client::json(&merge)),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&Text::of(format_args!("{} is {}", merge.id, client::line(&merge)[1]))),
    }
}
