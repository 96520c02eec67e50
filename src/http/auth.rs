//! Who may post events: whoever has one of the bearer tokens (RFC 6750).
//!
//! Tokens may change while requests come in; a request sees the old ones or the new ones, and pays for that with no lock.

use std::fmt;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;

/// What has to be shown. Whether anything has to be is settled at the start: no change of tokens opens the door.
pub struct Auth {
    is_open: bool,
    tokens: ArcSwap<Vec<String>>,
}

impl Auth {
    /// No token at all: none is asked for.
    pub fn new(tokens: Vec<String>) -> Self {
        Auth { is_open: tokens.is_empty(), tokens: ArcSwap::from_pointee(tokens) }
    }

    /// From now on these are accepted, and no others.
    pub fn replace_tokens(&self, tokens: Vec<String>) {
        self.tokens.store(tokens.into());
    }

    /// Whether these headers carry one of the tokens. Takes the same time whichever token it is, and however much of it
    /// is right.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        if self.is_open {
            return true;
        }
        let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else { return false };
        self.tokens.load().iter().fold(false, |found, token| found | bool::from(token.as_bytes().ct_eq(given)))
    }
}

/// The scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.tokens.load().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn any_of_the_tokens_is_accepted_and_nothing_else() {
        let auth = Auth::new(vec!["first".into(), "second".into()]);
        assert!(auth.admit(&with("Bearer first")) && auth.admit(&with("bearer  second")));
        for wrong in ["Bearer", "Bearer ", "Bearer third", "Basic first", "first", "Bearer first second", "Bearer firs"]
        {
            assert!(!auth.admit(&with(wrong)), "{wrong}");
        }
        assert!(!auth.admit(&HeaderMap::new()));
        assert!(Auth::new(Vec::new()).admit(&HeaderMap::new()));
        assert_eq!(format!("{auth:?}"), "2 tokens");
    }

    #[test]
    fn new_tokens_take_the_place_of_the_old_ones_and_none_at_all_shut_the_door() {
        let auth = Auth::new(vec!["first".into()]);
        auth.replace_tokens(vec!["second".into()]);
        assert!(auth.admit(&with("Bearer second")) && !auth.admit(&with("Bearer first")));
        auth.replace_tokens(Vec::new());
        assert!(!auth.admit(&with("Bearer second")) && !auth.admit(&HeaderMap::new()) && !auth.admit(&with("Bearer ")));
    }
}
