//! One request: posts events and says what became of them. What is tried again, and when, is for others.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use awc::{Client, ClientResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::hmac;
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::{Secret, WebhookSecret};

const MAX_ANSWER_BYTES: usize = 64 << 20;
const MAX_WHY_CHARS: usize = 300;

#[derive(Clone)]
pub struct Poster {
    client: Client,
    url: String,
    token: Option<Secret>,
    /// Signs requests (Standard Webhooks).
    webhook_secret: Option<Arc<WebhookSecret>>,
    answer_within: Duration,
}

/// What came of a request.
#[derive(Debug, PartialEq)]
pub enum PostOutcome {
    /// All events are stored but these.
    Answered { not_ok: Vec<NotOk>, after: Option<Duration> },
    /// Fewer at once may be taken.
    TooLarge { why: String },
    /// Nothing is known to be stored, and the same may be taken later; not before the time that was asked for.
    Later { why: String, after: Option<Duration> },
    /// Nothing will ever be taken like this.
    Rejected { why: String },
}

/// An event of a request that is not stored.
#[derive(Debug, PartialEq)]
pub struct NotOk {
    /// The place of the event in the request.
    pub index: usize,
    pub id: Option<String>,
    /// Whether it may be stored later.
    pub is_unavailable: bool,
    pub why: String,
}

impl Poster {
    pub fn new(
        client: Client,
        url: String,
        token: Option<Secret>,
        webhook_secret: Option<WebhookSecret>,
        answer_within: Duration,
    ) -> Self {
        Poster { client, url, token, webhook_secret: webhook_secret.map(Arc::new), answer_within }
    }

    pub async fn post(self, events: Bytes) -> PostOutcome {
        let within = self.answer_within;
        match timeout(within, self.attempt(events)).await {
            Ok(verdict) => verdict,
            Err(_) => later(no_answer_within(within)),
        }
    }

    async fn attempt(self, events: Bytes) -> PostOutcome {
        let mut request = self.client.post(&self.url);
        request = request.insert_header((CONTENT_TYPE, "application/x-ndjson"));
        request = request.insert_header((ACCEPT, "application/json, application/problem+json"));
        request = request.insert_header(("Prefer", "return=minimal"));
        if let Some(token) = &self.token {
            request = request.insert_header((AUTHORIZATION, format!("Bearer {}", token.expose())));
        }
        if let Some(secret) = &self.webhook_secret {
            for (name, value) in signed(secret, &events, format!("msg_{:016x}", fastrand::u64(..)), SystemTime::now()) {
                request = request.insert_header((name, value));
            }
        }
        let mut response = match request.send_body(events).await {
            Ok(response) => response,
            Err(error) => return later(plainly(&error, self.answer_within)),
        };
        let after = asked_to_wait(&response);
        match response.body().limit(MAX_ANSWER_BYTES).await {
            Ok(body) => judge(response.status().as_u16(), &body, after, location(&response)),
            Err(error) => later(format!("the answer could not be read: {error}")),
        }
    }
}

/// The headers of the Standard Webhooks specification: `id` is another one for each request.
fn signed(secret: &WebhookSecret, body: &[u8], id: String, now: SystemTime) -> [(&'static str, String); 3] {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut tag = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
    tag.update(format!("{id}.{seconds}.").as_bytes());
    tag.update(body);
    let signature = format!("v1,{}", STANDARD.encode(tag.sign()));
    [("webhook-id", id), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)]
}

fn no_answer_within(within: Duration) -> String {
    format!("no answer within {} s (--answer-within)", within.as_secs())
}

/// Why there is no answer, in words for a person.
fn plainly(error: &SendRequestError, within: Duration) -> String {
    match error {
        SendRequestError::Timeout => no_answer_within(within),
        SendRequestError::Connect(ConnectError::Timeout) => "the connection was not made in time".to_owned(),
        SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords) => {
            "its name has no address".to_owned()
        }
        SendRequestError::Connect(ConnectError::Io(error)) => format!("the connection failed: {error}"),
        SendRequestError::Connect(error) => format!("the connection failed: {error}"),
        SendRequestError::Send(error) => format!("the connection broke before the answer: {error}"),
        SendRequestError::Response(error) => format!("the answer is not HTTP, or was cut short: {error}"),
        error => error.to_string(),
    }
}

fn later(why: String) -> PostOutcome {
    PostOutcome::Later { why, after: None }
}

fn asked_to_wait<S>(response: &ClientResponse<S>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

fn location<S>(response: &ClientResponse<S>) -> Option<&str> {
    response.headers().get(LOCATION)?.to_str().ok()
}

fn judge(status: u16, body: &[u8], after: Option<Duration>, location: Option<&str>) -> PostOutcome {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    match (status, answer) {
        (200 | 207 | 503, Some(Answer { events: Some(events), .. })) => {
            PostOutcome::Answered { not_ok: events.into_iter().filter_map(EventAnswer::not_ok).collect(), after }
        }
        (413, answer) => PostOutcome::TooLarge { why: said(status, answer) },
        (408 | 425 | 429 | 500.., answer) => PostOutcome::Later { why: said(status, answer), after },
        (200..=299, _) => {
            PostOutcome::Rejected { why: format!("answered {status}, but not in the form of this service") }
        }
        (300..=399, _) => {
            let elsewhere = location.map(|to| format!(" to {to}")).unwrap_or_default();
            PostOutcome::Rejected { why: format!("answered {status}, a redirect{elsewhere}: give that URL to --to") }
        }
        (_, answer) => PostOutcome::Rejected { why: said(status, answer) },
    }
}

fn said(status: u16, answer: Option<Answer>) -> String {
    match answer.and_then(|answer| answer.problem.text()) {
        Some(text) => format!("answered {status}: {text}"),
        None => format!("answered {status}"),
    }
}

/// The answer to a batch, or a problem document.
#[derive(Deserialize)]
struct Answer {
    events: Option<Vec<EventAnswer>>,
    #[serde(flatten)]
    problem: Problem,
}

#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct EventAnswer {
    index: usize,
    id: Option<String>,
    status: String,
    problem: Option<Problem>,
    #[serde(default)]
    results: Vec<EntryAnswer>,
}

#[derive(Deserialize)]
struct EntryAnswer {
    status: String,
    problem: Option<Problem>,
}

impl EventAnswer {
    fn not_ok(self) -> Option<NotOk> {
        let EventAnswer { index, id, status, problem, results } = self;
        if status == "ok" {
            return None;
        }
        let of_entry = || results.into_iter().find(|entry| entry.status == status)?.problem;
        let why = problem.or_else(of_entry).and_then(Problem::text).unwrap_or_else(|| status.clone());
        Some(NotOk { index, id, is_unavailable: status == "unavailable", why })
    }
}

impl Problem {
    fn text(self) -> Option<String> {
        let text = match (self.title, self.detail) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            (title, detail) => title.or(detail)?,
        };
        Some(text.chars().take(MAX_WHY_CHARS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> PostOutcome {
        judge(status, body.as_bytes(), None, None)
    }

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of its libraries.
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let when = UNIX_EPOCH + Duration::from_secs(1_614_265_330);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned();
        let headers = signed(&secret, br#"{"test": 2432232314}"#, id.clone(), when);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned();
        let timestamp = "1614265330".to_owned();
        let expected = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_batch_is_stored_but_for_what_is_listed() {
        let body = r#"{"status":"unavailable","counts":{},"events":[
            {"index":1,"id":"e","status":"rejected","problem":{"title":"T","detail":"D"}},
            {"index":2,"status":"ok","results":[{"key":"k","status":"stored"}]},
            {"index":3,"status":"unavailable","results":[{"key":"k","status":"rejected","problem":{"title":"R"}},
                {"key":"l","status":"unavailable","problem":{"title":"U"}}]}]}"#;
        let not_ok = |index, id: Option<&str>, is_unavailable, why: &str| NotOk {
            index,
            id: id.map(str::to_owned),
            is_unavailable,
            why: why.to_owned(),
        };
        let expected = vec![not_ok(1, Some("e"), false, "T: D"), not_ok(3, None, true, "U")];
        assert_eq!(judged(503, body), PostOutcome::Answered { not_ok: expected, after: None });
    }

    #[test]
    fn what_is_no_batch_is_tried_again_made_smaller_or_given_up_by_its_status() {
        let problem = r#"{"type":"t","title":"T","status":1,"detail":"D"}"#;
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(
                matches!(judged(status, problem), PostOutcome::Later { why, .. } if why.ends_with(": T: D")),
                "{status}"
            );
        }
        assert!(matches!(judged(413, problem), PostOutcome::TooLarge { .. }));
        for status in [400, 401, 403, 404, 405, 415, 422, 301] {
            assert!(matches!(judged(status, problem), PostOutcome::Rejected { .. }), "{status}");
        }
        assert!(matches!(judged(200, "<html>"), PostOutcome::Rejected { .. }));
        assert!(matches!(judged(503, "<html>"), PostOutcome::Later { .. }));
    }
}
