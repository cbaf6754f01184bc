use super::*;

fn source(name: &str, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(3), offset: 7, dtype: Dtype::BF16, shape: shape.into() }
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
                magnitude: source("m", &[4]),
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
        objects: vec![(3, Object { url: "/x".into(), size: 10, pin: "p".into(), seen: String::new() })],
        job: Job::Fill(Fill {
            url: "/out/model.safetensors".into(),
            upload: "u".into(),
            size: 4096,
            part_size: 1024,
            parts: vec![0, 3],
            header: ("/h".into(), 64),
            tensors: vec![placed(Recipe::Fuse(fuse))],
            measured: vec![Measured { id: MeasureId(2), url: "/m".into(), digest: "d".into() }],
        }),
    }
}

#[test]
fn an_assignment_survives_the_wire() {
    let sent = assignment();
    assert_eq!(Assignment::try_from(v1::Assign::from(&sent)).unwrap(), sent);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    type Break = fn(&mut v1::Assign);
    fn fill(a: &mut v1::Assign) -> &mut v1::Fill {
        match a.job.as_mut() {
            Some(v1::assign::Job::Fill(f)) => f,
            _ => panic!("the assignment fills parts"),
        }
    }
    let breaks: [Break; 7] = [
        |a| a.attempt = None,
        |a| a.job = None,
        |a| fill(a).parts.push(4),
        |a| fill(a).part_size = 1000,
        |a| fill(a).tensors[0].shape = vec![u64::MAX, 3],
        |a| fill(a).tensors[0].start = None,
        |a| fill(a).tensors[0].dtype = "F31".into(),
    ];
    for (i, spoil) in breaks.iter().enumerate() {
        let mut wire = v1::Assign::from(&assignment());
        spoil(&mut wire);
        assert!(Assignment::try_from(wire).is_err(), "break {i} was accepted");
    }
}
