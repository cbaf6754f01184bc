//! `shardfuse inspect`: tensors and configuration of a checkpoint or adapter, from headers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardfuse_coordinator::failure;
use shardfuse_coordinator::inspect::{self, Folder, Objects};
use shardfuse_merge::checkpoint::files::Asked;
use shardfuse_merge::checkpoint::header::TensorEntry;
use shardfuse_merge::checkpoint::meant::Wanted;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::{DtypeExt, Result};
use shardfuse_store::{Location, Stores};

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::place;
use crate::size::show;
use crate::text::Text;

/// One tensor: name, dtype, shape, bytes, file.
type Row = (String, String, Vec<u64>, u64, String);

/// Reads headers and prints them.
pub async fn run(args: args::Inspect, global: &Global) -> Result<()> {
    let at = place::parse(&args.path)?;
    let stores = args.stores.open()?;
    let single = [".safetensors", ".bin", ".pt", ".pth"].iter().any(|e| at.to_string().ends_with(e));
    let (kind, config, rows) = if single {
        let store = stores.open(&at);
        let at = store.resolve(&at).await.map_err(failure::io)?;
        let weights = inspect::read_weights(&*store, &at).await?;
        let name = at.file_name().unwrap_or_default().to_owned();
        ("file", Value::Null, weights.tensors.iter().map(|t| row(t, &name)).collect())
    } else {
        folder(&stores, &at).await?
    };
    match global.format {
        Format::Json => print_json(&as_json(kind, &at.to_string(), &config, &rows)),
        Format::Text => print(&as_text(kind, &at.to_string(), &config, &rows)),
    }
}

async fn folder(stores: &Stores, at: &Location) -> Result<(&'static str, Value, Vec<Row>)> {
    let mut objects = Objects::default();
    let folder = Folder::open(stores, &at.to_string(), Wanted::Checkpoint, &[]).await?;
    let asked = Asked { look: true, ..Asked::default() };
    if folder.has("adapter_config.json") {
        let adapter = inspect::adapter(&folder, &mut objects, &asked).await?;
        let c = &adapter.config;
        let mut config = json!({
            "peft_type": c.kind.row().peft_type, "modules_to_save": c.modules_to_save,
            "base_model_name_or_path": c.base_model, "unknown_keys": c.unknown,
        });
        for (key, value) in c.kind.settings() {
            config[key] = value;
        }
        let rows = adapter.all_tensors().map(|t| source(t, objects.file_name(t.object))).collect();
        return Ok(("adapter", config, rows));
    }
    let base = inspect::base(&folder, &mut objects, &asked).await?;
    let rows = base.shards.iter().flat_map(|s| s.tensors.iter().map(|t| source(t, &s.name))).collect();
    Ok(("checkpoint", shardfuse_merge::json::standard(&base.config), rows))
}

fn row(t: &TensorEntry, file: &str) -> Row {
    (t.name.clone(), t.dtype.name(), t.shape.clone(), t.length, file.to_owned())
}

fn source(s: &Source, file: &str) -> Row {
    (s.name.clone(), s.dtype.name(), s.shape.clone(), s.bytes(), file.to_owned())
}

fn as_json(kind: &str, path: &str, config: &Value, rows: &[Row]) -> Value {
    let tensors: Vec<Value> = rows.iter().map(|(name, dtype, shape, bytes, file)| json!({ "name": name, "dtype": dtype, "shape": shape, "bytes": bytes, "file": file })).collect();
    json!({ "kind": kind, "path": path, "config": config, "bytes": rows.iter().map(|r| r.3).sum::<u64>(), "tensors": tensors })
}

fn as_text(kind: &str, path: &str, config: &Value, rows: &[Row]) -> Text {
    let mut out = Text::of(format_args!("{kind} {path}"));
    if let Some(map) = config.as_object() {
        for (key, value) in map.iter().filter(|(_, v)| !v.is_object() && !v.is_null()) {
            out.line(format_args!("  {key}: {value}"));
        }
    }
    let mut by_dtype: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let name_width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    let shape_width = rows.iter().map(|r| format!("{:?}", r.2).len()).max().unwrap_or(0);
    let mut file = "";
    for (name, dtype, shape, bytes, of) in rows {
        if of != file {
            out.line(format_args!("{of}"));
            file = of;
        }
        out.line(format_args!(
            "  {name:name_width$}  {dtype:5}  {:shape_width$}  {}",
            format!("{shape:?}"),
            show(*bytes)
        ));
        let sum = by_dtype.entry(dtype).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
    }
    let sums: Vec<String> =
        by_dtype.iter().map(|(dtype, (n, bytes))| format!("{n} {dtype} ({})", show(*bytes))).collect();
    out.line(format_args!("{} tensors: {}", rows.len(), sums.join(", ")));
    out
}
