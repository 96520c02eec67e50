//! Who may post events: whoever has one of the bearer tokens (RFC 6750), or signs what it sends with one of the webhook
//! secrets.
//!
//! Both may change while requests come in; a request sees the old ones or the new ones, and pays for that with no
//! lock. A door that was open is shut by the first token or secret; one that was shut is never opened by the loss of the
//! last.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use arc_swap::ArcSwap;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConstantTimeEq};

use super::webhook::{Claim, Unsigned, WebhookKeys};
use crate::event::rejection::Rejection;
use crate::event::rights::{Access, Rights, TokenLine};
use crate::telemetry::metrics::{Metrics, SenderMetrics};

/// Words of 8 bytes up to which a token is compared as it is; to make a digest costs more than the rest of the look at it.
const SHORT_WORDS: usize = 8;
/// Characters below which a token is warned of.
const SHORT_TOKEN: usize = 16;

const NO_TOKEN: Rejection = Rejection::Unauthorized {
    detail: "The bearer token is missing or unknown. Send Authorization: Bearer with an accepted token.",
};
const NOT_SIGNED: Rejection = Rejection::Unauthorized {
    detail: "The signature is missing. Send webhook-id, webhook-timestamp and webhook-signature, the last with a v1 signature.",
};
const NEITHER: Rejection = Rejection::Unauthorized {
    detail: "The request has neither an accepted token (Authorization: Bearer) nor a signature (webhook-id, \
             webhook-timestamp and webhook-signature).",
};
const UNTIMELY: Rejection = Rejection::Unauthorized {
    detail: "webhook-timestamp is more than 5 minutes away from the service's clock. Sign the request again.",
};
const WRONG_SIGNATURE: Rejection = Rejection::Unauthorized {
    detail: "No signature in webhook-signature matches this request. Sign its exact bytes with an accepted secret.",
};

/// What has to be shown.
pub struct Auth {
    is_open: AtomicBool,
    tokens: ArcSwap<Vec<Token>>,
    metrics: Metrics,
    keys: ArcSwap<WebhookKeys>,
}

/// Whose token it is.
#[derive(Debug)]
pub struct Holder {
    /// The name of the token, if it has one.
    pub name: Option<Box<str>>,
    /// None: everything is permitted.
    pub rights: Option<Arc<Rights>>,
    /// What is counted of its events.
    pub metrics: SenderMetrics,
}

/// What is set as `name:token` may be sent whole too, as it had to be before there were names.
struct Token {
    holder: Arc<Holder>,
    prints: [Print; 2],
    length: usize,
}

/// What a token is known by: to compare two of them takes the same time whatever they are, and tells not even a length.
enum Print {
    /// The text itself, filled up with zeros; the last word is its length.
    Short([u64; SHORT_WORDS + 1]),
    /// The digest of a longer one.
    Long([u64; SHA256_OUTPUT_LEN / 8]),
}

impl Print {
    fn of(text: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        if text.len() > SHORT_WORDS * 8 {
            let (digest, mut words) = (digest(&SHA256, text), [0; SHA256_OUTPUT_LEN / 8]);
            words.iter_mut().zip(digest.as_ref().chunks(8)).for_each(|(to, bytes)| *to = word(bytes));
            return Print::Long(words);
        }
        let mut words = [0; SHORT_WORDS + 1];
        words.iter_mut().zip(text.chunks(8)).for_each(|(to, bytes)| *to = word(bytes));
        words[SHORT_WORDS] = text.len() as u64;
        Print::Short(words)
    }

    fn is(&self, other: &Print) -> Choice {
        match (self, other) {
            (Print::Short(own), Print::Short(other)) => own.ct_eq(other),
            (Print::Long(own), Print::Long(other)) => own.ct_eq(other),
            _ => Choice::from(0),
        }
    }
}

impl Token {
    /// None of what is no token: it opens nothing.
    fn new(line: &str, metrics: &Metrics) -> Option<Self> {
        let TokenLine { name, token, named_token, rights } = TokenLine::parse(line).ok()?;
        let prints = [token, named_token].map(|text| Print::of(text.as_bytes()));
        let holder = Holder { name: name.map(Box::from), rights: rights.map(Arc::new), metrics: metrics.sender(name) };
        Some(Token { holder: Arc::new(holder), prints, length: token.len() })
    }

    fn is(&self, given: &Print) -> bool {
        self.prints.iter().fold(Choice::from(0), |found, print| found | print.is(given)).into()
    }
}

/// A sender that is let in.
pub enum Admittance {
    /// Nothing more is asked for. The holder of the token that was shown.
    Open(Option<Arc<Holder>>),
    /// If its body is what it claims.
    Claimed(Box<Claim>),
}

impl Auth {
    /// Neither tokens nor secrets: nothing is asked for.
    pub fn new(tokens: Vec<String>, webhook_secrets: Vec<Vec<u8>>, metrics: Metrics) -> Self {
        Auth {
            is_open: AtomicBool::new(tokens.is_empty() && webhook_secrets.is_empty()),
            tokens: ArcSwap::from_pointee(tokens.iter().filter_map(|line| Token::new(line, &metrics)).collect()),
            metrics,
            keys: ArcSwap::from_pointee(WebhookKeys::new(webhook_secrets)),
        }
    }

    /// The same, but never open: beside them something else is asked for.
    pub fn shut(tokens: Vec<String>, webhook_secrets: Vec<Vec<u8>>, metrics: Metrics) -> Self {
        let auth = Auth::new(tokens, webhook_secrets, metrics);
        auth.shut_if(true);
        auth
    }

    /// From now on these are accepted, and no others.
    pub fn replace_tokens(&self, tokens: Vec<String>) {
        let shuts = !tokens.is_empty();
        self.tokens.store(Arc::new(tokens.iter().filter_map(|line| Token::new(line, &self.metrics)).collect()));
        self.shut_if(shuts);
    }

    /// From now on these sign, and no others.
    pub fn replace_webhook_secrets(&self, secrets: Vec<Vec<u8>>) {
        let shuts = !secrets.is_empty();
        self.keys.store(WebhookKeys::new(secrets).into());
        self.shut_if(shuts);
    }

    fn shut_if(&self, shuts: bool) {
        if shuts {
            self.is_open.store(false, SeqCst);
        }
    }

    /// What the headers are good for. `now` is asked for if it matters.
    pub fn admit(&self, headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Result<Admittance, Rejection> {
        if self.is_open() {
            return Ok(Admittance::Open(None));
        }
        if let Some(holder) = self.token(headers) {
            return Ok(Admittance::Open(Some(holder)));
        }
        let keys = self.keys.load();
        if keys.len() == 0 {
            return Err(NO_TOKEN);
        }
        let now = now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        keys.claim(headers, now).map(|claim| Admittance::Claimed(Box::new(claim))).map_err(|why| match why {
            Unsigned::Missing if self.tokens.load().is_empty() => NOT_SIGNED,
            Unsigned::Missing => NEITHER,
            Unsigned::Untimely => UNTIMELY,
        })
    }

    /// Whether neither tokens nor secrets are asked for.
    pub fn is_open(&self) -> bool {
        self.is_open.load(SeqCst)
    }

    /// For what is not posted as events: a token that permits this, where anything is asked for. The rights of the token, if
    /// they are limited.
    pub fn admit_token(&self, headers: &HeaderMap, access: Access) -> Result<Option<Arc<Rights>>, Rejection> {
        if self.is_open() {
            return Ok(None);
        }
        let rights = self.token(headers).ok_or(NO_TOKEN)?.rights.clone();
        let refused = rights.as_ref().and_then(|rights| rights.allow(access).err());
        refused.map_or(Ok(rights), |detail| Err(Rejection::Forbidden { detail }))
    }

    /// Tokens that can be guessed: the name of each, or its place in the list.
    pub fn short_tokens(&self) -> Vec<String> {
        let tokens = self.tokens.load();
        let short = tokens.iter().enumerate().filter(|(_, token)| token.length < SHORT_TOKEN);
        short
            .map(|(place, token)| token.holder.name.as_deref().map_or(format!("number {}", place + 1), str::to_owned))
            .collect()
    }

    /// Whether these headers carry one of the tokens, and which. Takes the same time whichever token it is, and however
    /// much of it is right.
    fn token(&self, headers: &HeaderMap) -> Option<Arc<Holder>> {
        bearer_of(headers).and_then(|given| self.known(given))
    }

    /// The same, of headers that carry one of the tokens or of texts that are one.
    pub fn token_of(&self, headers: &HeaderMap, others: &[String]) -> Option<Arc<Holder>> {
        self.token(headers).or_else(|| others.iter().find_map(|given| self.known(given.as_bytes())))
    }

    fn known(&self, given: &[u8]) -> Option<Arc<Holder>> {
        let given = Print::of(given);
        let tokens = self.tokens.load();
        let found = tokens.iter().fold(None, |found, token| if token.is(&given) { Some(token) } else { found });
        found.map(|token| token.holder.clone())
    }

    /// Whether a token is one of the ways in.
    pub fn has_tokens(&self) -> bool {
        !self.tokens.load().is_empty()
    }
}

impl Admittance {
    /// The claim that is to be held against the body as it comes in.
    pub fn claim(&mut self) -> Option<&mut Claim> {
        match self {
            Admittance::Open(_) => None,
            Admittance::Claimed(claim) => Some(claim),
        }
    }

    /// The holder of the token that was shown.
    pub fn holder(&self) -> Option<Arc<Holder>> {
        match self {
            Admittance::Open(holder) => holder.clone(),
            Admittance::Claimed(_) => None,
        }
    }

    /// Asks for what was left open, once the body has come in.
    pub fn confirm(self) -> Result<(), Rejection> {
        match self {
            Admittance::Open(_) => Ok(()),
            Admittance::Claimed(claim) => {
                if claim.holds() {
                    Ok(())
                } else {
                    Err(WRONG_SIGNATURE)
                }
            }
        }
    }
}

/// The bearer token of a request.
pub fn bearer_of(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
}

/// The scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens, {} webhook secrets", self.tokens.load().len(), self.keys.load().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    fn auth(tokens: &[&str]) -> Auth {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        Auth::new(tokens, Vec::new(), Metrics::new("").expect("metrics"))
    }

    fn is_let_in(auth: &Auth, headers: &HeaderMap) -> bool {
        matches!(auth.admit(headers, SystemTime::now), Ok(Admittance::Open(_)))
    }

    #[test]
    fn any_of_the_tokens_is_accepted_and_nothing_else() {
        let auth = auth(&["first", "second"]);
        assert!(is_let_in(&auth, &with("Bearer first")) && is_let_in(&auth, &with("bearer  second")));
        for wrong in ["Bearer", "Bearer ", "Bearer third", "Basic first", "first", "Bearer first second", "Bearer firs"]
        {
            assert!(!is_let_in(&auth, &with(wrong)), "{wrong}");
        }
        assert!(!is_let_in(&auth, &HeaderMap::new()));
        assert!(is_let_in(&self::auth(&[]), &HeaderMap::new()));
        assert_eq!(format!("{auth:?}"), "2 tokens, 0 webhook secrets");
    }

    #[test]
    fn tokens_of_every_length_are_told_apart() {
        let token = |length: usize| "x".repeat(length);
        let lengths = [1, 7, 8, 9, 63, 64, 65, 200];
        for set in lengths {
            let auth = auth(&[&token(set)]);
            for given in lengths {
                let headers =
                    [(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", token(given))).expect("a header"))];
                assert_eq!(is_let_in(&auth, &HeaderMap::from_iter(headers)), given == set, "{given} of {set}");
            }
            let other = format!("Bearer {}y", token(set - 1));
            let headers = [(AUTHORIZATION, HeaderValue::from_str(&other).expect("a header"))];
            assert!(!is_let_in(&auth, &HeaderMap::from_iter(headers)), "{set}");
        }
    }

    #[test]
    fn the_first_token_or_secret_shuts_an_open_door_for_good() {
        let shut_by: [fn(&Auth); 2] = [
            |auth| auth.replace_tokens(vec!["first".into()]),
            |auth| auth.replace_webhook_secrets(vec![b"0123456789abcdefghijklmn".to_vec()]),
        ];
        for shut in shut_by {
            let auth = auth(&[]);
            auth.replace_tokens(Vec::new());
            assert!(is_let_in(&auth, &HeaderMap::new()));
            shut(&auth);
            assert!(!is_let_in(&auth, &HeaderMap::new()));
            auth.replace_tokens(Vec::new());
            auth.replace_webhook_secrets(Vec::new());
            assert!(!is_let_in(&auth, &HeaderMap::new()));
        }
    }

    #[test]
    fn new_tokens_take_the_place_of_the_old_ones_and_none_at_all_shut_the_door() {
        let auth = auth(&["first"]);
        auth.replace_tokens(vec!["second".into()]);
        assert!(is_let_in(&auth, &with("Bearer second")) && !is_let_in(&auth, &with("Bearer first")));
        auth.replace_tokens(Vec::new());
        assert!(
            !is_let_in(&auth, &with("Bearer second"))
                && !is_let_in(&auth, &HeaderMap::new())
                && !is_let_in(&auth, &with("Bearer "))
        );
    }

    #[test]
    fn a_name_stands_before_a_token_and_is_told() {
        let auth = auth(&["billing:0123456789abcdef", "No:name", "x:"]);
        let name = |value| match auth.admit(&with(value), SystemTime::now) {
            Ok(entry) => entry
                .holder()
                .and_then(|holder| holder.name.as_deref().map(str::to_owned))
                .unwrap_or("unnamed".to_owned()),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(name("Bearer 0123456789abcdef"), "billing");
        assert_eq!(name("Bearer billing:0123456789abcdef"), "billing", "as it was sent before there were names");
        assert_eq!((name("Bearer No:name"), name("Bearer name")), ("unnamed".to_owned(), "refused".to_owned()));
        assert_eq!((name("Bearer x:"), name("Bearer billing")), ("unnamed".to_owned(), "refused".to_owned()));
        assert_eq!(auth.short_tokens(), ["number 2", "number 3"]);
    }
}
