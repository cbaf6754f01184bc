//! Where a part's bytes come from. It is decided once, before anything is read.
//!
//! Reading, budgeting, fusing and reporting all use this one value. Nothing else computes which tensors lie in a part, which
//! of their rows it touches, or where a tensor's bytes are among those that are read.

use std::collections::BTreeMap;
use std::ops::Range;

use shardfuse_merge::inventory::ObjectId;
use shardfuse_merge::output::unchanged::{holding, runs};
use shardfuse_merge::plan::task::{Fill, Part, overlapping};
use shardfuse_merge::recipe::{Fuse, Placed, Recipe, Requantise};
use shardfuse_merge::tensor::matrix;
use shardfuse_merge::{Dtype, DtypeExt, Kind};

use super::read::{GAP, MOST, coalesce};
use crate::Failure;

/// Where a part's bytes come from.
#[derive(Debug)]
pub enum PartPlan<'a> {
    /// From one contiguous range of one input, unchanged.
    Copy(Copy<'a>),
    /// From several places, or computed.
    Make(Make<'a>),
}

/// One contiguous range of one input.
#[derive(Debug)]
pub struct Copy<'a> {
    /// What is read: as long as the part.
    pub read: Read,
    /// The tensors that lie in it.
    pub tensors: Vec<&'a Placed>,
}

/// What a part is made of.
#[derive(Debug)]
pub struct Make<'a> {
    /// The part's length in bytes.
    pub length: usize,
    /// The bytes of the file's start that lie in the part; they begin it.
    pub header: Range<u64>,
    /// What is read of the inputs that the tensors start from, small neighbours as one.
    pub reads: Vec<Read>,
    /// The tensors in the part, in the order of the file.
    pub pieces: Vec<Piece<'a>>,
}

/// A range of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The object.
    pub object: ObjectId,
    /// Its bytes.
    pub range: Range<u64>,
}

/// The bytes of one tensor that lie in a part.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The tensor.
    pub placed: &'a Placed,
    /// Where the bytes go, from the part's start.
    pub target: Range<usize>,
    /// Where what it starts from lies: ranges of the parameter in its scheme's order, or the bytes to copy.
    pub from: Vec<Within>,
    /// The rows to compute; `None` where the bytes are copied.
    pub rows: Option<Rows<'a>>,
}

/// Bytes of one of a part's reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// Which of the reads.
    pub read: usize,
    /// Where in the read.
    pub range: Range<usize>,
}

/// Rows of a tensor that a part touches, and how they are computed.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    /// How the values are computed.
    pub fuse: &'a Fuse,
    /// What is made of them, where it is codes or scales.
    pub requantise: Option<&'a Requantise>,
    /// The rows.
    pub rows: Range<u64>,
    /// Columns of the tensor.
    pub cols: u64,
    /// Bytes that the first row, or the first unit of rows, makes before the part.
    pub skip: usize,
}

impl<'a> PartPlan<'a> {
    /// The plan of a part.
    ///
    /// Fails if the assignment does not describe all bytes of the part.
    pub fn new(fill: &'a Fill, part: &Part) -> Result<Self, Failure> {
        let (number, range) = (part.number, &part.bytes);
        let header = range.start..range.end.min(fill.header.1).max(range.start);
        let starts: Vec<Start<'a>> =
            overlapping(&fill.tensors, range).map(|placed| Start::of(placed, range)).collect::<Result<_, _>>()?;
        let described = (header.end - header.start) + starts.iter().map(|s| s.cut.end - s.cut.start).sum::<u64>();
        if described != range.end - range.start {
            let length = range.end - range.start;
            let what = format!("the assignment describes {described} of the {length} bytes of part {number}");
            return Err(Failure::permanent(Kind::Internal, what));
        }
        if let Some(run) = holding(&runs(overlapping(&fill.tensors, range)), range) {
            let read = Read { object: run.object, range: run.source(range) };
            let tensors = starts.into_iter().map(|start| start.placed).collect();
            return Ok(PartPlan::Copy(Copy { read, tensors }));
        }
        let reads = reads(&starts);
        let within = |read: &Read| {
            let at = reads.partition_point(|r| (r.object.0, r.range.start) <= (read.object.0, read.range.start)) - 1;
            let first = reads[at].range.start;
            Within { read: at, range: (read.range.start - first) as usize..(read.range.end - first) as usize }
        };
        let piece = |start: Start<'a>| Piece {
            placed: start.placed,
            target: (start.cut.start - range.start) as usize..(start.cut.end - range.start) as usize,
            from: start.reads.iter().map(within).collect(),
            rows: start.rows,
        };
        let pieces = starts.into_iter().map(piece).collect();
        let length = (range.end - range.start) as usize;
        Ok(PartPlan::Make(Make { length, header, reads, pieces }))
    }
}

impl Make<'_> {
    /// Bytes of memory that the part takes beside what the computed pieces do.
    pub fn bytes(&self) -> u64 {
        self.length as u64 + self.reads.iter().map(|r| r.range.end - r.range.start).sum::<u64>()
    }

    /// The tensors that start from a read.
    pub fn tensors_of(&self, read: usize) -> impl Iterator<Item = &Placed> {
        self.pieces
            .iter()
            .filter(move |piece| piece.from.iter().any(|from| from.read == read))
            .map(|piece| piece.placed)
    }
}

/// What the bytes of a tensor in a part start from.
struct Start<'a> {
    placed: &'a Placed,
    /// The file bytes.
    cut: Range<u64>,
    reads: Vec<Read>,
    rows: Option<Rows<'a>>,
}

impl<'a> Start<'a> {
    fn of(placed: &'a Placed, part: &Range<u64>) -> Result<Self, Failure> {
        let cut = placed.offset.max(part.start)..(placed.offset + placed.length).min(part.end);
        let within = cut.start - placed.offset..cut.end - placed.offset;
        let (reads, rows) = match &placed.recipe {
            Recipe::Copy(source) => {
                let range = source.offset + within.start..source.offset + within.end;
                (vec![Read { object: source.object, range }], None)
            }
            Recipe::Fuse(fuse) => {
                let (height, cols) = matrix(&placed.shape);
                let row = (cols * size_of(placed, placed.dtype)?).max(1);
                let rows = within.start / row..within.end.div_ceil(row).min(height);
                let skip = (within.start - rows.start * row) as usize;
                (reads_of(fuse, &rows), Some(Rows { fuse, requantise: None, rows, cols, skip }))
            }
            Recipe::Requantise(requantise) => {
                let (rows, skip) =
                    requantise.rows_for(&within).map_err(|why| Failure::permanent(Kind::Internal, why))?;
                let (fuse, (_, cols)) = (&requantise.fuse, requantise.fuse.start.matrix());
                let (reads, skip) = (reads_of(fuse, &rows), skip as usize);
                (reads, Some(Rows { fuse, requantise: Some(requantise), rows, cols, skip }))
            }
        };
        if reads.iter().any(|read| read.range.is_empty()) || reads.is_empty() {
            let what =
                format!("tensor {} has {} bytes of the part and none to start from", placed.name, cut.end - cut.start);
            return Err(Failure::permanent(Kind::Internal, what));
        }
        Ok(Start { placed, cut, reads, rows })
    }
}

/// What rows start from.
fn reads_of(fuse: &Fuse, rows: &Range<u64>) -> Vec<Read> {
    let spans = fuse.start.ranges(rows.clone()).into_iter();
    spans.map(|span| Read { object: span.object, range: span.bytes }).collect()
}

/// Bytes of one value of a tensor that is computed.
fn size_of(placed: &Placed, dtype: Dtype) -> Result<u64, Failure> {
    dtype.bytes().ok_or_else(|| {
        let what = format!("tensor {} is to be computed with values of {}", placed.name, dtype.name());
        Failure::permanent(Kind::Internal, what)
    })
}

/// The reads that have all starts, small neighbours as one, in the order of objects and their bytes.
fn reads(starts: &[Start<'_>]) -> Vec<Read> {
    let mut by_object: BTreeMap<u32, Vec<Range<u64>>> = BTreeMap::new();
    for read in starts.iter().flat_map(|start| &start.reads) {
        by_object.entry(read.object.0).or_default().push(read.range.clone());
    }
    let of_object = |(object, ranges): (u32, Vec<Range<u64>>)| {
        let object = ObjectId(object);
        coalesce(&ranges, GAP, MOST).into_iter().map(move |range| Read { object, range })
    };
    by_object.into_iter().flat_map(of_object).collect()
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::inventory::Source;
    use shardfuse_merge::output::Parts;
    use shardfuse_merge::recipe;

    use super::*;

    const HEADER: u64 = 16;

    fn source(object: u32, offset: u64, shape: &[u64]) -> Source {
        Source { name: "s".into(), object: ObjectId(object), offset, dtype: Dtype::BF16, shape: shape.into() }
    }

    fn fused(start: Source) -> Recipe {
        let start = recipe::Start::plain(start).unwrap();
        Recipe::Fuse(Fuse { start, start_adapter: None, steps: Vec::new(), keep_non_finite: false })
    }

    /// A file of these tensors, written as `to`.
    fn fill(recipes: Vec<Recipe>, to: Dtype, part_size: u64) -> Fill {
        let mut at = HEADER;
        let mut tensors = Vec::new();
        for (i, recipe) in recipes.into_iter().enumerate() {
            let (shape, from) = (recipe.dims().to_vec(), recipe.starts()[0].dtype);
            let dtype = if matches!(recipe, Recipe::Copy(_)) { from } else { to };
            let length = shape.iter().product::<u64>() * dtype.bytes().unwrap();
            tensors.push(Placed { name: format!("t{i}"), dtype, shape, offset: at, length, recipe, portion: None });
            at += length;
        }
        let parts = Part::all(&Parts::even(at, part_size));
        let (url, upload, statistics) = (String::new(), String::new(), Vec::new());
        let header = (String::new(), HEADER);
        Fill { url, upload, size: at, parts, copied: false, check: false, header, tensors, statistics }
    }

    fn plan(fill: &Fill, part: usize) -> Result<PartPlan<'_>, Failure> {
        PartPlan::new(fill, &fill.parts[part])
    }

    fn make(fill: &Fill, part: usize) -> Make<'_> {
        match plan(fill, part).unwrap() {
            PartPlan::Make(make) => make,
            PartPlan::Copy(copy) => panic!("{copy:?}"),
        }
    }

    fn copied(fill: &Fill, part: usize) -> Option<Read> {
        match plan(fill, part).unwrap() {
            PartPlan::Make(_) => None,
            PartPlan::Copy(copy) => Some(copy.read),
        }
    }

    #[test]
    fn what_lies_behind_one_another_in_one_input_is_one_copy() {
        let neighbours = || vec![Recipe::Copy(source(0, 100, &[8])), Recipe::Copy(source(0, 116, &[8]))];
        let part = |fill: Fill| copied(&fill, 1);
        assert_eq!(part(fill(neighbours(), Dtype::BF16, 16)), Some(Read { object: ObjectId(0), range: 100..116 }));
        let across = copied(&fill(neighbours(), Dtype::BF16, 24), 1);
        assert_eq!(
            across,
            Some(Read { object: ObjectId(0), range: 108..132 }),
            "the second half of one and all of the next"
        );
        assert_eq!(copied(&fill(neighbours(), Dtype::BF16, 24), 0), None, "the header comes first");
    }

    #[test]
    fn no_copy_is_made_of_two_places_or_of_what_is_computed() {
        let first = || Recipe::Copy(source(0, 100, &[8]));
        for (second, why) in [
            (Recipe::Copy(source(0, 118, &[8])), "a gap"),
            (Recipe::Copy(source(1, 116, &[8])), "another object"),
            (fused(source(0, 116, &[8])), "computed"),
        ] {
            assert_eq!(copied(&fill(vec![first(), second], Dtype::BF16, 24), 1), None, "{why}");
        }
        assert_eq!(copied(&fill(vec![fused(source(0, 116, &[8])), first()], Dtype::BF16, 24), 1), None);
    }

    #[test]
    fn a_part_touches_whole_rows_and_takes_its_bytes_of_them() {
        // Rows of 3 values: 6 bytes as they are stored, 12 as they are written.
        let fill = fill(vec![fused(source(0, 1000, &[10, 3]))], Dtype::F32, 32);
        let make = make(&fill, 1);
        let [piece] = make.pieces.as_slice() else { panic!("{make:?}") };
        let rows = piece.rows.as_ref().unwrap();
        // Bytes 16..48 of the tensor: the last 8 of row 1, all of row 2, the first 12 of row 3.
        assert_eq!((rows.rows.clone(), rows.cols, rows.skip), (1..4, 3, 4));
        assert_eq!(make.reads, [Read { object: ObjectId(0), range: 1006..1024 }]);
        assert_eq!((piece.target.clone(), piece.from.clone()), (0..32, vec![Within { read: 0, range: 0..18 }]));
        assert_eq!((make.length, make.header.is_empty(), make.bytes()), (32, true, 32 + 18));
    }

    #[test]
    fn every_piece_finds_its_bytes_in_the_reads_of_its_object() {
        let far = GAP + 5000;
        let recipes = vec![
            Recipe::Copy(source(3, 500, &[8])),
            Recipe::Copy(source(1, far, &[4])),
            fused(source(3, 540, &[2, 2])),
            Recipe::Copy(source(1, 8, &[4])),
        ];
        let fill = fill(recipes, Dtype::BF16, 1 << 20);
        let make = make(&fill, 0);
        let reads = [(1, 8..16), (1, far..far + 8), (3, 500..548)];
        assert_eq!(make.reads, reads.map(|(object, range)| Read { object: ObjectId(object), range }));
        assert_eq!(make.header, 0..HEADER);
        let found: Vec<_> =
            make.pieces.iter().map(|p| (p.from[0].read, p.from[0].range.clone(), p.target.clone())).collect();
        assert_eq!(found, [(2, 0..16, 16..32), (1, 0..8, 32..40), (2, 40..48, 40..48), (0, 0..8, 48..56)]);
        assert_eq!(make.tensors_of(2).map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t0", "t2"]);
    }

    #[test]
    fn an_assignment_that_leaves_bytes_out_is_refused() {
        let mut fill = fill(vec![Recipe::Copy(source(0, 0, &[8])), Recipe::Copy(source(0, 16, &[8]))], Dtype::BF16, 64);
        fill.tensors.pop();
        let failure = plan(&fill, 0).unwrap_err();
        assert_eq!(failure.error.message(), "the assignment describes 32 of the 48 bytes of part 0");
    }
}
