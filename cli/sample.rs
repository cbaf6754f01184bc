//! `verify --sample`: rows of the output, computed once more from base and adapters in f64.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shardfuse_coordinator::publish;
use shardfuse_merge::fuse::{decode_f64, exact};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::inventory::Source;
use shardfuse_merge::plan::recipe::{DoraNorm, Fuse, LowRank, MeasureId, Norm, Op, Placed, Recipe, Step, matrix};
use shardfuse_merge::{Dtype, DtypeExt, Error, Kind, Result};
use shardfuse_store::{Location, Pin, Stores};

/// fp32 keeps about seven digits: what is smaller than this part of a row's largest value is noise of the arithmetic.
const NOISE: f64 = 1e-5;

/// What was found for one kind of tensor.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Found {
    /// Tensors of the kind.
    pub tensors: u64,
    /// Rows that were computed.
    pub rows: u64,
    /// The largest error in units in the last place of the output dtype.
    pub worst_ulp: f64,
    /// Where it is.
    pub at: String,
    /// Rows whose error is neither rounding nor fp32 noise, or copied rows that differ.
    pub wrong: u64,
}

/// Computes `per_tensor` rows of every tensor. The keys are tensor names with numbers replaced by `*`.
pub async fn sample(
    stores: &Stores,
    plan: &Plan,
    output: &Location,
    per_tensor: u64,
) -> Result<BTreeMap<String, Found>> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let reader = Reader { stores, plan };
    for file in &plan.output.files {
        let at = output.join(&file.name).map_err(|e| Error::new(Kind::Io, e.chain()))?;
        for tensor in file.tensors.iter().filter(|t| t.length > 0) {
            let (rows, cols) = matrix(&tensor.shape);
            let entry = found.entry(kind(&tensor.name)).or_default();
            entry.tensors += 1;
            let mut exact = Exact { reader: &reader, factors: HashMap::new(), gains: HashMap::new() };
            for row in spread(rows, per_tensor) {
                entry.rows += 1;
                let stored = reader.output_row(&at, tensor, row, cols).await?;
                match &tensor.recipe {
                    Recipe::Copy(source) => {
                        if stored != reader.row_bytes(source, row, cols).await? {
                            entry.wrong += 1;
                            entry.at = format!("{} row {row}", tensor.name);
                        }
                    }
                    Recipe::Fuse(fuse) => {
                        let want = exact.row(fuse, row).await?;
                        compare(entry, tensor, row, &stored, &want);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn compare(entry: &mut Found, tensor: &Placed, row: u64, stored: &[u8], want: &[f64]) {
    let mut have = vec![0.0; want.len()];
    decode_f64(tensor.dtype, stored, &mut have);
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut wrong = false;
    for (have, want) in have.iter().zip(want) {
        let ulp = if want.is_finite() { exact::ulp_error(tensor.dtype, *have as f32, *want) } else { 0.0 };
        if ulp > entry.worst_ulp {
            entry.worst_ulp = ulp;
            entry.at = format!("{} row {row}", tensor.name);
        }
        wrong |= ulp > 0.5 + 1e-3 && (have - want).abs() > NOISE * largest + half_ulp(tensor.dtype, *want);
    }
    entry.wrong += u64::from(wrong);
}

/// Half a unit in the last place at `value`.
fn half_ulp(dtype: Dtype, value: f64) -> f64 {
    let digits = match dtype {
        Dtype::BF16 => 8,
        Dtype::F16 => 11,
        _ => 24,
    };
    value.abs() * 2f64.powi(-digits)
}

/// `model.layers.*.self_attn.q_proj.weight`.
fn kind(name: &str) -> String {
    name.split('.').map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { "*" } else { p }).collect::<Vec<_>>().join(".")
}

/// At most `n` of `rows` rows, first and last among them.
fn spread(rows: u64, n: u64) -> Vec<u64> {
    let n = n.min(rows);
    match n {
        0 => Vec::new(),
        1 => vec![0],
        _ => (0..n).map(|i| (u128::from(i) * u128::from(rows - 1) / u128::from(n - 1)) as u64).collect(),
    }
}

struct Reader<'a> {
    stores: &'a Stores,
    plan: &'a Plan,
}

impl Reader<'_> {
    async fn bytes(&self, source: &Source, offset: u64, len: u64) -> Result<Vec<u8>> {
        let object = &self.plan.objects[source.object.0 as usize];
        let at: Location = object.url.parse().map_err(|e: shardfuse_store::Error| Error::new(Kind::Io, e.chain()))?;
        let store = self.stores.open(&at);
        let read = store.read(&at, source.offset + offset, vec![0; len as usize], Some(&Pin::new(&object.pin))).await;
        read.map_err(|e| Error::new(Kind::Io, e.chain()))
    }

    async fn row_bytes(&self, source: &Source, row: u64, cols: u64) -> Result<Vec<u8>> {
        let len = cols * source.dtype.bitsize() as u64 / 8;
        self.bytes(source, row * len, len).await
    }

    async fn row(&self, source: &Source, row: u64, cols: u64) -> Result<Vec<f64>> {
        let raw = self.row_bytes(source, row, cols).await?;
        let mut values = vec![0.0; cols as usize];
        decode_f64(source.dtype, &raw, &mut values);
        Ok(values)
    }

    async fn all(&self, source: &Source) -> Result<Vec<f64>> {
        let raw = self.bytes(source, 0, source.bytes()).await?;
        let mut values = vec![0.0; source.elements() as usize];
        decode_f64(source.dtype, &raw, &mut values);
        Ok(values)
    }

    async fn output_row(&self, at: &Location, tensor: &Placed, row: u64, cols: u64) -> Result<Vec<u8>> {
        let len = cols * tensor.dtype.bytes().unwrap_or(0);
        let read = self.stores.open(at).read(at, tensor.offset + row * len, vec![0; len as usize], None).await;
        read.map_err(|e| Error::new(Kind::Io, e.chain()))
    }
}

/// One tensor in f64, with its factors.
struct Exact<'a> {
    reader: &'a Reader<'a>,
    factors: HashMap<(u32, u64), Arc<Vec<f64>>>,
    gains: HashMap<MeasureId, Arc<Vec<f64>>>,
}

impl Exact<'_> {
    async fn row(&mut self, fuse: &Fuse, row: u64) -> Result<Vec<f64>> {
        let (_, cols) = matrix(&fuse.start.shape);
        let start = self.reader.row(&fuse.start, row, cols).await?;
        let mut w = start.clone();
        for step in &fuse.steps {
            self.step(step, row, &start, &mut w).await?;
        }
        Ok(w)
    }

    async fn step(&mut self, step: &Step, row: u64, start: &[f64], w: &mut [f64]) -> Result<()> {
        let cols = w.len() as u64;
        match &step.op {
            Op::Add(delta) => self.add(delta, row, w).await?,
            Op::AddScaled { source, scale } => {
                let v = self.reader.row(source, row, cols).await?;
                w.iter_mut().zip(v).for_each(|(w, v)| *w += f64::from(*scale) * v);
            }
            Op::SetRows { rows, source } => {
                if let Some(i) = rows.iter().position(|r| *r == row) {
                    w.copy_from_slice(&self.reader.row(source, i as u64, cols).await?);
                }
            }
            Op::Dora { delta, magnitude, norm, of } => {
                let magnitudes = self.factor(magnitude).await?;
                match norm {
                    Norm::Measured(id) => {
                        let gains = self.gains(*id, &magnitudes).await?;
                        self.add(delta, row, w).await?;
                        exact::dora_columns(w, &gains);
                    }
                    Norm::Rows => {
                        let mut v = if *of == DoraNorm::Original { start.to_vec() } else { w.to_vec() };
                        self.add(delta, row, &mut v).await?;
                        let gain = exact::dora_gain(magnitudes[row as usize], exact::squares(&v)).unwrap_or(f64::NAN);
                        self.add(delta, row, w).await?;
                        w.iter_mut().for_each(|w| *w *= gain);
                    }
                }
            }
        }
        Ok(())
    }

    async fn add(&mut self, delta: &LowRank, row: u64, w: &mut [f64]) -> Result<()> {
        let (rank, cols, row) = (delta.rank as usize, w.len(), row as usize);
        let left = self.factor(&delta.left.source).await?;
        let right = self.factor(&delta.right.source).await?;
        let left: Vec<f64> = match delta.left.transposed {
            false => left[row * rank..(row + 1) * rank].to_vec(),
            true => left.chunks_exact(left.len() / rank).map(|k| k[row]).collect(),
        };
        let right = match delta.right.transposed {
            false => right,
            true => Arc::new(
                (0..rank).flat_map(|k| (0..cols).map(move |c| (k, c))).map(|(k, c)| right[c * rank + k]).collect(),
            ),
        };
        exact::low_rank_row(w, &left, &right, f64::from(delta.scale));
        Ok(())
    }

    /// m / n of every column, over all rows.
    async fn gains(&mut self, id: MeasureId, magnitudes: &[f64]) -> Result<Arc<Vec<f64>>> {
        if let Some(gains) = self.gains.get(&id) {
            return Ok(Arc::clone(gains));
        }
        let measure = self.reader.plan.measures[id.0 as usize].clone();
        let fuse = Fuse { start: measure.start, start_adapter: None, steps: measure.steps, keep_non_finite: false };
        let (rows, cols) = matrix(&fuse.start.shape);
        let mut sums = vec![0.0; cols as usize];
        for row in 0..rows {
            let v = Box::pin(self.row(&fuse, row)).await?;
            sums.iter_mut().zip(v).for_each(|(s, v)| *s += v * v);
        }
        let gains: Vec<f64> =
            sums.iter().zip(magnitudes).map(|(s, m)| exact::dora_gain(*m, *s).unwrap_or(f64::NAN)).collect();
        let gains = Arc::new(gains);
        self.gains.insert(id, Arc::clone(&gains));
        Ok(gains)
    }

    async fn factor(&mut self, source: &Source) -> Result<Arc<Vec<f64>>> {
        let key = (source.object.0, source.offset);
        if let Some(values) = self.factors.get(&key) {
            return Ok(Arc::clone(values));
        }
        let values = Arc::new(self.reader.all(source).await?);
        self.factors.insert(key, Arc::clone(&values));
        Ok(values)
    }
}

/// The digest of a published file.
pub async fn digest(stores: &Stores, at: &Location, size: u64) -> Result<String> {
    Ok(publish::hash_file(&*stores.open(at), at, size, None).await?.to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_rows_hold_the_first_and_the_last() {
        assert_eq!(spread(10, 3), [0, 4, 9]);
        assert_eq!(spread(2, 8), [0, 1]);
        assert_eq!(spread(5, 1), [0]);
        assert!(spread(0, 4).is_empty());
    }
}
