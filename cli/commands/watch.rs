//! `shardfuse watch`: a merge to its end.

use shardfuse_merge::Result;

use super::submit;
use crate::args::{Global, Watch};
use crate::client::Client;

/// Follows it, with the exit code of the merge.
pub async fn run(args: Watch, global: &Global) -> Result<()> {
    let mut client = Client::connect(&args.connect).await?;
    let merge = client.get(&args.id).await?;
    submit::to_the_end(client, merge, global).await
}
