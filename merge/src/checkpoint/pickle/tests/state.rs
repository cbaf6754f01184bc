//! What a state dict may hold, and which views are ranges.

use super::super::opcode;
use super::craft::{Ops, ROWS, Tensor, file, items, state_dict};
use super::object::Zip;
use super::{assert_refused, read};
use crate::error::Kind;

const STORAGES: &[(&str, u64)] = &[("0", 24)];

/// A dict of one entry, and the tensor `rows`.
fn with_entry(name: &str, entry: impl Fn(Ops) -> Ops) -> Vec<u8> {
    let ops = Ops::new().op(opcode::EMPTY_DICT).op(opcode::MARK).text("rows").tensor(&ROWS).text(name);
    entry(ops).op(opcode::SETITEMS).stop()
}

#[track_caller]
fn refuse(pickle: &[u8], kind: Kind, words: &str) {
    assert_refused(&file(pickle, STORAGES), kind, words);
}

#[test]
fn plain_values_are_skipped_and_listed() {
    let values: [fn(Ops) -> Ops; 7] = [
        |ops| ops.op(opcode::NONE),
        |ops| ops.int(1 << 40),
        |ops| ops.text("1.0"),
        |ops| ops.op(opcode::BINFLOAT).raw(&[0; 8]),
        |ops| {
            ops.op(opcode::EMPTY_DICT)
                .text("x")
                .op(opcode::EMPTY_LIST)
                .op(opcode::NEWTRUE)
                .op(opcode::APPEND)
                .op(opcode::SETITEM)
        },
        |ops| ops.global("torch", "float16"),
        |ops| ops.global("torch", "Size").ints(&[2, 3]).op(opcode::TUPLE1).op(opcode::REDUCE),
    ];
    for value in values {
        let contents = read(&file(&with_entry("extra", value), STORAGES)).unwrap();
        assert_eq!((contents.tensors.len(), contents.skipped), (1, vec!["extra".to_owned()]));
    }
}

#[test]
fn tensors_that_are_nested_are_refused_by_the_name_of_the_entry() {
    let dict = |ops: Ops| ops.op(opcode::EMPTY_DICT).text("a").tensor(&ROWS).op(opcode::SETITEM);
    refuse(&with_entry("state_dict", dict), Kind::Unsupported, "entry state_dict is a dict that holds tensors");
    let deep = |ops: Ops| dict(ops.op(opcode::EMPTY_LIST)).op(opcode::TUPLE1).op(opcode::APPEND);
    refuse(&with_entry("model", deep), Kind::Unsupported, "entry model is a list that holds tensors");
    refuse(&with_entry("bytes", |ops| ops.storage(&ROWS)), Kind::Unsupported, "entry bytes is a storage");
}

#[test]
fn attributes_are_ignored_unless_they_hold_tensors() {
    let with_metadata = |ops: fn(Ops) -> Ops| {
        let dict = Ops::new().ordered_dict().text("rows").tensor(&ROWS).op(opcode::SETITEM);
        ops(dict.op(opcode::EMPTY_DICT).text("_metadata")).op(opcode::SETITEM).op(opcode::BUILD).stop()
    };
    let contents = read(&file(&with_metadata(|ops| ops.ordered_dict()), STORAGES)).unwrap();
    assert_eq!((contents.tensors.len(), contents.skipped.len()), (1, 0));
    refuse(&with_metadata(|ops| ops.tensor(&ROWS)), Kind::Unsupported, "attributes of the state dict hold tensors");
}

#[test]
fn only_a_dict_of_unique_names_is_a_state_dict() {
    refuse(&Ops::new().tensor(&ROWS).stop(), Kind::Unsupported, "holds a tensor, expected a dict");
    refuse(&Ops::new().op(opcode::EMPTY_LIST).stop(), Kind::Unsupported, "holds a list, expected a dict");
    let numbered = Ops::new().op(opcode::EMPTY_DICT).int(0).tensor(&ROWS).op(opcode::SETITEM).stop();
    refuse(&numbered, Kind::Unsupported, "a key of the state dict is an integer");
    refuse(&with_entry("rows", |ops| ops.op(opcode::NONE)), Kind::BadPickle, "has rows twice");
    assert_eq!(read(&file(&state_dict(&[]), &[])).unwrap().tensors, []);
}

#[test]
fn a_dict_that_holds_itself_is_looked_at_once() {
    let cycle = |ops: Ops| {
        ops.op(opcode::EMPTY_DICT).op(opcode::BINPUT).op(9).text("self").op(opcode::BINGET).op(9).op(opcode::SETITEM)
    };
    assert_eq!(read(&file(&with_entry("cycle", cycle), STORAGES)).unwrap().skipped, ["cycle"]);
    // Twenty levels, each holding the one below twice: a million paths.
    let doubling = |ops: Ops| {
        (0..20).fold(ops.op(opcode::NONE), |ops, n| {
            ops.op(opcode::BINPUT).op(n).op(opcode::BINGET).op(n).op(opcode::TUPLE2)
        })
    };
    assert_eq!(read(&file(&with_entry("doubling", doubling), STORAGES)).unwrap().skipped, ["doubling"]);
}

#[test]
fn rows_one_after_another_are_a_range() {
    // Where the tensor lies in its storage, and its length.
    let place = |tensor: Tensor| {
        let laid = Zip::new(items(&state_dict(&[("t", tensor)]), STORAGES)).lay();
        let read = read(&laid.object).unwrap().tensors.remove(0);
        (read.offset - laid.data[2], read.length)
    };
    assert_eq!(place(ROWS), (0, 24));
    assert_eq!(place(Tensor { offset: 3, shape: &[3], strides: &[1], ..ROWS }), (12, 12));
    assert_eq!(place(Tensor { offset: 5, shape: &[], strides: &[], ..ROWS }), (20, 4));
    // The stride of a dimension of 1 is never used, nor is any stride of an empty tensor.
    assert_eq!(place(Tensor { shape: &[1, 3, 1], strides: &[77, 1, 99], ..ROWS }), (0, 12));
    let empty = Tensor { offset: 6, shape: &[1 << 40, 0, 1 << 40], strides: &[9, 9, 9], ..ROWS };
    assert_eq!(place(empty), (24, 0));
}

#[test]
fn other_strides_are_refused_by_name() {
    for (shape, strides) in [(&[3, 2], &[1, 3]), (&[2, 2], &[3, 1]), (&[2, 3], &[0, 1]), (&[3, 2], &[2, 0])] {
        let tensor = Tensor { shape, strides, ..ROWS };
        refuse(&state_dict(&[("block.weight", tensor)]), Kind::Unsupported, "tensor block.weight: strides");
    }
}

#[test]
fn views_beyond_their_storage_are_refused_by_name() {
    for (offset, shape) in [
        (1, &[2, 3][..]),
        (7, &[0, 1]),
        (0, &[7, 1]),
        (i64::MAX, &[1, 1]),
        (0, &[i64::MAX, i64::MAX]),
        (0, &[1 << 62, 1]),
    ] {
        let tensor = Tensor { offset, shape: Box::leak(shape.into()), strides: &[1, 1], ..ROWS };
        refuse(&state_dict(&[("t", tensor)]), Kind::BadPickle, "tensor t: shape");
    }
}

#[test]
fn views_that_overlap_in_part_are_refused_by_both_names() {
    let rows = |offset, shape: &'static [i64]| Tensor { offset, shape, strides: &[1], ..ROWS };
    let apart = state_dict(&[("a", rows(3, &[3])), ("b", rows(0, &[3])), ("c", rows(1, &[0]))]);
    assert_eq!(read(&file(&apart, STORAGES)).unwrap().tensors.len(), 3);
    let tied = state_dict(&[("a", ROWS), ("b", rows(0, &[6])), ("c", ROWS)]);
    assert_eq!(read(&file(&tied, STORAGES)).unwrap().tensors.len(), 3);
    for (a, b) in [(rows(0, &[4]), rows(3, &[3])), (rows(0, &[6]), rows(2, &[2])), (rows(0, &[6]), rows(0, &[5]))] {
        refuse(&state_dict(&[("x", a), ("y", b)]), Kind::Unsupported, "share bytes");
        refuse(&state_dict(&[("x", b), ("tied", a), ("y", a)]), Kind::Unsupported, "share bytes");
    }
}

#[test]
fn the_storage_must_have_the_length_that_the_pickle_says() {
    let pickle = state_dict(&[("rows", ROWS)]);
    for size in [0, 23, 25, 1 << 40] {
        assert_refused(&file(&pickle, &[("0", size)]), Kind::BadPickle, "bytes, the pickle says 24");
    }
    assert_refused(&file(&pickle, &[("1", 24)]), Kind::BadPickle, "storage model/data/0 is not in the archive");
    let huge = state_dict(&[("rows", Tensor { elements: i64::MAX, ..ROWS })]);
    refuse(&huge, Kind::BadPickle, "cannot have 9223372036854775807 elements");
}
