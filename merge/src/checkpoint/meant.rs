//! What a user may have meant by a place that holds no checkpoint or no adapter. Each answer is a hint.

use crate::bounded;

/// What a place was expected to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The folder of a model.
    Checkpoint,
    /// The folder of an adapter.
    Adapter,
}

impl Wanted {
    /// The file that every such folder has.
    pub fn config(self) -> &'static str {
        match self {
            Wanted::Checkpoint => "config.json",
            Wanted::Adapter => "adapter_config.json",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Wanted::Checkpoint => "a model",
            Wanted::Adapter => "an adapter",
        }
    }
}

/// What to do about a folder without the configuration that is wanted, by the names of the files below it.
pub fn by_content(wanted: Wanted, path: &str, files: &[&str]) -> String {
    let has = |name: &str| files.contains(&name);
    match wanted {
        Wanted::Checkpoint if has(Wanted::Adapter.config()) => {
            return format!(
                "{path} is an adapter: name it with --lora, and the model that it was trained on with --base"
            );
        }
        Wanted::Adapter if has(Wanted::Checkpoint.config()) => {
            return format!("{path} is a whole model, not an adapter: --lora takes what PEFT's save_pretrained wrote");
        }
        _ => {}
    }
    match inner(wanted, files).as_slice() {
        [] => {}
        [one] => return format!("{path}/{one} holds {}: name that folder", wanted.name()),
        [all @ .., last] => {
            let others = bounded::list(all.iter().rev().take(3));
            return format!("name one of its folders: {path}/{last} holds {}, and so do {others}", wanted.name());
        }
    }
    match wanted {
        Wanted::Checkpoint if files.iter().any(|name| name.ends_with(".gguf")) => {
            "GGUF files cannot be merged: name the folder of the model that they were made from".to_owned()
        }
        Wanted::Checkpoint => "name the folder that holds config.json and the weights".to_owned(),
        Wanted::Adapter if files.iter().any(|name| name.starts_with("adapter_model.")) => {
            "copy adapter_config.json, which PEFT wrote beside the weights, into the folder".to_owned()
        }
        Wanted::Adapter => "name the folder that PEFT's save_pretrained wrote".to_owned(),
    }
}

/// The folders below that hold what is wanted: runs hold `checkpoint-N`, PEFT writes `default`, a cache `snapshots/REVISION`. The
/// last is the newest checkpoint.
fn inner<'a>(wanted: Wanted, files: &[&'a str]) -> Vec<&'a str> {
    let below = |name: &&'a str| name.strip_suffix(wanted.config())?.strip_suffix('/');
    let mut folders: Vec<&str> = files.iter().filter_map(below).collect();
    folders.sort_by_key(|folder| (step(folder), *folder));
    folders
}

/// The step of a checkpoint's folder.
fn step(folder: &str) -> Option<u64> {
    folder.rsplit('/').next()?.strip_prefix("checkpoint-")?.parse().ok()
}

/// What to do about a file in place of a folder.
pub fn file(wanted: Wanted, path: &str) -> String {
    let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    format!("name the folder of {}: {folder}", wanted.name())
}

/// What to do about a place that holds nothing, by the names beside it.
pub fn by_name(wanted: Wanted, path: &str, beside: &[String]) -> String {
    let (folder, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or((".", path));
    if beside.iter().any(|other| other == name) {
        return format!(
            "{path} is empty, or a link that leads nowhere: name the folder that holds {}",
            wanted.config()
        );
    }
    // Commas and `=` end a path on the command line.
    let longer = |other: &&String| other.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', '=']));
    let whole: Vec<String> = beside.iter().filter(longer).map(|other| format!("{folder}/{other}")).collect();
    if !whole.is_empty() {
        let whole = whole.join(" or ");
        return format!(
            "if {whole} is meant: a path with a comma or `=` goes into a --spec file, as `- path: ...` below lora"
        );
    }
    let close = beside.iter().map(|other| (likeness(name, other), other)).filter(|(like, _)| *like >= LIKE);
    if let Some((_, nearest)) = close.max_by(|one, other| one.0.total_cmp(&other.0)) {
        return format!("{folder}/{nearest} is there: is that meant?");
    }
    match hub(path) {
        // A folder that exists and lacks this name is more likely the one that is meant.
        Some(id) if beside.is_empty() => {
            format!("check the path; a model of the Hugging Face hub is written hf://{id}")
        }
        _ => format!("check the path: it must be the folder that holds {}", wanted.config()),
    }
}

/// Names at least this alike may be one with a slip in it.
const LIKE: f64 = 0.75;

/// How alike two names are, from 0 to 1. Case does not count.
fn likeness(one: &str, other: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&one.to_lowercase(), &other.to_lowercase())
}

/// The last two parts of a path, if a model of the hub may have that name.
fn hub(path: &str) -> Option<&str> {
    let trimmed = path.trim_end_matches('/');
    let (before, name) = trimmed.rsplit_once('/')?;
    let organisation = before.rsplit('/').next()?;
    let is_file = [".safetensors", ".bin", ".json", ".pt"].iter().any(|ending| name.ends_with(ending));
    if is_file || trimmed.contains(':') {
        return None;
    }
    let fits = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    (fits(organisation) && fits(name)).then(|| &trimmed[trimmed.len() - organisation.len() - name.len() - 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_adapter_in_each_others_place_are_told() {
        let adapter = ["adapter_config.json", "adapter_model.safetensors"];
        assert!(by_content(Wanted::Checkpoint, "/x/lora", &adapter).contains("/x/lora is an adapter"));
        let model = ["config.json", "model.safetensors"];
        assert!(by_content(Wanted::Adapter, "/x/base", &model).contains("/x/base is a whole model"));
    }

    #[test]
    fn what_lies_in_a_folder_below_is_named() {
        for (files, named) in [
            (vec!["default/adapter_config.json", "README.md"], "/r/default holds an adapter"),
            (vec!["snapshots/abc/adapter_config.json"], "/r/snapshots/abc holds"),
            (
                vec![
                    "checkpoint-900/adapter_config.json",
                    "checkpoint-1000/adapter_config.json",
                    "checkpoint-50/adapter_config.json",
                ],
                "/r/checkpoint-1000 holds an adapter, and so do checkpoint-900, checkpoint-50",
            ),
        ] {
            let hint = by_content(Wanted::Adapter, "/r", &files);
            assert!(hint.contains(named), "{hint}");
        }
        assert!(by_content(Wanted::Checkpoint, "/r", &["model.Q4_K_M.gguf"]).contains("GGUF"));
        assert!(by_content(Wanted::Adapter, "/r", &["adapter_model.bin"]).contains("copy adapter_config.json"));
    }

    #[test]
    fn a_slip_in_a_name_leads_to_the_name_that_is_there() {
        let beside = ["Llama-2-7b-hf", "lora", "out"].map(str::to_owned);
        for (path, named) in [("/m/llama-2-7b-fh", "/m/Llama-2-7b-hf is there"), ("/m/loar", "/m/lora is there")] {
            let hint = by_name(Wanted::Checkpoint, path, &beside);
            assert!(hint.contains(named), "{path}: {hint}");
        }
        let hint = by_name(Wanted::Checkpoint, "/m/Mistral-7B", &beside);
        assert!(!hint.contains("is there") && hint.contains("config.json"), "{hint}");
    }

    #[test]
    fn a_folder_that_is_there_and_empty_is_not_suggested_for_itself() {
        let hint = by_name(Wanted::Adapter, "/m/run", &["run".to_owned(), "run2".to_owned()]);
        assert!(hint.contains("/m/run is empty") && !hint.contains("is that meant"), "{hint}");
    }

    #[test]
    fn a_path_that_the_command_line_cut_leads_to_the_spec_file() {
        for whole in ["a,b", "a=b"] {
            let hint = by_name(Wanted::Adapter, "/m/a", &[whole.to_owned()]);
            assert!(hint.contains(&format!("/m/{whole}")) && hint.contains("--spec"), "{hint}");
        }
        let both = ["a,b", "a=0.5"].map(str::to_owned);
        assert!(by_name(Wanted::Adapter, "/m/a", &both).contains("/m/a,b or /m/a=0.5"));
    }

    #[test]
    fn the_name_of_a_model_on_the_hub_is_told_how_to_write() {
        let hint = by_name(Wanted::Checkpoint, "/models/meta-llama/Llama-2-7b-hf", &[]);
        assert!(hint.contains("hf://meta-llama/Llama-2-7b-hf"), "{hint}");
        for no in ["/my models/x", "/w/lora/adapter_model.safetensors", "/w/https:/x/y"] {
            assert!(!by_name(Wanted::Checkpoint, no, &[]).contains("hf://"), "no model of the hub has the name {no}");
        }
    }

    #[test]
    fn the_folder_of_a_file_is_named() {
        assert_eq!(file(Wanted::Checkpoint, "/m/base/config.json"), "name the folder of a model: /m/base");
    }
}
