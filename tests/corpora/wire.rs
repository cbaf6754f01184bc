//! The files of the two corpora that hold messages. `cargo test --test corpora -- --ignored` writes them again.

use std::path::Path;

use prost::Message;
use shardfuse_merge::Dtype;
use shardfuse_merge::inventory::{Object, ObjectId, Source};
use shardfuse_merge::output::Parts;
use shardfuse_merge::plan::task::{Assignment, Fill, Job, Part, Reduce, StatisticValue};
use shardfuse_merge::recipe::{
    Add, Along, Delta, Dense, Dora, DoraNorm, Fuse, Hadamard, LowRank, Norm, Op, Operand, Placed, Recipe, Scale,
    SetRows, Start, Step,
};
use shardfuse_merge::statistic::{Kind, Statistic, StatisticId};
use shardfuse_proto::v1;

fn write(target: &str, name: &str, message: &impl Message) {
    let folder = super::corpus(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(Path::new(&folder).join(name), message.encode_to_vec()).unwrap();
}

fn source(name: &str, offset: u64, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(1), offset, dtype: Dtype::BF16, shape: shape.into() }
}

fn delta() -> Delta {
    let (left, right) = (Operand::matrix(source("b", 0, &[4, 2])), Operand::transposed(source("a", 16, &[6, 2])));
    Delta::LowRank(LowRank { left, right, scale: 0.5 })
}

fn hadamard() -> Delta {
    let right = Operand { row_gains: Some(source("e", 8, &[2])), ..Operand::matrix(source("w1_b", 16, &[2, 6])) };
    let factors = (Operand::matrix(source("w1_a", 0, &[4, 2])), right);
    Delta::Hadamard(Hadamard { first: factors.clone(), second: factors, scale: 0.5 })
}

fn step(op: Op) -> Step {
    Step { adapter: 0, op }
}

fn tensor(name: &str, offset: u64, dtype: Dtype, recipe: Recipe) -> Placed {
    let length = 24 * if dtype == Dtype::F32 { 4 } else { 2 };
    Placed { name: name.into(), dtype, shape: vec![4, 6], offset, length, recipe, portion: None }
}

fn fill() -> Assignment {
    let vector = |name, n| Operand::vector(source(name, 40, &[n]));
    let dora = |delta, magnitude, norm| Op::Dora(Dora { delta, magnitude, norm, of: DoraNorm::Original });
    let steps = vec![
        step(Op::Add(Add(delta()))),
        step(dora(delta(), vector("m", 6), Norm::Columns(StatisticId(2)))),
        step(dora(hadamard(), vector("m", 4), Norm::Rows)),
        step(Op::Add(Add(Delta::Dense(Dense { tensor: Operand::matrix(source("v", 0, &[4, 6])), scale: 2.0 })))),
        step(Op::SetRows(SetRows { rows: vec![3, 1], source: Operand::matrix(source("r", 8, &[2, 6])) })),
        step(Op::Scale(Scale { gains: vector("l", 6), along: Along::Columns })),
    ];
    let start = source("w", 0, &[4, 6]);
    let fuse =
        Fuse { start: Start::plain(start.clone()).unwrap(), start_adapter: Some(1), steps, keep_non_finite: false };
    let tensors =
        vec![tensor("w", 64, Dtype::F32, Recipe::Fuse(fuse)), tensor("copy", 160, Dtype::BF16, Recipe::Copy(start))];
    Assignment {
        merge: "m".into(),
        task: 5,
        epoch: 2,
        lease_ms: 30_000,
        objects: vec![(1, Object { url: "s3://b/base".into(), size: 1000, pin: "p".into(), seen: String::new() })],
        job: Job::Fill(Fill {
            url: "s3://b/out".into(),
            upload: "u".into(),
            size: 2048,
            parts: Part::all(&Parts::even(2048, 1024)),
            copied: true,
            check: false,
            header: ("s3://b/header".into(), 64),
            tensors,
            statistics: vec![StatisticValue { id: StatisticId(2), url: "s3://b/m".into(), digest: "0f".repeat(32) }],
        }),
    }
}

fn reduce() -> Assignment {
    let statistic = Statistic {
        tensor: "w".into(),
        start: Start::plain(source("w", 0, &[4, 6])).unwrap(),
        steps: vec![step(Op::Add(Add(delta())))],
        needs: Vec::new(),
        kind: Kind::ColumnSquares,
    };
    Assignment { job: Job::Reduce(Reduce { statistic, blocks: vec![0], statistics: Vec::new() }), ..fill() }
}

#[test]
#[ignore = "writes files of the corpora"]
fn writes_the_messages_of_the_corpora() {
    write("assignment", "fill", &v1::Assign::from(&fill()));
    write("assignment", "reduce", &v1::Assign::from(&reduce()));
    let mut beyond = v1::Assign::from(&fill());
    beyond.objects[0].size = 10;
    write("assignment", "beyond-the-object", &beyond);

    let lora = |path: &str, weight| v1::Lora { path: path.into(), weight };
    let option = |name: &str, value: &str| v1::SpecOption { name: name.into(), value: value.into() };
    let spec = v1::MergeSpec {
        base: "hf://org/model@main".into(),
        lora: vec![lora("s3://bucket/a/", Some(0.5)), lora("https://Host.example:8443/b%20c", None)],
        output: "abfss://c@account.dfs.core.windows.net/out".into(),
        options: vec![
            option("dtype", "bf16"),
            option("max_shard_size", "5GB"),
            option("dora_norm", "original"),
            option("tokenizer", "file:///data/tokenizer"),
            option("tied", "true"),
            option("extra_weights", "head.bin"),
            option("ignore_files", "old/"),
            option("ignore_files", "a.bin"),
        ],
    };
    write("spec", "every-field", &spec);
    write("spec", "no-adapter", &v1::MergeSpec { lora: Vec::new(), ..spec });
}
