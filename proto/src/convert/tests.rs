use shardfuse_merge::inventory::{ObjectId, Source};
use shardfuse_merge::recipe::{
    Add, Along, Delta, Dense, Dora, DoraNorm, Fuse, Hadamard, LowRank, Norm, Op, Operand, Scale, SetRows, Start, Step,
};
use shardfuse_merge::statistic::{Kind, Statistic};

use super::*;

fn source(name: &str, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(3), offset: 8, dtype: Dtype::BF16, shape: shape.into() }
}

fn plain(tensor: Source) -> Start {
    Start::plain(tensor).unwrap()
}

/// The start of [`fused`] with another tensor.
fn with(start: &Start, by: impl FnOnce(&mut Source)) -> Start {
    let mut tensor = start.tensors()[0].clone();
    by(&mut tensor);
    plain(tensor)
}

fn low_rank() -> LowRank {
    let (left, right) = (Operand::matrix(source("b", &[4, 2])), Operand::transposed(source("a", &[6, 2])));
    LowRank { left, right, scale: 0.3 }
}

fn delta() -> Delta {
    Delta::LowRank(low_rank())
}

fn hadamard() -> Hadamard {
    let factors = || (low_rank().left, low_rank().right);
    Hadamard { first: factors(), second: factors(), scale: 0.3 }
}

fn steps() -> Vec<Step> {
    let vector = |name, n| Operand::vector(source(name, &[n]));
    let dora = |delta, magnitude, norm| Op::Dora(Dora { delta, magnitude, norm, of: DoraNorm::Original });
    let ops = [
        Op::Add(Add(delta())),
        dora(delta(), vector("m", 6), Norm::Columns(StatisticId(2))),
        Op::Add(Add(Delta::Dense(Dense { tensor: Operand::matrix(source("v", &[4, 6])), scale: 2.0 }))),
        Op::SetRows(SetRows { rows: vec![3, 1], source: Operand::matrix(source("r", &[2, 6])) }),
        dora(Delta::Hadamard(hadamard()), vector("m", 4), Norm::Rows),
        Op::Scale(Scale { gains: vector("l", 6), along: Along::Columns }),
    ];
    ops.into_iter().map(|op| Step { adapter: 1, op }).collect()
}

fn fused() -> Fuse {
    Fuse { start: plain(source("w", &[4, 6])), start_adapter: Some(1), steps: steps(), keep_non_finite: true }
}

fn placed(recipe: Recipe) -> Placed {
    Placed { name: "w".into(), dtype: Dtype::F32, shape: vec![4, 6], offset: 64, length: 96, recipe, portion: None }
}

fn assignment() -> Assignment {
    Assignment {
        merge: "0123456789abcdef".into(),
        task: 5,
        epoch: 2,
        lease_ms: 30_000,
        objects: vec![(3, Object { url: "/x".into(), size: 1000, pin: "p".into(), seen: String::new() })],
        job: Job::Fill(Fill {
            url: "/out/model.safetensors".into(),
            upload: "u".into(),
            size: 4096,
            parts: vec![
                Part { number: 0, bytes: 0..1024, digest: false },
                Part { number: 3, bytes: 2048..4096, digest: true },
            ],
            copied: true,
            check: true,
            header: ("/h".into(), 64),
            tensors: vec![placed(Recipe::Fuse(fused()))],
            statistics: vec![StatisticValue { id: StatisticId(2), url: "/m".into(), digest: "0f".repeat(32) }],
        }),
    }
}

#[test]
fn an_assignment_survives_the_wire() {
    let sent = assignment();
    assert_eq!(Assignment::try_from(v1::Assign::from(&sent)).unwrap(), sent);
}

fn reduced() -> Statistic {
    let steps = vec![Step { adapter: 0, op: Op::Add(Add(delta())) }];
    let (tensor, start) = ("w".into(), plain(source("w", &[4, 6])));
    Statistic { tensor, start, steps, needs: Vec::new(), kind: Kind::ColumnSquares }
}

fn reduce() -> Assignment {
    let reduce = Reduce { statistic: reduced(), blocks: vec![0], statistics: Vec::new() };
    Assignment { job: Job::Reduce(reduce), ..assignment() }
}

#[test]
fn a_statistic_survives_the_wire() {
    assert_eq!(Assignment::try_from(v1::Assign::from(&reduce())).unwrap(), reduce());
}

fn part(number: u32, offset: u64, length: u64) -> v1::Part {
    v1::Part { number, offset, length, digest: false }
}

type Break = fn(&mut v1::Assign);

fn fill(a: &mut v1::Assign) -> &mut v1::Fill {
    match a.job.as_mut() {
        Some(v1::assign::Job::Fill(f)) => f,
        _ => panic!("the assignment fills parts"),
    }
}

fn wire_reduce(a: &mut v1::Assign) -> &mut v1::Reduce {
    match a.job.as_mut() {
        Some(v1::assign::Job::Reduce(reduce)) => reduce,
        _ => panic!("the assignment reduces a statistic"),
    }
}

/// Puts a recipe that was changed by hand into the assignment.
fn change(a: &mut v1::Assign, change: impl FnOnce(&mut Fuse)) {
    let mut fuse = fused();
    change(&mut fuse);
    fill(a).tensors[0].recipe = bytes::write(&Recipe::Fuse(fuse));
}

fn change_start(a: &mut v1::Assign, by: impl FnOnce(&mut Source)) {
    change(a, |fuse| fuse.start = with(&fuse.start, by));
}

/// A recipe as another process may write it, which does not check what it starts from.
fn unchecked(scheme: &str, tensors: &[Source]) -> Vec<u8> {
    let Fuse { start_adapter, steps, keep_non_finite, .. } = fused();
    // The number of the variant, then the fields in order.
    bytes::write(&(1u32, (scheme, tensors, Vec::<u64>::new()), start_adapter, steps, keep_non_finite))
}

#[test]
fn an_unchecked_recipe_is_written_as_a_checked_one() {
    assert_eq!(unchecked("plain", &[source("w", &[4, 6])]), bytes::write(&Recipe::Fuse(fused())));
    assert_eq!(bytes::length(&Recipe::Fuse(fused())), bytes::write(&Recipe::Fuse(fused())).len() as u64);
}

fn change_op(a: &mut v1::Assign, i: usize, by: impl FnOnce(&mut Op)) {
    change(a, |fuse| by(&mut fuse.steps[i].op));
}

fn change_add(a: &mut v1::Assign, by: impl FnOnce(&mut LowRank)) {
    change_op(a, 0, |op| match op {
        Op::Add(Add(Delta::LowRank(delta))) => by(delta),
        _ => panic!("step 0 adds a product"),
    });
}

fn change_dora(a: &mut v1::Assign, by: impl FnOnce(&mut Dora)) {
    change_op(a, 1, |op| match op {
        Op::Dora(dora) => by(dora),
        _ => panic!("step 1 is DoRA"),
    });
}

fn change_dense(a: &mut v1::Assign, by: impl FnOnce(&mut Dense)) {
    change_op(a, 2, |op| match op {
        Op::Add(Add(Delta::Dense(dense))) => by(dense),
        _ => panic!("step 2 adds a tensor"),
    });
}

fn change_rows(a: &mut v1::Assign, by: impl FnOnce(&mut SetRows)) {
    change_op(a, 3, |op| match op {
        Op::SetRows(set) => by(set),
        _ => panic!("step 3 sets rows"),
    });
}

fn change_hadamard(a: &mut v1::Assign, by: impl FnOnce(&mut Hadamard)) {
    change_op(a, 4, |op| match op {
        Op::Dora(Dora { delta: Delta::Hadamard(delta), .. }) => by(delta),
        _ => panic!("step 4 is DoRA over a Hadamard delta"),
    });
}

fn change_scale(a: &mut v1::Assign, by: impl FnOnce(&mut Scale)) {
    change_op(a, 5, |op| match op {
        Op::Scale(scale) => by(scale),
        _ => panic!("step 5 scales"),
    });
}

fn change_statistic(a: &mut v1::Assign, by: impl FnOnce(&mut Statistic)) {
    let mut statistic = reduced();
    by(&mut statistic);
    wire_reduce(a).statistic = bytes::write(&statistic);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let breaks: &[(&str, Break)] = &[
        ("no attempt", |a| a.attempt = None),
        ("no job", |a| a.job = None),
        ("no lease", |a| a.lease_ms = 0),
        ("a lease without end", |a| a.lease_ms = u64::MAX),
        ("a long merge id", |a| a.attempt.as_mut().unwrap().merge = "m".repeat(1 << 20)),
        ("a long URL", |a| a.objects[0].url = "u".repeat(1 << 20)),
        ("a long pin", |a| a.objects[0].pin = "p".repeat(1 << 20)),
        ("an object without end", |a| a.objects[0].size = u64::MAX),
        ("an object twice", |a| a.objects.push(a.objects[0].clone())),
        ("an object that is not described", |a| a.objects.clear()),
        ("no parts", |a| fill(a).parts.clear()),
        ("a part behind the end", |a| fill(a).parts.push(part(4, 4096, 1024))),
        ("a part that reaches behind the end", |a| fill(a).parts[1].length = 4096),
        ("a part at no place", |a| fill(a).parts[1].offset = u64::MAX),
        ("a part twice", |a| fill(a).parts = vec![part(0, 0, 1024), part(0, 1024, 1024)]),
        ("bytes in two parts", |a| fill(a).parts = vec![part(0, 0, 2048), part(1, 1024, 1024)]),
        ("parts out of order", |a| fill(a).parts.reverse()),
        ("a part without bytes", |a| fill(a).parts[0].length = 0),
        ("a part whose size is no power of two", |a| fill(a).parts[0].length = 1000),
        ("a part smaller than a chunk", |a| fill(a).parts[0].length = 512),
        ("a part between two subtrees", |a| fill(a).parts[1].offset = 1024),
        ("a part as large as memory", |a| (fill(a).parts[0].length, fill(a).size) = (1 << 40, 1 << 41)),
        ("a file without end", |a| fill(a).size = u64::MAX),
        ("more parts than stores take", |a| fill(a).parts[1].number = 10_000),
        ("a header larger than the file", |a| fill(a).header_length = 5000),
        ("a header as large as memory", |a| (fill(a).size, fill(a).header_length) = (8 << 30, 1 << 32)),
        ("a long upload id", |a| fill(a).upload = "u".repeat(1 << 20)),
        ("a tensor in the header", |a| fill(a).tensors[0].offset = 8),
        ("a tensor behind the end", |a| fill(a).tensors[0].offset = 4090),
        ("a tensor at no place", |a| fill(a).tensors[0].offset = u64::MAX),
        ("tensors over each other", |a| {
            let again = fill(a).tensors[0].clone();
            fill(a).tensors.push(again);
        }),
        ("a shape that overflows", |a| fill(a).tensors[0].shape = vec![u64::MAX, 3]),
        ("a shape that overflows behind a zero", |a| {
            let t = &mut fill(a).tensors[0];
            (t.length, t.shape) = (0, vec![0, u64::MAX, u64::MAX]);
            let shape = t.shape.clone();
            change_start(a, |s| s.shape = shape);
        }),
        ("a length that is not the shape's", |a| fill(a).tensors[0].length = 95),
        ("no recipe", |a| fill(a).tensors[0].recipe.clear()),
        ("a recipe of another version", |a| fill(a).tensors[0].recipe[0] = 9),
        ("a recipe that is cut off", |a| fill(a).tensors[0].recipe.truncate(20)),
        ("a recipe with something behind it", |a| fill(a).tensors[0].recipe.push(0)),
        ("a start of another shape", |a| change_start(a, |s| s.shape = vec![6, 4])),
        ("a start outside its object", |a| change_start(a, |s| s.offset = 990)),
        ("a start at no place", |a| change_start(a, |s| s.offset = u64::MAX)),
        ("a start that is no float", |a| {
            let tensor = Source { dtype: Dtype::I8, ..source("w", &[4, 6]) };
            fill(a).tensors[0].recipe = unchecked("plain", &[tensor]);
        }),
        ("a start of no tensor", |a| fill(a).tensors[0].recipe = unchecked("plain", &[])),
        ("a start of two tensors", |a| {
            fill(a).tensors[0].recipe = unchecked("plain", &[source("w", &[4, 6]), source("v", &[4, 6])]);
        }),
        ("a start without a layout", |a| {
            fill(a).tensors[0].recipe = unchecked("opaque", &[source("w", &[4, 6])]);
        }),
        ("a start of a scheme that nobody knows", |a| {
            fill(a).tensors[0].recipe = unchecked("nf4", &[source("w", &[4, 6])]);
        }),
        ("a dtype that nobody knows", |a| fill(a).tensors[0].dtype = "F31".into()),
        ("an output that is no float", |a| fill(a).tensors[0].dtype = "I32".into()),
        ("a copy of other length", |a| fill(a).tensors[0].recipe = bytes::write(&Recipe::Copy(source("w", &[4, 6])))),
        ("another rank", |a| change_add(a, |d| d.left.view.cols = 1)),
        ("a view of no rows", |a| change_add(a, |d| d.left.view.rows = 0)),
        ("a view beyond its tensor", |a| change_add(a, |d| d.left.view.offset = 1)),
        ("a view that overflows", |a| change_add(a, |d| d.left.view.row_stride = u64::MAX)),
        ("a view that reads an element twice", |a| change_add(a, |d| d.left.view.row_stride = 1)),
        ("a view that reads one element only", |a| {
            change_add(a, |d| (d.left.view.row_stride, d.left.view.col_stride) = (0, 0))
        }),
        ("a shape of a factor that overflows", |a| change_add(a, |d| d.left.source.shape = vec![u64::MAX, u64::MAX])),
        ("a scale that is NaN", |a| change_add(a, |d| d.scale = f32::NAN)),
        ("a factor outside its object", |a| change_add(a, |d| d.left.source.offset = 1000)),
        ("a factor of integers", |a| change_add(a, |d| d.left.source.dtype = Dtype::I16)),
        ("a factor of another height", |a| change_add(a, |d| d.left = Operand::matrix(source("b", &[5, 2])))),
        ("a factor without values", |a| change_add(a, |d| d.left.source.shape = vec![0, 2])),
        ("gains of another rank", |a| change_add(a, |d| d.right.row_gains = Some(source("e", &[3])))),
        ("gains outside their object", |a| {
            change_add(a, |d| d.right.row_gains = Some(Source { offset: 999, ..source("e", &[2]) }))
        }),
        ("the ranks of a second product", |a| {
            change_hadamard(a, |d| d.second.0 = Operand::matrix(source("c", &[4, 3])))
        }),
        ("a magnitude of another length", |a| change_dora(a, |d| d.magnitude = Operand::vector(source("m", &[5])))),
        ("a magnitude by row of columns", |a| change_dora(a, |d| d.norm = Norm::Rows)),
        ("a statistic that is not there", |a| change_dora(a, |d| d.norm = Norm::Columns(StatisticId(7)))),
        ("a statistic twice", |a| {
            let again = fill(a).statistics[0].clone();
            fill(a).statistics.push(again);
        }),
        ("a statistic without a digest", |a| fill(a).statistics[0].digest = "d".into()),
        ("what is added of another shape", |a| change_dense(a, |d| d.tensor = Operand::matrix(source("v", &[4, 5])))),
        ("what is added in other rows", |a| change_dense(a, |d| d.tensor = Operand::matrix(source("v", &[24])))),
        ("a scale without end", |a| change_dense(a, |d| d.scale = f32::INFINITY)),
        ("rows in one row", |a| change_rows(a, |s| s.source = Operand::matrix(source("r", &[12])))),
        ("a row behind the end", |a| change_rows(a, |s| s.rows = vec![3, 4])),
        ("a row twice", |a| change_rows(a, |s| s.rows = vec![1, 1])),
        ("rows that are not there", |a| change_rows(a, |s| s.rows.push(0))),
        ("gains of rows for columns", |a| change_scale(a, |s| s.along = Along::Rows)),
    ];
    for (what, spoil) in breaks {
        let mut wire = v1::Assign::from(&assignment());
        spoil(&mut wire);
        assert!(Assignment::try_from(wire).is_err(), "{what} was accepted");
    }
    let breaks: &[(&str, Break)] = &[
        ("no blocks", |a| wire_reduce(a).blocks.clear()),
        ("a block behind the end", |a| wire_reduce(a).blocks = vec![1]),
        ("a block twice", |a| wire_reduce(a).blocks = vec![0, 0]),
        ("no statistic", |a| wire_reduce(a).statistic.clear()),
        ("a start without values", |a| change_statistic(a, |s| s.start = with(&s.start, |s| s.shape = vec![0, 6]))),
        ("a start outside its object", |a| change_statistic(a, |s| s.start = with(&s.start, |s| s.offset = 990))),
    ];
    for (what, spoil) in breaks {
        let mut wire = v1::Assign::from(&reduce());
        spoil(&mut wire);
        assert!(Assignment::try_from(wire).is_err(), "{what} was accepted");
    }
}
