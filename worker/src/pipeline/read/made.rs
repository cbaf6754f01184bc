//! Matrices that are made of stored tensors: read whole, made once, kept for neighbouring parts.

use std::sync::Arc;

use shardfuse_merge::recipe::made::rounded;
use shardfuse_merge::recipe::{Form, Made, Matrices, bytes};

use super::kept::MadeValues;
use super::reader::Reader;
use crate::Failure;
use crate::pipeline::threads::Threads;

/// Columns of a right factor are laid out in panels of so many.
const PANEL: u64 = 16;

/// Bytes that matrices take while they are kept.
pub fn kept(matrices: &Matrices<'_>) -> u64 {
    let Ok(size) = matrices.made.size() else { return 0 };
    match matrices.form {
        Form::Plain => 4 * size.elements(),
        Form::Rights => 4 * size.count * size.rows * size.cols.next_multiple_of(PANEL),
    }
}

/// Bytes that making them takes beside: the operands in fp32 and f64, the result in f64.
fn making(made: &Made) -> u64 {
    let read: u64 = made.operands().iter().map(|operand| operand.view.elements()).sum();
    12 * read + 16 * made.elements()
}

impl Reader<'_> {
    /// Matrices in the form in which they are needed.
    pub async fn made(self, matrices: &Matrices<'_>) -> Result<Arc<MadeValues>, Failure> {
        let (made, form) = (matrices.made, matrices.form);
        let sources = made.operands().into_iter().flat_map(|operand| operand.sources());
        let versions = sources.map(|source| self.inputs.version(source.object)).collect::<Result<_, _>>()?;
        let load = async {
            let _share = self.shared.loading.take(making(made)).await;
            let mut operands = Vec::new();
            for operand in made.operands() {
                let values = self.rows(operand, 0..operand.view.rows).await;
                operands.push(values.map_err(|f| f.at(&operand.source.name))?);
            }
            let (made, kernels) = (made.clone(), self.shared.kernels);
            let make = move |_: &Threads| {
                let wide = |values: &Vec<f32>| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
                let operands: Vec<Vec<f64>> = operands.iter().map(wide).collect();
                let operands: Vec<&[f64]> = operands.iter().map(Vec::as_slice).collect();
                let values = rounded(&made.make(&operands)?);
                let size = made.size().map_err(Failure::local)?;
                let (rank, cols) = (size.rows as usize, size.cols as usize);
                Ok(match form {
                    Form::Plain => MadeValues::Plain(values),
                    Form::Rights => {
                        let each = values.chunks_exact(rank * cols);
                        MadeValues::Rights(each.map(|values| kernels.pack(values, rank, cols)).collect())
                    }
                })
            };
            self.shared.compute(make).await
        };
        self.shared.made.get((bytes::write(made), form, versions), kept(matrices), load).await
    }
}
