//! `diff --expect`: the change between two versions against what adapters say.
//!
//! The first version and the adapters are planned as a merge, and the recipes are computed in f64, as `verify --sample` does, of every
//! row. What comes out is rounded to the dtype of the second version first: a delta that this dtype cannot hold is not expected.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use shardfuse_coordinator::inspect::inspect;
use shardfuse_merge::base::parameter::Parameter;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::recipe::{Placed, Recipe, Start};
use shardfuse_merge::spec::{BaseAs, Card, LoraSpec, MergeSpec};
use shardfuse_merge::tensor::float::{Float, decode, encode};
use shardfuse_merge::tensor::matrix;
use shardfuse_merge::{Error, Kind, Result, bounded};
use shardfuse_store::Stores;

use super::change::{Change, common};
use super::compare::batches;
use super::fit::{Fit, Verdict};
use super::side::Side;
use crate::place;
use crate::sample::{Exact, Reader, half_ulp};

/// What adapters make of a checkpoint.
#[derive(Debug)]
pub struct Expected {
    plan: Plan,
    /// The objects of the first version.
    of_base: HashSet<u32>,
    /// The weights that the adapters saw through codes (`--base-as`).
    seen: HashSet<String>,
}

/// A tensor that adapters change, by its portions in the plan: file and number.
#[derive(Debug)]
pub struct Touched {
    name: String,
    places: Vec<(usize, usize)>,
}

/// What was found of a tensor that adapters change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// Its name.
    pub tensor: String,
    /// The cosine between the change and the expected one.
    pub cosine: f64,
    /// The norm of the change over that of the expected one; none where no change was expected.
    pub ratio: Option<f64>,
    /// What that means.
    pub verdict: Verdict,
}

/// What was found of all tensors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// Whether the change is what the adapters say.
    pub fits: bool,
    /// Every tensor that the adapters change, and every other one that differs.
    pub tensors: Vec<Told>,
}

impl Expected {
    /// Plans the merge.
    pub async fn plan(
        stores: &Stores,
        base: &Side,
        adapters: Vec<LoraSpec>,
        base_as: Option<BaseAs>,
    ) -> Result<Expected> {
        // Nothing is written, so the output is never looked at.
        let mut spec = MergeSpec::of(&base.path, adapters, &base.path);
        for lora in &mut spec.lora {
            lora.path = place::parse(&lora.path)?.to_string();
        }
        spec.card = Card::None;
        spec.base_as = base_as;
        let inventory = inspect(stores, &spec).await?;
        let (plan, report) = Plan::new(spec, &inventory)?;
        let urls: HashSet<&str> = base.objects.iter().map(|object| object.url.as_str()).collect();
        let held = (0u32..).zip(&plan.objects).filter(|(_, object)| urls.contains(object.url.as_str()));
        let of_base = held.map(|(id, _)| id).collect();
        Ok(Expected { plan, of_base, seen: report.seen.into_iter().collect() })
    }

    /// The tensors that the adapters change or add, and those that they saw through codes.
    pub fn touched(&self) -> Vec<Touched> {
        let mut order: Vec<Touched> = Vec::new();
        for (file, number) in self.places() {
            let placed = &self.plan.output.files[file].tensors[number];
            let touched = match &placed.recipe {
                Recipe::Copy(source) => !self.of_base.contains(&source.object.0),
                Recipe::Fuse(fuse) => {
                    !fuse.steps.is_empty() || fuse.start_adapter.is_some() || self.seen.contains(&placed.name)
                }
                Recipe::Requantise(_) => true,
            };
            // Portions of a tensor lie one after another, and one that nothing changes has a place among them.
            match order.last_mut().filter(|last| last.name == placed.name && placed.portion.is_some()) {
                Some(last) => last.places.push((file, number)),
                None if touched || placed.portion.is_some() => {
                    order.push(Touched { name: placed.name.clone(), places: vec![(file, number)] });
                }
                None => {}
            }
        }
        order
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let files = self.plan.output.files.iter().enumerate();
        files.flat_map(|(file, output)| (0..output.tensors.len()).map(move |number| (file, number)))
    }

    /// Looks at a tensor, `batch` values at a time.
    pub async fn look(
        &self,
        stores: &Stores,
        [before, after]: &[Arc<Side>; 2],
        touched: &Touched,
        batch: u64,
    ) -> Result<Told> {
        let name = &touched.name;
        let placed: Vec<&Placed> =
            touched.places.iter().map(|(file, number)| &self.plan.output.files[*file].tensors[*number]).collect();
        let dims = placed[0].portion.as_ref().map_or(&placed[0].shape, |portion| &portion.of);
        let missing = || Told { tensor: name.clone(), cosine: 0.0, ratio: None, verdict: Verdict::Missing };
        let Some(seen) = after.parameter(name).filter(|p| p.dims == *dims) else { return Ok(missing()) };
        let was = before.parameter(name).filter(|p| common(&p.dims, dims).is_some());
        let plan = &self.plan;
        let expected = Reader::over(stores, &plan.objects, &plan.statistics);
        let [one, other] = [before, after].map(|side| Reader::over(stores, &side.objects, &[]));
        let mut fit = Fit::default();
        for placed in placed {
            let mut exact = Exact::new(&expected);
            let (rows, cols) = matrix(&placed.shape);
            let Some(seen) = piece(seen, placed) else { return Ok(missing()) };
            let was = was.and_then(|p| Some((piece(p, placed)?, common(&p.dims, dims)?.0)));
            // What a portion is of has not grown.
            let was = was.map(|(start, held)| (start, if placed.portion.is_some() { rows } else { held }));
            let (start, steps) = match &placed.recipe {
                Recipe::Copy(source) => (Start::plain(source.clone()), &[][..]),
                Recipe::Fuse(fuse) => (Ok(fuse.start.clone()), fuse.steps.as_slice()),
                Recipe::Requantise(requantise) => (Ok(requantise.fuse.start.clone()), requantise.fuse.steps.as_slice()),
            };
            let start = start.map_err(|why| Error::new(Kind::Unsupported, why))?;
            // What the codes do to a weight may be far more than what the adapters add to it.
            let from_codes = self.seen.contains(name) && !steps.is_empty();
            for rows in batches(rows, cols, batch) {
                let there = rows.clone();
                let numbers: Vec<u64> = rows.collect();
                let mut want = exact.rows(&start, steps, &numbers).await?.values;
                let have = other.run(&seen, there.clone()).await?;
                let float = seen.as_plain().map(|(_, float)| float);
                float.inspect(|float| round(*float, &mut want));
                let mut old = vec![0.0f32; have.len()];
                if from_codes {
                    let mut codes = exact.rows(&start, &[], &numbers).await?.values;
                    float.inspect(|float| round(*float, &mut codes));
                    old.iter_mut().zip(codes).for_each(|(old, value)| *old = value as f32);
                } else if let Some((start, held)) = was.as_ref().filter(|(_, held)| there.start < *held) {
                    let read = one.run(start, there.start..there.end.min(*held)).await?;
                    old[..read.len()].copy_from_slice(&read);
                }
                for ((want, have), old) in want.iter().zip(&have).zip(&old) {
                    let (have, old) = (f64::from(*have), f64::from(*old));
                    fit.add(want - old, have - old, float.map_or(0.0, |float| half_ulp(float.dtype(), have)));
                }
            }
        }
        Ok(Told { tensor: name.clone(), cosine: fit.cosine(), ratio: fit.ratio(), verdict: fit.verdict() })
    }
}

/// What a parameter holds at the place of a tensor of the plan, which may be a portion of it.
fn piece(parameter: &Parameter, placed: &Placed) -> Option<Start> {
    match &placed.portion {
        None => parameter.stored.start().ok(),
        Some(portion) => {
            let rows: u64 = placed.shape.iter().rev().skip(1).product();
            parameter.stored.portion(portion.first..portion.first + rows)?.start().ok()
        }
    }
}

/// Rounds values to what a dtype holds.
fn round(float: Float, values: &mut [f64]) {
    let narrow: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let mut bytes = vec![0; narrow.len() * float.dtype().bitsize() / 8];
    encode(float.dtype(), &narrow, &mut bytes);
    let mut back = narrow;
    decode(float.dtype(), &bytes, &mut back);
    values.iter_mut().zip(back).for_each(|(value, back)| *value = f64::from(back));
}

impl Fitted {
    /// What was found of the tensors that adapters change, and of all others that differ.
    pub fn of(mut told: Vec<Told>, changes: &[Change]) -> Fitted {
        let known: HashSet<String> = told.iter().map(|told| told.tensor.clone()).collect();
        let others = changes.iter().filter(|change| !change.same() && !known.contains(&change.tensor));
        told.extend(others.map(|change| {
            let verdict = if change.shape[1].is_none() { Verdict::Missing } else { Verdict::Unexpected };
            Told { tensor: change.tensor.clone(), cosine: 0.0, ratio: None, verdict }
        }));
        Fitted { fits: told.iter().all(|told| told.verdict == Verdict::Fits), tensors: told }
    }

    /// Fails unless the change is what the adapters say.
    ///
    /// # Errors
    /// `verify_failed`, with what is wrong with how many tensors, the most frequent first.
    pub fn check(&self) -> Result<()> {
        let mut wrong: BTreeMap<Verdict, Vec<&Told>> = BTreeMap::new();
        for told in self.tensors.iter().filter(|told| told.verdict != Verdict::Fits) {
            wrong.entry(told.verdict).or_default().push(told);
        }
        let mut wrong: Vec<(Verdict, Vec<&Told>)> = wrong.into_iter().collect();
        wrong.sort_by_key(|(_, all)| std::cmp::Reverse(all.len()));
        let Some((first, _)) = wrong.first() else { return Ok(()) };
        let lines = wrong.iter().map(|(verdict, all)| {
            let ratio = all[0].ratio.map_or_else(String::new, |ratio| format!(", ratio {ratio:.2}"));
            format!(
                "{} in {} of {} tensors, such as {}{ratio}",
                verdict.told(),
                all.len(),
                self.tensors.len(),
                all[0].tensor
            )
        });
        let text = format!("the change is not what the adapter says: {}", bounded::list(lines.collect::<Vec<_>>()));
        Err(Error::new(Kind::VerifyFailed, text).hint(first.hint()))
    }
}
