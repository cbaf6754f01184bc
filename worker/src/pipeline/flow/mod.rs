//! How much goes on at a time: memory, and turns to read and to write.

mod budget;
mod climb;
mod turns;

pub use budget::{Budget, Share};
pub use turns::Turns;
