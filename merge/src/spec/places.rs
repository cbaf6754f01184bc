//! The URLs of a spec.

use super::{BaseIndex, MergeSpec, Tokenizer};

/// What a spec uses a URL for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The base checkpoint.
    Base,
    /// An adapter.
    Lora,
    /// The folder of the tokenizer.
    Tokenizer,
    /// The digests of the base's bytes.
    Index,
    /// Where the merge goes.
    Output,
}

impl Purpose {
    /// The name of its field in a spec file and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Base => "base",
            Purpose::Lora => "lora",
            Purpose::Tokenizer => "tokenizer",
            Purpose::Index => "base_index",
            Purpose::Output => "output",
        }
    }
}

impl MergeSpec {
    /// Every URL of the spec: base, adapters, tokenizer, index, output. The only list of them.
    pub fn places(&self) -> impl Iterator<Item = (Purpose, &str)> {
        let tokenizer = match &self.tokenizer {
            Tokenizer::Folder(url) => Some((Purpose::Tokenizer, url.as_str())),
            Tokenizer::Auto | Tokenizer::Base => None,
        };
        let index = match &self.base_index {
            BaseIndex::File(url) => Some((Purpose::Index, url.as_str())),
            BaseIndex::Auto | BaseIndex::None => None,
        };
        let lora = self.lora.iter().map(|l| (Purpose::Lora, l.path.as_str()));
        let base = std::iter::once((Purpose::Base, self.base.as_str()));
        base.chain(lora).chain(tokenizer).chain(index).chain([(Purpose::Output, self.output.as_str())])
    }

    /// The same URLs, in the same order, to be rewritten.
    pub fn places_mut(&mut self) -> impl Iterator<Item = (Purpose, &mut String)> {
        let tokenizer = match &mut self.tokenizer {
            Tokenizer::Folder(url) => Some((Purpose::Tokenizer, url)),
            Tokenizer::Auto | Tokenizer::Base => None,
        };
        let index = match &mut self.base_index {
            BaseIndex::File(url) => Some((Purpose::Index, url)),
            BaseIndex::Auto | BaseIndex::None => None,
        };
        let lora = self.lora.iter_mut().map(|l| (Purpose::Lora, &mut l.path));
        let base = std::iter::once((Purpose::Base, &mut self.base));
        base.chain(lora).chain(tokenizer).chain(index).chain([(Purpose::Output, &mut self.output)])
    }
}
