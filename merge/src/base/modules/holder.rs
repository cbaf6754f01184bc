//! Modules that hold the experts of a layer as parameters of their own.

use serde::Deserialize;

/// A module with stacked parameters.
#[derive(Debug, Clone, Deserialize)]
pub struct Holder {
    /// The last components of its path, behind the number of the layer.
    module: String,
    /// Its parameters, in the order in which the class registers them.
    pub parameters: Vec<String>,
    /// Whether a parameter is [experts, inputs, outputs], rather than [experts, outputs, inputs] (`is_transposed`).
    #[serde(default)]
    pub transposed: bool,
}

impl Holder {
    /// Whether a module's path is one of these.
    pub fn is(&self, path: &str) -> bool {
        path.strip_suffix(&self.module).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}
