//! A PyTorch file is refused, or its tensors lie within it; a few reads are enough, and their order changes nothing.

use shardfuse_merge::checkpoint::header::tensor_bytes;
use shardfuse_merge::checkpoint::pickle::{Contents, Progress, Reader};

use super::memory::within;

/// The reads that the reader's documentation promises.
const ROUNDS: usize = 5;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let read = within(256, bytes, || in_rounds(bytes));
    let mut reader = Reader::new(bytes.len() as u64);
    reader.supply(0, bytes.to_vec());
    match (&read, reader.poll()) {
        (Ok(contents), Ok(Progress::Done(same))) => assert_eq!(*contents, same),
        (Err(_), Err(_)) => {}
        (read, whole) => panic!("in rounds: {read:?}, as a whole: {whole:?}"),
    }
    let Ok(contents) = read else { return false };
    for tensor in contents.tensors {
        assert_eq!(Some(tensor.length), tensor_bytes(tensor.dtype, &tensor.shape), "{}", tensor.name);
        assert!(tensor.offset + tensor.length <= bytes.len() as u64, "{} reaches beyond the file", tensor.name);
    }
    true
}

fn in_rounds(bytes: &[u8]) -> shardfuse_merge::Result<Contents> {
    let mut reader = Reader::new(bytes.len() as u64);
    for _ in 0..=ROUNDS {
        match reader.poll()? {
            Progress::Done(contents) => return Ok(contents),
            Progress::Need(ranges) => {
                assert!(ranges.is_sorted_by_key(|range| range.start), "{ranges:?}");
                for range in ranges {
                    reader.supply(range.start, bytes[range.start as usize..range.end as usize].to_vec());
                }
            }
        }
    }
    panic!("the reader wants more than {ROUNDS} rounds");
}
