//! A weight as a layer of bitsandbytes sees it: plain floats, quantised and dequantised when they are read.
//!
//! QLoRA trains an adapter beside layers that keep codes of their weights. bitsandbytes takes the codes from the flattened weight of a
//! layer: runs of `block` values for its 4-bit types, whole rows for LLM.int8. A run may begin in one row and end in another, so rows
//! are read with the neighbours that share a group with them.

mod codes;
mod double;
mod form;

use std::ops::Range;

use super::claim::{Claim, Floats, Layout, Scheme, StoredForm, Stretch, Tensors};
use crate::inventory::Source;
use crate::statistic::id::StatisticId;
use crate::statistic::scales::Scales;
use crate::tensor::DtypeExt;
use crate::tensor::float::Float;
use form::Form;

pub use form::{BLOCKS, Code};

/// The scheme, and its layout.
#[derive(Debug)]
pub(super) struct Seen;

/// The settings of a plain matrix that is seen so. For LLM.int8 a group is a row of the layer's weight, and `block` does not count.
///
/// # Errors
/// If it is none.
pub(super) fn settings(
    tensor: &Source,
    code: Code,
    Scales { block, from, down: transposed }: Scales,
    double: Option<StatisticId>,
) -> Result<Vec<u64>, String> {
    let [rows, cols] = *tensor.shape else { return Err(format!("{} is no matrix: {:?}", tensor.name, tensor.shape)) };
    let group = match code {
        Code::Int8 if transposed => rows,
        Code::Int8 => cols,
        Code::Nf4 | Code::Fp4 => block,
    };
    let settings = Form { code, group, from, transposed, first: 0, count: rows, double }.settings();
    Seen.dims(StoredForm { tensors: std::slice::from_ref(tensor), settings: &settings })?;
    Ok(settings)
}

/// A weight, and how it is seen.
struct Weight<'a> {
    tensor: &'a Source,
    float: Float,
    form: Form,
    rows: u64,
    cols: u64,
}

impl<'a> Weight<'a> {
    fn of(form: StoredForm<'a>) -> Result<Weight<'a>, String> {
        let [tensor] = form.tensors else {
            return Err(format!("{} tensors are one weight, expected 1", form.tensors.len()));
        };
        let float = Float::of(tensor.dtype).ok_or_else(|| {
            format!("{} has the dtype {}, expected F32, F16 or BF16", tensor.name, tensor.dtype.name())
        })?;
        let [rows, cols] = *tensor.shape else {
            return Err(format!("{} is no matrix: {:?}", tensor.name, tensor.shape));
        };
        Ok(Weight { tensor, float, form: Form::of(tensor, form.settings)?, rows, cols })
    }

    /// Rows of the parameter as rows of the tensor.
    fn stored(&self, rows: Range<u64>) -> Range<u64> {
        self.form.first + rows.start..self.form.first + rows.end
    }

    /// The elements that share a group with some of these rows, as they are stored; groups whose scales are quantised together, if they are.
    fn elements(&self, rows: &Range<u64>) -> Range<u64> {
        let (group, all) = (self.form.run(), self.rows * self.cols);
        let down = |n: u64| n - n % group;
        match (self.form.transposed, self.rows % group) {
            (false, _) => down(rows.start * self.cols)..(rows.end * self.cols).next_multiple_of(group).min(all),
            (true, 0) => down(rows.start) * self.cols..rows.end.next_multiple_of(group) * self.cols,
            // Groups begin in every row.
            (true, _) => 0..all,
        }
    }
}

impl Scheme for Seen {
    fn name(&self) -> &'static str {
        "seen through bitsandbytes"
    }

    /// Nothing is stored so.
    fn claim(&self, _: usize, _: &Tensors<'_>) -> Option<Claim> {
        None
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Seen)
    }
}

impl Layout for Seen {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        let weight = Weight::of(form)?;
        Ok(vec![weight.form.count, weight.cols])
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let Ok(weight) = Weight::of(form) else { return Vec::new() };
        let elements = weight.elements(&weight.stored(rows));
        let bytes = weight.float.bytes();
        vec![Stretch { tensor: 0, bytes: elements.start * bytes..elements.end * bytes }]
    }

    fn statistic(&self, form: StoredForm<'_>) -> Option<StatisticId> {
        Weight::of(form).ok()?.form.double
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok(weight), [bytes, sum @ ..]) = (Weight::of(form), bytes) else { return };
        // The mean of the scales of all groups.
        let groups = (weight.rows * weight.cols).div_ceil(weight.form.group);
        let sum = sum.first().and_then(|sum| sum.first_chunk()).map_or(f64::NAN, |sum| f64::from_le_bytes(*sum));
        let mean = (sum / groups as f64) as f32;
        let rows = weight.stored(rows);
        let elements = weight.elements(&rows);
        let mut values = vec![0.0; (elements.end - elements.start) as usize];
        floats(weight.float, bytes, &mut values);
        let (run, cols) = (weight.form.run() as usize, weight.cols as usize);
        if weight.form.transposed {
            see_columns(&weight, &mut values, (elements.start / weight.cols) as usize, &rows, mean);
        } else {
            values.chunks_mut(run).for_each(|values| weight.form.see(values, mean));
        }
        let begin = rows.start as usize * cols - elements.start as usize;
        out.copy_from_slice(&values[begin..begin + out.len()]);
    }

    /// In fp32 all values that share a run with the rows.
    fn beside(&self, form: StoredForm<'_>, rows: Range<u64>) -> u64 {
        let Ok(weight) = Weight::of(form) else { return 0 };
        let elements = weight.elements(&weight.stored(rows));
        4 * (elements.end - elements.start)
    }

    /// The rows, which are read with their neighbours in the whole tensor.
    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let weight = Weight::of(form).ok()?;
        let rows = weight.stored(rows);
        let own = Form { first: rows.start, count: rows.end - rows.start, ..weight.form };
        Some((vec![weight.tensor.clone()], own.settings()))
    }
}

/// The groups of a layer whose weight is the transpose of what is stored: they run down the columns. `values` are whole rows from row
/// `first` on; groups without any of the wanted rows are left alone.
fn see_columns(weight: &Weight<'_>, values: &mut [f32], first: usize, wanted: &Range<u64>, mean: f32) {
    let (cols, group) = (weight.cols as usize, weight.form.run() as usize);
    let (height, wanted) = (values.len() / cols, wanted.start as usize - first..wanted.end as usize - first);
    let mut members = Vec::with_capacity(group);
    for begin in (0..values.len()).step_by(group) {
        let all = begin..(begin + group).min(values.len());
        if !all.clone().any(|at| wanted.contains(&(at % height))) {
            continue;
        }
        // Element `at` of the flattened transpose is row `at % height` of column `at / height`.
        let place = |at: usize| at % height * cols + at / height;
        members.clear();
        members.extend(all.clone().map(|at| values[place(at)]));
        weight.form.see(&mut members, mean);
        for (at, value) in all.zip(&members) {
            values[place(at)] = *value;
        }
    }
}

#[cfg(test)]
mod tests;
