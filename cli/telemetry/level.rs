//! What is logged.

use tracing_subscriber::EnvFilter;

/// The variables that say it, in tracing's directives; the first that is set counts.
const VARIABLES: [&str; 2] = ["SHARDFUSE_LOG", "RUST_LOG"];
/// What a process tells by itself that serves others: merges and workers as they come and go.
const SERVES: &str = "warn,shardfuse=info,shardfuse_coordinator=info,shardfuse_worker=info";
/// What a command tells by itself that a person waits for.
const ASKED: &str = "warn";
/// Libraries whose own lines say nothing of merges. They are quiet unless a directive names them.
const QUIET: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower", "object_store"];

/// The filter that the environment asks for. A text that is none counts as not set.
pub fn wanted(variable: impl Fn(&str) -> Option<String>, serves: bool) -> EnvFilter {
    let asked = VARIABLES.iter().filter_map(|name| variable(name)).find(|text| !text.trim().is_empty());
    let default = if serves { SERVES } else { ASKED };
    asked.and_then(|text| EnvFilter::try_new(directives(&text)).ok()).unwrap_or_else(|| EnvFilter::new(default))
}

/// The text with a directive for each library that it does not name.
fn directives(text: &str) -> String {
    let names = |library: &&&str| text.split(',').any(|directive| directive.trim().starts_with(**library));
    let quiet = QUIET.iter().filter(|library| !names(library)).map(|library| format!("{library}=warn"));
    quiet.chain([text.to_owned()]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)], serves: bool) -> String {
        let variable = |name: &str| set.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        wanted(variable, serves).to_string()
    }

    #[test]
    fn a_server_tells_what_it_does_and_a_command_only_what_is_wrong() {
        assert!(of(&[], true).contains("shardfuse_coordinator=info"));
        assert_eq!(of(&[], false), "warn");
    }

    #[test]
    fn the_variable_of_the_program_comes_before_the_common_one() {
        let both = [("RUST_LOG", "error"), ("SHARDFUSE_LOG", "debug")];
        assert!(of(&both, false).contains("debug") && !of(&both, false).contains("error"));
        assert!(of(&both[..1], false).contains("error"));
    }

    #[test]
    fn debug_leaves_transport_libraries_quiet_unless_they_are_named() {
        let debug = of(&[("SHARDFUSE_LOG", "debug")], false);
        assert!(debug.contains("h2=warn") && debug.contains("rustls=warn"), "{debug}");
        let named = of(&[("SHARDFUSE_LOG", "info,h2=trace")], false);
        assert!(named.contains("h2=trace") && !named.contains("h2=warn"), "{named}");
    }

    #[test]
    fn a_text_that_is_no_filter_counts_as_not_set() {
        assert_eq!(of(&[("SHARDFUSE_LOG", "a=b=c")], false), "warn");
    }
}
