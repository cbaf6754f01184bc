//! The names that an adapter's edits may have.

/// The parameters of a base as an adapter sees them: those that are stored, and the output embedding of a tied model.
#[derive(Debug)]
pub struct Names<'a> {
    sorted: Vec<&'a str>,
    head: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// `head` is the output embedding that shares its tensor with the input embedding. It need not be stored.
    pub fn new(names: impl Iterator<Item = &'a str>, head: Option<&'a str>) -> Names<'a> {
        let mut sorted: Vec<&str> = names.collect();
        sorted.sort_unstable();
        Names { sorted, head }
    }

    /// Whether the base has this parameter.
    pub fn has(&self, name: &str) -> bool {
        self.head == Some(name) || self.sorted.binary_search(&name).is_ok()
    }

    /// The names of the stored parameters, sorted.
    pub fn all(&self) -> &[&'a str] {
        &self.sorted
    }

    /// The output embedding that shares its tensor with the input embedding.
    pub fn tied_head(&self) -> Option<&'a str> {
        self.head
    }
}
