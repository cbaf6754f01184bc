//! What was asked for a folder's files.

/// What the user and the merge say about the files of a folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Names whose tensors replace those of the base (`--extra-weights`).
    pub extra: &'a [String],
    /// Names that are left out (`--ignore-file`).
    pub ignore: &'a [String],
    /// Folders within this one that are inputs of their own, with `/` at the end.
    pub inner: &'a [String],
    /// Nothing is merged, somebody only looks: what would be refused stays behind.
    pub look: bool,
}

impl Asked<'_> {
    /// The name that was given for a file that is left out: its own, or a folder's.
    pub(super) fn ignores(&self, name: &str) -> Option<&str> {
        self.ignore.iter().map(String::as_str).find(|asked| meets(asked, name))
    }

    /// Whether a file was named as one that replaces tensors of the base.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.extra.iter().any(|n| n == name)
    }
}

/// Whether a name that was given is that of a file, or of a folder that it lies in.
pub(super) fn meets(asked: &str, name: &str) -> bool {
    asked == name || asked.ends_with('/') && name.starts_with(asked)
}
