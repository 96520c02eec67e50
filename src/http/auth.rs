//! Bearer tokens (RFC 6750) on `POST /events`.

use std::fmt;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;

/// The tokens of which any is accepted. None at all: no token is asked for.
#[derive(Clone, Default)]
pub struct Tokens(Vec<String>);

impl Tokens {
    pub fn new(tokens: Vec<String>) -> Self {
        Tokens(tokens)
    }

    /// Whether these headers carry one of the tokens. Takes the same time whichever token it is, and however much of it
    /// is right.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else { return false };
        self.0.iter().fold(false, |found, token| found | bool::from(token.as_bytes().ct_eq(given)))
    }
}

/// The scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn any_of_the_tokens_is_accepted_and_nothing_else() {
        let tokens = Tokens::new(vec!["first".into(), "second".into()]);
        let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert!(tokens.admit(&with("Bearer first")) && tokens.admit(&with("bearer  second")));
        for wrong in ["Bearer", "Bearer ", "Bearer third", "Basic first", "first", "Bearer first second", "Bearer firs"]
        {
            assert!(!tokens.admit(&with(wrong)), "{wrong}");
        }
        assert!(!tokens.admit(&HeaderMap::new()));
        assert!(Tokens::default().admit(&HeaderMap::new()));
        assert_eq!(format!("{tokens:?}"), "2 tokens");
    }
}
