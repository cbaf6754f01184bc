//! Whatever the bytes are: no panic, an end, and no more memory than the input accounts for.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::machine::run;
use super::super::opcode::*;
use super::craft::{Ops, ROWS, Tensor, items, state_dict};
use super::object::{Object, Zip};
use super::{Progress, Reader, read, torch};
use crate::checkpoint::header::tensor_bytes;

/// Runs a pickle; the heap stays within a multiple of the input.
fn run_within_bounds(pickle: &[u8]) {
    if let Ok(pickled) = run(pickle) {
        let (used, allowed) = (pickled.heap.footprint(), 128 * pickle.len() + 4096);
        assert!(used <= allowed, "{used} bytes for a pickle of {}", pickle.len());
    }
}

/// Reads an object; what comes out lies within it and has the lengths that it says.
fn read_within_bounds(bytes: &[u8]) {
    let Ok(contents) = read(&Object::of(bytes)) else { return };
    for tensor in contents.tensors {
        assert_eq!(Some(tensor.length), tensor_bytes(tensor.dtype, &tensor.shape));
        assert!(tensor.offset + tensor.length <= bytes.len() as u64);
    }
}

fn crafted() -> Vec<u8> {
    let half = Tensor { offset: 3, shape: &[3], strides: &[1], ..ROWS };
    let pickle = state_dict(&[("a", ROWS), ("b", Tensor { key: "1", ..half }), ("c", ROWS)]);
    Zip::new(items(&pickle, &[("0", 24), ("1", 24)])).object().bytes()
}

fn valid_file() -> impl Strategy<Value = Vec<u8>> {
    let mut files: Vec<_> = torch::ALL.iter().map(|bytes| bytes.to_vec()).collect();
    files.push(crafted());
    prop::sample::select(files)
}

/// One opcode with arguments that often make sense.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let small = 0u8..6;
    prop_oneof![
        4 => any::<u8>().prop_map(|code| vec![code]),
        8 => prop::sample::select(vec![
            MARK, NONE, NEWFALSE, EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3, EMPTY_LIST, APPEND, APPENDS, EMPTY_DICT,
            SETITEM, SETITEMS, MEMOIZE, BINPERSID, REDUCE, BUILD, STACK_GLOBAL,
        ]).prop_map(|code| vec![code]),
        3 => (prop::sample::select(vec![BINGET, BINPUT, BININT1]), small).prop_map(|(code, n)| vec![code, n]),
        1 => any::<i64>().prop_map(|n| Ops(Vec::new()).int(n).0),
        2 => prop::sample::select(vec!["storage", "0", "cpu", "torch", "FloatStorage"])
            .prop_map(|text| Ops(Vec::new()).text(text).0),
        3 => prop::sample::select(vec![
            ("collections", "OrderedDict"), ("torch", "FloatStorage"), ("torch", "Size"), ("torch", "uint16"),
            ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
        ]).prop_map(|(module, name)| Ops(Vec::new()).global(module, name).0),
        2 => Just(Ops(Vec::new()).storage(&ROWS).0),
        2 => Just(Ops(Vec::new()).tensor(&ROWS).0),
    ]
}

/// Where, in thousandths of the length, and what.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Set(usize, Vec<u8>),
    Truncate(usize),
    Remove(usize, usize),
    Copy(usize, usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = || 0usize..1000;
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        2 => (place(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Mutation::Set(at, bytes)),
        1 => place().prop_map(Mutation::Truncate),
        1 => (place(), 1usize..64).prop_map(|(at, length)| Mutation::Remove(at, length)),
        2 => (place(), place(), 1usize..64).prop_map(|(from, to, length)| Mutation::Copy(from, to, length)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |thousandth: usize| thousandth * bytes.len() / 1000;
    match mutation {
        _ if bytes.is_empty() => {}
        Mutation::Flip(at, bits) => {
            let at = place(*at);
            bytes[at] ^= bits;
        }
        Mutation::Set(at, with) => {
            let at = place(*at);
            let length = with.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&with[..length]);
        }
        Mutation::Truncate(at) => bytes.truncate(place(*at)),
        Mutation::Remove(at, length) => {
            let at = place(*at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Mutation::Copy(from, to, length) => {
            let (from, to) = (place(*from), place(*to));
            let copied = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(to..to, copied);
        }
    }
}

/// The pickle of a file, and the file with another pickle in its place.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    Zip::new(items(pickle, &[("0", 24), ("1", 24)])).object().bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..512)) {
        prop_assert!(read(&Object::of(&bytes)).is_err());
        let zip = [b"PK\x03\x04", &bytes[..]].concat();
        prop_assert!(read(&Object::of(&zip)).is_err());
        run_within_bounds(&[&[PROTO, 2], &bytes[..]].concat());
    }

    #[test]
    fn every_sequence_of_opcodes_ends(operations in vec(operation(), 0..60)) {
        run_within_bounds(&[&[PROTO, 2], &operations.concat()[..], &[STOP]].concat());
    }

    #[test]
    fn a_state_dict_of_any_values_is_read_or_refused(values in vec(vec(operation(), 1..6), 0..8)) {
        let mut ops = Ops::new().op(EMPTY_DICT).op(MARK);
        for (index, value) in values.iter().enumerate() {
            ops = ops.text(&index.to_string()).raw(&value.concat());
        }
        let pickle = ops.op(SETITEMS).stop();
        run_within_bounds(&pickle);
        read_within_bounds(&with_pickle(&pickle));
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(mut bytes in valid_file(), mutations in vec(mutation(), 1..6)) {
        mutations.iter().for_each(|m| mutate(&mut bytes, m));
        read_within_bounds(&bytes);
    }

    #[test]
    fn a_damaged_pickle_is_read_or_refused(mutations in vec(mutation(), 1..6)) {
        let mut pickle = state_dict(&[("a", ROWS), ("b", Tensor { key: "1", ..ROWS }), ("c", ROWS)]);
        mutations.iter().for_each(|m| mutate(&mut pickle, m));
        run_within_bounds(&pickle);
        read_within_bounds(&with_pickle(&pickle));
    }

    /// However the bytes arrive, the answer is the same.
    #[test]
    fn the_pieces_may_come_in_any_order(cuts in vec((0u64..4096, 1u64..512), 0..64)) {
        let object = Object::of(&crafted());
        let mut reader = Reader::new(object.size);
        for (start, length) in cuts {
            let range = start.min(object.size)..(start + length).min(object.size);
            reader.supply(range.start, object.read(&range));
            if let Progress::Done(contents) = reader.poll().unwrap() {
                prop_assert_eq!(contents, read(&object).unwrap());
            }
        }
        reader.supply(0, object.bytes());
        let Progress::Done(contents) = reader.poll().unwrap() else { panic!("all bytes are there") };
        prop_assert_eq!(contents, read(&object).unwrap());
    }
}
