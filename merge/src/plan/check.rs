//! What a plan may say, so that no merge begins that cannot end: the bounds of the messages that workers take, and of
//! the files that loaders read.

use crate::checkpoint::header;
use crate::error::{Error, Kind, Result};
use crate::inventory::{Object, Source};
use crate::limits::{MAX_BITS, MAX_DIMS, MAX_FACTORS, MAX_NAME, MAX_OBJECT, MAX_RANK, MAX_URL};
use crate::output::{Output, OutputFile};
use crate::recipe::{self, Delta, Step, bytes};
use crate::statistic::Statistic;

/// What one report or one tensor's description may take of a message, in bytes.
const MAX_SAID: u64 = 12 << 20;

/// Checks what a plan consists of.
///
/// # Errors
/// [`Kind::Unsupported`], naming what is too large and by how much.
pub fn check(objects: &[Object], statistics: &[Statistic], output: &Output) -> Result<()> {
    for object in objects {
        at_most("the URL", &object.url, object.url.len() as u64, MAX_URL as u64, "bytes")?;
        at_most("the store's pin", &object.url, object.pin.len() as u64, MAX_NAME as u64, "bytes")?;
        at_most("the size", &object.url, object.size, MAX_OBJECT, "bytes")?;
    }
    for statistic in statistics {
        check_statistic(statistic)?;
    }
    for file in &output.files {
        at_most("the header", &file.name, file.header_length().saturating_sub(8), header::MAX_HEADER, "bytes")?;
        for tensor in &file.tensors {
            let bits = tensor.dtype.bitsize() as u64;
            check_shape(&tensor.name, &tensor.shape, bits)?;
            tensor.begins().map_or(Ok(()), |whole| check_shape(&tensor.name, whole, bits))?;
            tensor.recipe.starts().iter().try_for_each(check_source)?;
            if let Some(fuse) = tensor.recipe.fuse() {
                check_steps(&tensor.name, &fuse.steps)?;
            }
        }
        check_reports(file)?;
    }
    Ok(())
}

fn at_most(what: &str, name: &str, is: u64, most: u64, unit: &str) -> Result<()> {
    match is <= most {
        true => Ok(()),
        false => {
            let begin: String = name.chars().take(200).collect();
            let dots = if begin.len() < name.len() { "..." } else { "" };
            Err(Error::new(
                Kind::Unsupported,
                format!("{what} of {begin}{dots} has {is} {unit}, at most {most} are taken"),
            ))
        }
    }
}

fn check_source(source: &Source) -> Result<()> {
    check_shape(&source.name, &source.shape, source.dtype.bitsize() as u64)
}

fn check_shape(name: &str, shape: &[u64], bits: u64) -> Result<()> {
    at_most("the name", name, name.len() as u64, MAX_NAME as u64, "bytes")?;
    at_most("the shape", name, shape.len() as u64, MAX_DIMS as u64, "dimensions")?;
    let bits = shape.iter().fold(bits, |n, d| n.saturating_mul((*d).max(1)));
    at_most("the shape", name, bits, MAX_BITS, "bits")
}

fn check_steps(tensor: &str, steps: &[Step]) -> Result<()> {
    recipe::sources(steps).try_for_each(check_source)?;
    for step in steps {
        for (source, rank, _) in step.op.delta().map(Delta::inner).unwrap_or_default() {
            at_most("the rank", &source.name, rank, MAX_RANK, "columns")?;
        }
    }
    at_most("the description", tensor, bytes::length(&steps), MAX_SAID, "bytes")
}

fn check_statistic(statistic: &Statistic) -> Result<()> {
    statistic.start.tensors().iter().try_for_each(check_source)?;
    check_steps(&statistic.tensor, &statistic.steps)?;
    at_most("a row", &statistic.tensor, statistic.bytes(), MAX_SAID, "bytes in a report of its statistic")
}

/// The report of a part names the factors that were read for it.
fn check_reports(file: &OutputFile) -> Result<()> {
    let mut reports = vec![(0usize, 0u64); file.cut.parts.count() as usize];
    for tensor in file.tensors.iter().filter(|t| t.length > 0) {
        let Some(fuse) = tensor.recipe.fuse() else { continue };
        let names: Vec<u64> = recipe::sources(&fuse.steps).map(|s| s.name.len() as u64 + 8).collect();
        let parts = file.cut.parts.touching(&(tensor.offset..tensor.offset + tensor.length));
        for (count, bytes) in &mut reports[parts.start as usize..parts.end as usize] {
            *count += names.len();
            *bytes += names.iter().sum::<u64>();
        }
    }
    let refuse = |what: String| Err(Error::new(Kind::Unsupported, what).hint("use a smaller --part-size"));
    for (part, (count, bytes)) in reports.into_iter().enumerate() {
        if count > MAX_FACTORS {
            let file = &file.name;
            return refuse(format!("part {part} of {file} takes {count} factors, at most {MAX_FACTORS} are taken"));
        }
        if bytes > MAX_SAID {
            return refuse(format!(
                "the names of the factors in part {part} of {} have {bytes} bytes, at most {MAX_SAID} are taken",
                file.name
            ));
        }
    }
    Ok(())
}
