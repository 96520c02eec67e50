//! Signatures of senders, after the Standard Webhooks specification (symmetric, `v1`): HMAC-SHA256 over
//! `id.timestamp.body`, with the body as it was sent, before any coding is undone.
//!
//! What the headers alone show is judged before the body is read; the body goes through the digest as it comes in, so it
//! is held no longer than without. A repeated id is nothing to us: events may be repeated.

use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::SHA256_OUTPUT_LEN;
use ring::hmac::{Context, HMAC_SHA256, Key};
use subtle::ConstantTimeEq;

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
/// What a signature of the kind that is understood begins with; others may stand beside it.
const VERSION: &str = "v1,";
/// How far a timestamp may be off, in either direction.
const TOLERANCE_SECONDS: u64 = 300;
/// Digits that no time has more of.
const MAX_DIGITS: usize = 12;
/// Signatures of one request that are looked at: a sender that changes its secret sends two.
const MAX_SIGNATURES: usize = 16;

/// The keys of which any is accepted.
pub struct WebhookKeys(Vec<Key>);

/// Why a request is not accepted before its body is read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// One of the headers is missing, or cannot be what it should be.
    Missing,
    /// The timestamp is too far from our clock.
    Untimely,
}

/// What a request says about its body, to be held against it.
pub struct Claim {
    digests: Vec<Context>,
    given: Vec<[u8; SHA256_OUTPUT_LEN]>,
}

impl WebhookKeys {
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        WebhookKeys(secrets.into_iter().map(|secret| Key::new(HMAC_SHA256, &secret)).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `now` in seconds since 1970.
    pub fn claim(&self, headers: &HeaderMap, now: u64) -> Result<Claim, Unsigned> {
        let header = |name| headers.get(name).map(|value| value.as_bytes()).filter(|value| !value.is_empty());
        let (Some(id), Some(timestamp), Some(signatures)) = (header(ID), header(TIMESTAMP), header(SIGNATURE)) else {
            return Err(Unsigned::Missing);
        };
        let given = signatures.split(|byte| *byte == b' ').filter_map(signature).take(MAX_SIGNATURES);
        let given: Vec<_> = given.collect();
        if given.is_empty() {
            return Err(Unsigned::Missing);
        }
        if seconds(timestamp).ok_or(Unsigned::Missing)?.abs_diff(now) > TOLERANCE_SECONDS {
            return Err(Unsigned::Untimely);
        }
        let begin = |key| {
            let mut digest = Context::with_key(key);
            [id, b".", timestamp, b"."].into_iter().for_each(|part| digest.update(part));
            digest
        };
        Ok(Claim { digests: self.0.iter().map(begin).collect(), given })
    }
}

impl Claim {
    /// More of the body, as it was sent.
    pub fn add(&mut self, bytes: &[u8]) {
        self.digests.iter_mut().for_each(|digest| digest.update(bytes));
    }

    /// Whether one of the signatures is that of what was added, with one of the keys. Takes the same time whichever it
    /// is, and however much of it is right.
    pub fn holds(self) -> bool {
        let mut found = false;
        for tag in self.digests.into_iter().map(Context::sign) {
            found = self.given.iter().fold(found, |found, given| found | bool::from(tag.as_ref().ct_eq(given)));
        }
        found
    }
}

fn signature(text: &[u8]) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let encoded = text.strip_prefix(VERSION.as_bytes())?;
    BASE64.decode(encoded).ok()?.try_into().ok()
}

/// Digits alone: what is signed is their text, so there must be one way to write a time.
fn seconds(text: &[u8]) -> Option<u64> {
    let is_number = text.len() <= MAX_DIGITS && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    // An example of the specification's own libraries.
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const WHEN: u64 = 1_614_265_330;
    const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn keys(secrets: &[&str]) -> WebhookKeys {
        WebhookKeys::new(secrets.iter().map(|secret| BASE64.decode(secret).expect("base64")))
    }

    fn headers(id: &str, timestamp: &str, signatures: &str) -> HeaderMap {
        let header =
            |name, value: &str| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        HeaderMap::from_iter([header(ID, id), header(TIMESTAMP, timestamp), header(SIGNATURE, signatures)])
    }

    fn holds(keys: &WebhookKeys, signatures: &str, parts: &[&[u8]]) -> bool {
        let headers = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", &WHEN.to_string(), signatures);
        let Ok(mut claim) = keys.claim(&headers, WHEN) else { return false };
        parts.iter().for_each(|part| claim.add(part));
        claim.holds()
    }

    #[test]
    fn the_example_of_the_specification_holds_and_nothing_near_it_does() {
        let ours = keys(&[SECRET]);
        assert!(holds(&ours, GOOD, &[BODY]));
        assert!(holds(&ours, GOOD, &[&BODY[..7], b"", &BODY[7..]]), "however it is cut");
        assert!(!holds(&ours, GOOD, &[&BODY[1..]]));
        assert!(!holds(&ours, GOOD, &[BODY, b" "]));
        for wrong in ["v1,", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", &GOOD[3..], &GOOD[..20], "v1,AAAA", " "]
        {
            assert!(!holds(&ours, wrong, &[BODY]), "{wrong}");
        }
        assert!(!holds(&keys(&["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]), GOOD, &[BODY]));
        assert!(!holds(&keys(&[]), GOOD, &[BODY]));
    }

    #[test]
    fn any_of_several_signatures_under_any_of_several_secrets_will_do() {
        let (old, none) = ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", format!("v1,{}=", "A".repeat(43)));
        for ours in [keys(&[old, SECRET]), keys(&[SECRET, old])] {
            for signatures in [format!("{none} {GOOD}"), format!("v1a,xyz {GOOD} {none}"), format!("junk {GOOD}")] {
                assert!(holds(&ours, &signatures, &[BODY]), "{signatures}");
            }
            assert!(!holds(&ours, &format!("{none} {none}"), &[BODY]));
        }
    }

    #[test]
    fn a_time_more_than_five_minutes_off_is_refused_before_the_body() {
        let ours = keys(&[SECRET]);
        let claim = |timestamp: &str| ours.claim(&headers("id", timestamp, GOOD), 10_000).map(|_| ());
        for good in ["10000", "9700", "10300", "010000"] {
            assert_eq!(claim(good), Ok(()), "{good}");
        }
        for off in ["9699", "10301", "0", "999999999999"] {
            assert_eq!(claim(off), Err(Unsigned::Untimely), "{off}");
        }
        for bad in ["", "-1", "+10000", "1e4", "10000.0", " 10000", "0x2710", "9999999999999"] {
            assert_eq!(claim(bad), Err(Unsigned::Missing), "{bad}");
        }
        assert_eq!(ours.claim(&headers("", "10000", GOOD), 10_000).err(), Some(Unsigned::Missing));
        assert_eq!(ours.claim(&HeaderMap::new(), 10_000).err(), Some(Unsigned::Missing));
    }
}
