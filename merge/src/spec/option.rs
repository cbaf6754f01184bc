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
    /// Under which heading help lists it.
    pub group: Group,
    /// What it means, in a clause.
    pub help: &'static str,
    /// What there is to say beyond that, in sentences; empty if there is nothing.
    pub more: &'static str,
    /// Whether help leaves it out, because it has only one value so far.
    pub hidden: bool,
    /// How many values it takes.
    pub takes: Takes,
    /// When it means something.
    pub meaning: Meaning,
    add: fn(&mut MergeSpec, &str) -> Result<()>,
    get: fn(&MergeSpec) -> Vec<String>,
}

/// What an option is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// How adapters are read and applied.
    Adapters,
    /// How the base is read.
    Base,
    /// What is written.
    Output,
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

/// When an option means something. Where it does not, it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Whatever the other options are.
    Always,
    /// Only if another option, by its field, has this value.
    Beside(&'static str, &'static str),
    /// Never: the values of other options that it belongs to are not there yet.
    None,
}

/// Every option.
pub const OPTIONS: &[SpecOption] = &[
    SpecOption {
        field: "dtype",
        flag: "dtype",
        values: "keep|bf16|f16|f32",
        group: Group::Output,
        help: "The output's dtype",
        more: "keep leaves each tensor in the dtype that it has in the base",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.dtype, text),
        get: |spec| vec![spec.dtype.to_string()],
    },
    SpecOption {
        field: "quantised",
        flag: "quantised",
        values: "keep|dequantise|requantise",
        group: Group::Base,
        help: "What becomes of a quantised base",
        more: "keep copies the codes and scales that no adapter changes, and writes what they change as floats. dequantise \
               writes everything as floats, in --dtype if that is given. requantise encodes what the adapters change in the \
               form of the base again, if enough of each delta survives [default: keep]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.quantised, text),
        get: |spec| vec![spec.quantised.to_string()],
    },
    SpecOption {
        field: "survival",
        flag: "survival",
        values: "0..1",
        group: Group::Base,
        help: "The least cosine of a delta that survives --quantised requantise",
        more: "If less is left of a delta, the merge ends before anything is published and names all such weights [default: \
               0.9]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Beside("quantised", "requantise"),
        add: |spec, text| share(text).map(|least| spec.survival = Some(least)),
        get: |spec| texts(spec.survival),
    },
    SpecOption {
        field: "base_as",
        flag: "base-as",
        values: "TYPE[,PART]...",
        group: Group::Base,
        help: "Take the base as adapters saw it that were trained on it quantised by bitsandbytes (QLoRA)",
        more: "Every linear weight is quantised and dequantised first. Types: nf4, fp4, int8. Parts: block=64, \
               double (bnb_4bit_use_double_quant), from=bf16|f16|f32 (the dtype in which it was loaded), skip=MODULE (not quantised), with=MODULE (quantised); \
               the last two may be given any number of times [default: the base as it is]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| text.parse().map(|base_as| spec.base_as = Some(base_as)),
        get: |spec| texts(spec.base_as.as_ref()),
    },
    SpecOption {
        field: "max_shard_size",
        flag: "max-shard-size",
        values: "SIZE",
        group: Group::Output,
        help: "The most tensor bytes in one output file, such as 5GB [default: the base's own files]",
        more: "",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| text.parse().map(|Size(bytes)| spec.max_shard_size = Some(bytes)),
        get: |spec| texts(spec.max_shard_size.map(Size)),
    },
    SpecOption {
        field: "part_size",
        flag: "part-size",
        values: "SIZE",
        group: Group::Output,
        help: "The unit of work and of resuming [default: 64MiB]",
        more: "A power of two from 1KiB to 4GiB",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| text.parse().map(|Size(bytes)| spec.part_size = bytes),
        get: |spec| vec![Size(spec.part_size).to_string()],
    },
    SpecOption {
        field: "store_copies",
        flag: "store-copies",
        values: "auto|none",
        group: Group::Output,
        help: "Whether the store copies bytes that do not change by itself",
        more: "auto has it copy them where it can: from base to output in one object store and account, or on a file system \
               that shares blocks. none reads and writes every byte [default: auto]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.store_copies, text),
        get: |spec| vec![spec.store_copies.to_string()],
    },
    SpecOption {
        field: "digests",
        flag: "digests",
        values: "known|complete",
        group: Group::Output,
        help: "Which digests of the output's files the manifest has",
        more: "known leaves out those of files with bytes that the store copied and nobody read, unless an index has them. \
               complete reads these bytes [default: known]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.digests, text),
        get: |spec| vec![spec.digests.to_string()],
    },
    SpecOption {
        field: "base_index",
        flag: "base-index",
        values: "auto|none|PATH",
        group: Group::Base,
        help: "The digests of the base's bytes, as shardfuse index writes them",
        more: "auto takes shardfuse.index.json in the base's folder if it is there [default: auto]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| match text.is_empty() {
            true => Err(Error::new(Kind::Usage, "\"\" is unknown, expected auto, none or a file")),
            false => {
                let Ok(index) = text.parse();
                spec.base_index = index;
                Ok(())
            }
        },
        get: |spec| vec![spec.base_index.to_string()],
    },
    SpecOption {
        field: "dora_norm",
        flag: "dora-norm",
        values: "standing|original",
        group: Group::Adapters,
        help: "The weight whose norms a second DoRA adapter uses",
        more: "standing is the weight with all adapters so far. original is the weight before any adapter, as PEFT does for \
               two adapters of one model [default: standing]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.dora_norm, text),
        get: |spec| vec![spec.dora_norm.to_string()],
    },
    SpecOption {
        field: "partial_weight",
        flag: "partial-weight",
        values: "true|false",
        group: Group::Adapters,
        help: "Let a weight other than 1 stand beside replaced tensors, token rows and DoRA",
        more: "The weight then applies to the low-rank deltas of that adapter only",
        hidden: false,
        takes: Takes::Switch,
        meaning: Meaning::Always,
        add: |spec, text| bool_of(text).map(|on| spec.partial_weight = on),
        get: |spec| vec![spec.partial_weight.to_string()],
    },
    SpecOption {
        field: "rounding",
        flag: "rounding",
        values: "once|per-adapter",
        group: Group::Adapters,
        help: "When the result is rounded to the output's dtype",
        more: "once rounds after the last adapter. per-adapter rounds after each, which gives what merging and saving one \
               adapter after another gives [default: once]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.rounding, text),
        get: |spec| vec![spec.rounding.to_string()],
    },
    SpecOption {
        field: "expert_order",
        flag: "expert-order",
        values: "fastest|slowest",
        group: Group::Adapters,
        help: "How an adapter with one lora_B for all experts orders its columns",
        more: "fastest is how PEFT writes them (expert 0, 1, 2 ... of rank 0, then of rank 1). slowest has all ranks of \
               expert 0, then of expert 1. The shape does not tell. Given once it is for all adapters; given several times \
               it is for each in the order of --lora [default: fastest]",
        hidden: false,
        takes: Takes::List,
        meaning: Meaning::Always,
        add: |spec, text| text.parse().map(|order| spec.expert_order.push(order)),
        get: |spec| spec.expert_order.iter().map(ToString::to_string).collect(),
    },
    SpecOption {
        field: "combine",
        flag: "combine",
        values: "sequence",
        group: Group::Adapters,
        help: "How several adapters are put together",
        more: "sequence applies them one after another, each with its weight",
        hidden: true,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.combine, text),
        get: |spec| vec![spec.combine.to_string()],
    },
    SpecOption {
        field: "density",
        flag: "density",
        values: "0..1",
        group: Group::Adapters,
        help: "The share of values that a pruning combination keeps",
        more: "",
        hidden: true,
        takes: Takes::Value,
        meaning: Meaning::None,
        add: |spec, text| share(text).map(|density| spec.density = Some(density)),
        get: |spec| texts(spec.density),
    },
    SpecOption {
        field: "tokenizer",
        flag: "tokenizer",
        values: "auto|base|PATH",
        group: Group::Output,
        help: "Whose tokenizer files are written",
        more: "auto takes the last adapter that carries one, else the base; base takes the base; a path takes that folder \
               [default: auto]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
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
        field: "card",
        flag: "card",
        values: "auto|none",
        group: Group::Output,
        help: "Whether the output gets a model card, README.md",
        more: "auto writes one with the metadata of the Hugging Face hub, and keeps the base's own card as README.base.md. \
               none copies the base's [default: auto]",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| set(&mut spec.card, text),
        get: |spec| vec![spec.card.to_string()],
    },
    SpecOption {
        field: "tied",
        flag: "tied",
        values: "true|false",
        group: Group::Base,
        help: "Whether input and output embedding are one tensor, for a model type that does not tell",
        more: "false keeps both of a base that holds both",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| bool_of(text).map(|tied| spec.tied = Some(tied)),
        get: |spec| texts(spec.tied),
    },
    SpecOption {
        field: "architecture",
        flag: "architecture",
        values: "CLASS",
        group: Group::Output,
        help: "The class of the output, such as LlamaForSequenceClassification",
        more: "Needed where an adapter brings a head that the base lacks and its task type does not tell the class",
        hidden: false,
        takes: Takes::Value,
        meaning: Meaning::Always,
        add: |spec, text| class(text).map(|name| spec.architecture = Some(name)),
        get: |spec| texts(spec.architecture.as_ref()),
    },
    SpecOption {
        field: "extra_weights",
        flag: "extra-weights",
        values: "NAME",
        group: Group::Adapters,
        help: "A weight file in an adapter's folder whose tensors replace those of the base",
        more: "They replace them before any delta is added. May be given several times",
        hidden: false,
        takes: Takes::List,
        meaning: Meaning::Always,
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
        group: Group::Base,
        help: "A file in the folder of the base or of an adapter to leave out",
        more: "With / at the end it is a folder. May be given several times",
        hidden: false,
        takes: Takes::List,
        meaning: Meaning::Always,
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

fn share(text: &str) -> Result<f64> {
    text.parse().map_err(|_| Error::new(Kind::Usage, format!("{text:?} is not a number from 0 to 1")))
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
