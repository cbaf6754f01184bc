//! `shardfuse list`: a coordinator's merges.

use shardfuse_merge::Result;

use super::{print, print_json};
use crate::args::{Format, Global, List};
use crate::client::{self, Client};

/// Lists.
pub async fn run(args: List, global: &Global) -> Result<()> {
    let merges = Client::connect(&args.connect).await?.list(args.limit).await?;
    if global.format == Format::Json {
        let all: Vec<_> = merges.iter().map(client::json).collect();
        return print_json(&serde_json::json!({ "merges": all }));
    }
    let head = ["id", "state", "done", "workers", "priority", "submitted", "output"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(merges.iter().map(client::line)).collect();
    let widths: Vec<usize> = (0..7).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    let text: String = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect();
    print(&text)
}
