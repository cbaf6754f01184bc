//! What a pickle may ask for, and what is refused of it.

use super::super::machine::run;
use super::super::opcode::*;
use super::super::value::Value;
use super::craft::{Ops, ROWS, Tensor, file, state_dict};
use super::{assert_refused, read};
use crate::error::{Error, Kind};

/// What `torch.save` writes with the protocols 2 to 5.
const ALLOWED: [u8; 38] = [
    STOP,
    FRAME,
    MARK,
    NONE,
    NEWTRUE,
    NEWFALSE,
    BININT1,
    BININT2,
    BININT,
    LONG1,
    BINFLOAT,
    SHORT_BINBYTES,
    BINBYTES,
    BINBYTES8,
    SHORT_BINUNICODE,
    BINUNICODE,
    BINUNICODE8,
    EMPTY_TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
    TUPLE,
    EMPTY_LIST,
    APPEND,
    APPENDS,
    EMPTY_DICT,
    SETITEM,
    SETITEMS,
    BINGET,
    LONG_BINGET,
    BINPUT,
    LONG_BINPUT,
    MEMOIZE,
    GLOBAL,
    STACK_GLOBAL,
    BINPERSID,
    REDUCE,
    BUILD,
];

#[track_caller]
fn refuse(pickle: &[u8], kind: Kind, words: &str) -> Error {
    let error = run(pickle).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(words), "{error:?} does not say {words:?}");
    error
}

#[track_caller]
fn bad(ops: Ops, words: &str) {
    refuse(&ops.stop(), Kind::BadPickle, words);
}

/// The bytes that `torch.save({"a": Evil()}, path)` writes for an object whose `__reduce__` gives `(os.system, (..,))`.
#[test]
fn a_malicious_pickle_is_refused_by_what_it_calls() {
    let evil = Ops::new()
        .op(EMPTY_DICT)
        .text("layers.0.lora_A.weight")
        .global("posix", "system")
        .text("touch PICKLE_EXECUTED")
        .op(TUPLE1)
        .op(REDUCE)
        .op(SETITEM)
        .stop();
    assert_refused(&file(&evil, &[]), Kind::UnsafePickle, "the pickle calls posix.system, which is not tensor data");
    assert!(
        refuse(&evil, Kind::UnsafePickle, "data.pkl, byte 30: ").advice().unwrap().contains("nothing of it was run")
    );
}

#[test]
fn globals_beyond_the_list_are_refused_however_they_are_named() {
    for (module, name) in [
        ("builtins", "eval"),
        ("__builtin__", "set"),
        ("_codecs", "encode"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage\u{0}"),
        ("torch._utils ", "_rebuild_tensor_v2"),
        ("collections", "orderedDict"),
        ("", ""),
    ] {
        refuse(&Ops::new().global(module, name).stop(), Kind::UnsafePickle, "which is not tensor data");
        let by_stack = Ops::new().text(module).text(name).op(STACK_GLOBAL).stop();
        refuse(&by_stack, Kind::UnsafePickle, "which is not tensor data");
    }
    let instance = Ops::new().op(MARK).op(INST).raw(b"posix\nsystem\n").stop();
    refuse(&instance, Kind::UnsafePickle, "the pickle calls posix.system");
    let allowed = Ops::new().op(MARK).op(INST).raw(b"collections\nOrderedDict\n").stop();
    refuse(&allowed, Kind::UnsafePickle, "builds an object with INST");
    refuse(
        &Ops::new().global("a\u{7}b\u{1b}[2J", &"x".repeat(500)).stop(),
        Kind::UnsafePickle,
        r"a\u{7}b\u{1b}[2J.xxx",
    );
}

#[test]
fn tensors_that_are_not_dense_are_unsupported_not_unsafe() {
    for name in ["_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_meta_tensor_no_storage"] {
        refuse(&Ops::new().global("torch._utils", name).stop(), Kind::Unsupported, name);
    }
    refuse(&Ops::new().global("torch", "ComplexDoubleStorage").stop(), Kind::Unsupported, "torch.ComplexDoubleStorage");
}

#[test]
fn opcodes_beyond_the_list_are_refused_by_name() {
    for (code, name) in [(NEWOBJ, "NEWOBJ"), (NEWOBJ_EX, "NEWOBJ_EX"), (OBJ, "OBJ"), (EXT1, "EXT1"), (EXT4, "EXT4")] {
        let ops = Ops::new().global("collections", "OrderedDict").op(EMPTY_TUPLE).op(code).stop();
        refuse(&ops, Kind::UnsafePickle, &format!("builds an object with {name},"));
    }
    let builds = [INST, NEWOBJ, NEWOBJ_EX, OBJ, EXT1, EXT2, EXT4];
    for code in (0..=u8::MAX).filter(|code| !ALLOWED.contains(code) && !builds.contains(code)) {
        let words = name(code).map_or(format!("byte {code:#04x} is no opcode"), |n| format!("opcode {n}, which"));
        bad(Ops::new().op(code), &words);
    }
}

#[test]
fn a_pickle_that_is_cut_off_anywhere_is_refused() {
    let whole = state_dict(&[("a", ROWS), ("b", ROWS)]);
    assert!(run(&whole).is_ok());
    for length in 0..whole.len() {
        assert_eq!(run(&whole[..length]).unwrap_err().kind(), Kind::BadPickle, "cut off at {length}");
    }
    refuse(&[&whole[..], b"N."].concat(), Kind::BadPickle, "2 bytes follow STOP");
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_anything_is_allocated() {
    for ops in [
        Ops::new().op(BINUNICODE).raw(&[0xff; 4]),
        Ops::new().op(BINUNICODE8).raw(&[0xff; 8]),
        Ops::new().op(BINBYTES8).raw(&(1u64 << 62).to_le_bytes()),
        Ops::new().op(SHORT_BINBYTES).raw(&[9]),
    ] {
        bad(ops, "are left");
    }
    bad(Ops::new().op(FRAME).raw(&[0xff; 8]), "FRAME of 18446744073709551615 bytes");
    bad(Ops::new().op(LONG1).raw(&[0xff]), "cut off");
    bad(Ops::new().op(NONE).op(LONG_BINPUT).raw(&[0xff; 4]), "memo 4294967295 is out of bounds");
    bad(Ops::new().op(NONE).op(LONG_BINPUT).raw(&[60, 0, 0, 0]), "memo 60 is out of bounds");
    bad(Ops::new().op(BINGET).op(0), "memo 0 is not set");
    bad(Ops::new().op(GLOBAL).raw(&[b'x'; 2000]).raw(b"\n\n"), "a name that does not end");
    bad(Ops::new().text("x").raw(&[SHORT_BINUNICODE, 1, 0xff]), "not UTF-8");
    refuse(&[PROTO, 6, NONE, STOP], Kind::BadPickle, "protocol 6");
    refuse(b"N.", Kind::BadPickle, "does not start with PROTO");
}

#[test]
fn nesting_and_memory_have_limits() {
    bad((0..300).fold(Ops::new(), |ops, _| ops.op(MARK)), "nested more than 256 deep");
    bad(Ops::new().raw(&vec![NONE; (1 << 20) + 1]), "more than 1048576 values on the stack");
    bad(Ops::new().raw(&[EMPTY_DICT, APPEND].repeat(3)), "takes more than the stack holds");
    // One dict, and many empty ones as its keys.
    bad(Ops::new().op(EMPTY_DICT).raw(&[EMPTY_DICT, NONE, SETITEM].repeat(3 << 19)), "more than 8388608 values");
    // A hundred thousand tuples in each other: no recursion when they are dropped, or looked at.
    let nested = Ops::new().op(NONE).raw(&vec![TUPLE1; 100_000]);
    assert!(run(&nested.clone().stop()).is_ok());
    let entry = Ops::new().op(EMPTY_DICT).text("deep").raw(&nested.0[2..]).op(SETITEM).stop();
    assert_eq!(read(&file(&entry, &[])).unwrap().skipped, ["deep"]);
}

#[test]
fn the_stack_is_fenced_by_marks() {
    bad(Ops::new().op(NONE).op(MARK).op(TUPLE1), "takes more than the stack holds");
    bad(Ops::new().op(EMPTY_LIST).op(MARK).op(NONE).op(APPEND), "takes more than the stack holds");
    bad(Ops::new().op(MARK).op(NONE).op(NONE).op(SETITEMS), "takes more than the stack holds");
    bad(Ops::new().op(TUPLE), "needs a MARK");
    bad(Ops::new().op(EMPTY_DICT).op(MARK).op(NONE).op(SETITEMS), "a key that has no value");
    bad(Ops::new().op(NONE).op(NONE).op(APPEND), "APPEND to None");
    bad(Ops::new().op(EMPTY_LIST).op(NONE).op(NONE).op(SETITEM), "SETITEM on a list");
    bad(Ops::new().op(NONE).op(NONE), "STOP with 2 values and 0 marks");
    bad(Ops::new().op(MARK).op(NONE), "STOP with 1 values and 1 marks");
    bad(Ops::new(), "STOP with 0 values");
}

#[test]
fn calls_are_checked_argument_by_argument() {
    let call =
        |name: &str, args: &[u8]| Ops::new().global("torch._utils", name).op(MARK).raw(args).op(TUPLE).op(REDUCE);
    for name in [
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
        "_rebuild_parameter",
        "_rebuild_parameter_with_state",
    ] {
        for count in 0..12 {
            bad(call(name, &vec![NEWFALSE; count]), if count == 0 { "is called with ()" } else { "a bool" });
        }
    }
    bad(
        Ops::new().global("torch._utils", "_rebuild_tensor_v2").op(NONE).op(REDUCE),
        "REDUCE calls a type or function with None",
    );
    bad(Ops::new().op(NONE).op(EMPTY_TUPLE).op(REDUCE), "REDUCE calls None");
    bad(Ops::new().global("torch", "FloatStorage").op(EMPTY_TUPLE).op(REDUCE), "a storage class or dtype is called");
    bad(Ops::new().global("torch", "Size").op(EMPTY_TUPLE).op(REDUCE), "torch.Size");
    bad(Ops::new().global("collections", "OrderedDict").op(NONE).op(TUPLE1).op(REDUCE), "OrderedDict is called");
    for (tensor, words) in [
        (Tensor { offset: -1, ..ROWS }, "a tensor at offset -1"),
        (Tensor { elements: -6, ..ROWS }, "storage 0 has -6 elements"),
        (Tensor { shape: &[-2, -3], ..ROWS }, "a size or stride is -2"),
        (Tensor { strides: &[-3, 1], ..ROWS }, "a size or stride is -3"),
        (Tensor { shape: &[6], ..ROWS }, "1 sizes and 2 strides"),
        (Tensor { class: "float32", ..ROWS }, "does not name a storage"),
        (Tensor { class: "torch.storage.UntypedStorage", ..ROWS }, "without a dtype"),
    ] {
        bad(Ops::new().tensor(&tensor), words);
    }
    let wide = Tensor { shape: &[1; 40], strides: &[1; 40], ..ROWS };
    refuse(&Ops::new().tensor(&wide).stop(), Kind::Unsupported, "40 dimensions");
}

#[test]
fn a_storage_has_one_type_and_length() {
    let other = Tensor { class: "HalfStorage", ..ROWS };
    bad(Ops::new().storage(&ROWS).storage(&other), "storage 0 has two types or lengths");
    bad(Ops::new().storage(&ROWS).storage(&Tensor { elements: 7, ..ROWS }), "storage 0 has two types or lengths");
    bad(Ops::new().op(NONE).op(BINPERSID), "the persistent id is None");
    bad(Ops::new().op(EMPTY_TUPLE).op(BINPERSID), "does not name a storage");
}

#[test]
fn attributes_are_for_ordered_dicts_only() {
    let metadata = |ops: Ops| ops.op(EMPTY_DICT).text("_metadata").ordered_dict().op(SETITEM).op(BUILD);
    assert!(run(&metadata(Ops::new().ordered_dict()).stop()).is_ok());
    bad(metadata(Ops::new().op(EMPTY_DICT)), "BUILD sets a dict on a dict");
    bad(metadata(Ops::new().tensor(&ROWS)), "BUILD sets a dict on a tensor");
    bad(Ops::new().ordered_dict().op(NONE).op(BUILD), "BUILD sets None on a dict");
}

#[test]
fn flags_that_change_the_numbers_are_unsupported() {
    let flagged = |flag: u8| {
        let ops = Ops::new().global("torch._utils", "_rebuild_tensor_v2").op(MARK).storage(&ROWS).int(0);
        let ops = ops.ints(&[2, 3]).ints(&[3, 1]).op(NEWFALSE).ordered_dict();
        ops.op(EMPTY_DICT).text("conj").op(flag).op(SETITEM).op(TUPLE).op(REDUCE).stop()
    };
    assert!(run(&flagged(NEWFALSE)).is_ok());
    refuse(&flagged(NEWTRUE), Kind::Unsupported, "the flag conj");
}

#[test]
fn integers_of_any_length_are_read() {
    let assert_reads = |digits: &[u8], number: Value<'_>| {
        let pickle = Ops::new().op(LONG1).op(digits.len() as u8).raw(digits).stop();
        assert_eq!(run(&pickle).unwrap().root, number);
    };
    assert_reads(&[], Value::Int(0));
    assert_reads(&[0xff], Value::Int(-1));
    assert_reads(&[0xff, 0x00], Value::Int(255));
    assert_reads(&[0, 0, 0, 0, 0, 0, 0, 0x80], Value::Int(i64::MIN));
    assert_reads(&[0; 9], Value::Opaque);
}
