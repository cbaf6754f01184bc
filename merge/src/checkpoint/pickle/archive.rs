//! The central directory of a zip archive, and the local header of an entry (APPNOTE.TXT 4.3.7, 4.3.12, 4.5.3).
//!
//! The `zip` crate is not used for reading: it lets a repeated name win silently, sizes buffers by the counts that the
//! file claims, and after any failure searches the whole object backwards for another directory. The tests use it as
//! the other opinion.

use std::ops::Range;

use super::cursor::Cursor;
use super::end::End;
use super::refuse::{bad, shown, unsupported};
use crate::error::Result;

/// The fixed part of a local header.
const LOCAL: u64 = 30;
/// Flags that change nothing for stored bytes: compression options, sizes after the data, names in UTF-8.
const HARMLESS_FLAGS: u16 = 0x080e;
/// The external attribute of a directory.
const DIRECTORY: u32 = 0x10;

/// The entries of an archive, by name.
#[derive(Debug)]
pub(super) struct Directory {
    /// The names, one after another: an allocation for each would cost more than the names.
    names: String,
    entries: Vec<Entry>,
    root: String,
}

/// An entry whose bytes are stored as they are.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    name: Range<usize>,
    header: u64,
    /// Where the next thing begins: the data ends here at the latest.
    limit: u64,
    /// Bytes of its data.
    pub(super) size: u64,
    packed: u64,
    method: u16,
    flags: u16,
    /// External attributes, as MS-DOS knew them.
    attributes: u32,
}

impl Directory {
    /// Parses the bytes of a central directory.
    pub(super) fn parse(bytes: &[u8], end: &End) -> Result<Directory> {
        let mut cursor = Cursor::new(bytes);
        let mut names = String::new();
        let mut entries = Vec::new();
        for index in 0..end.entries {
            let entry = central(&mut cursor, &mut names)
                .ok_or_else(|| bad(format!("entry {index} of the zip directory is damaged")))?;
            entries.push(entry);
        }
        if cursor.remaining() > 0 {
            let (left, count) = (cursor.remaining(), end.entries);
            return Err(bad(format!("{left} bytes follow the {count} entries of the zip directory")));
        }
        let mut directory = Directory { names, entries, root: String::new() };
        directory.refuse_script()?;
        directory.refuse_overlaps(end.directory.start)?;
        directory.refuse_duplicates()?;
        directory.root = directory.find_root()?.to_owned();
        Ok(directory)
    }

    /// The folder that holds all entries, `data.pkl` among them; torch names it after the file.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The entry of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|e| self.name(e).cmp(name)).ok()?;
        self.entries.get(index)
    }

    /// The name of one of its entries.
    pub(super) fn name(&self, entry: &Entry) -> &str {
        &self.names[entry.name.clone()]
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| self.name(e))
    }

    fn find_root(&self) -> Result<&str> {
        let mut roots = self.names().filter_map(|n| n.strip_suffix("/data.pkl")).filter(|root| !root.contains('/'));
        let root = match (roots.next(), roots.next()) {
            (Some(root), None) => root,
            (None, _) => return Err(bad("the zip archive holds no data.pkl, so torch.save did not write it")),
            (Some(a), Some(b)) => {
                let (a, b) = (shown(a), shown(b));
                return Err(bad(format!("the archive holds two pickles, {a}/data.pkl and {b}/data.pkl")));
            }
        };
        let within = |name: &str| name.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
        match self.names().find(|name| !within(name)) {
            Some(name) => Err(bad(format!("zip entry {} is outside of {}/", shown(name), shown(root)))),
            None => Ok(root),
        }
    }

    /// TorchScript archives hold code beside the tensors, and some of it compressed: said first, it explains the rest.
    fn refuse_script(&self) -> Result<()> {
        let script = self.names().find(|n| {
            let inner = n.split_once('/').map_or("", |(_, inner)| inner);
            inner == "constants.pkl" || inner.starts_with("code/")
        });
        match script {
            Some(name) => Err(unsupported(format!("a TorchScript archive: it holds {}", shown(name)))
                .hint("save the model's state_dict() with torch.save, or as safetensors")),
            None => Ok(()),
        }
    }

    fn refuse_overlaps(&mut self, end: u64) -> Result<()> {
        self.entries.sort_by_key(|e| e.header);
        let mut limit = end;
        for index in (0..self.entries.len()).rev() {
            self.entries[index].limit = limit;
            let entry = &self.entries[index];
            stored(entry, self.name(entry))?;
            // The least that it takes; the local header tells the rest where the entry is used.
            let least = LOCAL.checked_add(entry.name.len() as u64).and_then(|n| n.checked_add(entry.size));
            if least.and_then(|n| n.checked_add(entry.header)).is_none_or(|end| end > limit) {
                let follower = self.entries.get(index + 1).map_or("the directory", |e| self.name(e));
                return Err(bad(format!(
                    "zip entry {}: {} bytes at byte {} run into {} at byte {limit}",
                    shown(self.name(entry)),
                    entry.size,
                    entry.header,
                    shown(follower)
                )));
            }
            limit = entry.header;
        }
        Ok(())
    }

    fn refuse_duplicates(&mut self) -> Result<()> {
        let Directory { names, entries, .. } = self;
        entries.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
        match self.entries.windows(2).find(|pair| self.name(&pair[0]) == self.name(&pair[1])) {
            Some(pair) => Err(bad(format!("zip entry {} is there twice", shown(self.name(&pair[0]))))),
            None => Ok(()),
        }
    }
}

impl Entry {
    /// The part of the local header that says where the data begins.
    pub(super) fn header_range(&self) -> Range<u64> {
        self.header..self.header + LOCAL + self.name.len() as u64
    }

    /// A guess at header and data together, which spares a round: torch pads the header by less than 128 bytes.
    pub(super) fn likely_range(&self) -> Range<u64> {
        let end = self.header_range().end + self.size;
        self.header..end.saturating_add(128).min(self.limit)
    }

    /// Where the data lies, by the bytes of [`Entry::header_range`].
    pub(super) fn data_range(&self, name: &str, header: &[u8]) -> Result<Range<u64>> {
        let padding = local(header, name, self)
            .ok_or_else(|| bad(format!("zip entry {}: its local header contradicts the directory", shown(name))))?;
        let (size, limit) = (self.size, self.limit);
        let start = self.header_range().end.saturating_add(padding);
        match start.checked_add(size) {
            Some(end) if end <= limit => Ok(start..end),
            _ => Err(bad(format!(
                "zip entry {}: {size} bytes at byte {start} run over byte {limit}, where the next thing begins",
                shown(name)
            ))),
        }
    }
}

fn stored(entry: &Entry, name: &str) -> Result<()> {
    let Entry { method, flags, size, packed, attributes, .. } = entry;
    let name = shown(name);
    let hint = "load the file with torch and save it again";
    if *method != 0 {
        return Err(unsupported(format!("zip entry {name} is compressed (method {method})")).hint(hint));
    }
    if flags & !HARMLESS_FLAGS != 0 {
        return Err(unsupported(format!("zip entry {name} is encrypted or patched (flags {flags:#06x})")).hint(hint));
    }
    // Torch reads nothing where this is set, and leaves the tensor as it found the memory.
    if attributes & DIRECTORY != 0 {
        return Err(bad(format!("zip entry {name} is marked as a directory")));
    }
    if size != packed {
        return Err(bad(format!("zip entry {name} is stored, yet takes {packed} bytes for {size}")));
    }
    Ok(())
}

/// One entry of the central directory; its name goes to the end of `names`. `None` where it is not well formed.
fn central(c: &mut Cursor<'_>, names: &mut String) -> Option<Entry> {
    (c.u32()? == 0x0201_4b50).then_some(())?;
    c.take(4)?;
    let (flags, method) = (c.u16()?, c.u16()?);
    c.take(8)?;
    let (packed, size) = (c.u32()?, c.u32()?);
    let (name, extra, comment) = (c.u16()?, c.u16()?, c.u16()?);
    (c.u16()? == 0).then_some(())?;
    c.take(2)?;
    let attributes = c.u32()?;
    let header = c.u32()?;
    let name = std::str::from_utf8(c.take(name.into())?).ok()?;
    let extra = c.take(extra.into())?;
    c.take(comment.into())?;
    let [size, packed, header] = widen(extra, [size, packed, header])?;
    names.push_str(name);
    let name = names.len() - name.len()..names.len();
    Some(Entry { name, header, limit: header, size, packed, method, flags, attributes })
}

/// Fields of 32 bits that are saturated stand in the zip64 extra field instead, in this order.
fn widen(extra: &[u8], narrow: [u32; 3]) -> Option<[u64; 3]> {
    let mut c = Cursor::new(extra);
    let mut wide = None;
    while c.remaining() > 0 {
        let (id, length) = (c.u16()?, c.u16()?);
        let field = c.take(length.into())?;
        if id == 1 && wide.replace(Cursor::new(field)).is_some() {
            return None;
        }
    }
    let mut out = [0; 3];
    for (out, narrow) in out.iter_mut().zip(narrow) {
        *out = if narrow == u32::MAX { wide.as_mut()?.u64()? } else { narrow.into() };
    }
    Some(out)
}

/// The length of the extra field between name and data. `None` where the header does not fit to the entry.
fn local(bytes: &[u8], name: &str, entry: &Entry) -> Option<u64> {
    let mut c = Cursor::new(bytes);
    (c.u32()? == 0x0403_4b50).then_some(())?;
    c.take(2)?;
    let (flags, method) = (c.u16()?, c.u16()?);
    c.take(8)?;
    let sizes = [c.u32()?, c.u32()?];
    let (length, padding) = (c.u16()?, c.u16()?);
    // Zero where the sizes follow the data, saturated where they stand in the zip64 extra field.
    let fits = |n: u32| n == 0 || n == u32::MAX || u64::from(n) == entry.size;
    let same = flags == entry.flags && method == entry.method && sizes.into_iter().all(fits);
    (same && usize::from(length) == name.len() && c.take(name.len())? == name.as_bytes()).then_some(padding.into())
}
