//! `shardfuse completions`: a script that completes commands and flags in a shell, made from their definitions.

use clap::CommandFactory;
use clap_complete::Shell;
use shardfuse_merge::Result;

use super::write;
use crate::args::{Args, Completions};

/// Prints it.
pub fn run(args: &Completions) -> Result<()> {
    write(&script(args.shell))
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "shardfuse", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_flag_of_every_command_is_in_the_script_of_every_shell() {
        let mut all = Args::command();
        all.build();
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in all.get_subcommands() {
                let part = part(*shell, &script, command.get_name());
                for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long()) {
                    // fish writes a flag without its dashes.
                    let flag = if *shell == Shell::Fish { format!("-l {flag}") } else { format!("--{flag}") };
                    assert!(has_word(&part, &flag), "{shell}: {} has no {flag}:\n{part}", command.get_name());
                }
            }
        }
    }

    /// What a script says of one command.
    fn part(shell: Shell, script: &str, name: &str) -> String {
        let between = |begin: &str, end: &str| -> String {
            let (_, rest) = script.split_once(begin).unwrap_or_else(|| panic!("{shell}: no {begin:?}"));
            rest.split_once(end).unwrap_or_else(|| panic!("{shell}: no {end:?} behind {begin:?}")).0.to_owned()
        };
        match shell {
            Shell::Bash => between(&format!("        shardfuse__subcmd__{name})\n"), "return 0\n            fi"),
            Shell::Zsh => between(&format!("({name})\n_arguments"), "&& ret=0\n"),
            Shell::Fish => {
                let of_it = format!("-n \"__fish_shardfuse_using_subcommand {name}\" ");
                script.lines().filter(|line| line.contains(&of_it)).map(|line| format!("{line}\n")).collect()
            }
            Shell::PowerShell => between(&format!("'shardfuse;{name}' {{\n"), "break\n"),
            Shell::Elvish => between(&format!("&'shardfuse;{name}'= {{\n"), "\n        }\n"),
            other => panic!("{other} is not known here"),
        }
    }

    /// Whether it is there, and not as the beginning of a longer one.
    fn has_word(text: &str, word: &str) -> bool {
        text.match_indices(word).any(|(at, _)| {
            !text[at + word.len()..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-')
        })
    }
}
