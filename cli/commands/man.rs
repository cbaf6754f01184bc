//! `shardfuse man`: man pages, made from the definitions of commands and flags.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use shardfuse_merge::{Error, Kind, Result};

use super::write;
use crate::args::{self, Args};
use crate::report::internal;

/// A page.
struct Page {
    /// The name of its file.
    file: String,
    /// The command, `None` for all.
    command: Option<String>,
    text: String,
}

/// Prints one page, or writes all of them.
pub fn run(args: &args::Man) -> Result<()> {
    let pages = pages()?;
    if let Some(dir) = &args.dir {
        return write_all(dir, &pages);
    }
    match pages.iter().find(|page| page.command == args.command) {
        Some(page) => write(&page.text),
        None => {
            let known: Vec<&str> = pages.iter().filter_map(|page| page.command.as_deref()).collect();
            let asked = args.command.as_deref().unwrap_or_default();
            Err(Error::new(Kind::Usage, format!("{asked:?} is no command, expected one of {}", known.join(", "))))
        }
    }
}

/// The page of the program, then that of each command.
fn pages() -> Result<Vec<Page>> {
    let mut all = Args::command().disable_help_subcommand(true);
    all.build();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let each = commands.map(|command| (Some(command.get_name().to_owned()), command));
    std::iter::once((None, all.clone())).chain(each).map(|(name, command)| page(name, command)).collect()
}

fn page(name: Option<String>, command: clap::Command) -> Result<Page> {
    let man = Man::new(command).manual("shardfuse").source(format!("shardfuse {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text).map_err(|e| internal(format!("a man page cannot be made: {e}")))?;
    // Examples and exit codes have a heading of their own in it.
    let text = String::from_utf8_lossy(&text).replace("\n.SH EXTRA\n", "\n.SH NOTES\n");
    Ok(Page { file: man.get_filename(), command: name, text })
}

#[allow(clippy::disallowed_methods, reason = "pages are no inputs and no outputs of a merge")]
fn write_all(dir: &Path, pages: &[Page]) -> Result<()> {
    let io = |path: &Path, e: std::io::Error| Error::new(Kind::Io, format!("cannot write {}: {e}", path.display()));
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    for page in pages {
        let path = dir.join(&page.file);
        std::fs::write(&path, &page.text).map_err(|e| io(&path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_every_command_is_on_its_page() {
        let mut all = Args::command();
        all.build();
        let pages = pages().unwrap();
        for command in all.get_subcommands().filter(|command| command.get_name() != "help") {
            let page = pages.iter().find(|page| page.command.as_deref() == Some(command.get_name())).unwrap();
            assert_eq!(page.file, format!("shardfuse-{}.1", command.get_name()));
            let (_, options) = page.text.split_once("\n.SH OPTIONS\n").unwrap();
            for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long()) {
                // roff writes a dash as \-, and a flag in bold.
                let flag = format!("\\-\\-{}\\fR", flag.replace('-', "\\-"));
                assert!(options.contains(&flag), "{} has no {flag}:\n{options}", page.file);
            }
        }
        assert_eq!(pages[0].file, "shardfuse.1");
        assert!(pages.iter().all(|page| !page.text.contains(".SH EXTRA")));
    }
}
