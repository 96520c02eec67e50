//! Senders whose events are to be kept, through any of several replicas, and the state that the order of their acceptance ends in.
//!
//! Each has keys of its own, one request under way, and sends nothing newer before the last is accepted: so the order of acceptance is
//! known for each key, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, Random, delete, delete_pattern, eventually, set_inline};

const BATCH: u64 = 20;
/// Of each group of a sender; a pattern delete goes over one group.
const KEYS: u64 = 20;
const GROUPS: u64 = 3;
/// For one request: longer than `event.deadline_ms`.
const LIMIT: Duration = Duration::from_secs(30);

/// What every key holds; those that are not there hold nothing.
pub type State = BTreeMap<String, String>;

/// What was accepted.
#[derive(Default)]
pub struct Accepted {
    pub state: State,
    pub events: u64,
    /// Requests that were answered otherwise than 202, or not at all.
    pub repeated: u64,
    pub slowest: Duration,
}

/// How far the senders are.
#[derive(Default)]
pub struct Sending {
    accepted: AtomicU64,
    is_over: AtomicBool,
}

impl Sending {
    /// Waits until so many more requests were accepted.
    #[track_caller]
    pub fn go_on(&self, requests: u64) {
        let enough = self.accepted.load(Ordering::Relaxed) + requests;
        let went_on = eventually(PATIENCE * 2, || self.accepted.load(Ordering::Relaxed) >= enough);
        assert!(went_on, "nothing is accepted any more");
    }
}

/// Sends through these ports while the work is done.
pub fn while_accepting(ports: &[u16], senders: u64, seed: u64, work: impl FnOnce(&Sending)) -> Accepted {
    let sending = Sending::default();
    thread::scope(|scope| {
        let begun: Vec<_> = (0..senders)
            .map(|sender| {
                let sending = &sending;
                scope.spawn(move || send(sender, ports, seed, sending))
            })
            .collect();
        // However the work ends, they come to their end.
        let over = Over(&sending.is_over);
        work(&sending);
        drop(over);
        let mut all = Accepted::default();
        for sender in begun {
            let one = sender.join().expect("a sender comes to its end");
            all.state.extend(one.state);
            all.events += one.events;
            all.repeated += one.repeated;
            all.slowest = all.slowest.max(one.slowest);
        }
        all
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn send(sender: u64, ports: &[u16], seed: u64, sending: &Sending) -> Accepted {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT)).build().into();
    let mut random = Random::seeded(seed ^ ((sender + 1) << 32));
    let mut accepted = Accepted::default();
    // Every other one goes from replica to replica; the rest stay with one, so that one that hangs does not hold up all.
    let (mut number, mut turn, step) = (0, sender as usize, usize::from(sender.is_multiple_of(2)));
    while !sending.is_over.load(Ordering::Relaxed) {
        number += 1;
        turn += step;
        let body = batch(sender, number, &mut random, &mut accepted.state).to_string();
        let end = Instant::now() + PATIENCE * 4;
        loop {
            let begun = Instant::now();
            let request = agent.post(format!("http://127.0.0.1:{}/events", ports[turn % ports.len()]));
            let request = request.header("content-type", "application/json").header("prefer", "respond-async");
            let answered = request.send(&body).map(|mut answer| {
                // Read, so that the connection is used again.
                let _ = answer.body_mut().read_to_vec();
                answer.status().as_u16()
            });
            accepted.slowest = accepted.slowest.max(begun.elapsed());
            if answered.is_ok_and(|status| status == 202) {
                break;
            }
            accepted.repeated += 1;
            turn += 1;
            assert!(Instant::now() < end, "batch {number} of sender {sender} is not accepted");
            thread::sleep(Duration::from_millis(10 + random.below(40)));
        }
        // Faster than it is applied on a busy machine, the journal would only grow.
        thread::sleep(Duration::from_millis(40 + random.below(80)));
        accepted.events += BATCH;
        sending.accepted.fetch_add(1, Ordering::Relaxed);
    }
    accepted
}

/// The next events of a sender, and what they do to its keys.
fn batch(sender: u64, number: u64, random: &mut Random, state: &mut State) -> Value {
    let events = (0..BATCH).map(|place| {
        let group = format!("g{sender}.{}:", random.below(GROUPS));
        let key = format!("{group}{}", random.below(KEYS));
        match random.below(20) {
            0 => {
                state.retain(|key, _| !key.starts_with(&group));
                delete_pattern(json!(format!("{group}*")))
            }
            1..4 => {
                state.remove(&key);
                delete(json!(key))
            }
            _ => {
                let value = format!("{number}.{place}");
                state.insert(key.clone(), value.clone());
                set_inline(&key, &value)
            }
        }
    });
    Value::Array(events.collect())
}

/// What the keys of all senders hold.
pub fn stored(connection: &mut redis::Connection) -> State {
    let keys: Vec<String> = redis::cmd("KEYS").arg("g*").query(connection).expect("KEYS");
    let mut value = |key: String| {
        let value: Option<String> = redis::cmd("GET").arg(&key).query(connection).expect("GET");
        Some((key, value?))
    };
    keys.into_iter().filter_map(&mut value).collect()
}

/// Keys that hold something else than they should.
pub fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut keys: Vec<&String> = expected.keys().chain(found.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&&String| expected.get(**key) != found.get(**key);
    let told = |key: &&String| format!("{key}: {:?}, expected {:?}", found.get(*key), expected.get(*key));
    keys.iter().filter(differs).map(told).collect()
}
