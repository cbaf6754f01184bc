//! Heads that adapters bring and the base lacks.

use super::builder::Builder;
use super::slot::Slot;
use crate::adapter::config::AdapterConfig;
use crate::adapter::edit::HeadTensor;
use crate::adapter::module::expect_values;
use crate::base::heads;
use crate::base::names::Names;
use crate::base::parameter::Parameter;
use crate::base::scheme;
use crate::bounded;
use crate::error::{Error, Kind, Result};
use crate::output::Architecture;
use crate::tensor::{Dtype, DtypeExt};

impl Builder<'_> {
    /// Adds the tensors of an adapter's new head, and the class that has it.
    ///
    /// # Errors
    /// `unmatched_keys` if nothing tells the class, or it has no such head; `conflict` if an earlier adapter needs another.
    pub(super) fn add_heads(&mut self, number: u16, config: &AdapterConfig, brought: &[HeadTensor]) -> Result<()> {
        let Some(first) = brought.first() else {
            self.remark_on_lack(number, config);
            return Ok(());
        };
        let class = self.class_of(config, brought)?;
        if let Some(other) = self.architecture.as_ref().filter(|other| other.class != class) {
            let text =
                format!("{} is of {class}, and an earlier adapter brings a head of {}", first.source.name, other.class);
            return Err(Error::new(Kind::Conflict, text).hint("merge one of the two adapters"));
        }
        let head = heads::of(&class);
        let mut labels = None;
        let mut added: Vec<String> = Vec::with_capacity(brought.len());
        for HeadTensor { names, source } in brought {
            let known = |head: &heads::ClassHead| names.iter().find(|name| head.names.contains(name)).cloned();
            let name = match head {
                Some(head) => known(head).ok_or_else(|| foreign(brought, &class, head))?,
                None => names.first().unwrap_or(&source.name).clone(),
            };
            if head.is_some_and(|head| head.labels.as_ref() == Some(&name)) {
                labels = source.shape.first().copied();
            }
            added.push(format!("{name} {:?}", source.shape));
            let dtype = self.head_dtype(source.dtype);
            if dtype != source.dtype {
                expect_values(source)?;
            }
            let (dims, stored) = (source.shape.clone(), scheme::alone(source));
            let slot = Slot::of(Parameter { name, dims, stored, positions: Vec::new() }, dtype);
            self.slots.push(Slot { start_adapter: Some(number), before: None, changed_by: vec![number], ..slot });
        }
        let n = number + 1;
        let of_labels = labels.map_or(String::new(), |labels| format!(" with {labels} labels"));
        let added = bounded::list(&added);
        self.report.note(format!(
            "adapter {n}: adds the head that the base lacks: {added}; config.json names {class}{of_labels}"
        ));
        if let Some(head) = head {
            self.remark_on(&class, head);
        }
        self.architecture = Some(Architecture { class, labels });
        Ok(())
    }

    /// Says what the class has that the output lacks, and what the output has that the class does not use.
    fn remark_on(&mut self, class: &str, head: &heads::ClassHead) {
        let old = heads::of_config(&self.inventory.base.config).map_or(&[][..], |head| &head.names);
        let unused = self.stored(old.iter().filter(|name| !head.names.contains(name)));
        if !unused.is_empty() {
            let (unused, verb) = (bounded::list(&unused), if unused.len() == 1 { "stays" } else { "stay" });
            self.report.note(format!("{unused} {verb} in the output, and {class} does not use it"));
        }
        let missing: Vec<String> = head.names.iter().filter(|name| !self.slots.has(name)).cloned().collect();
        if !missing.is_empty() {
            let missing = bounded::list(&missing);
            self.report.warn(format!("{class} has {missing} too, which neither the base nor the adapter holds"));
        }
    }

    /// Says that an adapter was trained below a head that nothing holds. PEFT saves a head only if it is one of `modules_to_save`, and by
    /// itself it takes `classifier` and `score` alone (`PeftModelForSequenceClassification`): not the heads of T5 and BART.
    fn remark_on_lack(&mut self, number: u16, config: &AdapterConfig) {
        let base = &self.inventory.base.config;
        let Some(task) = config.task_type.as_deref() else { return };
        let Some(class) = heads::class_for(task, base) else { return };
        let Some(head) = heads::of(class).filter(|head| self.stored(head.names.iter()).is_empty()) else { return };
        let (n, names) = (number + 1, bounded::list(&head.names));
        self.report.warn(format!(
            "adapter {n}: its task_type is {task}, and neither it nor the base holds the head of {class} ({names}): the output has none either"
        ));
    }

    /// The names in the output of those of these parameters that it has.
    fn stored<'n>(&self, names: impl Iterator<Item = &'n String>) -> Vec<String> {
        let stored = self.slots.all.iter().map(|slot| (slot.name.as_str(), slot.dims.as_slice()));
        let all = Names::new(stored, std::iter::empty(), &self.class);
        names.filter_map(|name| if all.has(name) { Some(name.clone()) } else { all.renamed(name) }).collect()
    }

    /// The class that has the head: `--architecture`, else by the adapter's task.
    fn class_of(&self, config: &AdapterConfig, brought: &[HeadTensor]) -> Result<String> {
        if let Some(class) = &self.spec.architecture {
            return Ok(class.clone());
        }
        let base = &self.inventory.base.config;
        let task = config.task_type.as_deref();
        if let Some(class) = task.and_then(|task| heads::class_for(task, base)) {
            return Ok(class.to_owned());
        }
        let model_type = base.get("model_type").and_then(|t| t.as_str()).unwrap_or("no model_type");
        let why = match task {
            Some(task) => {
                format!("task_type {task} of the adapter and {model_type} of the base tell no class that has it")
            }
            None => "adapter_config.json has no task_type that tells the class".to_owned(),
        };
        Err(Error::new(Kind::UnmatchedKeys, format!("{}, and {why}", lacks(brought)))
            .hint("name the class that has this head with --architecture, or merge into a base that has it"))
    }

    /// The dtype of a new tensor: that of most of the base.
    fn head_dtype(&self, own: Dtype) -> Dtype {
        let main = self.main_dtype.filter(|_| own.floating()).unwrap_or(own);
        self.spec.output_dtype(main, self.main_dtype)
    }

    /// Refuses an `--architecture` that nothing needed.
    ///
    /// # Errors
    /// `conflict`.
    pub(super) fn expect_architecture(&self) -> Result<()> {
        match (&self.spec.architecture, &self.architecture) {
            (Some(class), None) => Err(Error::new(
                Kind::Conflict,
                format!("--architecture {class}, but no adapter brings a head that the base lacks"),
            )
            .hint("leave --architecture out; the class is that of the base's config.json")),
            _ => Ok(()),
        }
    }
}

fn lacks(brought: &[HeadTensor]) -> String {
    let keys: Vec<String> =
        brought.iter().map(|head| head.names.first().unwrap_or(&head.source.name).clone()).collect();
    format!("the adapter brings a new head that the base lacks ({})", bounded::list(&keys))
}

/// A head that the class does not have.
fn foreign(brought: &[HeadTensor], class: &str, head: &heads::ClassHead) -> Error {
    let own = bounded::list(&head.names);
    Error::new(Kind::UnmatchedKeys, format!("{}, and {class} has none of that name; its head is {own}", lacks(brought)))
        .hint("name the class that has this head with --architecture, or merge into a base that has it")
}
