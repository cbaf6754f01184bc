//! `shardfuse list`: a coordinator's merges.

use shardfuse_merge::Result;

use super::{print, print_json};
use crate::args::{Format, Global, List};
use crate::client::{self, Client};
use crate::text::Text;

/// Lists.
pub async fn run(args: List, global: &Global) -> Result<()> {
    let merges = Client::connect(&args.connect).await?.list(args.limit).await?;
    if global.format == Format::Json {
        let all: Vec<_> = merges.iter().map(client::json).collect();
        return print_json(&serde_json::json!({ "merges": all }));
    }
    let head = ["id", "state", "done", "workers", "priority", "submitted", "output"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(merges.iter().map(client::line)).collect();
    print(&Text::table(&rows))
}
