//! FP8 with a scale for the tensor, for each row, or for each block: DeepSeek, compressed-tensors, fbgemm, ModelOpt, MXFP8.
//!
//! `X.weight` is F8_E4M3 or F8_E5M2 [out, in]. The scale beside it is `X.weight_scale_inv` or `X.weight_scale`, and multiplies in spite of
//! its name: value = code x scale, in fp32. Its shape is [], [1], [out], [out, 1], or that of the grid of blocks. Experts that
//! are stacked have a dimension more, and names without `.weight`: `gate_up_proj`, `gate_up_proj_scale_inv`.
//!
//! Codes and scales come from values by one of several formulas ([`rules`]).

mod rules;

use std::ops::Range;

use super::companions::{beside, elements};
use super::values::{e4m3, e5m2, largest, scale_bytes, scales};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{
    Claim, Encode, Floats, Layout, Rule, Scheme, StoredForm, Stretch, Tensors, Units, lines_of,
};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// The blocks of a checkpoint that does not name their size.
const USUAL: [u64; 2] = [128, 128];

/// The scheme, and its layout. The settings are rows and columns of a block, and the rows of each matrix that is stacked.
#[derive(Debug)]
pub struct Fp8;

impl Scheme for Fp8 {
    fn name(&self) -> &'static str {
        "fp8"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        if !matches!(codes.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2) {
            return None;
        }
        let has = |scale: &&&str| tensors.find(&format!("{}{scale}", codes.name)).is_some();
        let scale = ["_scale_inv", "_scale"].iter().find(has)?;
        let mut places = beside(at, &codes.name, tensors, &[scale], &["_activation_scale", "_input_scale"])?;
        if let Some(module) = codes.name.strip_suffix(".weight") {
            let also = [".input_scale", ".activation_scale", ".weight_zero_point"];
            places.extend(&beside(at, module, tensors, &[], &also)?[1..]);
        }
        // Codes with zero points are not decoded.
        let symmetric = places.iter().all(|at| !tensors.at(*at).name.ends_with(".weight_zero_point"));
        let block = block_of(&codes.shape, &tensors.at(places[1]).shape, &tensors.quantisation.blocks);
        let block = block.filter(|_| symmetric);
        let rows = sides(&codes.shape).map(|(_, rows, _)| rows);
        let settings = Ok(block.zip(rows).map_or(Vec::new(), |([r, c], rows)| vec![r, c, rows]));
        Some(Claim { name: codes.name.clone(), dims: codes.shape.clone(), tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Fp8)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Ok(&Fp8)
    }
}

/// Matrices that are stacked, and the rows and columns of each.
fn sides(shape: &[u64]) -> Option<(u64, u64, u64)> {
    let [stacked @ .., rows, cols] = shape else { return None };
    (elements(shape)? > 0).then(|| (stacked.iter().product(), *rows, *cols))
}

/// The size of the blocks that have a scale each. `named` are those that config.json names; without any, the shapes tell it. `None`
/// where nothing fits, or several sizes do.
fn block_of(shape: &[u64], scale: &[u64], named: &[[u64; 2]]) -> Option<[u64; 2]> {
    let (stacked, rows, cols) = sides(shape)?;
    let leading = &shape[..shape.len() - 2];
    if elements(scale)? == stacked {
        return Some([rows, cols]);
    }
    let each_row = [leading, &[rows]].concat();
    if scale == each_row || scale == [&each_row[..], &[1]].concat() {
        return Some([1, cols]);
    }
    let [before @ .., high, wide] = scale else { return None };
    if before != leading {
        return None;
    }
    let fits = |[r, c]: &&[u64; 2]| (rows.div_ceil(*r), cols.div_ceil(*c)) == (*high, *wide);
    if !named.is_empty() {
        let mut fitting = named.iter().filter(fits);
        let first = fitting.next()?;
        return fitting.all(|other| other == first).then_some(*first);
    }
    // Groups of columns are powers of two in every published form.
    let group = cols.checked_div(*wide).filter(|group| group * wide == cols && group.is_power_of_two());
    let guesses = [group.map(|group| [1, group]), Some(USUAL)];
    guesses.into_iter().flatten().find(|guess| fits(&guess))
}

/// A parameter whose form was approved.
struct Grid {
    /// Matrices that are stacked, and the rows of each.
    stacked: u64,
    rows: u64,
    cols: u64,
    /// Rows and columns of a block.
    block: [u64; 2],
}

impl Grid {
    fn of(form: StoredForm<'_>) -> Option<Grid> {
        let ([codes, _, ..], [r, c, rows]) = (form.tensors, form.settings) else { return None };
        let (stacked, own, cols) = sides(&codes.shape)?;
        let all = stacked * own;
        let stacked = all.checked_div(*rows).filter(|stacked| stacked * rows == all)?;
        (*r > 0 && *c > 0).then_some(Grid { stacked, rows: *rows, cols, block: [*r, *c] })
    }

    /// The row of scales that a row of the parameter has.
    fn line(&self, row: u64) -> u64 {
        row / self.rows * self.rows.div_ceil(self.block[0]) + row % self.rows / self.block[0]
    }

    /// Scales in a row of them.
    fn width(&self) -> u64 {
        self.cols.div_ceil(self.block[1])
    }
}

/// Rows of the parameter as rows of its last dimension.
fn flat(form: StoredForm<'_>, rows: Range<u64>) -> Range<u64> {
    let each: u64 = form.tensors.first().map_or(1, |codes| codes.shape.iter().rev().skip(1).rev().skip(1).product());
    rows.start * each..rows.end * each
}

impl Layout for Fp8 {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        let [codes, scale, ..] = form.tensors else {
            return Err(format!("{} tensors are one parameter, expected codes and scales", form.tensors.len()));
        };
        if !matches!(codes.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2) || scale_bytes(scale.dtype).is_none() {
            return Err(format!("{} is {:?} and {} is {:?}", codes.name, codes.dtype, scale.name, scale.dtype));
        }
        let told = || {
            format!("{} of shape {:?} does not fit {} of shape {:?}", scale.name, scale.shape, codes.name, codes.shape)
        };
        let grid = Grid::of(form).ok_or_else(told)?;
        let scales = grid.stacked.saturating_mul(grid.rows.div_ceil(grid.block[0])).saturating_mul(grid.width());
        if Some(scales) == elements(&scale.shape) { Ok(codes.shape.clone()) } else { Err(told()) }
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let (Some(grid), Some(size)) = (Grid::of(form), form.tensors.get(1).and_then(|scale| scale_bytes(scale.dtype)))
        else {
            return Vec::new();
        };
        if rows.is_empty() {
            return Vec::new();
        }
        let rows = flat(form, rows);
        let lines = grid.line(rows.start)..grid.line(rows.end - 1) + 1;
        let line = grid.width() * size;
        vec![
            Stretch { tensor: 0, bytes: rows.start * grid.cols..rows.end * grid.cols },
            Stretch { tensor: 1, bytes: lines.start * line..lines.end * line },
        ]
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Some(grid), [codes, scale]) = (Grid::of(form), bytes) else { return };
        let value = if form.tensors[0].dtype == Dtype::F8_E4M3 { e4m3 } else { e5m2 };
        let table: [f32; 256] = std::array::from_fn(|code| value(code as u8));
        let scales = scales(form.tensors[1].dtype, scale, floats);
        let (cols, width, block) = (grid.cols as usize, grid.width() as usize, grid.block[1] as usize);
        let rows = flat(form, rows);
        let first = grid.line(rows.start);
        for (row, (codes, out)) in rows.zip(codes.chunks_exact(cols).zip(out.chunks_exact_mut(cols))) {
            let line = (grid.line(row) - first) as usize * width;
            let blocks = codes.chunks(block).zip(out.chunks_mut(block));
            for ((codes, out), scale) in blocks.zip(&scales[line..line + width]) {
                for (code, out) in codes.iter().zip(out) {
                    *out = table[usize::from(*code)] * scale;
                }
            }
        }
    }

    /// Whole matrices, or rows of one that begin and end with blocks.
    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let (grid, [codes, scale, ..]) = (Grid::of(form)?, form.tensors) else { return None };
        let (height, count) = (grid.stacked * grid.rows, rows.end.checked_sub(rows.start).filter(|count| *count > 0)?);
        let is_whole = rows.start.is_multiple_of(grid.rows) && rows.end.is_multiple_of(grid.rows);
        let (begin, end) = (rows.start % grid.rows, rows.start % grid.rows + count);
        let by_blocks = begin.is_multiple_of(grid.block[0]) && (end == grid.rows || end.is_multiple_of(grid.block[0]));
        if !is_whole && (end > grid.rows || !by_blocks) {
            return None;
        }
        let lines = grid.line(rows.start)..grid.line(rows.end - 1) + 1;
        let all = grid.stacked * grid.rows.div_ceil(grid.block[0]);
        let scales = vec![lines.end - lines.start, grid.width()];
        let codes = lines_of(codes, rows, height, vec![count, grid.cols])?;
        let own = if is_whole { grid.rows } else { count };
        Some((vec![codes, lines_of(scale, lines, all, scales)?], vec![grid.block[0], grid.block[1], own]))
    }
}

impl Encode for Fp8 {
    fn rule(&self, form: StoredForm<'_>, said: &Quantisation) -> Result<Rule, String> {
        let [codes, scale, ..] = form.tensors else { return Err("it has no scales".to_owned()) };
        rules::of(codes, scale, said)
    }

    fn knows(&self, rule: Rule) -> bool {
        rules::knows(rule)
    }

    fn unit(&self, form: StoredForm<'_>) -> u64 {
        let stacked = form.tensors.first().is_some_and(|codes| codes.shape.len() > 2);
        let Some(grid) = Grid::of(form).filter(|_| !stacked) else { return 1 };
        match grid.block[0] {
            _ if self.has_one_scale(form) => 1,
            high if grid.stacked == 1 || grid.rows.is_multiple_of(high) => high,
            _ => grid.rows,
        }
    }

    fn has_one_scale(&self, form: StoredForm<'_>) -> bool {
        let of = |grid: Grid| grid.stacked == 1 && grid.block[0] >= grid.rows && grid.block[1] >= grid.cols;
        Grid::of(form).is_some_and(of)
    }

    fn encode(&self, form: StoredForm<'_>, rule: Rule, Units { rows, values, codes, scales }: Units<'_>) {
        let (Some(grid), Some(dtype)) = (Grid::of(form), form.tensors.get(1).map(|scale| scale.dtype)) else { return };
        let (cols, width, block) = (grid.cols as usize, grid.width() as usize, grid.block);
        let (rows, size) = (flat(form, rows), scale_bytes(dtype).unwrap_or(1) as usize);
        let (first, mut row) = (grid.line(rows.start), rows.start);
        while row < rows.end {
            let within = row % grid.rows;
            let end = rows.end.min(row - within + ((within / block[0] + 1) * block[0]).min(grid.rows));
            let line = (grid.line(row) - first) as usize * width;
            let lines = (row - rows.start) as usize..(end - rows.start) as usize;
            for (place, column) in (0..cols).step_by(block[1] as usize).enumerate() {
                let columns = column..(column + block[1] as usize).min(cols);
                let each = || lines.clone().map(|line| line * cols + columns.start..line * cols + columns.end);
                let (changed, largest) = match values.whole {
                    Some(whole) => (whole.changed, whole.largest),
                    None => {
                        let changed = each().any(|at| values.before[at.clone()] != values.after[at]);
                        (changed, largest(each().flat_map(|at| values.after[at].iter().copied())))
                    }
                };
                if !changed {
                    continue;
                }
                let by = rules::store(rule, largest, dtype, &mut scales[(line + place) * size..][..size]);
                for at in each() {
                    for (code, value) in codes[at.clone()].iter_mut().zip(&values.after[at]) {
                        *code = by.code(*value);
                    }
                }
            }
            row = end;
        }
    }

    fn one(&self, _: StoredForm<'_>) -> u8 {
        0x38
    }

    fn half_step(&self, scales: f32) -> f32 {
        (scales.abs() / 16.0).max(1.0 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::float::{self, Float};

    fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> Source {
        Source { name: name.into(), object: ObjectId(0), offset: 0, dtype, shape: shape.into() }
    }

    #[test]
    fn the_size_of_a_block_follows_from_the_shapes_or_is_what_the_configuration_names() {
        let of = |weight: &[u64], scale: &[u64], named: &[[u64; 2]]| block_of(weight, scale, named);
        assert_eq!(of(&[6, 8], &[], &[]), Some([6, 8]), "one");
        assert_eq!(of(&[6, 8], &[6], &[]), Some([1, 8]), "each row");
        assert_eq!(of(&[6, 8], &[6, 1], &[]), Some([1, 8]), "each row");
        assert_eq!(of(&[6, 8], &[6, 2], &[]), Some([1, 4]), "groups of columns");
        assert_eq!(of(&[300, 200], &[3, 2], &[]), Some([128, 128]), "the usual one");
        assert_eq!(of(&[300, 200], &[5, 4], &[[64, 64]]), Some([64, 64]), "named");
        assert_eq!(of(&[192, 192], &[2, 2], &[[96, 96]]), Some([96, 96]), "named, though the usual one would fit");
        assert_eq!(of(&[64, 200], &[64, 2], &[[1, 128]]), Some([1, 128]), "a last group that is short");
        assert_eq!(of(&[64, 200], &[64, 2], &[]), None, "no power of two");
        assert_eq!(of(&[300, 200], &[3, 2], &[[64, 64]]), None, "the configuration says otherwise");
        assert_eq!(of(&[192, 192], &[2, 2], &[[96, 96], [128, 128]]), None, "two of the configuration's");
        assert_eq!(of(&[300, 200], &[4, 2], &[]), None, "neither");
        assert_eq!(of(&[512, 16384], &[4, 1, 128, 1], &[]), None, "as many scales as rows, and not one for each");
        assert_eq!(of(&[300, 200], &[1, 3, 2], &[]), None, "a dimension that the weight does not have");
        assert_eq!(of(&[2, 6, 8], &[2], &[]), Some([6, 8]), "one for each expert");
        assert_eq!(of(&[2, 6, 8], &[2, 6, 1], &[]), Some([1, 8]), "each row of each expert");
        assert_eq!(of(&[2, 300, 200], &[2, 3, 2], &[]), Some([128, 128]), "blocks of each expert");
        assert_eq!(of(&[2, 6, 8], &[], &[]), None, "one for all experts");
    }

    #[test]
    fn rows_take_the_scales_of_their_blocks() {
        // Rows of 5 columns in blocks of 2 x 4: a grid of 2 x 2.
        let tensors = [tensor("w", Dtype::F8_E4M3, &[3, 5]), tensor("s", Dtype::F32, &[2, 2])];
        let form = StoredForm { tensors: &tensors, settings: &[2, 4, 3] };
        assert_eq!(Fp8.dims(form).unwrap(), [3, 5]);
        let bytes = |tensor, bytes| Stretch { tensor, bytes };
        assert_eq!(Fp8.ranges(form, 1..3), [bytes(0, 5..15), bytes(1, 0..16)]);
        assert_eq!(Fp8.ranges(form, 2..3), [bytes(0, 10..15), bytes(1, 8..16)]);
        let scales: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = [0.0; 10];
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| float::decode(float.dtype(), bytes, out);
        Fp8.decode(form, 1..3, &[&[0x38; 10], &scales], &floats, &mut out);
        assert_eq!(out, [1., 1., 1., 1., 2., 3., 3., 3., 3., 4.]);
    }

    #[test]
    fn a_row_of_stacked_experts_is_an_expert() {
        // Two experts of 3 rows and 2 columns with a scale for each row.
        let tensors = [tensor("w", Dtype::F8_E4M3, &[2, 3, 2]), tensor("s", Dtype::F32, &[2, 3, 1])];
        let form = StoredForm { tensors: &tensors, settings: &[1, 2, 3] };
        assert_eq!(Fp8.dims(form).unwrap(), [2, 3, 2]);
        let bytes = |tensor, bytes| Stretch { tensor, bytes };
        assert_eq!(Fp8.ranges(form, 1..2), [bytes(0, 6..12), bytes(1, 12..24)]);
        let scales: Vec<u8> = [4.0f32, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = [0.0; 6];
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| float::decode(float.dtype(), bytes, out);
        Fp8.decode(form, 1..2, &[&[0x38; 6], &scales], &floats, &mut out);
        assert_eq!(out, [4., 4., 5., 5., 6., 6.]);
    }

    #[test]
    fn whole_matrices_and_rows_of_whole_blocks_are_parameters_of_their_own() {
        let tensors = [tensor("w", Dtype::F8_E4M3, &[2, 3, 5]), tensor("s", Dtype::F32, &[2, 2, 2])];
        let form = StoredForm { tensors: &tensors, settings: &[2, 4, 3] };
        let (all, settings) = Fp8.portion(form, 0..6).unwrap();
        let flat = StoredForm { tensors: &all, settings: &settings };
        assert_eq!((Fp8.dims(flat).unwrap(), &settings[..]), (vec![6, 5], &[2, 4, 3][..]));
        // The second matrix begins a block although the first ends in the middle of one.
        assert_eq!(Fp8.ranges(flat, 2..4)[1].bytes, 8..24);
        for form in [form, flat] {
            let (own, settings) = Fp8.portion(form, 3..5).unwrap();
            let expected = [(15, vec![2, 5]), (16, vec![1, 2])];
            assert_eq!(own.iter().map(|t| (t.offset, t.shape.clone())).collect::<Vec<_>>(), expected);
            assert_eq!(Fp8.dims(StoredForm { tensors: &own, settings: &settings }).unwrap(), [2, 5]);
            assert_eq!(Fp8.portion(form, 2..3).unwrap().0[1].offset, 8, "the rest of the first");
            assert!([1..3, 2..4, 0..5, 3..3].into_iter().all(|rows| Fp8.portion(form, rows).is_none()));
        }
    }

    #[test]
    fn shapes_beyond_64_bits_are_refused() {
        let tensors = [tensor("w", Dtype::F8_E4M3, &[1 << 40, 1 << 40]), tensor("s", Dtype::F32, &[1])];
        assert!(Fp8.dims(StoredForm { tensors: &tensors, settings: &[1, 1, 1 << 40] }).is_err());
        let tensors = [tensor("w", Dtype::F8_E4M3, &[3, 5]), tensor("s", Dtype::F32, &[1 << 40, 1 << 40])];
        assert!(Fp8.dims(StoredForm { tensors: &tensors, settings: &[1, 1, 3] }).is_err());
    }

    #[test]
    fn a_grid_that_does_not_fit_is_named() {
        let tensors = [tensor("w", Dtype::F8_E4M3, &[300, 200]), tensor("s", Dtype::F32, &[4, 2])];
        let refused = |settings: &[u64]| Fp8.dims(StoredForm { tensors: &tensors, settings }).unwrap_err();
        for settings in [&[][..], &[128, 128, 300], &[0, 128, 300], &[128, 128, 7], &[128, 128]] {
            assert!(refused(settings).contains("s of shape [4, 2] does not fit w of shape [300, 200]"));
        }
    }
}
