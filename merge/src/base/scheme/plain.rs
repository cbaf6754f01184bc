//! One tensor of F32, F16 or BF16: the values themselves, row by row.

use std::ops::Range;

use super::claim::{Claim, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, lines_of};
use crate::inventory::Source;
use crate::tensor::float::Float;
use crate::tensor::{DtypeExt, matrix};

/// The scheme, and its layout.
#[derive(Debug)]
pub struct Plain;

impl Scheme for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let tensor = tensors.at(at);
        let dims = self.dims(StoredForm { tensors: std::slice::from_ref(tensor), settings: &[] }).ok()?;
        Some(Claim::new(tensor.name.clone(), dims, vec![at]))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Plain)
    }
}

impl Layout for Plain {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        let [tensor] = form.tensors else {
            return Err(format!("{} tensors are one parameter, expected 1", form.tensors.len()));
        };
        match Float::of(tensor.dtype) {
            Some(_) => Ok(tensor.shape.clone()),
            None => Err(format!("{} has the dtype {}, expected F32, F16 or BF16", tensor.name, tensor.dtype.name())),
        }
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let of = |(tensor, source): (usize, &Source)| {
            let (_, cols) = matrix(&source.shape);
            let row = cols * Float::of(source.dtype)?.bytes();
            Some(Stretch { tensor, bytes: rows.start * row..rows.end * row })
        };
        form.tensors.iter().enumerate().filter_map(of).collect()
    }

    fn decode(&self, form: StoredForm<'_>, _: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        for (tensor, bytes) in form.tensors.iter().zip(bytes) {
            if let Some(float) = Float::of(tensor.dtype) {
                floats(float, bytes, out);
            }
        }
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let [tensor] = form.tensors else { return None };
        // A vector has one column.
        let cols = tensor.shape.last().copied().filter(|_| tensor.shape.len() > 1);
        let shape = std::iter::once(rows.end - rows.start).chain(cols).collect();
        let height = tensor.elements().checked_div(cols.unwrap_or(1))?;
        Some((vec![lines_of(tensor, rows, height, shape)?], Vec::new()))
    }

    fn plain(&self, form: StoredForm<'_>) -> Option<Float> {
        form.tensors.first().and_then(|tensor| Float::of(tensor.dtype))
    }
}
