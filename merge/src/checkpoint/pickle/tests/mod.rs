//! Files of torch (`fixtures/make.py` wrote them), files made here byte by byte, and what is refused of both.

mod archive;
mod craft;
mod machine;
mod object;
mod property;
mod state;
mod torch;

use super::{Contents, Progress, Reader};
use crate::error::{Error, Kind, Result};
use object::Object;

/// What reading an object took.
#[derive(Debug, Default)]
struct Cost {
    rounds: usize,
    ranges: usize,
    bytes: u64,
}

/// Reads an object as a store would let it be read: only the ranges that are asked for.
fn read(object: &Object) -> Result<Contents> {
    read_counted(object).0
}

fn read_counted(object: &Object) -> (Result<Contents>, Cost) {
    let mut reader = Reader::new(object.size);
    let mut cost = Cost::default();
    loop {
        let ranges = match reader.poll() {
            Ok(Progress::Need(ranges)) => ranges,
            Ok(Progress::Done(contents)) => return (Ok(contents), cost),
            Err(error) => {
                assert_eq!(reader.poll().unwrap_err(), error, "an error is final");
                return (Err(error), cost);
            }
        };
        cost.rounds += 1;
        assert!(cost.rounds <= 6 && !ranges.is_empty(), "{cost:?}");
        let mut at = 0;
        for range in ranges {
            assert!(range.start >= at && range.start < range.end && range.end <= object.size, "{range:?}");
            at = range.end;
            cost.ranges += 1;
            cost.bytes += range.end - range.start;
            reader.supply(range.start, object.read(&range));
        }
    }
}

fn refused(object: &Object) -> Error {
    read(object).expect_err("the file must be refused")
}

#[track_caller]
fn assert_refused(object: &Object, kind: Kind, words: &str) {
    let error = refused(object);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(words), "{error:?} does not say {words:?}");
}
