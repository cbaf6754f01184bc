//! The shape of the tiles in which a tensor is multiplied, and which tensors have a path on the device. Pure.
//!
//! cuBLAS repeats its bits for the same shape only, so a tensor is always multiplied in the same tiles: whole rows, a
//! height that follows from the recipe and the number of columns and nothing else, counted from row 0 of the tensor; only
//! the last one is shorter. A part that ends within a tile has the whole tile multiplied, from the true rows of the left
//! factor, and takes its own rows of the product. (Zeros in place of the rows that it does not need would do as well on every
//! GEMM known; that is no promise of cuBLAS, and the rows are small.) Memory, streams, part sizes and other tensors have
//! no say. The kernels around the product treat each element or row for itself, and run over a part's own rows only.

use std::ops::Range;

use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::{Delta, Dora, Fuse, Input, LowRank, Need, Norm, Op, Operand, Step};
use shardfuse_merge::tensor::float::Float;

/// Elements of a tile at the most: 16 MiB in fp32.
pub(super) const TILE: u64 = 1 << 22;
/// What lies beside a tile's weights, in fp32 values: rows of left factors, magnitudes, gains.
pub(super) const SIDE: u64 = 1 << 21;
/// Rows of a tile at the most.
pub(super) const TALLEST: u64 = 8192;
/// Steps of a recipe at the most: each has a word of the status.
pub(super) const MOST_STEPS: usize = 63;
/// Elements of a right factor at the most: 1 GiB in fp32.
const LARGEST_FACTOR: u64 = 1 << 28;
/// Heights are multiples of this where they can be, which GEMMs like.
const STEP: u64 = 64;
/// Every operand begins at a multiple of so many fp32 values: 256 bytes, as `cuMemAlloc` aligns.
const ALIGN: u64 = 64;

/// Where a tensor is fused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// On the host: there is no product in it, and the host's kernels give the very same bits.
    Host,
    /// On the host, for want of a path on the device.
    NoPath(String),
    /// On the device.
    Device(Tiling),
}

/// How a tensor is cut into tiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiling {
    rows: u64,
    cols: u64,
    height: u64,
    /// Where each step's left factor and each step's gains begin beside the tile, in fp32 values, and the end of all.
    side: Vec<(u64, u64)>,
    end: u64,
}

/// A tile, and the rows of it that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    /// The tile's rows.
    pub whole: Range<u64>,
    /// The wanted ones.
    pub mine: Range<u64>,
}

impl Way {
    /// The way of a tensor of `rows` x `cols` that becomes `to`. A function of the recipe only.
    pub fn of(fuse: &Fuse, to: Dtype, rows: u64, cols: u64) -> Way {
        let multiplies = |step: &Step| {
            let factor = |input: &Input<'_>| input.need == Need::SameColumns;
            step.op.inputs().iter().any(factor) || !step.op.matrices().is_empty()
        };
        if !fuse.steps.iter().any(multiplies) {
            return Way::Host;
        }
        match Tiling::new(fuse, to, rows, cols) {
            Ok(tiling) => Way::Device(tiling),
            Err(why) => Way::NoPath(why),
        }
    }
}

/// The product of a step that the device can compute: two plain factors, each stored without gaps, row by row or column by
/// column.
pub fn product(op: &Op) -> Option<&LowRank> {
    let delta = match op {
        Op::Add(add) => &add.0,
        Op::Dora(dora) => &dora.delta,
        Op::SetRows(_) | Op::Scale(_) | Op::Round(_) | Op::Mix(_) | Op::Reflect(_) | Op::Modulate(_) => return None,
    };
    let plain = |factor: &Operand| factor.row_gains.is_none() && factor.view.order().is_some();
    match delta {
        Delta::LowRank(delta) if plain(&delta.left) && plain(&delta.right) => Some(delta),
        _ => None,
    }
}

/// Values of a step's left factor a row, of its gains a row, and of its gains in all.
fn beside(op: &Op, cols: u64) -> Result<(u64, u64, u64), String> {
    let Some(delta) = product(op) else {
        return Err(match op {
            Op::SetRows(_) => "rows that are replaced beside a product",
            Op::Scale(_) => "a scaling beside a product",
            Op::Mix(_) | Op::Reflect(_) => "columns that are mixed",
            Op::Modulate(_) => "a delta that is multiplied by the weight",
            Op::Round(_) => "a rounding between adapters",
            Op::Add(_) | Op::Dora(_) => "a delta that is no plain low-rank product",
        }
        .to_owned());
    };
    Ok(match op {
        Op::Dora(Dora { norm: Norm::Rows, .. }) => (delta.rank(), 1, 0),
        Op::Dora(Dora { norm: Norm::Columns(_), .. }) => (delta.rank(), 0, cols),
        _ => (delta.rank(), 0, 0),
    })
}

impl Tiling {
    fn new(fuse: &Fuse, to: Dtype, rows: u64, cols: u64) -> Result<Tiling, String> {
        if fuse.start.as_plain().is_none() {
            return Err("a weight that is not stored as plain values".to_owned());
        }
        if Float::of(to).is_none() {
            return Err(format!("the dtype {to}"));
        }
        if fuse.keep_non_finite {
            return Err("a conversion that keeps infinities".to_owned());
        }
        if fuse.steps.len() > MOST_STEPS {
            return Err(format!("{} steps, more than {MOST_STEPS}", fuse.steps.len()));
        }
        if cols == 0 || cols > TILE {
            return Err(format!("rows of {cols} elements, more than {TILE}"));
        }
        let (mut a_row, mut fixed) = (0, 0);
        for step in &fuse.steps {
            let (rank, gain, gains) = beside(&step.op, cols)?;
            if rank == 0 || rank.saturating_mul(cols) > LARGEST_FACTOR {
                return Err(format!("a factor of {rank} x {cols}"));
            }
            a_row += rank + gain;
            fixed += gains + 2 * ALIGN;
        }
        let height = TALLEST.min(TILE / cols).min(SIDE.saturating_sub(fixed) / a_row);
        let height = if height >= STEP { height / STEP * STEP } else { height };
        if height == 0 {
            return Err(format!("ranks of {a_row} in all over rows of {cols} elements"));
        }
        let mut end = 0;
        let mut side = Vec::with_capacity(fuse.steps.len());
        for step in &fuse.steps {
            let (rank, gain, gains) = beside(&step.op, cols)?;
            let left = end;
            let gain_at = left + (height * rank).next_multiple_of(ALIGN);
            end = gain_at + (height * gain + gains).next_multiple_of(ALIGN);
            side.push((left, gain_at));
        }
        Ok(Tiling { rows, cols, height, side, end })
    }

    /// The rows of whole tiles that cover `rows`.
    pub fn cover(&self, rows: &Range<u64>) -> Range<u64> {
        rows.start / self.height * self.height..rows.end.next_multiple_of(self.height).min(self.rows)
    }

    /// Columns of the tensor.
    pub fn cols(&self) -> u64 {
        self.cols
    }

    /// The tiles that cover `rows`, in order.
    pub(super) fn tiles(&self, rows: &Range<u64>) -> Vec<Tile> {
        let cover = self.cover(rows);
        (cover.start..cover.end)
            .step_by(self.height as usize)
            .map(|start| {
                let whole = start..(start + self.height).min(self.rows);
                let mine = whole.start.max(rows.start)..whole.end.min(rows.end);
                Tile { whole, mine }
            })
            .collect()
    }

    /// Where the left factor and the gains of a step begin beside the tile.
    pub(super) fn side(&self, step: usize) -> (usize, usize) {
        let (left, gains) = self.side[step];
        (left as usize, gains as usize)
    }

    /// The end of all that lies beside the tile.
    pub(super) fn end(&self) -> usize {
        self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shardfuse_merge::inventory::{ObjectId, Source};
    use shardfuse_merge::recipe::{Add, DoraNorm, Round, SetRows, Start};
    use shardfuse_merge::statistic::StatisticId;

    use super::*;

    fn source(shape: Vec<u64>) -> Source {
        Source { object: ObjectId(0), name: "t".into(), dtype: Dtype::BF16, shape, offset: 0 }
    }

    fn delta(rank: u64) -> Delta {
        let (left, right) = (Operand::matrix(source(vec![1, rank])), Operand::matrix(source(vec![rank, 1])));
        Delta::LowRank(LowRank { left, right, scale: 1.0 })
    }

    fn add(rank: u64) -> Op {
        Op::Add(Add(delta(rank)))
    }

    fn fuse(ops: Vec<Op>) -> Fuse {
        let steps = ops.into_iter().map(|op| Step { adapter: 0, op }).collect();
        Fuse { start: Start::plain(source(vec![1])).unwrap(), start_adapter: None, steps, keep_non_finite: false }
    }

    fn dora(rank: u64, norm: Norm) -> Op {
        let (delta, magnitude) = (delta(rank), Operand::vector(source(vec![1])));
        Op::Dora(Dora { delta, magnitude, norm, of: DoraNorm::Standing })
    }

    proptest! {
        #[test]
        fn a_row_lies_in_the_same_tile_whatever_range_is_asked_for(
            rows in 1u64..20_000,
            cols in 1u64..9_000,
            ranks in prop::collection::vec(1u64..600, 1..4),
            a in 0u64..20_000,
            b in 0u64..20_000,
        ) {
            let ops = ranks.iter().map(|r| add(*r)).collect();
            let Way::Device(tiling) = Way::of(&fuse(ops), Dtype::BF16, rows, cols) else {
                return Err(TestCaseError::fail("no path"));
            };
            let all = tiling.tiles(&(0..rows));
            let (a, b) = (a % rows, b % rows);
            let range = a.min(b)..a.max(b) + 1;
            let some = tiling.tiles(&range);
            prop_assert_eq!(some.first().unwrap().mine.start, range.start);
            prop_assert_eq!(some.last().unwrap().mine.end, range.end);
            for pair in some.windows(2) {
                prop_assert_eq!(pair[0].mine.end, pair[1].mine.start);
            }
            for tile in &some {
                prop_assert!(!tile.mine.is_empty());
                prop_assert!(all.iter().any(|t| t.whole == tile.whole));
                prop_assert!((tile.whole.end - tile.whole.start) * cols <= TILE);
            }
            let cover = tiling.cover(&range);
            prop_assert_eq!(cover.start, some[0].whole.start);
            prop_assert_eq!(cover.end, some.last().unwrap().whole.end);
        }

        #[test]
        fn what_lies_beside_a_tile_fits_and_is_aligned(
            cols in 1u64..200_000,
            ranks in prop::collection::vec(1u64..2_000, 1..6),
            kind in 0u8..3,
        ) {
            let ops: Vec<Op> = ranks.iter().map(|r| match kind {
                0 => add(*r),
                1 => dora(*r, Norm::Rows),
                _ => dora(*r, Norm::Columns(StatisticId(0))),
            }).collect();
            if let Way::Device(tiling) = Way::of(&fuse(ops), Dtype::F32, 1 << 20, cols) {
                prop_assert!(tiling.end <= SIDE);
                for (i, rank) in ranks.iter().enumerate() {
                    let (left, gains) = tiling.side[i];
                    prop_assert_eq!(left % ALIGN, 0);
                    prop_assert_eq!(gains % ALIGN, 0);
                    prop_assert!(left + tiling.height * rank <= gains);
                    let end = tiling.side.get(i + 1).map_or(tiling.end, |next| next.0);
                    let room = match kind { 0 => 0, 1 => tiling.height, _ => cols };
                    prop_assert!(gains + room <= end);
                }
            }
        }
    }

    #[test]
    fn heights_of_common_models() {
        let height = |cols, rank| match Way::of(&fuse(vec![add(rank)]), Dtype::BF16, 1 << 20, cols) {
            Way::Device(tiling) => tiling.height,
            other => panic!("{other:?}"),
        };
        assert_eq!(height(8192, 64), 512);
        assert_eq!(height(28672, 64), 128);
        assert_eq!(height(4096, 8), 1024);
        assert_eq!(height(11008, 8), 320);
        assert_eq!(height(1, 1), 8192);
        assert_eq!(height(4096, 2048), 960);
    }

    #[test]
    fn no_product_is_the_hosts_and_what_the_device_cannot_do_says_so() {
        let set = Op::SetRows(SetRows { rows: vec![0], source: Operand::matrix(source(vec![1, 8])) });
        assert_eq!(Way::of(&fuse(vec![]), Dtype::BF16, 4, 8), Way::Host);
        assert_eq!(Way::of(&fuse(vec![set.clone()]), Dtype::BF16, 4, 8), Way::Host);
        let way = Way::of(&fuse(vec![add(2), set]), Dtype::BF16, 4, 8);
        assert_eq!(way, Way::NoPath("rows that are replaced beside a product".into()));
        let saved = Op::Round(Round { to: Float::BF16 });
        let way = Way::of(&fuse(vec![add(2), saved, add(2)]), Dtype::BF16, 4, 8);
        assert_eq!(way, Way::NoPath("a rounding between adapters".into()));
        let wide = Way::of(&fuse(vec![add(2)]), Dtype::BF16, 1, TILE + 1);
        assert!(matches!(wide, Way::NoPath(_)), "{wide:?}");
    }
}
