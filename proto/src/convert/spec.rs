//! The merge spec on the wire. Options travel as the texts of [`OPTIONS`], so an option that is new, or unknown here, needs no
//! code here: it is taken, or refused by name.

use shardfuse_merge::spec::{LoraSpec, MergeSpec, OPTIONS, SpecOption, Takes};
use shardfuse_merge::{Error, Kind, Result};

use crate::v1;

/// Adapters of one merge, at the most.
const MAX_ADAPTERS: usize = 1024;
/// Bytes of one URL, or of one value of an option, at the most.
const MAX_TEXT: usize = 4096;
/// Options of one merge, at the most. Each value of a list counts.
const MAX_OPTIONS: usize = 512;

impl From<&MergeSpec> for v1::MergeSpec {
    fn from(spec: &MergeSpec) -> Self {
        let values = |option: &'static SpecOption| {
            let all = option.get(spec).into_iter();
            all.map(|value| v1::SpecOption { name: option.field.to_owned(), value })
        };
        v1::MergeSpec {
            base: spec.base.clone(),
            lora: spec.lora.iter().map(|l| v1::Lora { path: l.path.clone(), weight: Some(l.weight) }).collect(),
            output: spec.output.clone(),
            options: OPTIONS.iter().flat_map(values).collect(),
        }
    }
}

impl TryFrom<v1::MergeSpec> for MergeSpec {
    type Error = Error;
    fn try_from(wire: v1::MergeSpec) -> Result<Self> {
        at_most("lora", wire.lora.len(), MAX_ADAPTERS, "adapters")?;
        at_most("options", wire.options.len(), MAX_OPTIONS, "values")?;
        let url = |name: &str, url: String| match url.is_empty() {
            true => Err(usage(format!("{name} is missing"))),
            false => at_most(name, url.len(), MAX_TEXT, "bytes").map(|()| url),
        };
        let lora = |l: v1::Lora| Ok(LoraSpec { path: url("lora.path", l.path)?, weight: l.weight.unwrap_or(1.0) });
        let lora: Vec<LoraSpec> = wire.lora.into_iter().map(lora).collect::<Result<_>>()?;
        let mut spec = MergeSpec::of(url("base", wire.base)?, lora, url("output", wire.output)?);
        let mut given: Vec<&str> = Vec::new();
        for v1::SpecOption { name, value } in wire.options {
            let option = SpecOption::named(&name).ok_or_else(|| {
                let known: Vec<&str> = OPTIONS.iter().map(|o| o.field).collect();
                usage(format!("the option {name:?} is unknown, expected one of {}", known.join(", ")))
                    .hint("a newer client may know options that this coordinator does not: update the coordinator")
            })?;
            at_most(option.field, value.len(), MAX_TEXT, "bytes")?;
            if option.takes != Takes::List && given.contains(&option.field) {
                return Err(usage(format!("the option {name:?} is given twice")));
            }
            given.push(option.field);
            option.add(&mut spec, &value)?;
        }
        Ok(spec)
    }
}

fn usage(message: String) -> Error {
    Error::new(Kind::Usage, message)
}

fn at_most(name: &str, count: usize, most: usize, what: &str) -> Result<()> {
    match count > most {
        true => Err(usage(format!("{name} has {count} {what}, at most {most} are taken"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(options: &[(&str, &str)]) -> v1::MergeSpec {
        let option = |(name, value): &(&str, &str)| v1::SpecOption { name: (*name).into(), value: (*value).into() };
        let (base, output) = ("s3://b/base".to_owned(), "s3://b/out".to_owned());
        v1::MergeSpec { base, output, options: options.iter().map(option).collect(), ..Default::default() }
    }

    fn refused(wire: v1::MergeSpec) -> String {
        let error = MergeSpec::try_from(wire).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        error.message().to_owned()
    }

    #[test]
    fn a_spec_comes_back_from_the_wire() {
        let options = [("dtype", "bf16"), ("ignore_files", "b"), ("ignore_files", "a"), ("tokenizer", "s3://b/t")];
        let mut spec = MergeSpec::try_from(wire(&options)).unwrap();
        assert_eq!(spec.ignore_files, ["a", "b"]);
        spec.lora.push(LoraSpec { path: "s3://b/a".into(), weight: 1.7815320455759613 });
        assert_eq!(MergeSpec::try_from(v1::MergeSpec::from(&spec)).unwrap(), spec);
    }

    #[test]
    fn an_option_that_is_unknown_or_given_twice_is_refused_by_name() {
        let says = refused(wire(&[("outputs", "x")]));
        assert!(says.starts_with("the option \"outputs\" is unknown, expected one of dtype, "), "{says}");
        assert_eq!(refused(wire(&[("tied", "true"), ("tied", "true")])), "the option \"tied\" is given twice");
        let says = refused(wire(&[("dtype", "int8")]));
        assert!(says.contains("int8"), "{says}");
    }

    #[test]
    fn too_many_values_and_too_long_ones_are_refused() {
        refused(wire(&vec![("ignore_files", "x"); MAX_OPTIONS + 1]));
        refused(wire(&[("ignore_files", &"x".repeat(MAX_TEXT + 1))]));
        refused(v1::MergeSpec { base: "x".repeat(MAX_TEXT + 1), ..wire(&[]) });
        refused(v1::MergeSpec { lora: vec![v1::Lora::default(); MAX_ADAPTERS + 1], ..wire(&[]) });
        refused(v1::MergeSpec { output: String::new(), ..wire(&[]) });
    }
}
