//! The flags that make up a merge spec. Those of the options come from the table of [`OPTIONS`].

use std::path::PathBuf;

use super::headings::GROUPS;
use clap::{Arg, ArgAction, ArgMatches, Args as ClapArgs, Command, FromArgMatches};
use shardfuse_merge::spec::{OPTIONS, SpecOption, Takes};

/// What a merge is made of.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Spec {
    /// The base checkpoint's folder
    #[arg(long, value_name = "PATH")]
    pub base: Option<String>,
    /// An adapter's folder, with an optional weight
    ///
    /// May be given several times, or hold several separated by commas. They apply in the order given.
    #[arg(long, value_name = "PATH[=WEIGHT]")]
    pub lora: Vec<String>,
    /// The folder that is written
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<String>,
    /// A YAML file with the same fields as these flags; flags win. - is stdin
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
}

/// The options that were given, with their values as text.
#[derive(Debug, Clone, Default)]
pub struct Options(pub Vec<(&'static SpecOption, Vec<String>)>);

impl ClapArgs for Options {
    fn augment_args(command: Command) -> Command {
        let grouped = GROUPS.iter().flat_map(|(group, heading)| {
            OPTIONS.iter().filter(move |option| option.group == *group).map(move |option| (option, *heading))
        });
        command.args(grouped.map(|(option, heading)| {
            let arg = Arg::new(option.field)
                .long(option.flag)
                .help(option.help)
                .long_help(long(option))
                .help_heading(heading)
                .hide(option.hidden);
            match option.takes {
                Takes::Switch => arg.action(ArgAction::SetTrue),
                Takes::Value => arg.value_name(option.values),
                Takes::List => arg.value_name(option.values).action(ArgAction::Append),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Options::augment_args(command)
    }
}

fn long(option: &SpecOption) -> String {
    match option.more {
        "" => option.help.to_owned(),
        more => format!("{}\n\n{more}", option.help),
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = OPTIONS.iter().map(|option| {
            let values = match option.takes {
                Takes::Switch => matches.get_flag(option.field).then(|| "true".to_owned()).into_iter().collect(),
                Takes::Value | Takes::List => {
                    matches.get_many::<String>(option.field).into_iter().flatten().cloned().collect()
                }
            };
            (option, values)
        });
        Ok(Options(given.filter(|(_, values): &(_, Vec<String>)| !values.is_empty()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Options::from_arg_matches(matches)?;
        Ok(())
    }
}
