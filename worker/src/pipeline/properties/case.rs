//! A recipe of such actions, with its tensors in a bench's input file.

use shardfuse_merge::Dtype;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::made::{
    Cayley, Cut, Entries, Half, Householder, Normalised, Product, Skew, Tucker, Whole,
};
use shardfuse_merge::recipe::reference::InMemory;
use shardfuse_merge::recipe::{
    Add, Along, Circulant, Delta, Dense, Dora, DoraNorm, Fuse, Grid, Hadamard, Kronecker, LowRank, Made, Mix, Modulate,
    Norm, Op, Operand, Reflect, Round, Scale, SetRows, Shuffle, Sparse, Start, Step, sources,
};
use shardfuse_merge::statistic::{self, Statistic, StatisticId};
use shardfuse_merge::tensor::{View, number};

use super::super::tests::Bench;
use super::actions::{Action, Layout, Term, Turn, Way};

/// One of the divisors of a number.
fn divisor(of: u64, chosen: u64) -> u64 {
    let all: Vec<u64> = (1..=of).filter(|n| of.is_multiple_of(*n)).collect();
    all[chosen as usize % all.len()]
}

/// One of the divisors of both.
fn common_divisor((rows, cols): (u64, u64), chosen: u64) -> u64 {
    let all: Vec<u64> = (1..=rows.min(cols)).filter(|n| rows.is_multiple_of(*n) && cols.is_multiple_of(*n)).collect();
    all[chosen as usize % all.len()]
}

/// A recipe on a parameter of `shape`, with its tensors in a bench's input file.
pub(super) struct Case {
    pub(super) bench: Bench,
    pub(super) statistics: Vec<Statistic>,
    pub(super) shape: (u64, u64),
    names: u32,
}

impl Case {
    pub(super) fn new(shape: (u64, u64)) -> Case {
        Case { bench: Bench::new(), statistics: Vec::new(), shape, names: 0 }
    }

    fn operand(&mut self, (rows, cols): (u64, u64), layout: Layout) -> Operand {
        self.names += 1;
        let name = format!("operand.{}", self.names);
        let dtype = [Dtype::BF16, Dtype::F32, Dtype::F16][self.names as usize % 3];
        let (shape, view): (Vec<u64>, View) = match layout {
            Layout::Plain => (vec![rows, cols], View::of(&[rows, cols])),
            Layout::Transposed => (vec![cols, rows], View::of(&[cols, rows]).transposed()),
            Layout::Slice => (vec![3, rows, cols], View { offset: rows * cols, ..View::of(&[rows, cols]) }),
            Layout::Interleaved => {
                (vec![2 * rows, cols], View { row_stride: 2 * cols, offset: cols, ..View::of(&[rows, cols]) })
            }
            Layout::Spread => {
                let view = View { rows, cols, row_stride: 2, col_stride: 2 * rows, offset: 1 };
                (vec![cols, 2 * rows], view)
            }
            Layout::Columns => {
                let view = View { rows, cols, row_stride: 3 * cols, col_stride: 3, offset: 2 };
                (vec![rows, 3 * cols], view)
            }
        };
        Operand { source: self.bench.source(&name, dtype, &shape), view, row_gains: None }
    }

    fn gained(&mut self, operand: Operand, gained: bool) -> Operand {
        let rows = operand.view.rows;
        let row_gains = gained.then(|| self.operand((rows, 1), Layout::Plain).source);
        Operand { row_gains, ..operand }
    }

    /// A matrix that is made of others.
    fn made(&mut self, (rows, cols): (u64, u64), way: Way) -> Made {
        match way {
            Way::Whole(layout) => Made::Whole(Whole::one(self.operand((rows, cols), layout))),
            Way::Product { rank, layouts } => {
                let (left, right) = (self.operand((rows, rank), layouts.0), self.operand((rank, cols), layouts.1));
                Made::Product(Product { left, right })
            }
            Way::Tucker { rank, layout } => {
                let places = divisor(cols, 2);
                Made::Tucker(Tucker {
                    core: self.operand((rank, rank * places), layout),
                    outputs: self.operand((rank, rows), layout),
                    inputs: self.operand((rank, cols / places), Layout::Plain),
                })
            }
        }
    }

    fn term(&mut self, term: &Term) -> Delta {
        let (rows, cols) = self.shape;
        match term {
            Term::LowRank { rank, layouts, gains } => {
                let left = self.operand((rows, *rank), layouts.0);
                let left = self.gained(left, gains.0);
                let right = self.operand((*rank, cols), layouts.1);
                let right = self.gained(right, gains.1);
                Delta::LowRank(LowRank { left, right, scale: 0.37 })
            }
            Term::Hadamard { ranks, layouts } => {
                let mut pair = |rank| (self.operand((rows, rank), layouts.0), self.operand((rank, cols), layouts.1));
                let (first, second) = (pair(ranks.0), pair(ranks.1));
                Delta::Hadamard(Hadamard { first, second, scale: -0.21 })
            }
            Term::Kronecker { outer, inner, chosen } => {
                let (high, wide) = (divisor(rows, chosen.0), divisor(cols, chosen.1));
                let outer = outer.map(|way| self.made((rows / high, cols / wide), way));
                // Alone it may be cut off at the right and below.
                let (high, wide) = if outer.is_some() { (high, wide) } else { (chosen.0 + 1, chosen.1 + 1) };
                Delta::Kronecker(Box::new(Kronecker { outer, inner: self.made((high, wide), *inner), scale: 0.3 }))
            }
            Term::Grid { rank, chosen, down, layouts } => {
                let side = common_divisor((rows, cols), *chosen);
                let left = Made::Whole(Whole::one(self.operand((rows, side * rank), layouts.0)));
                let operand = self.operand((cols, side * rank), layouts.1);
                let right = Made::Cut(Cut { operand, down: side, across: side });
                Delta::Grid(Box::new(Grid { left, right, side, down: *down, scale: 0.4 }))
            }
            Term::Normalised { rank, layouts } => {
                let b = self.operand((rows, *rank), layouts.0);
                let right = Made::Normalised(Normalised {
                    a: self.operand((*rank, cols), layouts.1),
                    b: b.clone(),
                    bound: self.operand((1, 1), Layout::Plain),
                    gains: self.operand((cols, 1), Layout::Plain),
                });
                Delta::Grid(Box::new(Grid { scale: 0.7, ..Grid::product(Made::Whole(Whole::one(b)), right) }))
            }
            Term::Circulant { chosen, layout } => {
                let side = common_divisor((rows, cols), *chosen);
                let kernel = Made::Whole(Whole::one(self.operand((rows / side, cols), *layout)));
                Delta::Circulant(Box::new(Circulant { kernel, side, scale: -0.6 }))
            }
            Term::Sparse { places } => {
                let count = places.len();
                let of = |n: u64, of: u64| (n % of) as i32;
                let all: Vec<i32> =
                    places.iter().map(|p| of(p.0, rows)).chain(places.iter().map(|p| of(p.1, cols))).collect();
                self.names += 1;
                let places = self.bench.places(&format!("places.{}", self.names), &[2, count as u64], &all);
                let values = self.operand((count as u64, 1), Layout::Plain);
                let entries = Made::Entries(Entries { places: Operand::matrix(places), values, rows, cols });
                Delta::Sparse(Box::new(Sparse { entries, scale: 0.8 }))
            }
            Term::Dense(layout) => Delta::Dense(Dense { tensor: self.operand((rows, cols), *layout), scale: 0.5 }),
        }
    }

    /// Blocks that are mixed, and whether their columns are shuffled.
    fn mix(&mut self, along: Along, chosen: u64, shared: bool, turn: Turn, shuffled: bool) -> Mix {
        let (rows, cols) = self.shape;
        let side = if along == Along::Rows { common_divisor((rows, cols), chosen) } else { divisor(cols, chosen) };
        let all = if along == Along::Rows { rows / side } else { cols / side };
        let count = if shared { 1 } else { all };
        let cayley = |skew, stored, terms, limit, transposed| {
            Made::Cayley(Cayley { skew, stored, side, terms, limit, transposed })
        };
        let blocks = match turn {
            Turn::Upper { terms, limit, transposed } if side > 1 => {
                let skew = self.operand((count, side * (side - 1) / 2), Layout::Plain);
                cayley(skew, Skew::Upper, terms, limit, transposed)
            }
            Turn::Square { transposed } => {
                cayley(self.operand((count * side, side), Layout::Plain), Skew::Square, None, None, transposed)
            }
            Turn::Stored(layout) => Made::Whole(Whole { operand: self.operand((count * side, side), layout), count }),
            Turn::Upper { .. } => Made::Whole(Whole { operand: self.operand((count, 1), Layout::Plain), count }),
        };
        let ways = 4;
        let fits =
            shuffled && along == Along::Columns && side.is_multiple_of(2) && cols.is_multiple_of(side / 2 * ways);
        Mix { blocks, along, shuffle: fits.then_some(Shuffle { chunk: side / 2, ways }) }
    }

    pub(super) fn fuse(&mut self, from: Dtype, actions: &[Action]) -> Fuse {
        let (rows, cols) = self.shape;
        let start = Start::plain(self.bench.source("start", from, &[rows, cols])).unwrap();
        let mut steps: Vec<Step> = Vec::new();
        for (adapter, action) in actions.iter().enumerate() {
            let op = match action {
                Action::Add(term) => Op::Add(Add(self.term(term))),
                Action::DoraRows(term, of) => Op::Dora(Dora {
                    delta: self.term(term),
                    magnitude: self.operand((rows, 1), Layout::Plain),
                    norm: Norm::Rows,
                    of: *of,
                }),
                Action::DoraColumns(term, of) => {
                    let delta = self.term(term);
                    let magnitude = self.operand((cols, 1), Layout::Plain);
                    let before = if *of == DoraNorm::Original { Vec::new() } else { steps.clone() };
                    let needs = before.iter().flat_map(|s| s.op.statistics()).collect();
                    let add = Step { adapter: adapter as u16, op: Op::Add(Add(delta.clone())) };
                    let id = StatisticId(self.statistics.len() as u32);
                    self.statistics.push(Statistic {
                        tensor: "w".into(),
                        start: start.clone(),
                        steps: before.into_iter().chain([add]).collect(),
                        needs,
                        kind: statistic::Kind::ColumnSquares,
                    });
                    Op::Dora(Dora { delta, magnitude, norm: Norm::Columns(id), of: *of })
                }
                Action::SetRows(layout) => {
                    let set: Vec<u64> = (0..rows).filter(|r| r % 3 == adapter as u64 % 3).rev().collect();
                    let source = self.operand((set.len().max(1) as u64, cols), *layout);
                    Op::SetRows(SetRows { rows: if set.is_empty() { vec![0] } else { set }, source })
                }
                Action::Scale(along) => {
                    let n = if *along == Along::Rows { rows } else { cols };
                    Op::Scale(Scale { gains: self.operand((n, 1), Layout::Plain), along: *along })
                }
                Action::Round(to) => Op::Round(Round { to: *to }),
                Action::Mix { along, chosen, shared, turn, shuffled } => {
                    Op::Mix(Box::new(self.mix(*along, *chosen, *shared, *turn, *shuffled)))
                }
                Action::Reflect { rank, orthogonal, layout } => {
                    let (vectors, orthogonal) = (self.operand((cols, (*rank).min(cols)), *layout), *orthogonal);
                    let half = |half| Made::Householder(Householder { vectors: vectors.clone(), orthogonal, half });
                    Op::Reflect(Box::new(Reflect { vectors: half(Half::Vectors), back: half(Half::Back) }))
                }
                Action::Modulate(term) => Op::Modulate(Modulate(self.term(term))),
            };
            steps.push(Step { adapter: adapter as u16, op });
        }
        Fuse { start, start_adapter: None, steps, keep_non_finite: false }
    }

    /// Every tensor that a recipe reads, decoded.
    pub(super) fn tensors(&self, fuse: &Fuse) -> InMemory {
        let all = fuse.start.tensors().iter().chain(sources(&fuse.steps));
        let values = all.map(|source| (source.name.clone(), self.decoded(source)));
        InMemory { values: values.collect(), statistics: self.statistics.clone(), ..InMemory::default() }
    }

    /// The same without what it starts from.
    pub(super) fn tensors_beside(&self, fuse: &Fuse) -> InMemory {
        let all = sources(&fuse.steps).map(|source| (source.name.clone(), self.decoded(source)));
        InMemory { values: all.collect(), statistics: self.statistics.clone(), ..InMemory::default() }
    }

    fn decoded(&self, source: &Source) -> Vec<f32> {
        let raw = &self.bench.data[source.offset as usize..][..source.bytes() as usize];
        let mut values = vec![0.0; source.elements() as usize];
        number::decode(source.dtype, raw, &mut values);
        values
    }
}
