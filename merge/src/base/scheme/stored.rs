//! How one parameter is stored, and what a recipe starts from.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::claim::{Encode, Floats, Layout, Rule, Scheme, StoredForm, Told};
use super::plain::Plain;
use super::seen::{self, Code, Seen};
use super::{rows, table};
use crate::base::quantisation::Quantisation;
use crate::inventory::{ObjectId, Source};
use crate::statistic::id::StatisticId;
use crate::statistic::scales::Scales;
use crate::tensor::float::Float;
use crate::tensor::matrix;

/// How a parameter is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What knows the layout.
    pub scheme: &'static dyn Scheme,
    /// The tensors, in the scheme's order; at least one.
    pub tensors: Vec<Source>,
    /// What the scheme has to know beside them, or why its values cannot be told.
    pub settings: Told,
}

impl Stored {
    /// Whether its values can be computed with.
    pub fn has_values(&self) -> bool {
        self.scheme.layout().is_some()
    }

    /// A matrix of floats as a layer of bitsandbytes sees it. `block` does not count for LLM.int8.
    ///
    /// # Errors
    /// If it is no matrix of floats, or does not fall into such blocks.
    pub fn seen(tensor: &Source, code: Code, scales: Scales, double: Option<StatisticId>) -> Result<Stored, String> {
        let settings = seen::settings(tensor, code, scales, double)?;
        Ok(Stored { scheme: &Seen, tensors: vec![tensor.clone()], settings: Ok(settings) })
    }

    /// Whether its values are not those that are stored, although it is one tensor of floats.
    pub fn is_seen(&self) -> bool {
        self.scheme.name() == Seen.name()
    }

    /// Rows of it as a parameter of their own. `None` if they cannot be stored apart.
    pub fn portion(&self, rows: Range<u64>) -> Option<Stored> {
        let own = self.settings.as_ref().ok()?;
        let form = StoredForm { tensors: &self.tensors, settings: own };
        let layout = self.scheme.layout()?;
        if let Some((tensors, settings)) = layout.portion(form, rows.clone()) {
            return Some(Stored { scheme: self.scheme, tensors, settings: Ok(settings) });
        }
        // Matrices that are stacked are one matrix.
        let height = layout.dims(form).ok()?.iter().rev().skip(1).product();
        let flat = layout.portion(form, 0..height).unwrap_or_else(|| (self.tensors.clone(), own.clone()));
        let (scheme, settings) = rows::of(self.scheme, StoredForm { tensors: &flat.0, settings: &flat.1 }, rows)?;
        Some(Stored { scheme, tensors: flat.0, settings: Ok(settings) })
    }

    /// The formula by which values become what it stores.
    ///
    /// # Errors
    /// Why there is none, as the end of a sentence about the parameter.
    pub fn rule(&self, said: &Quantisation) -> Result<Rule, String> {
        let settings = self.settings.as_ref().map_err(Clone::clone)?;
        self.scheme.encode()?.rule(StoredForm { tensors: &self.tensors, settings }, said)
    }

    /// What a recipe of this parameter starts from.
    ///
    /// # Errors
    /// If nothing is computed with it, or its values cannot be told.
    pub fn start(&self) -> Result<Start, String> {
        self.clone().into_start()
    }

    /// What a recipe of this parameter starts from.
    ///
    /// # Errors
    /// As [`Stored::start`].
    pub fn into_start(self) -> Result<Start, String> {
        Start::new(self.scheme, self.tensors, self.settings?)
    }
}

/// What a recipe starts from: a stored parameter whose values can be computed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Start {
    scheme: &'static dyn Scheme,
    layout: &'static dyn Layout,
    tensors: Vec<Source>,
    settings: Vec<u64>,
    dims: Vec<u64>,
}

/// A start as it is written: the scheme by its name.
#[derive(Serialize, Deserialize)]
struct Written {
    scheme: String,
    tensors: Vec<Source>,
    // Always written: the form of recipes on the wire leaves nothing out.
    #[serde(default)]
    settings: Vec<u64>,
}

/// Bytes of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The object.
    pub object: ObjectId,
    /// Its bytes.
    pub bytes: Range<u64>,
}

impl Start {
    fn new(scheme: &'static dyn Scheme, tensors: Vec<Source>, settings: Vec<u64>) -> Result<Start, String> {
        let layout = scheme.layout().ok_or_else(|| {
            let name = tensors.first().map_or("a parameter", |tensor| tensor.name.as_str());
            format!("{name} is stored as {}, and nothing is computed with that", scheme.name())
        })?;
        let dims = layout.dims(StoredForm { tensors: &tensors, settings: &settings })?;
        Ok(Start { scheme, layout, tensors, settings, dims })
    }

    /// A tensor that holds the values themselves.
    ///
    /// # Errors
    /// If its dtype is not F32, F16 or BF16.
    pub fn plain(tensor: Source) -> Result<Start, String> {
        Start::new(&Plain, vec![tensor], Vec::new())
    }

    /// How it is stored.
    pub(super) fn form(&self) -> StoredForm<'_> {
        StoredForm { tensors: &self.tensors, settings: &self.settings }
    }

    /// The stored tensors.
    pub fn tensors(&self) -> &[Source] {
        &self.tensors
    }

    /// The name of the stored tensor, the first one if there are several.
    pub fn name(&self) -> &str {
        self.tensors.first().map_or("", |tensor| &tensor.name)
    }

    /// The shape of the parameter.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// The rows and columns of the parameter.
    pub fn matrix(&self) -> (u64, u64) {
        matrix(&self.dims)
    }

    /// The bytes that hold rows, in the order in which [`Start::decode`] takes them.
    pub fn ranges(&self, rows: Range<u64>) -> Vec<Span> {
        let stretches = self.layout.ranges(self.form(), rows).into_iter();
        let of = |tensor: usize, bytes: Range<u64>| {
            let Source { object, offset, .. } = self.tensors[tensor];
            Span { object, bytes: offset + bytes.start..offset + bytes.end }
        };
        stretches.map(|stretch| of(stretch.tensor, stretch.bytes)).collect()
    }

    /// The same as ranges of the tensors: each with its bytes, from its first one on.
    pub fn stretches(&self, rows: Range<u64>) -> impl Iterator<Item = (&Source, Range<u64>)> {
        let stretches = self.layout.ranges(self.form(), rows).into_iter();
        stretches.map(|stretch| (&self.tensors[stretch.tensor], stretch.bytes))
    }

    /// How many bytes hold rows.
    pub fn bytes_of(&self, rows: Range<u64>) -> u64 {
        self.ranges(rows).iter().map(|span| span.bytes.end - span.bytes.start).sum()
    }

    /// The statistic whose value is needed to decode.
    pub fn statistic(&self) -> Option<StatisticId> {
        self.layout.statistic(self.form())
    }

    /// Turns the bytes of [`Start::ranges`], and the value of [`Start::statistic`] behind them, into fp32, row-major.
    pub fn decode(&self, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        self.layout.decode(self.form(), rows, bytes, floats, out);
    }

    /// Bytes of memory that [`Start::decode`] takes beside `bytes` and `out`.
    pub fn beside(&self, rows: Range<u64>) -> u64 {
        self.layout.beside(self.form(), rows)
    }

    /// The bytes of one of the tensors that hold rows, from the tensor's first one on. Empty if none do.
    pub(super) fn stretch(&self, tensor: usize, rows: Range<u64>) -> Range<u64> {
        let all = self.layout.ranges(self.form(), rows);
        all.into_iter().find(|stretch| stretch.tensor == tensor).map_or(0..0, |stretch| stretch.bytes)
    }

    /// What encodes values again.
    ///
    /// # Errors
    /// Why nothing does, as the end of a sentence about the parameter.
    pub(super) fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        self.scheme.encode()
    }

    /// The tensor and its float, if the values themselves lie in one tensor, row by row.
    pub fn as_plain(&self) -> Option<(&Source, Float)> {
        self.tensors.first().zip(self.layout.plain(self.form()))
    }
}

impl PartialEq for Start {
    fn eq(&self, other: &Start) -> bool {
        self.scheme.name() == other.scheme.name() && self.tensors == other.tensors && self.settings == other.settings
    }
}

impl TryFrom<Written> for Start {
    type Error = String;

    fn try_from(Written { scheme, tensors, settings }: Written) -> Result<Start, String> {
        let known = table::named(&scheme)
            .or_else(|| rows::named(&scheme))
            .ok_or_else(|| format!("a parameter of scheme {scheme:?}, which is not known"))?;
        Start::new(known, tensors, settings)
    }
}

impl From<Start> for Written {
    fn from(start: Start) -> Written {
        Written { scheme: start.scheme.name().to_owned(), tensors: start.tensors, settings: start.settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;
    use crate::tensor::float;

    fn tensor(dtype: Dtype) -> Source {
        Source { name: "t".into(), object: ObjectId(3), offset: 64, dtype, shape: vec![4, 1, 2] }
    }

    #[test]
    fn rows_of_a_plain_tensor_are_found_and_decoded() {
        let start = Start::plain(tensor(Dtype::BF16)).unwrap();
        assert_eq!((start.dims(), start.matrix()), (&[4, 1, 2][..], (4, 2)));
        assert_eq!(start.ranges(1..3), [Span { object: ObjectId(3), bytes: 68..76 }]);
        assert_eq!(start.bytes_of(0..4), start.tensors()[0].bytes());
        let mut out = [0.0; 4];
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| float::decode(float.dtype(), bytes, out);
        start.decode(1..3, &[&[0x80, 0x3f, 0x00, 0xc0, 0, 0, 0, 0x40]], &floats, &mut out);
        assert_eq!(out, [1.0, -2.0, 0.0, 2.0]);
    }

    #[test]
    fn a_start_is_read_back_and_no_other_is_taken() {
        let start = Start::plain(tensor(Dtype::F16)).unwrap();
        let json = serde_json::to_value(&start).unwrap();
        assert_eq!(serde_json::from_value::<Start>(json.clone()).unwrap(), start);
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = json.clone();
            change(&mut json);
            serde_json::from_value::<Start>(json).unwrap_err().to_string()
        };
        assert!(refused(&|start| start["scheme"] = "nf4".into()).contains("\"nf4\", which is not known"));
        assert!(refused(&|start| start["scheme"] = "opaque".into()).contains("t is stored as opaque"));
        assert!(refused(&|start| start["tensors"][0]["dtype"] = "I8".into()).contains("t has the dtype I8"));
        assert!(refused(&|start| start["tensors"] = serde_json::json!([])).contains("0 tensors"));
    }
}
