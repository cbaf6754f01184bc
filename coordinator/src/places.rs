//! No merge writes into what it reads, into another merge's state, or into what its coordinator keeps.
//!
//! Places are compared as places: a link, a `..`, a bind mount, or the other form of an Azure URL names the same one.
//! The facts come from the stores; what is refused is a pure function of them. Inputs may lie in each other, since an
//! adapter inside its base's folder is common. Files in the output that are hard links to the base's files are fine: a
//! merge replaces names and never writes into a file that shows.

use shardfuse_merge::spec::{MergeSpec, Purpose};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::place::Relation;
use shardfuse_store::{Location, Place, Stores};

use crate::failure::{io, join, location};
use crate::state::STATE;

/// A place of a spec, or the coordinator's own.
#[derive(Debug)]
struct Named<'a> {
    purpose: Purpose,
    url: &'a str,
    place: Place,
}

/// Refuses a spec whose output and inputs overlap, and one that touches `kept`, where the coordinator keeps its records.
///
/// # Errors
/// `Usage` with both places; the store's failure where a place cannot be looked up.
pub async fn check(stores: &Stores, spec: &MergeSpec, kept: Option<&Location>) -> Result<()> {
    let mut named = Vec::new();
    for (purpose, url) in spec.places() {
        named.push(Named { purpose, url, place: stores.place(&location(url)?).await.map_err(io)? });
    }
    let kept = match kept {
        Some(at) => Some((at.to_string(), stores.place(at).await.map_err(io)?)),
        None => None,
    };
    let kept = kept.as_ref().map(|(url, place)| (url.as_str(), place));
    decide(&named, kept)?;
    for input in named.iter().filter(|n| n.purpose != Purpose::Output) {
        links(stores, input, &named, kept).await?;
    }
    Ok(())
}

/// Refuses an input that links to an output, or to a folder around or in one, or to what the coordinator keeps: a listing of
/// the input goes through the link. Links behind links are looked at too, each folder once.
async fn links(stores: &Stores, input: &Named<'_>, named: &[Named<'_>], kept: Option<(&str, &Place)>) -> Result<()> {
    let mut seen: Vec<Place> = Vec::new();
    let mut waiting = vec![location(input.url)?];
    while let Some(folder) = waiting.pop() {
        for name in stores.open(&folder).links(&folder).await.map_err(io)? {
            let at = join(&folder, &name)?;
            let url = at.to_string();
            let place = stores.place(&at).await.map_err(io)?;
            if seen.contains(&place) {
                continue;
            }
            let outputs = named.iter().filter(|n| n.purpose == Purpose::Output).map(|n| (n.url, &n.place));
            for (other, theirs) in outputs.chain(kept) {
                if overlap(&place, theirs).is_some() {
                    let message = format!("the input {} links to {other}, by {url}", input.url);
                    return Err(Error::new(Kind::Usage, message).hint("remove the link, or write to another folder"));
                }
            }
            seen.push(place);
            waiting.push(at);
        }
    }
    Ok(())
}

fn decide(named: &[Named<'_>], kept: Option<(&str, &Place)>) -> Result<()> {
    let outputs = || named.iter().filter(|n| n.purpose == Purpose::Output);
    for output in outputs() {
        if output.place.is_below_name(STATE) {
            let message = format!("the output {} lies in a folder {STATE}, where a merge keeps its state", output.url);
            return Err(Error::new(Kind::Usage, message).hint("write to another folder"));
        }
        for input in named.iter().filter(|n| n.purpose != Purpose::Output) {
            let Some(how) = overlap(&output.place, &input.place) else { continue };
            let message = format!("the output {} {how} the input {}", output.url, input.url);
            return Err(
                Error::new(Kind::Usage, message).hint("write to another folder, neither in an input nor around one")
            );
        }
    }
    let Some((url, kept)) = kept else { return Ok(()) };
    for place in named {
        let Some(how) = overlap(&place.place, kept) else { continue };
        let what = if place.purpose == Purpose::Output { "output" } else { "input" };
        let message =
            format!("the {what} {} {how} {url}, where the coordinator keeps its records (--state)", place.url);
        return Err(
            Error::new(Kind::Usage, message).hint("name another folder, or start the coordinator with another --state")
        );
    }
    Ok(())
}

/// How one place overlaps another, as a verb.
fn overlap(one: &Place, other: &Place) -> Option<&'static str> {
    match one.relation(other) {
        Relation::Apart => None,
        Relation::Same => Some("is"),
        Relation::Inside => Some("lies in"),
        Relation::Around => Some("contains"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Place {
        Place::named(&text.parse().unwrap())
    }

    fn refused(base: &str, lora: &str, output: &str) -> Option<String> {
        let named = |purpose, url| Named { purpose, url, place: at(url) };
        let all = [named(Purpose::Base, base), named(Purpose::Lora, lora), named(Purpose::Output, output)];
        let kept = at("s3://m/state");
        match decide(&all, Some(("s3://m/state", &kept))) {
            Ok(()) => None,
            Err(e) => {
                assert_eq!(e.kind(), Kind::Usage);
                Some(e.message().to_owned())
            }
        }
    }

    #[test]
    fn an_output_is_apart_from_every_input() {
        for (output, says) in [
            ("s3://m/base/", "the output s3://m/base/ is the input s3://m/base"),
            ("s3://m/base/merged", "the output s3://m/base/merged lies in the input s3://m/base"),
            ("s3://m", "the output s3://m contains the input s3://m/base"),
            ("s3://a/lora", "the output s3://a/lora is the input s3://a/lora"),
            ("s3://a/lora/x", "the output s3://a/lora/x lies in the input s3://a/lora"),
        ] {
            assert_eq!(refused("s3://m/base", "s3://a/lora", output).as_deref(), Some(says));
        }
        for output in ["s3://m/base-2", "s3://m/merged", "gs://m/base", "/m/base"] {
            assert_eq!(refused("s3://m/base", "s3://a/lora", output), None, "{output}");
        }
    }

    #[test]
    fn inputs_may_lie_in_each_other() {
        assert_eq!(refused("s3://m/base", "s3://m/base/adapter", "s3://m/out"), None);
        assert_eq!(refused("s3://m/base", "s3://m/base", "s3://m/out"), None);
    }

    #[test]
    fn an_output_lies_in_no_state_of_a_merge() {
        for output in ["s3://m/other/.shardfuse", "s3://m/other/.shardfuse/journal", "/data/o/.shardfuse/x"] {
            let says = refused("s3://m/base", "s3://a/lora", output).unwrap();
            assert!(says.contains("where a merge keeps its state") && says.contains(output), "{says}");
        }
    }

    #[test]
    fn neither_output_nor_input_touches_what_the_coordinator_keeps() {
        for place in ["s3://m/state", "s3://m/state/merges/x", "s3://m"] {
            let output = refused("s3://b/base", "s3://a/lora", place).unwrap();
            assert!(output.starts_with(&format!("the output {place} ")) && output.contains("s3://m/state"), "{output}");
            let input = refused("s3://b/base", place, "s3://b/out").unwrap();
            assert!(input.starts_with(&format!("the input {place} ")) && input.contains("--state"), "{input}");
        }
        assert_eq!(refused("s3://m/base", "s3://m/lora", "s3://m/out"), None, "beside it is fine");
    }
}
