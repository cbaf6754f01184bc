//! Finding entries with ranged reads, and the archives that are refused.

use super::super::{MAX_DIRECTORY, MAX_ENTRIES, MAX_PICKLE};
use super::craft::{ROWS, Tensor, items, small, state_dict};
use super::object::{Item, Object, Zip, ends};
use super::{assert_refused, read, read_counted, refused};
use crate::error::Kind;

/// Writes bytes over others.
fn patched(object: &Object, at: u64, with: &[u8]) -> Object {
    let mut bytes = object.bytes();
    bytes[at as usize..][..with.len()].copy_from_slice(with);
    Object::of(&bytes)
}

#[test]
fn data_is_never_read_and_may_lie_beyond_4_gib() {
    const HUGE: i64 = 6 << 30;
    let big = Tensor { class: "ByteStorage", key: "big", elements: HUGE, offset: 5, shape: &[HUGE - 5], strides: &[1] };
    let pickle = state_dict(&[("big", big), ("rows", ROWS)]);
    let laid = Zip::new(items(&pickle, &[("big", HUGE as u64), ("0", 24)])).lay();
    let (contents, cost) = read_counted(&laid.object);
    let tensors = contents.unwrap().tensors;
    assert_eq!((tensors[0].offset, tensors[0].length), (laid.data[2] + 5, HUGE as u64 - 5));
    assert_eq!((tensors[1].offset, tensors[1].length), (laid.data[3], 24));
    assert!(tensors[1].offset > 4 << 30);
    assert!(cost.rounds <= 2 && cost.bytes <= 129 << 10, "{cost:?}");
}

#[test]
fn the_headers_of_all_storages_are_asked_for_at_once() {
    const COUNT: usize = 20_000;
    let keys: Vec<&'static str> = (0..COUNT).map(|n| &*Box::leak(n.to_string().into_boxed_str())).collect();
    let names: Vec<String> = keys.iter().map(|k| format!("layers.{k}.weight")).collect();
    let tensors: Vec<_> = names.iter().zip(&keys).map(|(n, key)| (n.as_str(), Tensor { key, ..ROWS })).collect();
    let storages: Vec<_> = keys.iter().map(|key| (*key, 24)).collect();
    let laid = Zip::new(items(&state_dict(&tensors), &storages)).lay();
    // One part, since looking up one of many would be what takes the time.
    let (contents, cost) = read_counted(&Object::of(&laid.object.bytes()));
    let offsets: Vec<_> = contents.unwrap().tensors.iter().map(|t| t.offset).collect();
    assert_eq!(offsets, laid.data[2..COUNT + 2]);
    assert!(cost.rounds <= 4 && cost.ranges <= COUNT + 5, "{cost:?}");
}

#[test]
fn every_way_of_writing_a_zip_is_understood_alike() {
    for wide in [false, true] {
        for padding in [0, 63, 200, 4096] {
            let mut zip = Zip { wide, ..small() };
            zip.items.iter_mut().for_each(|item| item.padding = padding);
            let laid = zip.lay();
            assert_eq!(read(&laid.object).unwrap().tensors[0].offset, laid.data[2]);
        }
    }
    // Torch before 2.1 wrote no byteorder.
    let mut old = small();
    old.items.retain(|item| item.name != "model/byteorder");
    assert_eq!(read(&old.object()).unwrap().tensors.len(), 1);
}

#[test]
fn the_zip_crate_reads_what_is_made_here_and_the_reverse() {
    use std::io::{Cursor, Write};
    let laid = small().lay();
    let mut archive = zip::ZipArchive::new(Cursor::new(laid.object.bytes())).unwrap();
    for (item, data) in small().items.iter().zip(&laid.data) {
        assert_eq!(archive.by_name(&item.name).unwrap().data_start(), *data);
    }
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (item, large) in small().items.iter().zip([false, true, true, false]) {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file(&item.name, stored.large_file(large)).unwrap();
        writer.write_all(&[&item.data[..], &vec![0; item.size as usize - item.data.len()]].concat()).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    let offset = read(&Object::of(&bytes)).unwrap().tensors[0].offset;
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    assert_eq!(archive.by_name("model/data/0").unwrap().data_start(), offset);
}

#[test]
fn what_is_not_a_zip_of_torch_is_told_apart() {
    assert_refused(&Object::of(b""), Kind::BadPickle, "not a file of torch.save");
    assert_refused(&Object::of(b"PK\x03\x04"), Kind::BadPickle, "do not end with a zip directory");
    assert_refused(&Object::of(b"\x80\x02}q\0."), Kind::Unsupported, "a pickle in the old form");
    assert_refused(&Object::of(b"<!doctype html>"), Kind::BadPickle, "not a file of torch.save");
    let pointer = Object::of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert!(refused(&pointer).advice().unwrap().contains("git lfs pull"));
    let other = Zip::new(vec![Item::new("word/document.xml", b"<x/>")]).object();
    assert_refused(&other, Kind::BadPickle, "holds no data.pkl");
}

#[test]
fn a_torchscript_archive_is_refused_by_name() {
    for (name, method) in [("model/constants.pkl", 0), ("model/code/__torch__.py", 8)] {
        let mut zip = small();
        zip.items.push(Item { method, ..Item::new(name, b"x") });
        assert_refused(&zip.object(), Kind::Unsupported, &format!("a TorchScript archive: it holds {name}"));
    }
}

#[test]
fn entries_that_are_not_plain_bytes_are_refused_by_name() {
    let mut zip = small();
    zip.items[2].method = 8;
    assert_refused(&zip.object(), Kind::Unsupported, "zip entry model/data/0 is compressed (method 8)");
    zip.items[2].method = 0;
    zip.items[2].flags = 0x0801;
    assert_refused(&zip.object(), Kind::Unsupported, "zip entry model/data/0 is encrypted or patched (flags 0x0801)");
    let laid = small().lay();
    assert_refused(
        &patched(&laid.object, laid.centrals[2] + 20, &[9]),
        Kind::BadPickle,
        "model/data/0 is stored, yet takes 9 bytes for 24",
    );
    let directory = patched(&laid.object, laid.centrals[2] + 38, &[0x10]);
    assert_refused(&directory, Kind::BadPickle, "model/data/0 is marked as a directory");
}

#[test]
fn the_byte_order_must_be_little() {
    for (order, kind, words) in [
        (&b"big"[..], Kind::Unsupported, "big-endian"),
        (b"middle", Kind::BadPickle, "byteorder is middle"),
        (b"", Kind::BadPickle, "byteorder is"),
        (&[b'l'; 99], Kind::BadPickle, "model/byteorder has 99 bytes"),
    ] {
        let mut zip = small();
        zip.items[1] = Item::new("model/byteorder", order);
        assert_refused(&zip.object(), kind, words);
    }
}

#[test]
fn duplicate_names_and_a_second_pickle_are_refused() {
    let mut twice = small();
    twice.items.push(Item::zeros("model/data/0", 24));
    assert_refused(&twice.object(), Kind::BadPickle, "zip entry model/data/0 is there twice");
    let mut second = small();
    second.items.push(Item::new("other/data.pkl", b"\x80\x02}."));
    assert_refused(&second.object(), Kind::BadPickle, "two pickles, model/data.pkl and other/data.pkl");
    let mut outside = small();
    outside.items.push(Item::new("models/data/0", b"x"));
    assert_refused(&outside.object(), Kind::BadPickle, "zip entry models/data/0 is outside of model/");
}

#[test]
fn entries_that_overlap_or_lie_outside_are_refused() {
    let laid = small().lay();
    let entry = laid.centrals[2];
    let header = |at: u64| (at as u32).to_le_bytes();
    for at in [laid.headers[1], laid.headers[3] - 1, laid.object.size, u64::from(u32::MAX - 1)] {
        let moved = patched(&laid.object, entry + 42, &header(at));
        assert_refused(&moved, Kind::BadPickle, "run into");
    }
    let within = patched(&laid.object, entry + 42, &header(laid.headers[2] + 1));
    assert_refused(&within, Kind::BadPickle, "its local header contradicts the directory");
    // Larger than the room up to the next entry; both sizes, as it is stored.
    let grown = patched(&laid.object, entry + 20, &[[99, 0, 0, 0], [99, 0, 0, 0]].concat());
    assert_refused(&grown, Kind::BadPickle, "zip entry model/data/0: 99 bytes");
    // The local header claims so much padding that the data would begin in the next entry.
    let padded = patched(&laid.object, laid.headers[2] + 28, &[0xff, 0xff]);
    assert_refused(&padded, Kind::BadPickle, "zip entry model/data/0: 24 bytes at byte");
}

#[test]
fn a_local_header_that_contradicts_the_directory_is_refused() {
    let laid = small().lay();
    let at = laid.headers[2];
    for (offset, bytes) in [(0, &b"QK"[..]), (6, &[1]), (8, &[8]), (18, &[9]), (26, &[1]), (30, b"other")] {
        let other = patched(&laid.object, at + offset, bytes);
        assert_refused(&other, Kind::BadPickle, "zip entry model/data/0: its local header contradicts the directory");
    }
    // Sizes may stand there, too.
    assert!(read(&patched(&laid.object, at + 18, &[24, 0, 0, 0, 24, 0, 0, 0])).is_ok());
}

#[test]
fn bytes_before_or_after_the_archive_are_refused() {
    let bytes = small().object().bytes();
    assert_refused(&Object::of(&[&bytes[..], b"x"].concat()), Kind::BadPickle, "do not end with a zip directory");
    assert_refused(&Object::of(&[b"x", &bytes[..]].concat()), Kind::BadPickle, "not a file of torch.save");
    assert_refused(&Object::of(&[&bytes[..], &bytes[..]].concat()), Kind::BadPickle, "zip64 end record is not where");
    let narrow = Zip { wide: false, ..small() }.object().bytes();
    assert_refused(&Object::of(&[&narrow[..], &narrow[..]].concat()), Kind::BadPickle, "it should end at byte");
    for length in 0..bytes.len() {
        assert_eq!(refused(&Object::of(&bytes[..length])).kind(), Kind::BadPickle, "cut off at {length}");
    }
}

#[test]
fn end_records_that_disagree_are_refused() {
    let object = small().object();
    let (end, locator, wide) = (object.size - 22, object.size - 42, object.size - 98);
    for (at, bytes, words) in [
        (end + 10, 9, "disagree"),
        (end + 16, 9, "disagree"),
        (locator + 8, 9, "not where it should be"),
        (wide, 9, "not where it should be"),
        (wide + 4, 45, "not where it should be"),
        (wide + 24, 9, "disagree"),
        (wide + 48, 9, "disagree"),
        (end + 20, 9, "do not end with a zip directory"),
    ] {
        assert_refused(&patched(&object, at, &[bytes]), Kind::BadPickle, words);
    }
    let two_disks = patched(&patched(&object, end + 10, &[0xff, 0xff]), wide + 32, &[9]);
    assert_refused(&two_disks, Kind::BadPickle, "one of several parts");
}

#[test]
fn counts_and_sizes_are_checked_before_anything_is_fetched() {
    let claim = |entries, size, directory: u64| {
        let mut object = Object::of(b"PK\x03\x04");
        object.size = size;
        object.append(&ends(entries, directory..size, true));
        let (contents, cost) = read_counted(&object);
        assert_eq!(cost.rounds, 1, "{cost:?}");
        contents.unwrap_err().message().to_owned()
    };
    assert!(claim(1, 1 << 40, 0).contains("the zip directory has 1099511627776 bytes, the limit is"));
    assert!(claim(1, 1 << 40, (1 << 40) - MAX_DIRECTORY - 1).contains("bytes, the limit is"));
    assert!(claim(MAX_ENTRIES + 1, 1 << 40, (1 << 40) - 100).contains("entries, the limit is"));
    assert!(claim(u64::MAX, 1 << 40, (1 << 40) - 100).contains("entries, the limit is"));
    assert!(claim(3, 1 << 30, (1 << 30) - 100).contains("cannot hold 3 entries"));

    let pickle = Item::zeros("model/data.pkl", MAX_PICKLE + 1);
    assert_refused(
        &Zip::new(vec![pickle]).object(),
        Kind::BadPickle,
        "model/data.pkl has 268435457 bytes, the limit is",
    );
    let laid = small().lay();
    let damaged = patched(&laid.object, laid.centrals[3], b"QK");
    assert_refused(&damaged, Kind::BadPickle, "entry 3 of the zip directory is damaged");
    let end = laid.object.size;
    let fewer = patched(&laid.object, end - 22 + 8, &[2, 0, 2]);
    let fewer = patched(&fewer, end - 98 + 24, &[2, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_refused(&fewer, Kind::BadPickle, "bytes follow the 2 entries");
}
