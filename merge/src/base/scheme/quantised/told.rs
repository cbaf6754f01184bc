//! What config.json and the tensors of a parameter have to agree on. Each disagreement names both.

use super::companions::shown;
use crate::base::quantisation::Quantisation;
use crate::inventory::Source;

/// The method is the one that writes such tensors.
pub(super) fn method(said: &Quantisation, known: &[&str], codes: &Source) -> Result<(), String> {
    match &said.method {
        Some(method) if known.contains(&method.as_str()) => Ok(()),
        Some(method) => Err(format!("config.json names the method {method}, and {} is {}'s", codes.name, known[0])),
        None => Err(format!("config.json has no quantization_config, and {} is {}'s", codes.name, known[0])),
    }
}

/// The format is one of those that write such tensors, or config.json names none.
pub(super) fn format(said: &Quantisation, known: &[&str], codes: &Source) -> Result<(), String> {
    if said.formats.is_empty() || said.formats.iter().any(|format| known.contains(&format.as_str())) {
        return Ok(());
    }
    Err(format!("config.json names the format {}, and {} is {}", said.formats.join(", "), codes.name, known[0]))
}

/// The bits of a code: one of those that config.json names, which the tensors have room for.
pub(super) fn bits(said: &Quantisation, codes: &Source, fits: impl Fn(u64) -> bool) -> Result<u64, String> {
    let fitting = |bits: &u64| (2..=8).contains(bits) && fits(*bits);
    let held = || (2..=8).find(fitting).map_or("of no number of bits".into(), |bits| format!("of {bits} bits"));
    said.bits.iter().copied().find(fitting).ok_or_else(|| {
        let named = said.bits.iter().map(u64::to_string).collect::<Vec<_>>();
        let named = if named.is_empty() { "no".to_owned() } else { named.join(" and ") };
        format!("config.json names {named} bits, and the shape of {} is that of codes {}", shown(codes), held())
    })
}

/// The columns of a group: a size that config.json names and the scales agree with.
pub(super) fn group(said: &Quantisation, cols: u64, groups: u64, scales: &Source) -> Result<u64, String> {
    let mut fitting = said.groups.iter().map(|group| group.unwrap_or(cols)).filter(|group| *group > 0);
    fitting.find(|group| cols.div_ceil(*group) == groups).map(|group| group.min(cols)).ok_or_else(|| {
        let size = |group: &Option<u64>| group.map_or("all".to_owned(), |columns| columns.to_string());
        let named = said.groups.iter().map(size).collect::<Vec<_>>();
        let named = if named.is_empty() { "no number of".to_owned() } else { named.join(" and ") };
        format!("config.json names groups of {named} columns, and {} has {groups} for {cols}", shown(scales))
    })
}

/// Zero points are there exactly if config.json does not say that there are none.
pub(super) fn symmetry(said: &Quantisation, symmetric: bool, codes: &Source) -> Result<(), String> {
    if said.symmetric.is_empty() || said.symmetric.contains(&symmetric) {
        return Ok(());
    }
    Err(match symmetric {
        true => format!("config.json says that weights have zero points, and {} has none", codes.name),
        false => format!("config.json says that weights are symmetric, and {} has zero points", codes.name),
    })
}
