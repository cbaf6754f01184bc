//! The tokens that a `--stores` file gives to web servers.

use super::Token;
use crate::config::{Config, Credentials};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The token of each prefix that has one. `variable` reads the environment. An anonymous prefix has none, and takes none
/// from what lies above it.
pub(crate) fn tokens(
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(Location, Option<Token>)>> {
    let token = |at: &Location, credentials: &Credentials| match credentials {
        Credentials::Env(names) => names.get("token").map(|name| {
            let missing =
                || Error::new(ErrorKind::Permission, at, format!("the variable {name} of its token is not set"));
            Token::new(&variable(name).ok_or_else(missing)?, name)
        }),
        Credentials::File(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| Error::io(path.display(), "cannot read the token", e))
                .and_then(|text| Token::new(&text, path.display())),
        ),
        _ => None,
    };
    config
        .web()
        .filter_map(|(at, entry)| Some((at, entry.credentials.as_ref()?)))
        .map(|(at, credentials)| Ok((at.clone(), token(at, credentials).transpose()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<(Location, Option<Token>)>> {
        tokens(&Config::parse(text).unwrap(), |name| (name == "MODELS").then(|| "hunter2".to_owned()))
    }

    #[test]
    fn a_token_comes_from_a_variable_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "hunter2\n").unwrap();
        let token = Some(Token::new("hunter2", "test").unwrap());
        for (text, want) in [
            ("https://a/x: { credentials: { env: { token: MODELS } } }".to_owned(), Some(token.clone())),
            (format!("https://a/x: {{ credentials: {{ file: {} }} }}", file.path().display()), Some(token)),
            ("https://a/x: { credentials: anonymous }".to_owned(), Some(None)),
            ("https://a/x: {}".to_owned(), None),
            ("s3://a/x: { credentials: anonymous }".to_owned(), None),
        ] {
            let found = of(&text).unwrap().pop();
            assert_eq!(found.map(|(_, token)| token), want, "{text}");
        }
    }

    #[test]
    fn a_token_that_is_not_there_is_named_by_its_source() {
        let error = of("https://a/x: { credentials: { env: { token: OTHER } } }").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.to_string().contains("OTHER") && error.to_string().contains("https://a/x"), "{error}");
        let error = of("https://a/x: { credentials: { file: /nowhere/token } }").unwrap_err();
        assert!(error.to_string().contains("/nowhere/token"), "{error}");
    }
}
