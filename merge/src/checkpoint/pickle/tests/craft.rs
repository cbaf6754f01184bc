//! Pickles written opcode by opcode, and state dicts made of them.

use super::super::opcode;
use super::object::{Item, Object, Zip};

/// A pickle in the making, protocol 2.
#[derive(Debug, Clone)]
pub(super) struct Ops(pub(super) Vec<u8>);

impl Ops {
    pub(super) fn new() -> Self {
        Ops(vec![opcode::PROTO, 2])
    }

    pub(super) fn op(mut self, code: u8) -> Self {
        self.0.push(code);
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.op(opcode::BINUNICODE).raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub(super) fn int(self, n: i64) -> Self {
        match i32::try_from(n) {
            Ok(n) => self.op(opcode::BININT).raw(&n.to_le_bytes()),
            Err(_) => self.op(opcode::LONG1).op(8).raw(&n.to_le_bytes()),
        }
    }

    pub(super) fn ints(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.op(opcode::MARK), |ops, n| ops.int(*n)).op(opcode::TUPLE)
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.op(opcode::GLOBAL).raw(format!("{module}\n{name}\n").as_bytes())
    }

    pub(super) fn ordered_dict(self) -> Self {
        self.global("collections", "OrderedDict").op(opcode::EMPTY_TUPLE).op(opcode::REDUCE)
    }

    pub(super) fn storage(self, tensor: &Tensor) -> Self {
        let (module, class) = tensor.class.rsplit_once('.').unwrap_or(("torch", tensor.class));
        self.op(opcode::MARK)
            .text("storage")
            .global(module, class)
            .text(tensor.key)
            .text("cpu")
            .int(tensor.elements)
            .op(opcode::TUPLE)
            .op(opcode::BINPERSID)
    }

    pub(super) fn tensor(self, tensor: &Tensor) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(opcode::MARK)
            .storage(tensor)
            .int(tensor.offset)
            .ints(tensor.shape)
            .ints(tensor.strides)
            .op(opcode::NEWFALSE)
            .ordered_dict()
            .op(opcode::TUPLE)
            .op(opcode::REDUCE)
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.op(opcode::STOP).0
    }
}

/// A tensor to be pickled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    pub(super) class: &'static str,
    pub(super) key: &'static str,
    pub(super) elements: i64,
    pub(super) offset: i64,
    pub(super) shape: &'static [i64],
    pub(super) strides: &'static [i64],
}

/// Six floats in two rows.
pub(super) const ROWS: Tensor =
    Tensor { class: "FloatStorage", key: "0", elements: 6, offset: 0, shape: &[2, 3], strides: &[3, 1] };

pub(super) fn state_dict(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let start = Ops::new().op(opcode::EMPTY_DICT).op(opcode::MARK);
    tensors.iter().fold(start, |ops, (name, t)| ops.text(name).tensor(t)).op(opcode::SETITEMS).stop()
}

/// The entries of a file with this pickle and storages, named and ordered as torch does it.
pub(super) fn items(pickle: &[u8], storages: &[(&str, u64)]) -> Vec<Item> {
    let mut items = vec![Item::new("model/data.pkl", pickle), Item::new("model/byteorder", b"little")];
    items.extend(storages.iter().map(|(key, size)| Item::zeros(&format!("model/data/{key}"), *size)));
    items.push(Item::new("model/version", b"3\n"));
    items
}

pub(super) fn file(pickle: &[u8], storages: &[(&str, u64)]) -> Object {
    Zip::new(items(pickle, storages)).object()
}

/// A file of one tensor, [`ROWS`].
pub(super) fn small() -> Zip {
    Zip::new(items(&state_dict(&[("rows", ROWS)]), &[("0", 24)]))
}
