//! A bearer token. It is shown nowhere.

use std::fmt;

use http::HeaderValue;

use crate::error::{Error, ErrorKind, Result};

/// A bearer token, as the header that carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token; white space around it, such as the line end of a file, is left out. `source` is what an error
    /// names in place of the token: the variable or the file that it comes from.
    pub fn new(text: &str, source: impl fmt::Display) -> Result<Self> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::Permanent, &source, what));
        let text = text.trim();
        if text.is_empty() {
            return refuse("holds an empty token");
        }
        match HeaderValue::try_from(format!("Bearer {text}")) {
            Ok(mut header) => {
                header.set_sensitive(true);
                Ok(Self(header))
            }
            Err(_) => refuse("holds a token with characters that no header can carry"),
        }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_never_shown() {
        let token = Token::new(" hf_secret\n", "HF_TOKEN").unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
        for text in ["", " \n", "hf_sec\nret", "hf_sec\u{7f}ret"] {
            let error = Token::new(text, "HF_TOKEN").unwrap_err().chain();
            assert!(error.starts_with("HF_TOKEN: holds") && !error.contains("sec"), "{error}");
        }
    }
}
