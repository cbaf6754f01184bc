//! An order of experts that was asked for is obeyed or refused, and never ignored.

use super::builder::Builder;
use crate::error::{Error, Kind, Result};
use crate::spec::ExpertOrder;

impl Builder<'_> {
    /// Takes note of how an adapter is read. `has_blocks` tells whether any of its tensors has an order of experts.
    ///
    /// # Errors
    /// `conflict` if an order was named for this very adapter, which has none.
    pub(super) fn note_order(&mut self, number: u16, order: ExpertOrder, has_blocks: bool) -> Result<()> {
        let n = number + 1;
        match (order, has_blocks) {
            (ExpertOrder::Fastest, _) => {}
            (ExpertOrder::Slowest, true) => {
                self.ordered = true;
                self.report.note(format!(
                    "adapter {n}: the columns of lora_B for all experts are read with the experts slowest, as --expert-order says"
                ));
            }
            (ExpertOrder::Slowest, false) if self.spec.expert_order.len() > 1 => {
                return Err(nothing(&format!("adapter {n}")));
            }
            (ExpertOrder::Slowest, false) => {}
        }
        Ok(())
    }

    /// # Errors
    /// `conflict` if an order was named for all adapters, and none has one.
    pub(super) fn expect_order(&self) -> Result<()> {
        match self.spec.expert_order.contains(&ExpertOrder::Slowest) && !self.ordered {
            true => Err(nothing("no adapter")),
            false => Ok(()),
        }
    }
}

fn nothing(who: &str) -> Error {
    let text = match who {
        "no adapter" => "--expert-order slowest, but no adapter holds one lora_B for all experts".to_owned(),
        who => format!("--expert-order slowest for {who}, which holds no lora_B for all experts"),
    };
    Error::new(Kind::Conflict, text).hint("it is about adapters with target_parameters; leave it out for others")
}
