//! `shardfuse get`: one merge as it stands.

use shardfuse_merge::Result;

use super::{print, print_json};
use crate::args::{Format, Get, Global};
use crate::client::{self, Client};

/// Shows it. A merge that failed is shown with why; the exit code is that of the question, not of the merge.
pub async fn run(args: Get, global: &Global) -> Result<()> {
    let merge = Client::connect(&args.connect).await?.get(&args.id).await?;
    match global.format {
        Format::Json => print_json(&client::json(&merge)),
        Format::Text => print(&client::details(&merge)),
    }
}
