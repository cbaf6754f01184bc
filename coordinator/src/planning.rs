//! From a spec to a plan that the output's store can take.

use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::spec::{MergeSpec, Size};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Limits, Stores};

use crate::apart::apart;
use crate::failure::location;
use crate::inspect;
use crate::places;

/// Reads what the spec names and plans. Dropping the future ends the work as well.
///
/// # Errors
/// An output that overlaps an input, what cannot be read, what the plan refuses, and what the output's store does not take.
pub async fn plan(stores: &Stores, spec: &MergeSpec) -> Result<(Plan, Report)> {
    places::check(stores, spec, None).await?;
    let inventory = inspect(stores, spec).await?;
    let of = spec.clone();
    let (plan, report) = apart(move |cancel| Plan::until(of, &inventory, cancel)).await??;
    let output = location(&plan.spec.output)?;
    check_parts(&plan, stores.open(&output).limits(&output))?;
    Ok((plan, report))
}

/// Holds the parts of every file against what the output's store takes.
fn check_parts(plan: &Plan, limits: Limits) -> Result<()> {
    let refuse = |what: String, hint: &str| Err(Error::new(Kind::Usage, what).hint(hint));
    for file in &plan.output.files {
        let parts = u64::from(file.cut.parts.count());
        let name = &file.name;
        let sizes = || file.cut.parts.iter().map(|part| part.end - part.start);
        // The last part, which may be the only one, can be of any size.
        let least = sizes().rev().skip(1).min();
        if let Some(size) = least.filter(|size| *size < limits.min_part) {
            return refuse(
                format!(
                    "{name} would have {parts} parts of {}, the output's store takes parts of {} at the least",
                    Size(size),
                    Size(limits.min_part)
                ),
                "use a larger --part-size; for a service that takes smaller parts, min_part_size in the --stores file says so",
            );
        }
        if let Some(size) = sizes().max().filter(|size| *size > limits.max_part) {
            return refuse(
                format!(
                    "{name} would have parts of {}, the output's store takes parts of {} at the most",
                    Size(size),
                    Size(limits.max_part)
                ),
                "use a smaller --part-size",
            );
        }
        if parts > limits.max_parts {
            return refuse(
                format!("{name} would have {parts} parts, the output's store takes {} at the most", limits.max_parts),
                "use a larger --part-size, or a smaller --max-shard-size",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardfuse_merge::output::format::Format;
    use shardfuse_merge::output::segment::Span;
    use shardfuse_merge::output::{Cut, Output, OutputFile, Parts, SmallFile};

    /// A plan of one file.
    fn of(size: u64, part_size: u64) -> Plan {
        let spec: MergeSpec = serde_json::from_value(serde_json::json!({
            "base": "b", "lora": [], "output": "s3://b/out", "part_size": part_size
        }))
        .unwrap();
        let file = OutputFile {
            name: "model.safetensors".into(),
            size,
            format: Format::of(&Default::default()),
            literals: vec![Span { offset: 0, length: 8 }],
            tensors: Vec::new(),
            trailer: 0,
            cut: Cut { parts: Parts::even(size, part_size), copied: false },
        };
        let output =
            Output { files: vec![file], sidecars: Vec::new(), index: None, config: SmallFile::Text(String::new()) };
        let (objects, lineage, uses, equals, statistics) = Default::default();
        Plan { format: 1, spec, objects, lineage, uses, equals, statistics, output }
    }

    #[test]
    fn parts_that_the_store_does_not_take_are_refused_with_both_sizes() {
        const MIB: u64 = 1 << 20;
        let s3 = Limits { min_part: 5 * MIB, max_part: 16 * MIB, max_parts: 10 };
        for (size, part, refused) in [
            (8 * MIB, 8 * MIB, None),
            (4 * MIB, 4 * MIB, None),
            (5 * MIB, 4 * MIB, Some("at the least")),
            (80 * MIB, 8 * MIB, None),
            (81 * MIB, 8 * MIB, Some("11 parts")),
            (16 * MIB, 32 * MIB, None),
            (17 * MIB, 32 * MIB, Some("at the most")),
        ] {
            match (check_parts(&of(size, part), s3), refused) {
                (Ok(()), None) => {}
                (Err(e), Some(text)) => {
                    assert!(e.kind() == Kind::Usage && e.message().contains(text), "{size} {part}: {e}");
                    assert!(e.message().contains("model.safetensors"), "{e}");
                }
                (result, _) => panic!("{size} in parts of {part}: {result:?}"),
            }
            check_parts(&of(size, part), Limits::NONE).unwrap();
        }
    }
}
