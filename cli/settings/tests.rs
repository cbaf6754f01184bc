use clap::{CommandFactory, Parser};
use shardfuse_merge::spec::{Meaning, OPTIONS, Size, SpecOption, Takes};
use shardfuse_proto::v1;

use super::*;
use crate::args::Args;

/// The spec flags alone.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    spec: Spec,
}

const PLACES: [&str; 7] = ["shardfuse", "--base", "/base", "--lora", "/a", "--output", "/out"];

fn typed(more: &[String]) -> Result<MergeSpec> {
    let args = PLACES.iter().map(|a| (*a).to_owned()).chain(more.iter().cloned());
    let spec = Flags::try_parse_from(args).unwrap().spec;
    understand(spec, File::default())
}

fn of_file(more: &str) -> Result<MergeSpec> {
    let text = format!("base: /base\nlora: [/a]\noutput: /out\n{more}");
    understand(Spec::default(), File::parse(&text).unwrap())
}

fn of_wire(option: &SpecOption, value: &str) -> Result<MergeSpec> {
    let mut wire = v1::MergeSpec::from(&typed(&[]).unwrap());
    wire.options.retain(|o| o.name != option.field);
    wire.options.push(v1::SpecOption { name: option.field.into(), value: value.into() });
    MergeSpec::try_from(wire)
}

/// A value of an option that is not its default where it has another.
fn value(option: &SpecOption) -> &'static str {
    match (option.takes, option.values) {
        (Takes::Switch, _) => "true",
        (Takes::List, "NAME") => "folder/file.bin",
        (_, "SIZE") => "1MiB",
        (_, "0..1") => "0.5",
        (_, "auto|base|PATH" | "auto|none|PATH") => "/folder",
        (_, "TYPE[,PART]...") => "nf4,from=bf16",
        (_, values) => values.rsplit('|').next().unwrap(),
    }
}

#[test]
fn every_option_means_the_same_as_an_argument_in_a_file_and_on_the_wire() {
    for option in OPTIONS {
        let value = value(option);
        let flag = format!("--{}", option.flag);
        let argument = match option.takes {
            Takes::Switch => typed(&[flag]),
            Takes::Value | Takes::List => typed(&[flag, value.to_owned()]),
        };
        let list = option.takes == Takes::List;
        let file = of_file(&format!("{}: {}\n", option.field, if list { format!("[{value}]") } else { value.into() }));
        let checked = of_wire(option, value).and_then(|spec| spec.check().map(|()| spec));
        assert_eq!(argument, file, "{option:?}");
        assert_eq!(argument, checked, "{option:?}");
        let default = typed(&[]).unwrap();
        match (option.field, option.meaning) {
            // One combination so far.
            ("combine", _) => assert_eq!(argument, Ok(default)),
            // Without the option that it belongs to.
            (_, Meaning::Beside(..) | Meaning::None) => assert_eq!(argument.unwrap_err().kind(), Kind::Usage),
            (_, Meaning::Always) => assert_ne!(argument.unwrap(), default, "{option:?}"),
        }
    }
}

#[test]
fn the_wire_gives_back_what_was_typed() {
    for option in OPTIONS.iter().filter(|o| o.takes == Takes::Value && o.meaning != Meaning::None) {
        let given = |option: &SpecOption, value: &str| [format!("--{}", option.flag), value.to_owned()];
        let mut all = given(option, value(option)).to_vec();
        if let Meaning::Beside(field, value) = option.meaning {
            all.extend(given(SpecOption::named(field).unwrap(), value));
        }
        let spec = typed(&all).unwrap();
        assert_eq!(MergeSpec::try_from(v1::MergeSpec::from(&spec)), Ok(spec), "{option:?}");
    }
}

#[test]
fn the_documentation_has_a_row_for_every_option_and_its_example_is_a_spec_file() {
    let text = include_str!("../../docs/cli.md");
    for option in OPTIONS {
        assert!(text.contains(&format!("| `--{}", option.flag)), "docs/cli.md has no row for --{}", option.flag);
    }
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = File::parse(example).unwrap();
    for option in OPTIONS.iter().filter(|o| o.meaning == Meaning::Always) {
        assert!(file.options.iter().any(|(o, _)| o.field == option.field), "the example has no {option:?}");
    }
    understand(Spec::default(), file).unwrap();
}

#[test]
fn the_documentation_names_every_flag_of_every_command() {
    let text = include_str!("../../docs/cli.md");
    let mut args = Args::command();
    args.build();
    for command in args.get_subcommands() {
        for flag in command.get_arguments().filter_map(|a| a.get_long()).filter(|flag| *flag != "help") {
            let named = |end: char| text.contains(&format!("--{flag}{end}"));
            assert!(
                [' ', '`', ',', '[', '|'].into_iter().any(named),
                "docs/cli.md has no --{flag} of {}",
                command.get_name()
            );
        }
    }
}

#[test]
fn flags_win_over_the_file() {
    let flags = ["--dtype", "f16", "--ignore-file", "e", "--ignore-file", "d"].map(str::to_owned);
    let args = PLACES.iter().map(|a| (*a).to_owned()).chain(flags);
    let args = Flags::try_parse_from(args).unwrap().spec;
    let file = File::parse("base: other\ndtype: f32\ntied: true\nignore_file: [c]\npartial_weight: true\n").unwrap();
    let spec = understand(args, file).unwrap();
    assert_eq!((spec.base.as_str(), spec.dtype.to_string()), ("/base", "f16".to_owned()));
    assert_eq!((spec.tied, spec.partial_weight), (Some(true), true));
    assert_eq!(spec.ignore_files, ["d", "e"]);
}

#[test]
fn every_wrong_value_of_a_file_is_told() {
    let error = of_file("dtype: bf17\ncard: perhaps\n").unwrap_err();
    let told: Vec<&str> = error.messages().collect();
    assert!(told.len() == 2 && told[0].contains("bf17") && told[1].contains("perhaps"), "{told:?}");
}

#[test]
fn a_file_that_is_wrong_about_the_machine_is_refused_with_the_flag_and_the_value() {
    for (text, says) in [("memory: much\n", "--memory \"much\""), ("threads: 0\n", "--threads \"0\"")] {
        let file = File::parse(text).unwrap();
        let memory = or_parsed::<Size>("--memory", None, file.memory.as_deref());
        let threads = or_parsed::<std::num::NonZeroUsize>("--threads", None, file.threads.as_deref());
        let error = memory.err().or(threads.err()).unwrap();
        assert!(error.kind() == Kind::Usage && error.message().contains(says), "{error}");
    }
}

fn settings(base: &str, lora: &str, output: &str) -> Result<Settings> {
    let text = |t: &str| Some(t.to_owned());
    let spec = Spec { base: text(base), lora: vec![lora.into()], output: text(output), ..Spec::default() };
    Settings::new(spec, &Resources::default(), None)
}

#[test]
fn places_of_every_store_are_taken_and_kept_as_urls() {
    for (base, lora, output) in [
        ("s3://models/base", "gs://tuned/a", "s3://models/out"),
        ("hf://org/model@v1", "https://example.com/a", "az://container/out"),
        ("hf://org/model", "/data/a", "abfss://c@account.dfs.core.windows.net/out"),
    ] {
        let spec = settings(base, lora, output).unwrap().spec;
        assert_eq!((spec.base.as_str(), spec.lora[0].path.as_str(), spec.output.as_str()), (base, lora, output));
    }
}

#[test]
fn an_output_that_is_read_only_is_refused() {
    for (base, lora, output, says) in [
        ("/base", "/a", "https://example.com/out", "https is read only"),
        ("/base", "/a", "http://example.com/out", "http is read only"),
        ("/base", "/a", "hf://org/out", "hf is read only"),
    ] {
        let error = settings(base, lora, output).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message().contains(says), "{error}");
    }
}

/// The long flags of a command.
fn flags(command: &str) -> Vec<String> {
    let args = Args::command();
    let command = args.find_subcommand(command).unwrap();
    command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect()
}

#[test]
fn a_job_takes_every_flag_of_a_worker() {
    let job = flags("job");
    for flag in flags("worker") {
        assert!(job.contains(&flag), "job has no --{flag}");
    }
}
