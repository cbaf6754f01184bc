//! Zip archives laid out by hand, of any size: what is not written is zeros that nobody stores.

use std::ops::Range;

/// An object of a store. Parts are in ascending order; between them are zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    pub(super) parts: Vec<(u64, Vec<u8>)>,
    pub(super) size: u64,
}

impl Object {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Object { parts: vec![(0, bytes.to_vec())], size: bytes.len() as u64 }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.parts.push((self.size, bytes.to_vec()));
        self.size += bytes.len() as u64;
    }

    pub(super) fn read(&self, range: &Range<u64>) -> Vec<u8> {
        let mut out = vec![0; (range.end - range.start) as usize];
        for (at, part) in &self.parts {
            let (from, to) = ((*at).max(range.start), (at + part.len() as u64).min(range.end));
            if from < to {
                let source = &part[(from - at) as usize..(to - at) as usize];
                out[(from - range.start) as usize..(to - range.start) as usize].copy_from_slice(source);
            }
        }
        out
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.read(&(0..self.size))
    }
}

/// An entry of an archive to be.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
    /// The size of its data; beyond `data` it is zeros.
    pub(super) size: u64,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) padding: u16,
}

impl Item {
    pub(super) fn new(name: &str, data: &[u8]) -> Self {
        let (name, data, size) = (name.to_owned(), data.to_vec(), data.len() as u64);
        Item { name, data, size, method: 0, flags: 0x0808, padding: 5 }
    }

    pub(super) fn zeros(name: &str, size: u64) -> Self {
        Item { size, ..Item::new(name, &[]) }
    }
}

/// An archive to be, laid out as torch does it.
#[derive(Debug, Clone, Default)]
pub(super) struct Zip {
    pub(super) items: Vec<Item>,
    /// Whether a zip64 end record is written; torch always writes one.
    pub(super) wide: bool,
}

/// An archive, and where its records are.
pub(super) struct Laid {
    pub(super) object: Object,
    pub(super) headers: Vec<u64>,
    pub(super) centrals: Vec<u64>,
    pub(super) data: Vec<u64>,
}

impl Zip {
    pub(super) fn new(items: Vec<Item>) -> Self {
        Zip { items, wide: true }
    }

    pub(super) fn object(&self) -> Object {
        self.lay().object
    }

    pub(super) fn lay(&self) -> Laid {
        let mut laid = Laid { object: Object::default(), headers: Vec::new(), centrals: Vec::new(), data: Vec::new() };
        for item in &self.items {
            laid.headers.push(laid.object.size);
            laid.object.append(&local(item));
            laid.data.push(laid.object.size);
            laid.object.append(&item.data);
            laid.object.size += item.size - item.data.len() as u64;
            laid.object.append(b"PK\x07\x08 and the sizes.......");
        }
        let start = laid.object.size;
        for (item, header) in self.items.iter().zip(&laid.headers) {
            laid.centrals.push(laid.object.size);
            laid.object.append(&central(item, *header));
        }
        let end = ends(self.items.len() as u64, start..laid.object.size, self.wide);
        laid.object.append(&end);
        laid
    }
}

fn local(item: &Item) -> Vec<u8> {
    let mut out = b"PK\x03\x04\0\0".to_vec();
    put16(&mut out, &[item.flags, item.method, 0, 0]);
    put32(&mut out, &[0, 0, 0]);
    put16(&mut out, &[item.name.len() as u16, item.padding]);
    out.extend(item.name.as_bytes());
    out.extend(vec![b'Z'; item.padding.into()]);
    out
}

fn central(item: &Item, header: u64) -> Vec<u8> {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let wide: Vec<u8> = [item.size, item.size, header]
        .into_iter()
        .filter(|n| narrow(*n) == u32::MAX)
        .flat_map(u64::to_le_bytes)
        .collect();
    let mut out = b"PK\x01\x02\0\0\0\0".to_vec();
    put16(&mut out, &[item.flags, item.method, 0, 0]);
    put32(&mut out, &[0, narrow(item.size), narrow(item.size)]);
    let extra = if wide.is_empty() { 0 } else { wide.len() as u16 + 4 };
    put16(&mut out, &[item.name.len() as u16, extra, 0, 0, 0]);
    put32(&mut out, &[0, narrow(header)]);
    out.extend(item.name.as_bytes());
    if !wide.is_empty() {
        put16(&mut out, &[1, wide.len() as u16]);
        out.extend(wide);
    }
    out
}

/// The end records for a directory of `entries` entries.
pub(super) fn ends(entries: u64, directory: Range<u64>, wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let size = directory.end - directory.start;
    if wide {
        out.extend(b"PK\x06\x06");
        put64(&mut out, &[44]);
        put16(&mut out, &[45, 45]);
        put32(&mut out, &[0, 0]);
        put64(&mut out, &[entries, entries, size, directory.start]);
        out.extend(b"PK\x06\x07");
        put32(&mut out, &[0]);
        put64(&mut out, &[directory.end]);
        put32(&mut out, &[1]);
    }
    out.extend(b"PK\x05\x06");
    let entries = u16::try_from(entries).unwrap_or(u16::MAX);
    put16(&mut out, &[0, 0, entries, entries]);
    put32(&mut out, &[size, directory.start].map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
    put16(&mut out, &[0]);
    out
}

fn put16(out: &mut Vec<u8>, fields: &[u16]) {
    out.extend(fields.iter().flat_map(|n| n.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, fields: &[u32]) {
    out.extend(fields.iter().flat_map(|n| n.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, fields: &[u64]) {
    out.extend(fields.iter().flat_map(|n| n.to_le_bytes()));
}
