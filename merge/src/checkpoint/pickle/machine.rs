//! A machine for the pickles that `torch.save` writes, and for no others.
//!
//! Opcodes are those of Python's `pickletools` for protocols 2 to 5, without the ones that build objects, take names
//! from a registry, or that torch has no use for. `REDUCE` calls nothing: it knows the few functions of
//! [`global`] and writes down what they would make. Every opcode reads forward and adds a bounded
//! number of values, so a pickle ends after as many steps as it has bytes at most.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::memo::Memo;
use super::refuse::{bad, shown};
use super::stack::Stack;
use super::value::{Heap, Storage, Value};
use super::{global, opcode, rebuild};
use crate::error::{Error, Kind, Result};

/// The longest line of a GLOBAL.
const MAX_LINE: usize = 1024;

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickled<'a> {
    pub(super) root: Value<'a>,
    pub(super) heap: Heap<'a>,
}

/// Runs a pickle to its end.
pub(super) fn run(bytes: &[u8]) -> Result<Pickled<'_>> {
    let mut machine = Machine {
        cursor: Cursor::new(bytes),
        opcode_at: 0,
        stack: Stack::default(),
        memo: Memo::default(),
        heap: Heap::default(),
        storages: HashMap::new(),
    };
    match machine.run() {
        Ok(root) => Ok(Pickled { root, heap: machine.heap }),
        Err(error) => Err(error.at(format_args!("data.pkl, byte {}", machine.opcode_at))),
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    /// Where the opcode at hand stands.
    opcode_at: usize,
    stack: Stack<'a>,
    memo: Memo<'a>,
    heap: Heap<'a>,
    /// By key: torch names a storage anew for every tensor that uses it.
    storages: HashMap<&'a str, u32>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value<'a>> {
        match (self.cursor.u8(), self.cursor.u8()) {
            (Some(opcode::PROTO), Some(2..=5)) => {}
            (Some(opcode::PROTO), Some(version)) => {
                return Err(bad(format!("pickle protocol {version}, known are 2 to 5")));
            }
            _ => return Err(bad("not a pickle: it does not start with PROTO")),
        }
        loop {
            self.opcode_at = self.cursor.at();
            let code = field(self.cursor.u8())?;
            if code == opcode::STOP {
                return self.stop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            opcode::FRAME => self.frame(),
            opcode::MARK => self.stack.mark(),
            opcode::NONE => self.stack.push(Value::None),
            opcode::NEWTRUE => self.stack.push(Value::Bool(true)),
            opcode::NEWFALSE => self.stack.push(Value::Bool(false)),
            opcode::BININT1 => self.integer(|c| c.u8().map(i64::from)),
            opcode::BININT2 => self.integer(|c| c.u16().map(i64::from)),
            opcode::BININT => self.integer(|c| c.i32().map(i64::from)),
            opcode::LONG1 => self.long(),
            opcode::BINFLOAT => self.opaque(|_| Some(8)),
            opcode::SHORT_BINBYTES => self.opaque(|c| c.u8().map(u64::from)),
            opcode::BINBYTES => self.opaque(|c| c.u32().map(u64::from)),
            opcode::BINBYTES8 => self.opaque(Cursor::u64),
            opcode::SHORT_BINUNICODE => self.text(|c| c.u8().map(u64::from)),
            opcode::BINUNICODE => self.text(|c| c.u32().map(u64::from)),
            opcode::BINUNICODE8 => self.text(Cursor::u64),
            opcode::EMPTY_TUPLE => self.tuple(0),
            opcode::TUPLE1 => self.tuple(1),
            opcode::TUPLE2 => self.tuple(2),
            opcode::TUPLE3 => self.tuple(3),
            opcode::TUPLE => self.stack.unmark().and_then(|count| self.tuple(count)),
            opcode::EMPTY_LIST => self.heap.list().and_then(|list| self.stack.push(list)),
            opcode::APPEND => self.append(1),
            opcode::APPENDS => self.stack.unmark().and_then(|count| self.append(count)),
            opcode::EMPTY_DICT => self.heap.dict(false).and_then(|dict| self.stack.push(dict)),
            opcode::SETITEM => self.set_items(2),
            opcode::SETITEMS => self.stack.unmark().and_then(|count| self.set_items(count)),
            opcode::BINGET => field(self.cursor.u8()).and_then(|index| self.get(index.into())),
            opcode::LONG_BINGET => field(self.cursor.u32()).and_then(|index| self.get(index)),
            opcode::BINPUT => field(self.cursor.u8()).and_then(|index| self.put(index.into())),
            opcode::LONG_BINPUT => field(self.cursor.u32()).and_then(|index| self.put(index as usize)),
            opcode::MEMOIZE => self.put(self.memo.next()),
            opcode::GLOBAL => self.global(),
            opcode::STACK_GLOBAL => self.stack_global(),
            opcode::BINPERSID => self.persistent(),
            opcode::REDUCE => self.reduce(),
            opcode::BUILD => self.build(),
            _ => Err(self.refusal(code)),
        }
    }

    fn stop(&self) -> Result<Value<'a>> {
        match self.cursor.remaining() {
            0 => self.stack.only(),
            left => Err(bad(format!("{left} bytes follow STOP"))),
        }
    }

    /// Frames only help reading ahead, but must not promise what is not there.
    fn frame(&mut self) -> Result<()> {
        let (length, left) = (field(self.cursor.u64())?, self.cursor.remaining() as u64);
        if length > left {
            return Err(bad(format!("FRAME of {length} bytes, {left} are left")));
        }
        Ok(())
    }

    fn integer(&mut self, read: impl Fn(&mut Cursor<'a>) -> Option<i64>) -> Result<()> {
        let value = field(read(&mut self.cursor))?;
        self.stack.push(Value::Int(value))
    }

    /// A little-endian number in two's complement, of up to 255 bytes.
    fn long(&mut self) -> Result<()> {
        let length = field(self.cursor.u8())?;
        let digits = field(self.cursor.take(length.into()))?;
        if digits.len() > 8 {
            return self.stack.push(Value::Opaque);
        }
        let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..digits.len()].copy_from_slice(digits);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn counted(&mut self, length: impl Fn(&mut Cursor<'a>) -> Option<u64>) -> Result<&'a [u8]> {
        let length = field(length(&mut self.cursor))?;
        let left = self.cursor.remaining();
        let bytes = usize::try_from(length).ok().and_then(|n| self.cursor.take(n));
        bytes.ok_or_else(|| bad(format!("a value of {length} bytes, {left} are left")))
    }

    fn opaque(&mut self, length: impl Fn(&mut Cursor<'a>) -> Option<u64>) -> Result<()> {
        self.counted(length)?;
        self.stack.push(Value::Opaque)
    }

    fn text(&mut self, length: impl Fn(&mut Cursor<'a>) -> Option<u64>) -> Result<()> {
        let text = utf8(self.counted(length)?)?;
        self.stack.push(Value::Text(text))
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let tuple = self.heap.tuple(self.stack.upper(count)?)?;
        self.stack.drop_upper(count);
        self.stack.push(tuple)
    }

    /// Appends the uppermost `count` values to the list below them.
    fn append(&mut self, count: usize) -> Result<()> {
        let (target, items) = below(self.stack.upper(count + 1)?)?;
        match target {
            Value::List(list) => self.heap.append(list, items)?,
            other => return Err(bad(format!("APPEND to {}", other.kind()))),
        }
        self.stack.drop_upper(count);
        Ok(())
    }

    /// Adds the uppermost `count` values, keys and values in turn, to the dict below them.
    fn set_items(&mut self, count: usize) -> Result<()> {
        if !count.is_multiple_of(2) {
            return Err(bad("SETITEMS with a key that has no value"));
        }
        let (target, items) = below(self.stack.upper(count + 1)?)?;
        match target {
            Value::Dict(dict) => self.heap.insert(dict, items)?,
            other => return Err(bad(format!("SETITEM on {}", other.kind()))),
        }
        self.stack.drop_upper(count);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        self.stack.push(self.memo.get(index)?)
    }

    fn put(&mut self, index: usize) -> Result<()> {
        self.memo.put(index, self.stack.top()?, self.cursor.at())
    }

    fn line(&mut self) -> Result<&'a str> {
        utf8(self.cursor.line(MAX_LINE).ok_or_else(|| bad("a name that does not end"))?)
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.stack.push(Value::Global(global::resolve(module, name)?))
    }

    fn stack_global(&mut self) -> Result<()> {
        let (name, module) = (self.stack.pop()?, self.stack.pop()?);
        let (Value::Text(module), Value::Text(name)) = (module, name) else {
            return Err(bad(format!("STACK_GLOBAL of {} and {}", module.kind(), name.kind())));
        };
        self.stack.push(Value::Global(global::resolve(module, name)?))
    }

    /// A reference out of the pickle: torch refers to storages this way.
    fn persistent(&mut self) -> Result<()> {
        let id = self.stack.pop()?;
        let storage = rebuild::storage(id, &self.heap)?;
        let index = match self.storages.get(storage.key) {
            Some(index) => self.same(*index, storage)?,
            None => {
                let index = self.heap.storage(storage)?;
                self.storages.insert(storage.key, index);
                index
            }
        };
        self.stack.push(Value::Storage(index))
    }

    fn same(&self, index: u32, storage: Storage<'a>) -> Result<u32> {
        if self.heap.storage_of(index) != storage {
            return Err(bad(format!("storage {} has two types or lengths", shown(storage.key))));
        }
        Ok(index)
    }

    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.stack.pop()?, self.stack.pop()?);
        let (Value::Global(callee), Value::Tuple(args)) = (callee, args) else {
            return Err(bad(format!("REDUCE calls {} with {}", callee.kind(), args.kind())));
        };
        let made = rebuild::call(callee, args, &mut self.heap)?;
        self.stack.push(made)
    }

    /// Attributes of an object: `_metadata` of a state dict.
    fn build(&mut self) -> Result<()> {
        let (state, target) = (self.stack.pop()?, self.stack.top()?);
        match (target, state) {
            (Value::Dict(dict), Value::Dict(attributes)) if self.heap.set_attributes(dict, attributes) => Ok(()),
            _ => Err(bad(format!("BUILD sets {} on {}", state.kind(), target.kind()))),
        }
    }

    fn refusal(&mut self, code: u8) -> Error {
        let Some(name) = opcode::name(code) else {
            return bad(format!("byte {code:#04x} is no opcode"));
        };
        match code {
            opcode::INST => match (self.line(), self.line()) {
                (Ok(module), Ok(class)) => global::resolve(module, class).err().unwrap_or_else(|| builds(name)),
                _ => builds(name),
            },
            opcode::OBJ | opcode::NEWOBJ | opcode::NEWOBJ_EX | opcode::EXT1 | opcode::EXT2 | opcode::EXT4 => {
                builds(name)
            }
            _ => bad(format!("opcode {name}, which torch.save does not write")),
        }
    }
}

fn builds(opcode: &str) -> Error {
    Error::new(Kind::UnsafePickle, format!("the pickle builds an object with {opcode}, which is not tensor data"))
        .hint(global::DISTRUST)
}

fn below<'s, 'a>(values: &'s [Value<'a>]) -> Result<(Value<'a>, &'s [Value<'a>])> {
    values.split_first().map(|(target, items)| (*target, items)).ok_or_else(|| bad("nothing on the stack"))
}

fn field<T>(read: Option<T>) -> Result<T> {
    read.ok_or_else(|| bad("the pickle is cut off"))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| bad("a string that is not UTF-8"))
}
