//! The checkpoint that a merge starts from: its parameters, how they are stored, and what its configuration says.

mod by_class;
pub mod classes;
pub mod conv1d;
pub mod experts;
pub mod heads;
pub mod levels;
pub mod linears;
pub mod modules;
pub mod names;
pub mod parameter;
pub mod quantisation;
pub mod scheme;
pub mod tied;
pub mod vocabulary;
