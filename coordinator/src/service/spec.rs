//! A spec from the wire: understood, complete, in its canonical form, and within what is allowed. Whether its places
//! overlap is decided by [`places`](crate::places), which looks at them.

use shardfuse_merge::spec::{MergeSpec, Purpose};
use shardfuse_merge::{Error, Kind};
use shardfuse_proto::v1;
use shardfuse_store::{Allow, Location};
use tonic::{Code, Status};

use super::status::{status, with_code};

/// The spec of a request. URLs come out in one form, so that two ways to write a place are the same merge.
///
/// # Errors
/// INVALID_ARGUMENT for what is wrong with it, PERMISSION_DENIED for a URL that may not be used here.
pub fn spec(wire: Option<v1::MergeSpec>, allow: &Allow) -> Result<MergeSpec, Status> {
    let usage = |message: String| status(&Error::new(Kind::Usage, message));
    let wire = wire.ok_or_else(|| usage("the request holds no spec".into()))?;
    let mut spec = MergeSpec::try_from(wire).map_err(|e| status(&e))?;
    spec.check().map_err(|e| status(&e))?;
    for (purpose, url) in spec.places_mut() {
        let name = purpose.as_str();
        let at: Location = url.parse().map_err(|e: shardfuse_store::Error| usage(format!("{name}: {}", e.chain())))?;
        allow.check(&at).map_err(|e| {
            with_code(Code::PermissionDenied, &Error::new(Kind::NotAllowed, format!("{name}: {}", e.chain())))
        })?;
        if purpose == Purpose::Output && at.scheme().is_read_only() {
            return Err(usage(format!("output: {at} cannot be written, {}:// is read only", at.scheme())));
        }
        *url = at.to_string();
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(base: &str, output: &str) -> v1::MergeSpec {
        v1::MergeSpec {
            base: base.into(),
            lora: vec![v1::Lora { path: "s3://models/lora".into(), weight: None }],
            output: output.into(),
            ..v1::MergeSpec::default()
        }
    }

    fn refused(base: &str, output: &str, allow: &Allow) -> (Code, String) {
        let status = spec(Some(wire(base, output)), allow).unwrap_err();
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn two_ways_to_write_a_place_are_one_merge() {
        let allow = Allow::prefixes(Vec::new());
        let a = spec(Some(wire("s3://models/base/", "s3://models/out")), &allow).unwrap();
        let b = spec(Some(wire("s3://models/base", "s3://models/out/")), &allow).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn a_place_that_is_not_allowed_is_refused_by_name() {
        let allow = Allow::prefixes(vec!["s3://models".parse().unwrap()]);
        let (code, message) = refused("s3://models/base", "s3://secrets/out", &allow);
        assert_eq!(code, Code::PermissionDenied);
        assert!(message.starts_with("output: s3://secrets/out"), "{message}");
        let (code, message) = refused("file:///etc", "s3://models/out", &allow);
        assert_eq!((code, message.contains("/etc")), (Code::PermissionDenied, true), "{message}");
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        let allow = Allow::everything();
        for (base, output) in [
            ("", "s3://models/out"),
            ("base", "s3://models/out"),
            ("s3://models/base", "hf://org/model"),
            ("s3://key:secret@models/base", "s3://models/out"),
        ] {
            let (code, message) = refused(base, output, &allow);
            assert_eq!(code, Code::InvalidArgument, "{base} {output}");
            assert!(!message.contains("secret"), "{message}");
        }
        assert_eq!(spec(None, &allow).unwrap_err().code(), Code::InvalidArgument);
    }
}
