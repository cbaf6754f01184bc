//! One of the two checkpoints.

use std::collections::HashMap;

use shardfuse_coordinator::inspect::{self, Folder, Objects};
use shardfuse_merge::Result;
use shardfuse_merge::base::parameter::Parameter;
use shardfuse_merge::base::quantisation::Quantisation;
use shardfuse_merge::base::scheme;
use shardfuse_merge::checkpoint::files::Asked;
use shardfuse_merge::checkpoint::meant::Wanted;
use shardfuse_merge::inventory::Object;
use shardfuse_store::Stores;

use crate::place;

/// A checkpoint's parameters, and the objects that hold them.
#[derive(Debug)]
pub struct Side {
    pub path: String,
    pub objects: Vec<Object>,
    pub parameters: Vec<Parameter>,
    by_name: HashMap<String, usize>,
}

impl Side {
    /// Reads its headers.
    pub async fn open(stores: &Stores, path: &str) -> Result<Side> {
        let path = place::parse(path)?.to_string();
        let folder = Folder::open(stores, &path, Wanted::Checkpoint, &[]).await?;
        let mut objects = Objects::default();
        let asked = Asked { look: true, ..Asked::default() };
        let base = inspect::base(&folder, &mut objects, &asked).await?;
        let parameters = scheme::parameters(&base.shards, &Quantisation::of(&base.config), &base.small);
        let by_name = parameters.iter().enumerate().map(|(at, p)| (p.name.clone(), at)).collect();
        Ok(Side { path, objects: objects.into_list(), parameters, by_name })
    }

    /// The parameter of a name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.by_name.get(name).map(|at| &self.parameters[*at])
    }
}
