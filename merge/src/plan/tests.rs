//! Planning over inventories that are written down by hand: no file is read.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::task::{Work, tasks};
use super::{Plan, report::Report};
use crate::adapter::config::AdapterConfig;
use crate::error::{Kind, Result};
use crate::inventory::{AdapterInventory, BaseInventory, Comparison, Inventory, Object, ObjectId, Shard, Source};
use crate::recipe::{Add, Delta, Dense, Dora, DoraNorm, Norm, Op, Operand, Recipe};
use crate::spec::{LoraSpec, MergeSpec};
use crate::tensor::Dtype;
use crate::tensor::{Order, View};

mod bounds;
mod case;
mod chain;
mod embeddings;
mod experts;
mod formulas;
mod heads;
mod kinds;
mod layout;
mod leave;
mod lora;
mod pieces;
mod quantised;
mod repeated;
mod requantise;
mod rounding;
mod seen;
mod stored;
mod tied;
mod ties;
mod transposed;
mod undecodable;

use case::*;
