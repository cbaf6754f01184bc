//! How much work a plan may take, and whether anybody still wants it.
//!
//! Planning counts steps and does not look at a clock, so a plan that is refused for its work is refused on every
//! machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

/// Steps that all patterns of one plan may take together. A step is one character that is compared, or one time that
/// the engine goes back; a few seconds at the most.
pub const PATTERN_STEPS: u64 = 100_000_000;

/// Says that nobody wants the plan any more. Clones are one flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end of planning.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Kind::Interrupted`] once [`Self::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Interrupted, "planning was cancelled")),
            false => Ok(()),
        }
    }
}

/// The work that is left to one plan.
#[derive(Debug)]
pub struct Effort {
    cancel: Cancel,
    pattern_steps: u64,
}

impl Effort {
    /// All the work of a plan, until it is cancelled.
    pub fn new(cancel: Cancel) -> Effort {
        Effort { cancel, pattern_steps: PATTERN_STEPS }
    }

    /// The same with other bounds.
    #[cfg(test)]
    pub(crate) fn of_steps(pattern_steps: u64) -> Effort {
        Effort { cancel: Cancel::default(), pattern_steps }
    }

    /// # Errors
    /// [`Kind::Interrupted`] if the plan was cancelled.
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }

    /// Takes steps for a pattern; `what` names its table and the pattern.
    ///
    /// # Errors
    /// [`Kind::BadConfig`] if the plan's steps are used up, [`Kind::Interrupted`] if it was cancelled.
    pub fn spend(&mut self, steps: u64, what: impl FnOnce() -> String) -> Result<()> {
        self.cancel.check()?;
        match self.pattern_steps.checked_sub(steps) {
            Some(left) => {
                self.pattern_steps = left;
                Ok(())
            }
            None => Err(Error::new(
                Kind::BadConfig,
                format!("the patterns take more than {PATTERN_STEPS} steps in all; the last one was {}", what()),
            )
            .hint("write plain module names in place of regular expressions")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_granted_and_the_next_is_not() {
        let mut effort = Effort::new(Cancel::default());
        effort.spend(PATTERN_STEPS, || "x".into()).unwrap();
        assert_eq!(effort.spend(1, || "x".into()).unwrap_err().kind(), Kind::BadConfig);
    }

    #[test]
    fn a_cancelled_plan_gets_no_more_steps() {
        let cancel = Cancel::default();
        let mut effort = Effort::new(cancel.clone());
        effort.check().unwrap();
        cancel.cancel();
        assert_eq!(effort.check().unwrap_err().kind(), Kind::Interrupted);
        assert_eq!(effort.spend(0, String::new).unwrap_err().kind(), Kind::Interrupted);
    }
}
