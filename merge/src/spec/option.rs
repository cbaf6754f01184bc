//! The options of a merge spec, each declared once in [`OPTIONS`]. Command line, spec files and the wire are made from this
//! table, and `docs/cli.md` is tested against it.
//!
//! A new option is a field of [`MergeSpec`], its default in [`MergeSpec::of`], a row here and a row of `docs/cli.md`.

use std::fmt;
use std::str::FromStr;

use super::{MergeSpec, Size, names};
use crate::error::{Error, Kind, Result};

/// An option: its names, its help, and its texts.
#[derive(Clone, Copy)]
pub struct SpecOption {
    /// Its name in a spec file, on the wire and in stored plans.
    pub field: &'static str,
    /// Its name on the command line, without the dashes.
    pub flag: &'static str,
    /// What its values look like.
    pub values: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How many values it takes.
    pub takes: Takes,
    add: fn(&mut MergeSpec, &str) -> Result<()>,
    get: fn(&MergeSpec) -> Vec<String>,
}

/// How many values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// One.
    Value,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
    /// Any number.
    List,
}

/// Every option.
pub const OPTIONS: &[SpecOption] = &[
    SpecOption {
        field: "dtype",
        flag: "dtype",
        values: "keep|bf16|f16|f32",
        help: "The output's dtype; keep leaves each tensor as it is in the base",
        takes: Takes::Value,
        add: |spec, text| set(&mut spec.dtype, text),
        get: |spec| vec![spec.dtype.to_string()],
    },
    SpecOption {
        field: "quantised",
        flag: "quantised",
        values: "keep|dequantise",
        help: "What becomes of a quantised base: keep copies codes and scales and refuses adapters that change them; \
               dequantise writes all of it as floats, of --dtype if that is given",
        takes: Takes::Value,
        add: |spec, text| set(&mut spec.quantised, text),
        get: |spec| vec![spec.quantised.to_string()],
    },
    SpecOption {
        field: "max_shard_size",
        flag: "max-shard-size",
        values: "SIZE",
        help: "The most tensor bytes in one output file, such as 5GB [default: the base's own files]",
        takes: Takes::Value,
        add: |spec, text| text.parse().map(|Size(bytes)| spec.max_shard_size = Some(bytes)),
        get: |spec| texts(spec.max_shard_size.map(Size)),
    },
    SpecOption {
        field: "part_size",
        flag: "part-size",
        values: "SIZE",
        help: "The unit of work and of resuming: a power of two of KiB [default: 64MiB]",
        takes: Takes::Value,
        add: |spec, text| text.parse().map(|Size(bytes)| spec.part_size = bytes),
        get: |spec| vec![Size(spec.part_size).to_string()],
    },
    SpecOption {
        field: "dora_norm",
        flag: "dora-norm",
        values: "standing|original",
        help: "The weight whose norms a second DoRA adapter uses: the weight with all adapters so far, or the original \
               weight as PEFT does for two adapters of one model",
        takes: Takes::Value,
        add: |spec, text| set(&mut spec.dora_norm, text),
        get: |spec| vec![spec.dora_norm.to_string()],
    },
    SpecOption {
        field: "partial_weight",
        flag: "partial-weight",
        values: "true|false",
        help: "Let a weight other than 1 apply to the low-rank deltas of an adapter that also replaces tensors or is DoRA",
        takes: Takes::Switch,
        add: |spec, text| bool_of(text).map(|on| spec.partial_weight = on),
        get: |spec| vec![spec.partial_weight.to_string()],
    },
    SpecOption {
        field: "rounding",
        flag: "rounding",
        values: "once|per-adapter",
        help: "When the result is rounded to the output's dtype: once, after the last adapter, or per-adapter, which gives \
               what merging and saving one adapter after another gives",
        takes: Takes::Value,
        add: |spec, text| set(&mut spec.rounding, text),
        get: |spec| vec![spec.rounding.to_string()],
    },
    SpecOption {
        field: "expert_order",
        flag: "expert-order",
        values: "fastest|slowest",
        help: "How an adapter with one lora_B for all experts (target_parameters) orders its columns: fastest, as PEFT writes them \
               (expert 0, 1, 2 ... of rank 0, then of rank 1), or slowest (all ranks of expert 0, then of expert 1). The shape does \
               not tell. Given once it is for all adapters, given several times for each in the order of --lora \
               [default: fastest]",
        takes: Takes::List,
        add: |spec, text| text.parse().map(|order| spec.expert_order.push(order)),
        get: |spec| spec.expert_order.iter().map(ToString::to_string).collect(),
    },
    SpecOption {
        field: "combine",
        flag: "combine",
        values: "sequence",
        help: "How several adapters are put together: sequence applies them one after another, each with its weight",
        takes: Takes::Value,
        add: |spec, text| set(&mut spec.combine, text),
        get: |spec| vec![spec.combine.to_string()],
    },
    SpecOption {
        field: "density",
        flag: "density",
        values: "0..1",
        help: "The share of values that a pruning combination keeps",
        takes: Takes::Value,
        add: |spec, text| match text.parse() {
            Ok(density) => {
                spec.density = Some(density);
                Ok(())
            }
            Err(_) => Err(Error::new(Kind::Usage, format!("{text:?} is not a number from 0 to 1"))),
        },
        get: |spec| texts(spec.density),
    },
    SpecOption {
        field: "tokenizer",
        flag: "tokenizer",
        values: "auto|base|PATH",
        help: "Whose tokenizer files are written: auto (the last adapter that carries one), base, or a folder",
        takes: Takes::Value,
        add: |spec, text| match text.is_empty() {
            true => Err(Error::new(Kind::Usage, "\"\" is unknown, expected auto, base or a folder")),
            false => {
                let Ok(tokenizer) = text.parse();
                spec.tokenizer = tokenizer;
                Ok(())
            }
        },
        get: |spec| vec![spec.tokenizer.to_string()],
    },
    SpecOption {
        field: "tied",
        flag: "tied",
        values: "true|false",
        help: "Whether input and output embedding are one tensor, for a model type that does not tell; false keeps both of \
               a base that holds both",
        takes: Takes::Value,
        add: |spec, text| bool_of(text).map(|tied| spec.tied = Some(tied)),
        get: |spec| texts(spec.tied),
    },
    SpecOption {
        field: "architecture",
        flag: "architecture",
        values: "CLASS",
        help: "The class of the output, such as LlamaForSequenceClassification, where an adapter brings a head that the base \
               lacks and its task type does not tell the class",
        takes: Takes::Value,
        add: |spec, text| class(text).map(|name| spec.architecture = Some(name)),
        get: |spec| texts(spec.architecture.as_ref()),
    },
    SpecOption {
        field: "extra_weights",
        flag: "extra-weights",
        values: "NAME",
        help: "A weight file in an adapter's folder whose tensors replace those of the base, before any delta is added. \
               May be given several times",
        takes: Takes::List,
        add: |spec, text| {
            names::insert(&mut spec.extra_weights, text);
            Ok(())
        },
        get: |spec| spec.extra_weights.clone(),
    },
    SpecOption {
        field: "ignore_files",
        flag: "ignore-file",
        values: "NAME",
        help: "A file in the folder of the base or of an adapter to leave out; with / at the end, a folder. May be given \
               several times",
        takes: Takes::List,
        add: |spec, text| {
            names::insert(&mut spec.ignore_files, text);
            Ok(())
        },
        get: |spec| spec.ignore_files.clone(),
    },
];

impl SpecOption {
    /// The option of a name: that of the field, or that of the flag with `_` for `-`.
    pub fn named(name: &str) -> Option<&'static SpecOption> {
        OPTIONS.iter().find(|o| o.field == name || o.flag.replace('-', "_") == name)
    }

    /// Adds a value to a list, or replaces the value of another option.
    ///
    /// # Errors
    /// If the text is not a value of this option. The message begins with the flag.
    pub fn add(&self, spec: &mut MergeSpec, text: &str) -> Result<()> {
        (self.add)(spec, text).map_err(|e| e.at(format_args!("--{}", self.flag)))
    }

    /// Its values in a spec, as texts that [`SpecOption::add`] takes. None if the spec does not set it.
    pub fn get(&self, spec: &MergeSpec) -> Vec<String> {
        (self.get)(spec)
    }
}

impl fmt::Debug for SpecOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field)
    }
}

fn set<T: FromStr<Err = Error>>(value: &mut T, text: &str) -> Result<()> {
    *value = text.parse()?;
    Ok(())
}

fn bool_of(text: &str) -> Result<bool> {
    super::named::parse(text, &[("true", true), ("false", false)])
}

/// The name of a class, as Python has them.
fn class(text: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !text.is_empty() && text.chars().all(fits) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(text.to_owned()),
        false => Err(Error::new(
            Kind::Usage,
            format!("{text:?} is not the name of a class, such as LlamaForSequenceClassification"),
        )),
    }
}

fn texts(value: Option<impl fmt::Display>) -> Vec<String> {
    value.iter().map(ToString::to_string).collect()
}
