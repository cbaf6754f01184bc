//! What a pod may read and write: the places that its merge spec names.

use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Allow;

use crate::args::Access;
use crate::place;

/// A pod reads and writes what its own spec names, and nothing else; with `--allow`, only if that lies below these prefixes
/// too. A snapshot in a hub cache consists of links to the cache's `blobs/` folder, so that folder belongs to it.
pub(super) fn named_by(spec: &MergeSpec, access: &Access) -> Result<Allow> {
    let narrower = if access.allow.is_empty() { Allow::everything() } else { access.allowed()? };
    let mut places = Vec::new();
    for (purpose, url) in spec.places() {
        let at = place::parse(url)?;
        narrower.check(&at).map_err(|e| {
            Error::new(Kind::NotAllowed, e.chain())
                .at(purpose.as_str())
                .hint("name it with --allow, or leave --allow out")
        })?;
        places.extend(at.hub_cache_blobs().filter(|blobs| narrower.check(blobs).is_ok()));
        places.push(at);
    }
    Ok(Allow::prefixes(places))
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::spec::LoraSpec;

    use super::*;

    #[test]
    fn a_pod_may_do_what_its_spec_names() {
        let spec = MergeSpec::of("s3://models/base", [LoraSpec::new("s3://adapters/a")], "file:///out/merged");
        let allow = named_by(&spec, &Access::default()).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("s3://models/base/config.json") && check("s3://adapters/a/x") && check("file:///out/merged/y"));
        assert!(!check("s3://models/other") && !check("s3://adapters/b") && !check("file:///out/else"));
        let base = "file:///cache/hub/models--org--name/snapshots/0123abcd".to_owned();
        let allow = named_by(&MergeSpec { base, ..spec }, &Access::default()).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("/cache/hub/models--org--name/blobs/b1") && !check("/cache/hub/models--org--other/blobs/b1"));
    }

    #[test]
    fn a_pod_with_prefixes_refuses_a_spec_that_names_more() {
        let spec = MergeSpec::of("s3://models/base", [LoraSpec::new("s3://adapters/a")], "s3://models/out");
        let allow = |prefixes: &[&str]| Access {
            allow: prefixes.iter().map(|p| (*p).to_owned()).collect(),
            ..Access::default()
        };
        assert!(named_by(&spec, &allow(&["s3://models", "s3://adapters"])).is_ok());
        let error = named_by(&spec, &allow(&["s3://models"])).unwrap_err();
        assert_eq!(error.kind(), Kind::NotAllowed);
        assert!(error.message().starts_with("lora: s3://adapters/a"), "{error}");
    }
}
