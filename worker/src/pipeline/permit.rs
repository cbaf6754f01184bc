//! Whether an assignment stays within the places that this worker may reach.

use shardfuse_merge::Kind;
use shardfuse_merge::plan::task::{Assignment, Job};
use shardfuse_store::{Allow, Location};

use crate::Failure;

/// Refuses an assignment with any URL outside: of inputs, header, statistics, or the output. The failure is
/// permanent: the merge asks for what its workers must not do.
pub fn check(allow: &Allow, assignment: &Assignment) -> Result<(), Failure> {
    let (output, header, statistics) = match &assignment.job {
        Job::Fill(fill) => (Some(&fill.url), Some(&fill.header.0), &fill.statistics),
        Job::Reduce(reduce) => (None, None, &reduce.statistics),
    };
    let inputs = assignment.objects.iter().map(|(_, o)| &o.url);
    let urls = inputs.chain(output).chain(header).chain(statistics.iter().map(|s| &s.url));
    for url in urls {
        let at: Location = url.parse()?;
        allow.check(&at).map_err(|e| {
            Failure::permanent(Kind::NotAllowed, e.chain())
                .hint("a worker reads and writes below its --allow prefixes only")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::inventory::Object;
    use shardfuse_merge::output::Parts;
    use shardfuse_merge::plan::task::{Fill, Part, StatisticValue};
    use shardfuse_merge::statistic::StatisticId;
    use shardfuse_proto::v1;

    use super::*;

    fn assignment() -> Assignment {
        let object = |url: &str| Object { url: url.into(), size: 1, pin: "p".into(), seen: String::new() };
        Assignment {
            merge: "m".into(),
            task: 0,
            epoch: 1,
            lease_ms: 1000,
            objects: vec![(0, object("s3://in/base")), (1, object("s3://in/lora"))],
            job: Job::Fill(Fill {
                url: "s3://out/model.safetensors".into(),
                upload: "u".into(),
                size: 1024,
                parts: Part::all(&Parts::even(1024, 1024)),
                copied: false,
                check: false,
                header: ("s3://out/.shardfuse/header/0".into(), 8),
                tensors: Vec::new(),
                statistics: vec![StatisticValue {
                    id: StatisticId(0),
                    url: "s3://out/.shardfuse/statistics/0/all".into(),
                    digest: "d".into(),
                }],
            }),
        }
    }

    #[test]
    fn every_url_of_an_assignment_is_checked() {
        let allow = Allow::prefixes(vec!["s3://in".parse().unwrap(), "s3://out".parse().unwrap()]);
        assert!(check(&allow, &assignment()).is_ok());
        type Lead = fn(&mut Assignment, String);
        fn fill(a: &mut Assignment) -> &mut Fill {
            match &mut a.job {
                Job::Fill(fill) => fill,
                Job::Reduce(_) => panic!("the assignment fills parts"),
            }
        }
        let leads: [Lead; 4] = [
            |a, url| a.objects[1].1.url = url,
            |a, url| fill(a).url = url,
            |a, url| fill(a).header.0 = url,
            |a, url| fill(a).statistics[0].url = url,
        ];
        for (i, lead) in leads.iter().enumerate() {
            for url in ["s3://secret/x", "file:///etc/passwd", "http://169.254.169.254/latest", "s3://inner/x"] {
                let mut a = assignment();
                lead(&mut a, url.to_owned());
                let failure = check(&allow, &a).unwrap_err();
                assert_eq!((failure.retry, failure.error.kind()), (v1::ErrorKind::Permanent, Kind::NotAllowed), "{i}");
                let text = failure.error.message();
                assert!(text.contains("s3://in") && text.contains("s3://out"), "what is allowed is named: {text}");
            }
        }
    }
}
