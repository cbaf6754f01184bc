//! What tests expect of a failure.

use std::fmt::Debug;

use crate::error::{Error, ErrorKind, Result};

/// The error of a call that must fail with this kind, and say this.
pub(crate) fn fails<T: Debug>(result: Result<T>, kind: ErrorKind, says: &str) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert!(error.chain().contains(says), "{says:?} is not in {}", error.chain());
    error
}
