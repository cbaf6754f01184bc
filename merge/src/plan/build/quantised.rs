//! What of a base is quantised.

use std::collections::BTreeMap;

use crate::base::parameter::Parameter;
use crate::base::quantisation::Quantisation;
use crate::error::{Error, Kind, Result};
use crate::inventory::BaseInventory;
use crate::plan::report::Report;
use crate::spec::{MergeSpec, Quantised};
use crate::tensor::Dtype;

use super::slot::Slot;

/// The quantised parameters of a base.
pub(super) struct Coded {
    /// The method that config.json names.
    method: Option<String>,
    /// How many parameters are stored in each scheme.
    schemes: BTreeMap<&'static str, u64>,
    /// The first tensor of codes that no scheme knows.
    unknown: Option<String>,
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
        Coded { method, schemes, unknown }
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
            (Quantised::Keep, Some(_)) => format!("{text}: --dtype could convert its scales"),
            (Quantised::Keep, None) => return Ok(()),
        };
        Err(Error::new(Kind::Unsupported, text)
            .hint("leave --quantised and --dtype out: what the adapters do not change is copied as it is"))
    }

    /// Whether any parameter is, or may be.
    pub(super) fn any(&self) -> bool {
        self.unknown.is_some() || !self.schemes.is_empty()
    }

    /// Says what becomes of them.
    pub(super) fn report(&self, spec: &MergeSpec, report: &mut Report) {
        let fate = match spec.quantised {
            Quantised::Keep => "codes and scales are copied as they are",
            Quantised::Dequantise => "they are written as floats",
        };
        for (scheme, count) in &self.schemes {
            let parameters = if *count == 1 { "parameter" } else { "parameters" };
            report.note(format!("the base stores {count} {parameters} as {scheme}: {fate}"));
        }
        if spec.quantised == Quantised::Dequantise && self.schemes.is_empty() {
            report.note("--quantised dequantise: the base is not quantised".to_owned());
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
            .hint("leave --quantised out: what the adapters do not change is copied as it is"));
    }
    Ok(Slot { dequantised, ..Slot::of(parameter, dtype) })
}

/// Refuses an edit of a quantised parameter that stays one.
///
/// # Errors
/// `unsupported`, naming the parameter and how it is stored.
pub(super) fn expect_values(slot: &Slot) -> Result<()> {
    if slot.stored.tensors.len() < 2 || slot.dequantised {
        return Ok(());
    }
    let (name, scheme, codes) = (&slot.name, slot.stored.scheme.name(), &slot.stored.tensors[0].name);
    let text = format!("the adapter changes {name}, which the base stores as {scheme} ({codes})");
    Err(Error::new(Kind::Unsupported, text).hint(match slot.stored.has_values() {
        true => "--quantised dequantise writes the whole model as floats, merged",
        false => "merge into the unquantised base and quantise the result",
    }))
}
