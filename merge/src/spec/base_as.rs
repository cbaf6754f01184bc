//! `--base-as`: the base as an adapter saw it that was trained on quantised layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::scheme::seen::{BLOCKS, Code};
use crate::error::{Error, Kind, Result};
use crate::tensor::float::Float;

/// How bitsandbytes held the base while the adapters were trained. As text: a type, then parts behind commas, such as
/// `nf4,block=64,double,from=bf16,skip=mlp.gate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseAs {
    /// The type of its codes.
    pub code: Code,
    /// Values of a block; LLM.int8 has whole rows.
    pub block: u64,
    /// Whether the scales of blocks were quantised themselves (`bnb_4bit_use_double_quant`).
    pub double: bool,
    /// The dtype in which the base was loaded; `None` is that of the checkpoint.
    pub from: Option<Float>,
    /// Modules that were not quantised (`llm_int8_skip_modules`).
    pub skip: Vec<String>,
    /// Modules that were, whatever is known of them.
    pub with: Vec<String>,
}

/// transformers has no option for another.
const BLOCK: u64 = 64;
const CODES: [(&str, Code); 3] = [("nf4", Code::Nf4), ("fp4", Code::Fp4), ("int8", Code::Int8)];
const FLOATS: [(&str, Float); 3] = [("bf16", Float::BF16), ("f16", Float::F16), ("f32", Float::F32)];

impl FromStr for BaseAs {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let usage = |what: String| Error::new(Kind::Usage, what).hint("such as nf4,from=bf16 or int8,skip=score");
        let mut parts = text.split(',');
        let code = super::named::parse(parts.next().unwrap_or(""), &CODES)?;
        let mut read = BaseAs { code, block: BLOCK, double: false, from: None, skip: Vec::new(), with: Vec::new() };
        for part in parts {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            match (key.to_ascii_lowercase().as_str(), value) {
                (key @ ("skip" | "with"), Some(module)) => {
                    let named = !module.is_empty() && !module.contains(char::is_whitespace);
                    let list = if key == "skip" { &mut read.skip } else { &mut read.with };
                    if !named || list.iter().any(|known| known == module) {
                        return Err(usage(format!("{part:?} names no module, or one that is named before")));
                    }
                    list.push(module.to_owned());
                }
                ("double", None) if code != Code::Int8 && !read.double => read.double = true,
                ("block", Some(_)) if code == Code::Int8 => {
                    return Err(usage(format!("{part:?}: int8 has a scale for each row, and no blocks")));
                }
                ("block", Some(size)) => {
                    let known = size.parse().ok().filter(|size| BLOCKS.contains(size));
                    read.block = known
                        .ok_or_else(|| usage(format!("{part:?} is no size of a block, expected one of {BLOCKS:?}")))?;
                }
                ("from", Some(dtype)) => read.from = Some(super::named::parse(dtype, &FLOATS)?),
                _ => {
                    return Err(usage(format!(
                        "{part:?} is unknown, expected block=, double (of nf4 and fp4), from=, skip= or with="
                    )));
                }
            }
        }
        if let Some(both) = read.skip.iter().find(|module| read.with.contains(module)) {
            return Err(usage(format!("{both:?} is named by skip= and by with=")));
        }
        Ok(read)
    }
}

impl fmt::Display for BaseAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(self.code, &CODES))?;
        if self.block != BLOCK {
            write!(f, ",block={}", self.block)?;
        }
        if self.double {
            f.write_str(",double")?;
        }
        if let Some(from) = self.from {
            write!(f, ",from={}", name_of(from, &FLOATS))?;
        }
        self.skip.iter().try_for_each(|module| write!(f, ",skip={module}"))?;
        self.with.iter().try_for_each(|module| write!(f, ",with={module}"))
    }
}

fn name_of<T: PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, named)| *named == value).map_or("", |(name, _)| name)
}

impl TryFrom<String> for BaseAs {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BaseAs> for String {
    fn from(value: BaseAs) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for text in [
            "nf4",
            "fp4,block=128",
            "nf4,block=128,double,from=bf16",
            "fp4,double",
            "int8,from=f16,skip=score",
            "nf4,from=bf16,skip=a.b,skip=c,with=experts",
        ] {
            let read: BaseAs = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(serde_json::from_str::<BaseAs>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
        }
        assert_eq!("nf4,block=64".parse::<BaseAs>().unwrap().to_string(), "nf4");
    }

    #[test]
    fn types_parts_and_dtypes_are_taken_in_any_case_and_modules_as_they_are() {
        let read: BaseAs = "NF4,Block=128,DOUBLE,From=BF16,SKIP=Mlp.Gate".parse().unwrap();
        assert_eq!(read.to_string(), "nf4,block=128,double,from=bf16,skip=Mlp.Gate");
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for (text, what) in [
            ("", "nf4, fp4, int8"),
            ("nf5", "nf4, fp4, int8"),
            ("int8,block=64", "no blocks"),
            ("nf4,block=48", "no size of a block"),
            ("nf4,from=f64", "bf16, f16, f32"),
            ("nf4,skip=", "names no module"),
            ("nf4,skip=a,skip=a", "names no module"),
            ("nf4,skip=a,with=a", "by skip= and by with="),
            ("nf4,twice", "is unknown"),
            ("nf4,double,double", "is unknown"),
            ("int8,double", "is unknown"),
        ] {
            let refused = text.parse::<BaseAs>().unwrap_err();
            assert!(refused.kind() == Kind::Usage && refused.to_string().contains(what), "{text}: {refused}");
        }
    }
}
