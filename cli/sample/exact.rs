//! A parameter's recipe in f64, for a batch of its rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::Result;
use shardfuse_merge::recipe::op::ExactRows;
use shardfuse_merge::recipe::{Delta, Input, Made, Need, Operand, Start, Step, bytes, exact};
use shardfuse_merge::statistic::StatisticId;
use shardfuse_merge::tensor::View;

use super::reader::Reader;

/// Values of an operand that are in memory at a time; a single row or column may have more.
const BLOCK: u64 = 1 << 20;

/// Where a vector lies: its object, the tensor's offset, and the view of it.
type VectorPlace = (u32, u64, View);

fn place_of(operand: &Operand) -> VectorPlace {
    (operand.source.object.0, operand.source.offset, operand.view)
}

/// Values that are kept.
type Numbers = Arc<Vec<f64>>;

/// One parameter in f64. It keeps vectors (magnitudes and gains) and matrices that are made of others, and reads matrices in
/// blocks each time.
pub struct Exact<'a> {
    reader: &'a Reader<'a>,
    vectors: HashMap<VectorPlace, Numbers>,
    made: HashMap<Vec<u8>, Numbers>,
    derived: HashMap<(StatisticId, VectorPlace), [Numbers; 2]>,
}

/// Rows of a parameter.
pub struct Rows {
    /// The values, row-major.
    pub values: Vec<f64>,
    /// How far another right result may be from each.
    pub doubt: Vec<f64>,
}

impl<'a> Exact<'a> {
    pub fn new(reader: &'a Reader<'a>) -> Self {
        Self { reader, vectors: HashMap::new(), derived: HashMap::new(), made: HashMap::new() }
    }

    /// Rows (ascending) of `start + steps`, one after another.
    pub async fn rows(&mut self, start: &Start, steps: &[Step], rows: &[u64]) -> Result<Rows> {
        let (_, cols) = start.matrix();
        let start = wide(&self.reader.start(start, rows).await?);
        let mut w = start.clone();
        let mut doubt = vec![0.0; w.len()];
        for step in steps {
            let mut original = step.op.wants_original().then(|| start.clone());
            if let Some(delta) = step.op.delta() {
                for w in original.iter_mut().chain([&mut w]) {
                    self.add(delta, rows, cols, w).await?;
                }
            }
            let mut own = Vec::new();
            for input in step.op.own_inputs() {
                own.append(&mut self.own(&input, rows).await?);
            }
            for matrices in step.op.own_matrices() {
                own.push(self.made(matrices.made).await?);
            }
            let values: Vec<&[f64]> = own.iter().map(|v| v.as_slice()).collect();
            let mut tile = ExactRows { rows, column: 0, cols: cols as usize, w: &mut w, doubt: &mut doubt };
            step.op.exact(&mut tile, original.as_deref(), &values);
        }
        Ok(Rows { values: w, doubt })
    }

    /// `w += delta`, one range of columns after another.
    async fn add(&mut self, delta: &Delta, rows: &[u64], cols: u64, w: &mut [f64]) -> Result<()> {
        let inputs = delta.inputs();
        let mut made = Vec::new();
        for matrices in delta.matrices() {
            made.push(self.made(matrices.made).await?);
        }
        let tallest = inputs.iter().filter(|i| i.need == Need::SameColumns).map(|i| i.operand.view.rows).max();
        for columns in blocks(cols, tallest.unwrap_or(1)) {
            let mut values = Vec::with_capacity(inputs.len());
            for input in &inputs {
                values.push(self.of_delta(input, rows, columns.clone()).await?);
            }
            let made = made.iter().map(|v| v.as_slice());
            let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).chain(made).collect();
            let column = columns.start;
            let (columns, cols) = (columns.start as usize..columns.end as usize, cols as usize);
            let mut part: Vec<f64> =
                w.chunks_exact(cols).flat_map(|row| row[columns.clone()].iter().copied()).collect();
            let mut tile = ExactRows { rows, column, cols: columns.len(), w: &mut part, doubt: &mut [] };
            delta.exact(&mut tile, &values);
            for (row, part) in w.chunks_exact_mut(cols).zip(part.chunks_exact(columns.len())) {
                row[columns.clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    async fn of_delta(&self, input: &Input<'_>, rows: &[u64], columns: Range<u64>) -> Result<Vec<f64>> {
        match input.need {
            Need::SameColumns => self.matrix(input.operand, columns, None).await,
            Need::Same => self.matrix(input.operand, columns, Some(rows)).await,
            _ => self.matrix(input.operand, 0..input.operand.view.cols, Some(rows)).await,
        }
    }

    async fn own(&mut self, input: &Input<'_>, rows: &[u64]) -> Result<Vec<Numbers>> {
        let operand = input.operand;
        Ok(vec![match input.need {
            Need::PerRow => {
                let all = self.vector(operand).await?;
                Arc::new(rows.iter().map(|row| all[*row as usize]).collect())
            }
            Need::PerColumn => self.vector(operand).await?,
            Need::Derived(id) => return self.derive(id, operand).await,
            Need::Rows(list) => {
                let at: Vec<u64> =
                    rows.iter().filter_map(|row| list.iter().position(|r| r == row)).map(|i| i as u64).collect();
                Arc::new(self.matrix(operand, 0..operand.view.cols, Some(&at)).await?)
            }
            Need::SameColumns => Arc::new(self.matrix(operand, 0..operand.view.cols, None).await?),
            Need::SameRows | Need::Same => Arc::new(self.matrix(operand, 0..operand.view.cols, Some(rows)).await?),
        }])
    }

    /// Rows and columns of an operand, its rows multiplied by their gains.
    async fn matrix(&self, operand: &Operand, columns: Range<u64>, rows: Option<&[u64]>) -> Result<Vec<f64>> {
        let view = operand.view.columns(columns);
        let mut values = wide(&match rows {
            None => self.reader.view(&operand.source, view).await?,
            Some(rows) => self.reader.rows(&operand.source, view, rows).await?,
        });
        let Some(gains) = &operand.row_gains else { return Ok(values) };
        let gains = wide(&self.reader.view(gains, View::vector(gains.elements())).await?);
        for (i, row) in values.chunks_exact_mut(view.cols as usize).enumerate() {
            let gain = gains[rows.map_or(i, |rows| rows[i] as usize)];
            row.iter_mut().for_each(|v| *v *= gain);
        }
        Ok(values)
    }

    /// Matrices that are made of stored tensors, one after another.
    async fn made(&mut self, made: &Made) -> Result<Numbers> {
        let key = bytes::write(made);
        if let Some(values) = self.made.get(&key) {
            return Ok(Arc::clone(values));
        }
        let mut operands = Vec::new();
        for operand in made.operands() {
            operands.push(self.matrix(operand, 0..operand.view.cols, None).await?);
        }
        let operands: Vec<&[f64]> = operands.iter().map(Vec::as_slice).collect();
        // What has no norm becomes NaN, as an output does.
        let values = made.make(&operands).unwrap_or_else(|_| vec![f64::NAN; made.elements() as usize]);
        let values = Arc::new(values);
        self.made.insert(key, Arc::clone(&values));
        Ok(values)
    }

    /// m / n of every column, over all rows, and how far each may be off.
    async fn derive(&mut self, id: StatisticId, magnitude: &Operand) -> Result<Vec<Numbers>> {
        let key = (id, place_of(magnitude));
        if let Some(gains) = self.derived.get(&key) {
            return Ok(gains.to_vec());
        }
        let magnitudes = self.vector(magnitude).await?;
        let statistic = self.reader.statistics[id.0 as usize].clone();
        let (rows, cols) = statistic.start.matrix();
        let (mut sums, mut doubts) = (vec![0.0; cols as usize], vec![0.0; cols as usize]);
        for batch in blocks(rows, cols) {
            let batch: Vec<u64> = batch.collect();
            let rows = Box::pin(self.rows(&statistic.start, &statistic.steps, &batch)).await?;
            for (sums, values) in [(&mut sums, &rows.values), (&mut doubts, &rows.doubt)] {
                for row in values.chunks_exact(cols as usize) {
                    sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
                }
            }
        }
        let gain = |(sum, m): (&f64, &f64)| exact::dora_gain(*m, *sum).unwrap_or(f64::NAN);
        let gains: Vec<f64> = sums.iter().zip(magnitudes.iter()).map(gain).collect();
        let off = gains.iter().zip(&sums).zip(&doubts).map(|((g, sum), d)| exact::gain_doubt(*g, *sum, *d)).collect();
        let both = [Arc::new(gains), Arc::new(off)];
        self.derived.insert(key, both.clone());
        Ok(both.to_vec())
    }

    async fn vector(&mut self, operand: &Operand) -> Result<Numbers> {
        let key = place_of(operand);
        if let Some(values) = self.vectors.get(&key) {
            return Ok(Arc::clone(values));
        }
        let values = Arc::new(self.matrix(operand, 0..operand.view.cols, None).await?);
        self.vectors.insert(key, Arc::clone(&values));
        Ok(values)
    }
}

/// Runs of lines, `length` values each, of at most [`BLOCK`] values; one line at least.
fn blocks(lines: u64, length: u64) -> impl Iterator<Item = Range<u64>> {
    let each = (BLOCK / length.max(1)).max(1);
    (0..lines).step_by(each as usize).map(move |from| from..lines.min(from + each))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_line_once_however_long_a_line_is() {
        assert_eq!(blocks(5, 1 << 19).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
        assert_eq!(blocks(2, 1 << 30).collect::<Vec<_>>(), [0..1, 1..2]);
        assert!(blocks(3, 1).eq([0, 3].windows(2).map(|w| w[0]..w[1])));
    }
}
