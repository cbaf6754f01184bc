//! Files that torch wrote.

use super::object::Object;
use super::{assert_refused, read};
use crate::error::Kind;
use crate::tensor::{Dtype, DtypeExt};

const MODULE: &[u8] = include_bytes!("fixtures/module.bin");
const MODULE_5: &[u8] = include_bytes!("fixtures/module-protocol5.bin");
const PARAMETERS: &[u8] = include_bytes!("fixtures/parameters.bin");
const DTYPES: &[u8] = include_bytes!("fixtures/dtypes.bin");
const VIEWS: &[u8] = include_bytes!("fixtures/views.bin");
const LEGACY: &[u8] = include_bytes!("fixtures/legacy.bin");

pub(super) const ALL: [&[u8]; 6] = [MODULE, MODULE_5, PARAMETERS, DTYPES, VIEWS, LEGACY];

/// The floats of a tensor of a file.
fn floats(file: &[u8], name: &str) -> Vec<f32> {
    let contents = read(&Object::of(file)).unwrap();
    let tensor = contents.tensors.iter().find(|t| t.name == name).unwrap();
    assert_eq!(tensor.dtype, Dtype::F32);
    let bytes = &file[tensor.offset as usize..][..tensor.length as usize];
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn a_module_with_tied_weights_is_read_in_its_order() {
    for file in [MODULE, MODULE_5] {
        let contents = read(&Object::of(file)).unwrap();
        let names: Vec<_> = contents.tensors.iter().map(|t| t.name.as_str()).collect();
        let norm = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"];
        assert_eq!(names, [&["embed.weight"], &norm[..], &["head.weight"]].concat());
        assert_eq!(floats(file, "embed.weight"), (0u8..12).map(f32::from).collect::<Vec<_>>());
        assert_eq!(floats(file, "norm.running_var"), [1.0; 3]);
        let (tied, scalar) = (&contents.tensors[6], &contents.tensors[5]);
        assert_eq!((tied.offset, tied.length, &tied.shape), (contents.tensors[0].offset, 48, &vec![4, 3]));
        assert_eq!((scalar.dtype, scalar.length, scalar.shape.len()), (Dtype::I64, 8, 0));
        assert!(contents.skipped.is_empty());
    }
}

#[test]
fn parameters_are_their_tensors() {
    let contents = read(&Object::of(PARAMETERS)).unwrap();
    assert_eq!(contents.tensors.len(), 3);
    assert_eq!(floats(PARAMETERS, "norm.weight"), [1.0; 3]);
    assert_eq!(floats(PARAMETERS, "norm.bias"), [0.0; 3]);
}

#[test]
fn every_dtype_of_safetensors_is_known() {
    let contents = read(&Object::of(DTYPES)).unwrap();
    let dtypes: Vec<_> = contents.tensors.iter().map(|t| t.dtype.name()).collect();
    let floats = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"];
    let others = ["I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64"];
    assert_eq!(dtypes, [&floats[..], &others[..]].concat());
    for tensor in contents.tensors {
        assert_eq!((tensor.shape.as_slice(), tensor.length), (&[1, 3][..], 3 * tensor.dtype.bytes().unwrap()));
        let bytes = &DTYPES[tensor.offset as usize..][..tensor.length as usize];
        let width = bytes.len() / 3;
        assert_eq!(bytes[..width], bytes[2 * width..], "{} holds 1, 0, 1", tensor.name);
        assert_ne!(bytes[..width], bytes[width..2 * width], "{} holds 1, 0, 1", tensor.name);
    }
}

#[test]
fn slices_of_one_storage_are_ranges_of_it() {
    let contents = read(&Object::of(VIEWS)).unwrap();
    assert_eq!(floats(VIEWS, "first"), (0u8..6).map(f32::from).collect::<Vec<_>>());
    assert_eq!(floats(VIEWS, "rest"), (6u8..18).map(f32::from).collect::<Vec<_>>());
    assert_eq!((contents.tensors[2].shape.as_slice(), contents.tensors[2].length), (&[0, 6][..], 0));
}

#[test]
fn the_format_before_zip_is_refused_with_advice() {
    assert_refused(&Object::of(LEGACY), Kind::Unsupported, "before 1.6");
    assert!(super::refused(&Object::of(LEGACY)).advice().unwrap().contains("current torch"));
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    for old in [
        b"L119547037146038801333356L\n.".as_slice(),
        b"\x80\x04\x95\r\0\0\0\0\0\0\0\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        &tar,
    ] {
        assert_refused(&Object::of(old), Kind::Unsupported, "before 1.6");
    }
    // pickle.dump of a dictionary.
    assert_refused(&Object::of(b"\x80\x04}\x94."), Kind::Unsupported, "a pickle in the old form");
    assert_refused(&Object::of(b"\x80\x04"), Kind::Unsupported, "a pickle in the old form");
}
