//! The command line and the merge spec, as meant.

mod entry;
mod file;
mod lora;
pub mod machine;
#[cfg(test)]
mod tests;

use shardfuse_coordinator::hub::Submission;
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;
use shardfuse_worker::device::Choice;

use crate::args::{Replace, Resources, Spec};
use crate::place;
use file::File;
use machine::Budget;

/// Stands for the output of a merge that is only planned.
const NO_OUTPUT: &str = "shardfuse-plans-without-an-output";

/// A merge as this machine will run it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What decides the output's bytes.
    pub spec: MergeSpec,
    /// What the process may take.
    pub budget: Budget,
    /// What fuses.
    pub device: Choice,
}

impl Settings {
    /// Flags over the file over the defaults. `device` is the flag.
    pub fn new(args: Spec, resources: &Resources, device: Option<Choice>) -> Result<Settings> {
        let file = file_of(&args)?;
        Settings::over(file, args, resources, device)
    }

    fn over(file: File, args: Spec, resources: &Resources, device: Option<Choice>) -> Result<Settings> {
        let resources = Resources {
            memory: or_parsed("--memory", resources.memory, file.memory.as_deref())?,
            threads: or_parsed("--threads", resources.threads, file.threads.as_deref())?,
        };
        let device = or_parsed("--device", device, file.device.as_deref())?.unwrap_or_default();
        let (spec, budget) = (understand(args, file)?, Budget::of(&resources));
        budget.check(spec.part_size).map_err(|e| e.hint("give more --memory, or a smaller --part-size"))?;
        Ok(Settings { spec, budget, device })
    }

    /// A merge that is only planned: it needs no output. Whether one was given is told beside.
    pub fn of_plan(mut args: Spec, resources: &Resources) -> Result<(Settings, bool)> {
        let file = file_of(&args)?;
        let given = args.output.is_some() || file.output.is_some();
        if !given {
            // No file is looked for there, and nothing is written.
            args.output = Some(NO_OUTPUT.to_owned());
        }
        Ok((Settings::over(file, args, resources, None)?, given))
    }

    /// A pod of a job: as on one machine, with every place as a URL.
    pub fn of_pod(args: Spec, resources: &Resources, device: Choice) -> Result<Settings> {
        let mut settings = Settings::new(args, resources, Some(device))?;
        urls(&mut settings.spec)?;
        Ok(settings)
    }
}

/// The merge that a coordinator is asked for: every place as a URL. A spec file's memory, threads and device are for merges on
/// one machine and are not used.
pub fn for_fleet(args: Spec) -> Result<MergeSpec> {
    let file = file_of(&args)?;
    let mut spec = understand(args, file)?;
    urls(&mut spec)?;
    Ok(spec)
}

/// Adapters as a flag lists them.
pub fn adapters(flag: &str, values: &[String]) -> Result<Vec<LoraSpec>> {
    lora::split(flag, values)
}

/// A submission with the defaults of what was not asked for.
pub fn submission(spec: MergeSpec, replace: Replace) -> Submission {
    let Replace { restart, force, allow_no_change } = replace;
    Submission { spec, restart, force, allow_no_change, priority: 0, device: None, verify_parts: None }
}

fn file_of(args: &Spec) -> Result<File> {
    args.spec.as_deref().map_or_else(|| Ok(File::default()), File::read)
}

/// The flag, else the text of the file.
fn or_parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    flag: &str,
    typed: Option<T>,
    file: Option<&str>,
) -> Result<Option<T>> {
    match (typed, file) {
        (Some(typed), _) => Ok(Some(typed)),
        (None, None) => Ok(None),
        (None, Some(text)) => text
            .parse()
            .map(Some)
            .map_err(|e| Error::new(Kind::Usage, format!("{flag} {text:?} in the spec file: {e}"))),
    }
}

/// Flags over the file over the defaults.
fn understand(args: Spec, file: File) -> Result<MergeSpec> {
    let need = |value: Option<String>, flag: &str| {
        value.ok_or_else(|| Error::new(Kind::Usage, format!("{flag} is not given")).hint("shardfuse merge --help"))
    };
    let lora = if args.lora.is_empty() { file.lora } else { lora::split("--lora", &args.lora)? };
    let (base, output) = (need(args.base.or(file.base), "--base")?, need(args.output.or(file.output), "--output")?);
    let mut spec = MergeSpec::of(base, lora, output);
    let typed = args.options.0;
    let of_file = file.options.into_iter().filter(|(option, _)| !typed.iter().any(|(o, _)| o.field == option.field));
    let mut wrong = Vec::new();
    for (option, values) in of_file.collect::<Vec<_>>().iter().chain(&typed) {
        wrong.extend(values.iter().filter_map(|value| option.add(&mut spec, value).err()));
    }
    if let Some(error) = wrong.into_iter().reduce(Error::and) {
        return Err(error);
    }
    for (_, text) in spec.places_mut() {
        *text = place::parse(text)?.to_string();
    }
    spec.check()?;
    refuse_read_only(&spec)?;
    Ok(spec)
}

fn urls(spec: &mut MergeSpec) -> Result<()> {
    let url = |text: &mut String| -> Result<()> {
        *text = place::parse(text)?.to_url();
        Ok(())
    };
    spec.places_mut().try_for_each(|(_, text)| url(text))
}

/// The output must be a place that can be written. Whether it overlaps an input is decided where the files are: see
/// `shardfuse_coordinator::places`.
fn refuse_read_only(spec: &MergeSpec) -> Result<()> {
    let output: Location = place::parse(&spec.output)?;
    if !output.scheme().is_read_only() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("the output {output} cannot be written: {} is read only", output.scheme()))
        .hint("write to a folder, or to s3://, gs://, az:// or abfss://"))
}
