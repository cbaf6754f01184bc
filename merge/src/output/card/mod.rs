//! The model card: `README.md` of the output, and what becomes of the base's.
//!
//! A card is a function of the plan. It has no date, host or absolute path, so the same merge has the same card everywhere. It
//! ends with a line that holds the digest of all before it (`sealed`). By that line a card that nobody has changed since is
//! told from a person's own text, which is never replaced and never left out.

mod front;
mod place;
mod sealed;
mod yaml;

use std::collections::BTreeMap;
use std::fmt::Write;

pub use front::Front;
pub use sealed::is_ours;

use crate::inventory::{AdapterInventory, Inventory, ObjectId};
use crate::spec::{Card, MergeSpec, OPTIONS, Tokenizer};
use place::Named;

/// The card's name in a folder.
pub const CARD: &str = "README.md";
/// What the card is called where a person's own one stays in its place.
pub const BESIDE: &str = "README.shardfuse.md";
/// The longest card of a base that is read, in bytes.
pub const MAX_CARD: u64 = 1 << 20;

/// The card of an output, and what became of the base's.
#[derive(Debug)]
pub(super) struct Written {
    /// The text.
    pub(super) text: String,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// Whether the base's card is one of ours, which the output's takes the place of.
    pub(super) replaced: bool,
}

/// Writes the card, and gives the base's own one among the files another name. `None` if no card is asked for.
pub(super) fn card(spec: &MergeSpec, inventory: &Inventory, files: &mut BTreeMap<String, ObjectId>) -> Option<Written> {
    if spec.card == Card::None {
        return None;
    }
    let (base, mut notes, mut replaced, mut kept) = (&inventory.base, Vec::new(), false, None);
    let mut front = Front::default();
    if let Some(object) = files.remove(CARD) {
        match base.card.as_deref().map(|text| (text, Front::read(text))) {
            None => notes.push(format!(
                "the base's {CARD} has more than {MAX_CARD} bytes: it was not read, and the card names no licence"
            )),
            Some((_, Err(why))) => {
                notes.push(format!(
                    "the metadata of the base's {CARD} cannot be read, so the card has none of it: {why}"
                ));
            }
            Some((_, Ok(read))) => front = read,
        }
        if base.card.as_deref().is_some_and(is_ours) {
            replaced = true;
        } else {
            let name = free(files);
            notes.push(format!("the base's {CARD} is kept as {name}"));
            files.insert(name.clone(), object);
            kept = Some(name);
        }
    }
    let text = sealed::seal(&render(spec, inventory, &front, kept.as_deref()));
    Some(Written { text, notes, replaced })
}

/// The first name for the base's card that no file has.
fn free(files: &BTreeMap<String, ObjectId>) -> String {
    let numbered = (2u32..).map(|number| format!("README.base-{number}.md"));
    let mut names = std::iter::once("README.base.md".to_owned()).chain(numbered);
    names.find(|name| !files.contains_key(name)).unwrap_or_default()
}

/// Whether this is a name under which a base's card is kept.
pub fn is_kept(name: &str) -> bool {
    let Some(number) = name.strip_prefix("README.base").and_then(|rest| rest.strip_suffix(".md")) else { return false };
    number.is_empty() || number.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// What an adapter is: its kind, and whether it brings whole modules.
fn kind(adapter: &AdapterInventory) -> String {
    let rescaled = adapter.tensors.iter().any(|tensor| tensor.name.contains("lora_magnitude_vector"));
    let whole = if adapter.config.modules_to_save.is_empty() { "" } else { " + whole modules" };
    format!("{}{whole}", adapter.config.kind.title(rescaled))
}

fn render(spec: &MergeSpec, inventory: &Inventory, front: &Front, kept: Option<&str>) -> String {
    let objects = &inventory.objects;
    let of = |url: &str, id: Option<ObjectId>| Named::of(url, id.and_then(|id| objects.get(id.0 as usize)));
    let first = inventory.base.shards.iter().flat_map(|shard| &shard.tensors).next();
    let base = of(&spec.base, first.map(|t| t.object));
    let adapters: Vec<Named> = spec
        .lora
        .iter()
        .zip(&inventory.adapters)
        .map(|(lora, adapter)| of(&lora.path, adapter.all_tensors().next().map(|t| t.object)))
        .collect();
    let mut out = String::from("---\n");
    let mut models: Vec<&str> = Vec::new();
    for named in std::iter::once(&base).chain(&adapters) {
        if !models.contains(&named.name.as_str()) {
            models.push(&named.name);
        }
    }
    yaml::list(&mut out, "base_model", &models);
    yaml::text(&mut out, "base_model_relation", "merge");
    front.write(&mut out);
    yaml::list(&mut out, "tags", &["merge", "shardfuse"]);
    out.push_str("---\n\n");

    let count = match adapters.len() {
        1 => "one adapter".to_owned(),
        n => format!("{n} adapters"),
    };
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("# {} with {count} merged", escape(&base.name)));
    line(String::new());
    line(format!("The base is {}. These adapters were merged into it, in this order:", base.shown()));
    line(String::new());
    line("| # | adapter | kind | weight | revision |".to_owned());
    line("|---|---|---|---|---|".to_owned());
    for (i, ((named, lora), adapter)) in adapters.iter().zip(&spec.lora).zip(&inventory.adapters).enumerate() {
        let kind = kind(adapter);
        let revision = named.revision.as_deref().unwrap_or("-");
        line(format!("| {} | {} | {kind} | {} | {revision} |", i + 1, escape(&named.name), lora.weight));
    }
    let options = options(spec);
    if !options.is_empty() {
        line(String::new());
        line("Options that differ from their defaults:".to_owned());
        line(String::new());
        options.iter().for_each(|option| line(format!("- `{option}`")));
    }
    line(String::new());
    line(
        "Every delta was added to the weights in fp32, and the sum was rounded to the dtype of the output.".to_owned(),
    );
    line("`shardfuse.json` names all inputs, with the digest of every file. In this folder,".to_owned());
    line(String::new());
    line("    shardfuse verify . --sample 16".to_owned());
    line(String::new());
    line("compares the files with these digests, and rows of the weights with what base and adapters give.".to_owned());
    if front.has_licence() {
        line(String::new());
        line("The licence named above is the base's. The adapters may have licences of their own.".to_owned());
    }
    if let Some(name) = kept {
        line(String::new());
        line(format!("The base's own card is [{name}]({name})."));
    }
    out
}

/// The options that were given another value than the default, as flags. A folder is told by its last name. The size of parts
/// changes no byte of the model.
fn options(spec: &MergeSpec) -> Vec<String> {
    let mut shown = spec.clone();
    if let Tokenizer::Folder(url) = &shown.tokenizer {
        shown.tokenizer = Tokenizer::Folder(Named::of(url, None).name);
    }
    let default = MergeSpec::of("", [], "");
    let mut all = Vec::new();
    for option in OPTIONS.iter().filter(|option| option.field != "part_size") {
        let values = option.get(&shown);
        if values != option.get(&default) {
            all.extend(values.iter().map(|value| format!("--{} {}", option.flag, value.replace('`', "'"))));
        }
    }
    all
}

/// A name as plain text of Markdown.
fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '\\') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

impl Named {
    /// As a sentence shows it.
    fn shown(&self) -> String {
        let mut shown = escape(&self.name);
        if let Some(revision) = &self.revision {
            let _ = write!(shown, " at revision {revision}");
        }
        shown
    }
}

#[cfg(test)]
mod tests;
