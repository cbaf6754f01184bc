use super::*;

fn source(name: &str, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(3), offset: 8, dtype: Dtype::BF16, shape: shape.into() }
}

fn delta() -> LowRank {
    LowRank {
        left: Factor { source: source("b", &[4, 2]), transposed: false },
        right: Factor { source: source("a", &[2, 6]), transposed: true },
        rank: 2,
        scale: 0.3,
    }
}

fn assignment() -> Assignment {
    let steps = vec![
        Step { adapter: 0, op: Op::Add(delta()) },
        Step {
            adapter: 1,
            op: Op::Dora {
                delta: delta(),
                magnitude: source("m", &[6]),
                norm: Norm::Measured(MeasureId(2)),
                of: DoraNorm::Original,
            },
        },
        Step { adapter: 1, op: Op::AddScaled { source: source("v", &[4, 6]), scale: 2.0 } },
        Step { adapter: 2, op: Op::SetRows { rows: vec![3, 1], source: source("r", &[2, 6]) } },
    ];
    let fuse = Fuse { start: source("w", &[4, 6]), start_adapter: Some(1), steps, keep_non_finite: true };
    let placed =
        |recipe| Placed { name: "w".into(), dtype: Dtype::F32, shape: vec![4, 6], offset: 64, length: 96, recipe };
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
            part_size: 1024,
            parts: vec![0, 3],
            check: true,
            header: ("/h".into(), 64),
            tensors: vec![placed(Recipe::Fuse(fuse))],
            measured: vec![Measured { id: MeasureId(2), url: "/m".into(), digest: "0f".repeat(32) }],
        }),
    }
}

#[test]
fn an_assignment_survives_the_wire() {
    let sent = assignment();
    assert_eq!(Assignment::try_from(v1::Assign::from(&sent)).unwrap(), sent);
}

fn gauge() -> Assignment {
    let measure = Measure {
        tensor: "w".into(),
        start: source("w", &[4, 6]),
        steps: vec![Step { adapter: 0, op: Op::Add(delta()) }],
        needs: Vec::new(),
    };
    Assignment { job: Job::Gauge(Gauge { measure, blocks: vec![0], measured: Vec::new() }), ..assignment() }
}

#[test]
fn a_measurement_survives_the_wire() {
    assert_eq!(Assignment::try_from(v1::Assign::from(&gauge())).unwrap(), gauge());
}

type Break = fn(&mut v1::Assign);

fn fill(a: &mut v1::Assign) -> &mut v1::Fill {
    match a.job.as_mut() {
        Some(v1::assign::Job::Fill(f)) => f,
        _ => panic!("the assignment fills parts"),
    }
}

fn step(a: &mut v1::Assign, i: usize) -> &mut v1::step::Op {
    fill(a).tensors[0].fuse.as_mut().unwrap().steps[i].op.as_mut().unwrap()
}

fn add(a: &mut v1::Assign) -> &mut v1::LowRank {
    match step(a, 0) {
        v1::step::Op::Add(delta) => delta,
        _ => panic!("step 0 adds"),
    }
}

fn left(a: &mut v1::Assign) -> &mut v1::Source {
    add(a).left.as_mut().unwrap().source.as_mut().unwrap()
}

fn dora(a: &mut v1::Assign) -> &mut v1::Dora {
    match step(a, 1) {
        v1::step::Op::Dora(dora) => dora,
        _ => panic!("step 1 is DoRA"),
    }
}

fn add_scaled(a: &mut v1::Assign) -> &mut v1::AddScaled {
    match step(a, 2) {
        v1::step::Op::AddScaled(add) => add,
        _ => panic!("step 2 adds"),
    }
}

fn set_rows(a: &mut v1::Assign) -> &mut v1::SetRows {
    match step(a, 3) {
        v1::step::Op::SetRows(set) => set,
        _ => panic!("step 3 sets rows"),
    }
}

fn measure(a: &mut v1::Assign) -> &mut v1::Gauge {
    match a.job.as_mut() {
        Some(v1::assign::Job::Gauge(g)) => g,
        _ => panic!("the assignment measures"),
    }
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
        ("a part behind the end", |a| fill(a).parts.push(4)),
        ("a part twice", |a| fill(a).parts = vec![0, 0]),
        ("parts out of order", |a| fill(a).parts = vec![3, 0]),
        ("a part size of nothing", |a| fill(a).part_size = 0),
        ("a part size that is no power of two", |a| fill(a).part_size = 1000),
        ("a part as large as memory", |a| (fill(a).part_size, fill(a).size) = (1 << 40, 1 << 41)),
        ("a file without end", |a| fill(a).size = u64::MAX),
        ("more parts than stores take", |a| fill(a).size = 1024 * 10_001),
        ("a header larger than the file", |a| fill(a).header_length = 5000),
        ("a header as large as memory", |a| {
            (fill(a).size, fill(a).part_size, fill(a).header_length) = (8 << 30, 1 << 30, 1 << 32)
        }),
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
            t.start.as_mut().unwrap().shape = t.shape.clone();
        }),
        ("a length that is not the shape's", |a| fill(a).tensors[0].length = 95),
        ("no start", |a| fill(a).tensors[0].start = None),
        ("a start of another shape", |a| fill(a).tensors[0].start.as_mut().unwrap().shape = vec![6, 4]),
        ("a start outside its object", |a| fill(a).tensors[0].start.as_mut().unwrap().offset = 990),
        ("a start at no place", |a| fill(a).tensors[0].start.as_mut().unwrap().offset = u64::MAX),
        ("a start that is no float", |a| fill(a).tensors[0].start.as_mut().unwrap().dtype = "I8".into()),
        ("a dtype that nobody knows", |a| fill(a).tensors[0].dtype = "F31".into()),
        ("an output that is no float", |a| fill(a).tensors[0].dtype = "I32".into()),
        ("a copy of other length", |a| fill(a).tensors[0].fuse = None),
        ("rank 0", |a| add(a).rank = 0),
        ("another rank", |a| add(a).rank = 4),
        ("a rank that overflows", |a| add(a).rank = u64::MAX),
        ("a scale that is NaN", |a| add(a).scale = f32::NAN),
        ("a factor outside its object", |a| left(a).offset = 1000),
        ("a factor of integers", |a| left(a).dtype = "I16".into()),
        ("a factor of another height", |a| left(a).shape = vec![5, 2]),
        ("a factor without values", |a| left(a).shape = vec![0, 2]),
        ("a magnitude of another length", |a| dora(a).magnitude.as_mut().unwrap().shape = vec![5]),
        ("a magnitude by row of columns", |a| dora(a).measured = None),
        ("norms that are not there", |a| dora(a).measured = Some(7)),
        ("norms twice", |a| {
            let again = fill(a).measured[0].clone();
            fill(a).measured.push(again);
        }),
        ("norms without a digest", |a| fill(a).measured[0].digest = "d".into()),
        ("what is added of another shape", |a| add_scaled(a).source.as_mut().unwrap().shape = vec![4, 5]),
        ("what is added in other rows", |a| add_scaled(a).source.as_mut().unwrap().shape = vec![24]),
        ("rows in one row", |a| set_rows(a).source.as_mut().unwrap().shape = vec![12]),
        ("a scale without end", |a| add_scaled(a).scale = f32::INFINITY),
        ("a row behind the end", |a| set_rows(a).rows = vec![3, 4]),
        ("a row twice", |a| set_rows(a).rows = vec![1, 1]),
        ("rows that are not there", |a| set_rows(a).rows.push(0)),
        ("an adapter beyond count", |a| {
            fill(a).tensors[0].fuse.as_mut().unwrap().start_adapter = Some(1 << 16);
        }),
    ];
    for (what, spoil) in breaks {
        let mut wire = v1::Assign::from(&assignment());
        spoil(&mut wire);
        assert!(Assignment::try_from(wire).is_err(), "{what} was accepted");
    }
    let breaks: &[(&str, Break)] = &[
        ("no blocks", |a| measure(a).blocks.clear()),
        ("a block behind the end", |a| measure(a).blocks = vec![1]),
        ("a block twice", |a| measure(a).blocks = vec![0, 0]),
        ("no start", |a| measure(a).start = None),
        ("a start without values", |a| measure(a).start.as_mut().unwrap().shape = vec![0, 6]),
        ("a start outside its object", |a| measure(a).start.as_mut().unwrap().offset = 990),
    ];
    for (what, spoil) in breaks {
        let mut wire = v1::Assign::from(&gauge());
        spoil(&mut wire);
        assert!(Assignment::try_from(wire).is_err(), "{what} was accepted");
    }
}
