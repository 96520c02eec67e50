//! What replicas tell each other, and what this one knows of the others: the answers of the last round of questions.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as TaskMutex;

use crate::telemetry::history::millis;

/// How long the answers of the others serve everybody with the same token.
const FRESH: Duration = Duration::from_secs(1);
/// After this without a look, nobody knows any more since when a replica has not answered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Tokens of which rounds are kept, at most.
const MAX_TOKENS: usize = 16;
const NO_REPLICA: &str = "what answers there is no replica of this service, or one of another version";
/// Characters of a text of another replica that are shown, at most.
const MAX_SHOWN: usize = 500;

/// How a part is, or a replica by its worst part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    Ok,
    /// Some events fail, or will soon.
    Degraded,
    /// Events fail, or none are taken.
    Down,
}

/// A replica, as it tells of itself. Another one may be older or newer: members may be added, none may go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// Made at the start: one process has two addresses, or none that it knows itself by.
    pub instance: String,
    /// Of the machine or pod; empty: not known.
    pub name: String,
    pub version: String,
    pub uptime_seconds: u64,
    pub state: PartState,
    /// Milliseconds since 1970; None: it is well, or that is not known.
    pub since_ms: Option<u64>,
    /// What is not well and why, in words; empty: all is well.
    pub why: String,
    /// Of the last step of the history.
    pub events_per_second: f64,
    /// Of an answer, in the last quarter of an hour.
    pub p99_ms: Option<f64>,
    /// The part of admission that is in use, from 0 to 1.
    pub admission: f64,
    pub redis_up: bool,
    pub redis: String,
    /// Whether it feeds the journal; None: there is none.
    pub has_lease: Option<bool>,
}

/// The answers of the replicas.
pub type PeerAnswers = Pin<Box<dyn Future<Output = AllPeers> + Send>>;

/// Asks the replicas that the operator named for their `/replica.json`, within a time of its own.
pub trait AskPeers: Send + Sync {
    /// `authorization` is the header of that name for each of them.
    fn ask(&self, authorization: Option<String>) -> PeerAnswers;
}

impl fmt::Debug for dyn AskPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client")
    }
}

/// What came of asking all of them.
#[derive(Debug, Default)]
pub struct AllPeers {
    /// One for each address.
    pub answers: Vec<PeerAnswer>,
    /// Addresses beyond the limit, which were not asked.
    pub left_out: usize,
}

/// What one address answered.
#[derive(Debug)]
pub struct PeerAnswer {
    /// Host and port, for a person.
    pub address: String,
    /// The URL of its page; None: it has no address.
    pub page: Option<String>,
    /// The body of a 200; or why there is none, in words.
    pub body: Result<Bytes, String>,
}

/// The last round of questions for each token.
#[derive(Default)]
pub struct PeerRounds(Mutex<HashMap<Option<String>, Arc<TaskMutex<PeerRound>>>>);

/// What came of asking the last time.
#[derive(Default)]
pub struct PeerRound {
    asked: Option<Instant>,
    pub table: Arc<ReplicaTable>,
    /// Since when an address has not answered, in milliseconds since 1970.
    silent: HashMap<String, u64>,
}

/// All replicas.
#[derive(Default, Serialize)]
pub struct ReplicaTable {
    /// This one first.
    replicas: Vec<Row>,
    well: usize,
    left_out: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    /// None: this one is not among the addresses.
    address: Option<String>,
    /// The URL of its own page, made of what the operator set and never of what it answered. None: it did not answer.
    page: Option<String>,
    is_this: bool,
    /// None: there is no answer.
    replica: Option<ReplicaState>,
    /// Since when there is none, as far as somebody looked; in milliseconds since 1970.
    silent_since_ms: Option<u64>,
    /// Why there is none.
    silent_why: Option<String>,
}

impl ReplicaState {
    /// What another replica answered; None: that is no replica's answer. Long texts are cut.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut state: ReplicaState =
            serde_json::from_slice(body).ok().filter(|state: &Self| !state.instance.is_empty())?;
        for text in [&mut state.name, &mut state.version, &mut state.why, &mut state.redis] {
            if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
                text.truncate(end);
                text.push('…');
            }
        }
        Some(state)
    }
}

impl PeerRounds {
    /// That of a token; none is the token of an open service.
    pub fn of(&self, token: &Option<String>) -> Arc<TaskMutex<PeerRound>> {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.len() >= MAX_TOKENS && !rounds.contains_key(token) {
            rounds.clear();
        }
        rounds.entry(token.clone()).or_default().clone()
    }
}

impl PeerRound {
    /// Whether it still serves everybody with the same token.
    pub fn is_fresh(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < FRESH)
    }

    /// Takes in what came of asking, with how this replica is.
    pub fn take_in(&mut self, this: ReplicaState, peers: AllPeers) {
        if self.asked.is_some_and(|asked| asked.elapsed() > REMEMBERED) {
            self.silent.clear();
        }
        let silent = std::mem::take(&mut self.silent);
        let now_ms = millis(SystemTime::now());
        let mut rows = vec![Row::of(this, true)];
        for PeerAnswer { address, page, body } in peers.answers {
            match body.and_then(|body| ReplicaState::parse(&body).ok_or_else(|| NO_REPLICA.to_owned())) {
                // Itself, or one that has two addresses.
                Ok(state) => {
                    let place = rows.iter().position(|row| row.is(&state)).unwrap_or(rows.len());
                    if place == rows.len() {
                        rows.push(Row::of(state, false));
                    }
                    rows[place].find_at(address, page);
                }
                Err(why) => {
                    let since_ms = silent.get(&address).copied().unwrap_or(now_ms);
                    self.silent.insert(address.clone(), since_ms);
                    rows.push(Row::silent(address, since_ms, why));
                }
            }
        }
        let well = rows.iter().filter(|row| row.is_well()).count();
        self.table = Arc::new(ReplicaTable { replicas: rows, well, left_out: peers.left_out });
        self.asked = Some(Instant::now());
    }
}

impl Row {
    fn of(replica: ReplicaState, is_this: bool) -> Self {
        Row { address: None, page: None, is_this, replica: Some(replica), silent_since_ms: None, silent_why: None }
    }

    /// The first address of several counts.
    fn find_at(&mut self, address: String, page: Option<String>) {
        if self.address.is_none() {
            (self.address, self.page) = (Some(address), page);
        }
    }

    fn silent(address: String, since_ms: u64, why: String) -> Self {
        let (silent_since_ms, silent_why) = (Some(since_ms), Some(why));
        Row { address: Some(address), page: None, is_this: false, replica: None, silent_since_ms, silent_why }
    }

    fn is(&self, state: &ReplicaState) -> bool {
        self.replica.as_ref().is_some_and(|known| known.instance == state.instance)
    }

    fn is_well(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.state == PartState::Ok)
    }
}
