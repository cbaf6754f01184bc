//! `shardfuse verify`: an output against its manifest, and against base and adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_coordinator::failure::io;
use shardfuse_coordinator::inspect::{self, read_weights};
use shardfuse_coordinator::publish::Content;
use shardfuse_coordinator::{publish, state, tombstone};
use shardfuse_merge::checkpoint::index::{Index, MAX_INDEX};
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::output::manifest::{MANIFEST, Manifest, ManifestFile};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::{Error, Kind, Result, bounded};
use shardfuse_store::{ErrorKind, Location, Stores};

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::place;
use crate::sample::{self, Found};
use crate::size::show;
use crate::text::Text;
use damage::Damage;

mod damage;

const INDEX: &str = "model.safetensors.index.json";
/// The largest error in ulp that counts as half of one.
const EXACT: f64 = 0.5 + 1e-3;
/// Files that are digested at a time.
const FILES_AT_A_TIME: usize = 4;

/// Checks and prints.
pub async fn run(args: args::Verify, global: &Global) -> Result<()> {
    let output = place::parse(&args.output)?;
    let stores = args.stores.open()?;
    let store = stores.open(&output);
    let Some(manifest) = publish::manifest(&*store, &output).await? else {
        return Err(match tombstone::is_at(&*store, &output.join(MANIFEST).map_err(io)?).await? {
            true => Error::new(Kind::MissingFile, format!("{output} is being replaced by a merge that has not ended"))
                .hint("let it end, or run the same merge again"),
            false if state::is_there(&*store, &output).await? => {
                Error::new(Kind::MissingFile, format!("the merge into {output} is unfinished"))
                    .hint("run the same merge again: it goes on where it stopped")
            }
            false if store.head(&output.join(MANIFEST).map_err(io)?).await.is_ok() => {
                Error::new(Kind::VerifyFailed, format!("{output}/{MANIFEST} is damaged: it cannot be read"))
                    .hint("merge again with --restart --force")
            }
            false => {
                Error::new(Kind::MissingFile, format!("{output} has no {MANIFEST}, so it is no output of shardfuse"))
                    .hint("verify checks what shardfuse merge wrote; name that folder")
            }
        });
    };
    let mut problems = Vec::new();
    let mut wrong = BTreeSet::new();
    for (file, problem) in files(&stores, &output, &manifest, args.full).await? {
        problems.push(match problem {
            Problem::Other(text) => text,
            Problem::Damaged(damage) => damaged(&stores, &output, &manifest, &damage).await,
        });
        wrong.insert(file);
    }
    let unread = if args.full { 0 } else { unread(&manifest) };
    problems.extend(index(&stores, &output, &manifest, &wrong).await?);
    let sampled = match args.sample {
        Some(rows) if problems.is_empty() => {
            let plan = planned(&stores, &manifest).await?;
            Some(sample::sample(&stores, &plan, &output, rows).await?)
        }
        _ => None,
    };
    for (kind, found) in sampled.iter().flatten().filter(|(_, f)| f.wrong > 0) {
        problems.push(format!(
            "{kind}: {} of {} sampled rows are wrong, the worst at {}",
            found.wrong, found.rows, found.at
        ));
    }
    match global.format {
        Format::Json => print_json(
            &serde_json::json!({ "output": output.to_string(), "plan": manifest.plan, "files": manifest.files.len(), "unread_bytes": unread, "problems": problems, "sample": sampled }),
        )?,
        Format::Text if global.quiet => {}
        Format::Text => print(&text(&output, &manifest, unread, &problems, sampled.as_ref()))?,
    }
    match problems.first() {
        None => Ok(()),
        Some(first) => {
            Err(Error::new(Kind::VerifyFailed, failed(&problems, first)).hint("merge again with --restart --force"))
        }
    }
}

fn failed(problems: &[String], first: &str) -> String {
    match problems.len() {
        1 => first.to_owned(),
        several => format!("{several} checks failed, the first: {first}"),
    }
}

/// What is wrong with a file.
enum Problem {
    /// Some of its bytes.
    Damaged(Damage),
    /// Anything else.
    Other(String),
}

/// Damage in words. If the inputs are still what they were, the rows are named that can be told to be wrong.
async fn damaged(stores: &Stores, output: &Location, manifest: &Manifest, damage: &Damage) -> String {
    let text = format!("{} is not what was written: {}", damage.file, damage.text);
    let rows = async {
        let plan = planned(stores, manifest).await?;
        sample::wrong(stores, &plan, output, &damage.file, &damage.bytes).await
    };
    match rows.await {
        Ok(rows) if !rows.is_empty() => format!("{text}; wrong is {}", bounded::list(rows)),
        // The parts are named already.
        _ => text,
    }
}

/// Bytes that the store copied and nobody read.
fn unread(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(ManifestFile::unread_bytes).sum()
}

/// The files that are not what was written.
async fn files(stores: &Stores, output: &Location, manifest: &Manifest, full: bool) -> Result<Vec<(String, Problem)>> {
    let places: Vec<Location> =
        manifest.files.iter().map(|file| output.join(&file.name).map_err(io)).collect::<Result<_>>()?;
    // Digesting is work: each file in a task of its own, so that several cores share it.
    let checks = places.into_iter().zip(&manifest.files).map(|(at, file)| {
        let (stores, file, part_size) = (stores.clone(), file.clone(), manifest.spec.part_size);
        async move {
            let name = file.name.clone();
            let check = tokio::spawn(async move { differs(&stores, &at, &file, part_size, full).await });
            let found = check.await.map_err(|e| Error::new(Kind::Internal, format!("a file's check ended: {e}")))??;
            Ok(found.map(|problem| (name, problem)))
        }
    });
    stream::iter(checks).buffered(FILES_AT_A_TIME).try_filter_map(|found| ready(Ok(found))).try_collect().await
}

/// What is wrong with a file, if anything.
async fn differs(
    stores: &Stores,
    at: &Location,
    file: &ManifestFile,
    part_size: u64,
    full: bool,
) -> Result<Option<Problem>> {
    let (name, store) = (&file.name, &*stores.open(at));
    let problem = |text| Ok(Some(Problem::Other(text)));
    match store.head(at).await {
        Ok(meta) if meta.size != file.size => {
            let cut = if meta.size < file.size { "it is cut off: " } else { "" };
            problem(format!("{name}: {cut}it has {} bytes, the manifest says {}", meta.size, file.size))
        }
        Ok(_) => {
            let content = Content::told(file, part_size)?;
            let whole = match content.hash {
                Some(_) => Some(publish::hash_file(store, at, file.size, None).await?),
                None => None,
            };
            if whole.is_some() && whole == content.hash {
                return Ok(None);
            }
            match (damage::find(stores, at, name, &content, full).await?, whole.zip(content.hash)) {
                (Some(damage), _) => Ok(Some(Problem::Damaged(damage))),
                (None, Some((is, said))) => problem(format!("{name} has the digest {is}, the manifest says {said}")),
                (None, None) => Ok(None),
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => problem(format!("{name} is missing")),
        Err(e) => Err(io(e)),
    }
}

/// Index against headers: every tensor where it is said to be, `total_size` the sum of the tensors' bytes. Weight files that
/// only travelled with the model, such as those of its sub-folders, are no part of it. Nothing is held against a file that is
/// wrong already: what would not fit follows from that.
async fn index(
    stores: &Stores,
    output: &Location,
    manifest: &Manifest,
    wrong: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let at = output.join(INDEX).map_err(io)?;
    let indexed = manifest.files.iter().any(|f| f.name == INDEX);
    let bytes = match indexed {
        true => stores.open(&at).get(&at, MAX_INDEX).await.ok().map(|(bytes, _)| bytes),
        false => None,
    };
    let parsed = bytes.as_ref().map(|bytes| Index::parse(bytes));
    let named = match &parsed {
        Some(Ok(index)) => index.files(),
        _ => BTreeSet::new(),
    };
    let of_model = |name: &str| named.contains(name) || sidecar::is_model_weight(name);
    if wrong.iter().any(|name| name == INDEX || of_model(name)) {
        return Ok(problems);
    }
    let mut held: Vec<(String, String)> = Vec::new();
    let mut total = 0u64;
    for file in manifest.files.iter().filter(|f| f.name.ends_with(".safetensors") && of_model(&f.name)) {
        let at = output.join(&file.name).map_err(io)?;
        match read_weights(&*stores.open(&at), &at).await {
            Ok(weights) => {
                total += weights.tensors.iter().map(|t| t.length).sum::<u64>();
                held.extend(weights.tensors.into_iter().map(|t| (file.name.clone(), t.name)));
            }
            Err(e) => problems.push(e.to_string()),
        }
    }
    let (Some(bytes), Some(parsed)) = (&bytes, &parsed) else { return Ok(problems) };
    match parsed {
        Ok(parsed) => problems
            .extend(parsed.check(held.iter().map(|(f, t)| (f.as_str(), t.as_str()))).err().map(|e| e.to_string())),
        Err(e) => problems.push(e.to_string()),
    }
    let said =
        serde_json::from_slice::<serde_json::Value>(bytes).ok().and_then(|v| v["metadata"]["total_size"].as_u64());
    if said != Some(total) {
        problems.push(format!("{INDEX} says total_size {said:?}, the tensors have {total} bytes"));
    }
    Ok(problems)
}

/// The plan of an output, made of its inputs once more.
async fn planned(stores: &Stores, manifest: &Manifest) -> Result<Plan> {
    let inventory =
        inspect::inspect(stores, &manifest.spec).await.map_err(|e| e.at("an input of the merge cannot be read"))?;
    let (plan, _) = Plan::new(manifest.spec.clone(), &inventory)?;
    if plan.digest() != manifest.plan {
        let now: BTreeSet<(&str, &str)> = plan.objects.iter().map(|o| (o.url.as_str(), o.pin.as_str())).collect();
        let changed = manifest.inputs.iter().find(|o| !now.contains(&(o.url.as_str(), o.pin.as_str())));
        let what = changed.map_or("the plan differs".to_owned(), |o| format!("{} is not what was merged", o.url));
        return Err(Error::new(Kind::InputChanged, format!("the output cannot be recomputed: {what}")));
    }
    Ok(plan)
}

fn text(
    output: &Location,
    manifest: &Manifest,
    unread: u64,
    problems: &[String],
    sampled: Option<&BTreeMap<String, Found>>,
) -> Text {
    let mut out = Text::new();
    if problems.is_empty() {
        let plan = manifest.plan.get(..12).unwrap_or(&manifest.plan);
        let count = manifest.files.len();
        out.line(format_args!("{output}: all {count} files are as they were written (plan {plan})"));
    }
    if unread > 0 {
        out.line(format_args!(
            "not checked: {} that the store copied and nobody read; --full compares them with their source",
            show(unread)
        ));
    }
    if let Some(sampled) = sampled {
        let width = sampled.keys().map(String::len).max().unwrap_or(0);
        out.line(format_args!("{:width$}  tensors  rows  largest error", "tensor"));
        for (kind, f) in sampled {
            out.line(format_args!("{kind:width$}  {:7}  {:4}  {:.3} ulp", f.tensors, f.rows, f.worst_ulp));
        }
    }
    if let Some(sampled) = sampled.filter(|_| problems.is_empty()) {
        out.line(verdict(sampled));
    }
    // The error tells the first.
    for p in problems.iter().skip(1) {
        out.line(format_args!("wrong: {p}"));
    }
    out
}

/// What a sample without a wrong row means.
fn verdict(sampled: &BTreeMap<String, Found>) -> String {
    let (tensors, rows) = sampled.values().fold((0, 0), |(tensors, rows), f| (tensors + f.tensors, rows + f.rows));
    let worst = sampled.values().map(|f| f.worst_ulp).fold(0.0, f64::max);
    match worst <= EXACT {
        true => format!("{rows} rows of all {tensors} tensors are within half an ulp: as exact as the format allows"),
        false => format!(
            "{rows} rows of all {tensors} tensors are within half an ulp plus fp32 noise: as exact as the format allows"
        ),
    }
}
