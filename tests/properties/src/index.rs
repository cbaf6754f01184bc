//! An index is refused, or names plain files, agrees with itself and survives being written again.

use shardfuse_merge::checkpoint::index::{Index, plain_name, render};

use super::memory::within;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let Ok(index) = within(128, bytes, || Index::parse(bytes)) else { return false };
    assert!(index.tensors().next().is_some());
    for file in index.files() {
        plain_name(file).expect("every file is a plain name");
    }
    let pairs = || index.tensors().map(|(tensor, file)| (file, tensor));
    index.check(pairs()).expect("the index agrees with files that hold what it says");
    index.check(pairs().skip(1)).expect_err("the index names a tensor that no file holds");

    let map = index.tensors().collect();
    assert_eq!(Index::parse(&render(0, &map)).expect("what is written can be read"), index);
    true
}
