//! The command line and the merge spec, as meant.

use std::path::Path;

use serde::Deserialize;
use shardfuse_merge::recipe::DoraNorm;
use shardfuse_merge::spec::{DEFAULT_PART_SIZE, LoraSpec, MergeSpec, OutputDtype, Tokenizer};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;
use shardfuse_worker::device::{Choice, Limits};

use crate::args::{Gpu, Spec};
use crate::{memory, size};

/// A merge as it will be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What decides the output's bytes.
    pub spec: MergeSpec,
    /// The byte budget.
    pub memory: u64,
    /// Threads that fuse.
    pub threads: usize,
    /// What fuses.
    pub device: Choice,
}

/// The merge spec's file: the fields of the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    base: Option<String>,
    lora: Vec<FileLora>,
    output: Option<String>,
    dtype: Option<String>,
    max_shard_size: Option<Scalar>,
    part_size: Option<Scalar>,
    memory: Option<Scalar>,
    threads: Option<usize>,
    device: Option<String>,
    dora_norm: Option<String>,
    combine: Option<String>,
    density: Option<f64>,
    partial_weight: bool,
    tokenizer: Option<String>,
    tied: Option<bool>,
    extra_weights: Vec<String>,
    #[serde(alias = "ignore_files")]
    ignore_file: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileLora {
    Text(String),
    Entry {
        path: String,
        #[serde(default = "one")]
        weight: f64,
    },
}

fn one() -> f64 {
    1.0
}

/// A size in YAML: `5GB` or a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

/// What was said of this machine.
struct Machine {
    memory: Option<u64>,
    threads: Option<usize>,
    device: Option<String>,
}

/// Flags over the file over the defaults: the spec, and what was said of this machine.
fn understand(args: Spec) -> Result<(MergeSpec, Machine)> {
    let file = match &args.spec {
        Some(path) => read(path)?,
        None => File::default(),
    };
    let here =
        std::env::current_dir().map_err(|e| Error::new(Kind::Io, format!("the current folder cannot be told: {e}")))?;
    let place = |text: &str| {
        Location::parse(text, &here).map(|l| l.to_string()).map_err(|e| Error::new(Kind::Usage, e.chain()))
    };
    let need = |value: Option<String>, flag: &str| {
        value.ok_or_else(|| Error::new(Kind::Usage, format!("{flag} is not given")).hint("shardfuse merge --help"))
    };
    let mut lora = if args.lora.is_empty() { from_file(file.lora)? } else { split(&args.lora)? };
    for l in &mut lora {
        l.path = place(&l.path)?;
    }
    let bytes = |flag: &str, typed: Option<String>, file: Option<Scalar>| -> Result<Option<u64>> {
        match (typed, file) {
            (Some(text), _) | (None, Some(Scalar::Text(text))) => size::parse(flag, &text).map(Some),
            (None, Some(Scalar::Number(n))) => Ok(Some(n)),
            (None, None) => Ok(None),
        }
    };
    check_combination(args.combine.or(file.combine).as_deref(), args.density.or(file.density))?;
    let spec = MergeSpec {
        base: place(&need(args.base.or(file.base), "--base")?)?,
        lora,
        output: place(&need(args.output.or(file.output), "--output")?)?,
        dtype: match args.dtype.or(file.dtype) {
            Some(text) => one_of(
                "--dtype",
                &text,
                &[
                    ("keep", OutputDtype::Keep),
                    ("bf16", OutputDtype::Bf16),
                    ("f16", OutputDtype::F16),
                    ("f32", OutputDtype::F32),
                ],
            )?,
            None => OutputDtype::Keep,
        },
        max_shard_size: bytes("--max-shard-size", args.max_shard_size, file.max_shard_size)?,
        part_size: bytes("--part-size", args.part_size, file.part_size)?.unwrap_or(DEFAULT_PART_SIZE),
        dora_norm: match args.dora_norm.or(file.dora_norm) {
            Some(text) => {
                one_of("--dora-norm", &text, &[("standing", DoraNorm::Standing), ("original", DoraNorm::Original)])?
            }
            None => DoraNorm::Standing,
        },
        partial_weight: args.partial_weight || file.partial_weight,
        tokenizer: match args.tokenizer.or(file.tokenizer).as_deref() {
            None | Some("auto") => Tokenizer::Auto,
            Some("base") => Tokenizer::Base,
            Some(path) => Tokenizer::Folder(place(path)?),
        },
        tied: args.tied.or(file.tied),
        extra_weights: names(args.extra_weights, file.extra_weights),
        ignore_files: names(args.ignore_file, file.ignore_file),
    };
    spec.check()?;
    refuse_read_only(&spec)?;
    let memory = bytes("--memory", args.memory, file.memory)?;
    Ok((spec, Machine { memory, threads: args.threads.or(file.threads), device: file.device }))
}

impl Settings {
    /// Flags over the file over the defaults. `device` is the flag.
    pub fn new(args: Spec, device: Option<String>) -> Result<Settings> {
        let (spec, machine) = understand(args)?;
        let memory = machine.memory.unwrap_or_else(memory::default_budget);
        let threads = machine.threads.unwrap_or_else(memory::default_threads);
        let device = device.or(machine.device).map_or(Ok(Choice::Auto), |text| text.parse());
        let device = device.map_err(|why| Error::new(Kind::Usage, format!("--device: {why}")))?;
        if threads == 0 {
            return Err(Error::new(Kind::Usage, "--threads is 0"));
        }
        if memory < 4 * spec.part_size {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "--memory of {memory} bytes is too little for parts of {} bytes: four parts must fit",
                    spec.part_size
                ),
            )
            .hint("give more --memory, or a smaller --part-size"));
        }
        Ok(Settings { spec, memory, threads, device })
    }
}

/// What GPUs may take of a budget, and how long they may be silent.
pub fn limits(args: &Gpu, memory: u64) -> Result<Limits> {
    let patience = size::parse_time("--gpu-patience", &args.gpu_patience)?;
    if patience.is_zero() {
        return Err(Error::new(Kind::Usage, "--gpu-patience is 0"));
    }
    Ok(Limits { memory, patience })
}

/// The merge that a coordinator is asked for: every place as a URL. What a spec file says of memory, threads and device is for
/// merges on one machine; as flags they are refused.
pub fn for_fleet(args: Spec) -> Result<MergeSpec> {
    if let Some(flag) =
        [("--memory", args.memory.is_some()), ("--threads", args.threads.is_some())].iter().find(|f| f.1)
    {
        return Err(Error::new(Kind::Usage, format!("{} has no meaning for a fleet", flag.0))
            .hint("each worker has its own: shardfuse worker --help"));
    }
    let (mut spec, _) = understand(args)?;
    urls(&mut spec)?;
    Ok(spec)
}

/// A pod of a job: as on one machine, with every place as a URL.
pub fn for_job(args: Spec, device: Option<String>) -> Result<Settings> {
    let mut settings = Settings::new(args, device)?;
    urls(&mut settings.spec)?;
    Ok(settings)
}

fn urls(spec: &mut MergeSpec) -> Result<()> {
    let url = |text: &mut String| -> Result<()> {
        let location: Location =
            text.parse().map_err(|e: shardfuse_store::Error| Error::new(Kind::Usage, e.chain()))?;
        *text = location.to_url();
        Ok(())
    };
    spec.places_mut().try_for_each(|(_, text)| url(text))
}

fn read(path: &Path) -> Result<File> {
    // The spec is a small file of the user's beside the command line, read before any store exists.
    #[allow(clippy::disallowed_methods, reason = "the spec is read before any store exists")]
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(Kind::Usage, format!("the merge spec {} cannot be read: {e}", path.display())))?;
    serde_saphyr::from_str(&text).map_err(|e| {
        // The parser shows the place in several lines; an error is one.
        let why = e.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Error::new(Kind::Usage, format!("the merge spec {} is wrong: {why}", path.display()))
    })
}

/// The names that were typed, else those of the file; sorted, since a plan must not depend on their order.
fn names(typed: Vec<String>, file: Vec<String>) -> Vec<String> {
    let mut all = if typed.is_empty() { file } else { typed };
    all.sort_unstable();
    all.dedup();
    all
}

fn from_file(entries: Vec<FileLora>) -> Result<Vec<LoraSpec>> {
    let mut all = Vec::new();
    for entry in entries {
        match entry {
            FileLora::Text(text) => all.extend(split(&[text])?),
            FileLora::Entry { path, weight } => all.push(LoraSpec { path, weight }),
        }
    }
    Ok(all)
}

/// `a`, `a,b`, `a, b`, `a=0.5`: adapters in the order given.
fn split(values: &[String]) -> Result<Vec<LoraSpec>> {
    let mut all = Vec::new();
    for value in values {
        for item in value.split(',').map(str::trim) {
            if item.is_empty() || item.starts_with(['(', '[', '{']) || item.ends_with([')', ']', '}']) {
                return Err(Error::new(Kind::Usage, format!("--lora {value:?} is not a list of adapters"))
                    .hint("write --lora a --lora b, or --lora a,b, without brackets"));
            }
            let (path, weight) = match item.rsplit_once('=') {
                Some((path, weight)) if !path.is_empty() => {
                    let parsed = weight.trim().parse::<f64>();
                    (
                        path.trim(),
                        parsed.map_err(|_| {
                            Error::new(Kind::Usage, format!("--lora {item:?}: the weight {weight:?} is not a number"))
                        })?,
                    )
                }
                _ => (item, 1.0),
            };
            all.push(LoraSpec { path: path.to_owned(), weight });
        }
    }
    Ok(all)
}

/// Combinations in weight space or on factors are known by name, and refused until they are exact.
const COMBINATIONS: [&str; 18] = [
    "linear",
    "cat",
    "ties",
    "magnitude-prune",
    "dare-linear",
    "dare-ties",
    "svd",
    "ties-svd",
    "dare-linear-svd",
    "dare-ties-svd",
    "magnitude-prune-svd",
    "peft-linear",
    "peft-cat",
    "peft-ties",
    "peft-svd",
    "peft-dare-linear",
    "peft-dare-ties",
    "peft-magnitude-prune",
];

fn check_combination(combine: Option<&str>, density: Option<f64>) -> Result<()> {
    match (combine, density) {
        (None | Some("sequence"), None) => Ok(()),
        (None | Some("sequence"), Some(density)) => Err(Error::new(
            Kind::Usage,
            format!("--density {density} has no meaning for a sequence, which prunes nothing"),
        )),
        (Some(name), _) if COMBINATIONS.contains(&name.replace('_', "-").as_str()) => {
            Err(Error::new(Kind::Unsupported, format!("--combine {name} is not supported yet, only sequence is"))
                .hint("the exact weighted sum (PEFT's cat) is a sequence with weights: --lora a=0.5 --lora b=1.25"))
        }
        (Some(name), _) => {
            Err(Error::new(Kind::Usage, format!("--combine {name:?} is not known")).hint("leave it out for a sequence"))
        }
    }
}

fn one_of<T: Copy>(flag: &str, text: &str, choices: &[(&str, T)]) -> Result<T> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|c| c.0).collect();
        Error::new(Kind::Usage, format!("{flag} is {text:?}, expected one of {}", names.join(", ")))
    })
}

/// The output must be a place that can be written. Whether it overlaps an input is decided where the files are: see
/// `shardfuse_coordinator::places`.
fn refuse_read_only(spec: &MergeSpec) -> Result<()> {
    let output: Location =
        spec.output.parse().map_err(|e: shardfuse_store::Error| Error::new(Kind::Usage, e.chain()))?;
    if !output.scheme().is_read_only() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("the output {output} cannot be written: {} is read only", output.scheme()))
        .hint("write to a folder, or to s3://, gs://, az:// or abfss://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(values: &[&str]) -> Vec<(String, f64)> {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        split(&values).unwrap().into_iter().map(|l| (l.path, l.weight)).collect()
    }

    #[test]
    fn two_flags_a_comma_and_a_comma_with_space_are_two_adapters() {
        let two = vec![("a".to_owned(), 1.0), ("b".to_owned(), 1.0)];
        assert_eq!(paths(&["a", "b"]), two);
        assert_eq!(paths(&["a,b"]), two);
        assert_eq!(paths(&["a, b"]), two);
        assert_eq!(paths(&["a=0.5", "b=-2"]), vec![("a".to_owned(), 0.5), ("b".to_owned(), -2.0)]);
    }

    #[test]
    fn brackets_empty_items_and_weights_that_are_no_numbers_are_refused() {
        for value in ["(a, b)", "[a]", "a,,b", "", "a=heavy"] {
            assert_eq!(split(&[value.to_owned()]).unwrap_err().kind(), Kind::Usage, "{value}");
        }
    }

    fn settings(base: &str, lora: &str, output: &str) -> Result<Settings> {
        let text = |t: &str| Some(t.to_owned());
        let spec = Spec { base: text(base), lora: vec![lora.into()], output: text(output), ..Spec::default() };
        Settings::new(spec, None)
    }

    #[test]
    fn places_of_every_store_are_taken_and_kept_as_urls() {
        for (base, lora, output) in [
            ("s3://models/base", "gs://tuned/a", "s3://models/out"),
            ("hf://org/model@v1", "https://example.com/a", "az://container/out"),
            ("hf://org/model", "/data/a", "abfss://c@account.dfs.core.windows.net/out"),
        ] {
            let spec = settings(base, lora, output).unwrap().spec;
            assert_eq!((spec.base.as_str(), spec.lora[0].path.as_str(), spec.output.as_str()), (base, lora, output));
        }
    }

    #[test]
    fn an_output_that_is_read_only_is_refused() {
        for (base, lora, output, says) in [
            ("/base", "/a", "https://example.com/out", "https is read only"),
            ("/base", "/a", "http://example.com/out", "http is read only"),
            ("/base", "/a", "hf://org/out", "hf is read only"),
        ] {
            let error = settings(base, lora, output).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn a_spec_file_takes_the_fields_of_the_flags_and_no_others() {
        let file: File = serde_saphyr::from_str(
            "base: b\nlora:\n  - a=0.5\n  - path: c\n    weight: 2\nmemory: 1GiB\npart_size: 65536\n",
        )
        .unwrap();
        assert_eq!(
            from_file(file.lora).unwrap().iter().map(|l| (l.path.as_str(), l.weight)).collect::<Vec<_>>(),
            [("a", 0.5), ("c", 2.0)]
        );
        assert!(serde_saphyr::from_str::<File>("loras: [a]\n").is_err());
        let file: File = serde_saphyr::from_str("extra_weights: [b, a]\nignore_file: [c]\n").unwrap();
        let typed = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(Vec::new(), file.extra_weights), ["a", "b"]);
        assert_eq!(names(typed(&["e", "d", "e"]), file.ignore_file), ["d", "e"], "flags win");
    }
}
