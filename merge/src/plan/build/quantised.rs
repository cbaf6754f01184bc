//! What of a base is quantised.

use std::collections::BTreeMap;

use crate::base::parameter::Parameter;
use crate::base::quantisation::{Quantisation, strays};
use crate::error::{Error, Kind, Result};
use crate::inventory::BaseInventory;
use crate::plan::report::Report;
use crate::spec::{MergeSpec, Quantised};
use crate::tensor::{Dtype, DtypeExt};

use super::slot::Slot;

/// The quantised parameters of a base.
pub(super) struct Coded {
    /// The method that config.json names.
    method: Option<String>,
    /// How many parameters are stored in each scheme.
    schemes: BTreeMap<&'static str, u64>,
    /// The first tensor of codes that no scheme knows.
    unknown: Option<String>,
    /// Scales that belong to no weight.
    strays: Vec<String>,
}

/// What becomes of what stays quantised.
const COPIED: &str = "what no adapter changes is copied, codes and scales";

/// Corrects what the report says where nothing stays quantised.
pub(super) fn none_stays(report: &mut Report) {
    for note in &mut report.notes {
        if let Some(stored) = note.strip_suffix(COPIED) {
            *note = format!("{stored}none stays so, and all are written as floats");
        }
    }
}

impl Coded {
    /// Counts them.
    pub(super) fn of(base: &BaseInventory, parameters: &[Parameter]) -> Coded {
        let method = Quantisation::of(&base.config).method;
        let mut schemes = BTreeMap::new();
        for parameter in parameters.iter().filter(|p| p.stored.tensors.len() > 1) {
            *schemes.entry(parameter.stored.scheme.name()).or_insert(0) += 1;
        }
        let codes = |p: &&Parameter| {
            let code = !matches!(p.stored.tensors[0].dtype, Dtype::BOOL | Dtype::I64 | Dtype::F64);
            let named = p.name.ends_with("weight") || method.is_some();
            code && named && !p.stored.has_values() && p.stored.tensors.len() == 1 && !p.dims.is_empty()
        };
        let unknown = parameters.iter().find(codes).map(|p| p.name.clone());
        let method = method.or_else(|| unknown.is_some().then(|| "a method that config.json does not name".to_owned()));
        let alone = parameters.iter().filter(|p| p.stored.tensors.len() == 1 && strays::is_stray(&p.name));
        Coded { method, schemes, unknown, strays: alone.map(|p| p.name.clone()).collect() }
    }

    /// Refuses to convert floats of which some may be scales, or codes of which nothing is known.
    ///
    /// # Errors
    /// `unsupported`, naming a tensor of codes whose scheme is not known.
    pub(super) fn expect_known(&self, spec: &MergeSpec) -> Result<()> {
        let (Some(method), Some(name)) = (&self.method, &self.unknown) else { return Ok(()) };
        let text = format!("the base is quantised by {method}, and the form of {name} is not known");
        let text = match (spec.quantised, spec.dtype.dtype()) {
            (Quantised::Dequantise, _) => format!("{text}: it cannot be dequantised"),
            (Quantised::Keep | Quantised::Requantise, Some(_)) => format!("{text}: --dtype could convert its scales"),
            (Quantised::Keep | Quantised::Requantise, None) => return Ok(()),
        };
        Err(Error::new(Kind::Unsupported, text)
            .hint("leave --quantised and --dtype out: what the adapters do not change is copied as it is"))
    }

    /// Whether any parameter is, or may be.
    pub(super) fn any(&self) -> bool {
        self.unknown.is_some() || !self.schemes.is_empty()
    }

    /// Whether there are codes of which nothing is known.
    pub(super) fn any_unknown(&self) -> bool {
        self.unknown.is_some()
    }

    /// What of it is quantised, in words; `None` if nothing is.
    pub(super) fn named(&self) -> Option<String> {
        let stored = self
            .schemes
            .iter()
            .next()
            .map(|(scheme, count)| format!("it stores {count} of its parameters as {scheme}"));
        stored.or_else(|| Some(format!("by {}, such as {}", self.method.as_deref()?, self.unknown.as_deref()?)))
    }

    /// Says what becomes of them. `values` is the dtype of what is dequantised, `main` that of most other weights.
    pub(super) fn report(&self, spec: &MergeSpec, values: Dtype, main: Option<Dtype>, report: &mut Report) {
        let fate = match spec.quantised {
            Quantised::Keep => COPIED,
            Quantised::Dequantise => "they are written as floats",
            Quantised::Requantise => "what no adapter changes is copied, and what one changes is encoded again",
        };
        for (scheme, count) in &self.schemes {
            let parameters = if *count == 1 { "parameter" } else { "parameters" };
            report.note(format!("the base stores {count} {parameters} as {scheme}: {fate}"));
        }
        let dequantises = spec.quantised == Quantised::Dequantise;
        if let Some(first) = self.strays.first().filter(|_| dequantises) {
            let count = self.strays.len();
            report.note(format!(
                "scales of the KV cache or of activations stay, though nothing is quantised: {first}, of {count} in all"
            ));
        }
        if let Some(main) = main
            .filter(|main| dequantises && !self.schemes.is_empty() && spec.dtype.dtype().is_none() && *main != values)
        {
            let (values, main) = (values.name(), main.name());
            report.note(format!("weights that are dequantised become {values}, as config.json says; most of the others are {main}, and --dtype makes all one"));
        }
        if spec.quantised != Quantised::Keep && self.schemes.is_empty() {
            report.note(format!("--quantised {}: the base is not quantised", spec.quantised));
        }
        if let (Some(method), Some(name)) = (&self.method, &self.unknown) {
            report.note(format!("the base is quantised by {method}: tensors such as {name} are copied as they are"));
        }
    }
}

/// The slot of a quantised parameter that is written as `dtype` where it is written as values.
///
/// # Errors
/// `unsupported` if it has to be dequantised and cannot be.
pub(super) fn slot(spec: &MergeSpec, parameter: Parameter, dtype: Dtype) -> Result<Slot> {
    let dequantised = spec.quantised == Quantised::Dequantise;
    if dequantised && let Err(why) = parameter.stored.start() {
        return Err(Error::new(Kind::Unsupported, format!("{} cannot be dequantised: {why}", parameter.name))
            .hint("without --quantised dequantise, what no adapter changes is copied as it is"));
    }
    Ok(Slot { dequantised, ..Slot::of(parameter, dtype) })
}

/// Refuses an edit of a quantised parameter whose values are not known. One that is replaced as a whole needs none.
///
/// # Errors
/// `unsupported`, naming the parameter and how it is stored.
pub(super) fn expect_values(slot: &Slot, replaced: bool) -> Result<()> {
    if slot.stored.tensors.len() < 2 || slot.dequantised || replaced {
        return Ok(());
    }
    slot.stored.start().map(drop).map_err(|why| not_decoded(slot, &format!("the adapter changes it, and {why}")))
}

/// The refusal of a quantised parameter that has to be decoded and cannot be.
pub(super) fn not_decoded(slot: &Slot, why: &str) -> Error {
    let (name, scheme, codes) = (&slot.name, slot.stored.scheme.name(), &slot.stored.tensors[0].name);
    let text = format!("{name} is stored as {scheme} ({codes}) and cannot be dequantised: {why}");
    Error::new(Kind::Unsupported, text).hint("merge into the unquantised base and quantise the result")
}
