//! Inputs that have another version and the same bytes, such as a file that was touched or copied again.
//!
//! A version of a file is its length and time, so it changes where nothing did. If what was read of a file for planning was all of
//! it, its digest tells: then the merge goes on under the stored plan, and reads the version that is there now. Of weights only the
//! header was read, so nothing tells that they are the same.

use std::collections::BTreeSet;

use shardfuse_merge::Result;
use shardfuse_merge::inventory::Object;
use shardfuse_merge::plan::Plan;
use shardfuse_store::Stores;

use crate::failure::{io, location};

/// The largest file that is read again, in bytes: as large as a configuration may be.
const MOST: u64 = 8 << 20;

/// Whether two plans are the same, whatever their objects are.
fn same_rest(one: &Plan, other: &Plan) -> bool {
    let Plan { format, spec, objects: _, lineage, uses, equals, statistics, output } = one;
    (*format, spec, lineage, uses) == (other.format, &other.spec, &other.lineage, &other.uses)
        && (equals, statistics, output) == (&other.equals, &other.statistics, &other.output)
}

/// Whether a stored plan is this one, but for versions of files whose bytes are what was read for it.
pub(super) async fn only(stores: &Stores, plan: &Plan, stored: &Plan) -> Result<bool> {
    let pairs = || stored.objects.iter().zip(&plan.objects);
    let urls: BTreeSet<&str> = pairs().filter(|(was, is)| was.pin != is.pin).map(|(_, is)| is.url.as_str()).collect();
    let same = |(was, is): (&Object, &Object)| (&was.url, was.size, &was.seen) == (&is.url, is.size, &is.seen);
    if urls.is_empty() || stored.objects.len() != plan.objects.len() || !pairs().all(same) || !same_rest(plan, stored) {
        return Ok(false);
    }
    for url in urls {
        // A file that is read and also travels is two objects. One of them has the digest.
        let of_file = || plan.objects.iter().filter(move |object| object.url == url);
        if !of_file().all(|object| object.size <= MOST) {
            return Ok(false);
        }
        let at = location(url)?;
        let (bytes, meta) = stores.open(&at).get(&at, MOST).await.map_err(io)?;
        let digest = blake3::hash(&bytes).to_hex();
        let now = of_file().all(|object| object.pin == meta.pin.as_str());
        if !now || !of_file().any(|object| object.seen == digest.as_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}
