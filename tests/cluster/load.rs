//! Clients that write through the daemon and wait for each answer, so that they know what was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Daemon, eventually, get, ndjson, set_inline};

/// Of each client.
const KEYS: usize = 25;
/// Of one request. What is lost of the others shows, for nothing writes over it.
const AT_ONCE: usize = 5;

/// What is acknowledged of each key: the number that was last written.
type Acknowledged = HashMap<String, u64>;

pub struct Load {
    daemon: Arc<Daemon>,
    stop: Arc<AtomicBool>,
    /// Answers that were ok as a whole.
    pub good: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Acknowledged>>,
}

impl Load {
    /// `name` is for the keys.
    pub fn start(daemon: &Arc<Daemon>, name: &'static str, clients: usize) -> Self {
        let (stop, good): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let clients = (0..clients).map(|client| {
            let (daemon, stop, good) = (daemon.clone(), stop.clone(), good.clone());
            thread::spawn(move || run(&daemon, &format!("{name}:{client}"), &stop, &good))
        });
        Load { daemon: daemon.clone(), clients: clients.collect(), stop, good }
    }

    /// Waits until more is acknowledged, but no longer than replicas may be silent.
    pub fn go_on_a_moment(&self) {
        let enough = self.good.load(Ordering::Relaxed) + 50;
        eventually(Duration::from_millis(300), || self.good.load(Ordering::Relaxed) > enough);
    }

    /// Begins nothing more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops, reads everything back: how many keys were written, and which of them hold less than was acknowledged.
    pub fn end(self) -> (usize, Vec<String>) {
        self.stop();
        let clients = self.clients.into_iter().map(|client| client.join().expect("a client"));
        let acknowledged: Acknowledged = clients.flatten().collect();
        let keys: Vec<&String> = acknowledged.keys().collect();
        let mut lost = Vec::new();
        for keys in keys.chunks(100) {
            let answer = self.daemon.post(&get(json!(keys))).json();
            for result in answer["results"].as_array().expect("results") {
                let key = result["key"].as_str().expect("a key");
                let held = result["value"].as_str().and_then(|value| value.parse::<u64>().ok());
                if held < Some(acknowledged[key]) {
                    lost.push(format!("{key}: {held:?} instead of {}", acknowledged[key]));
                }
            }
        }
        (acknowledged.len(), lost)
    }
}

/// Writes and reads its own keys. What an ok answer says a key held must be what the client wrote before it.
fn run(daemon: &Daemon, name: &str, stop: &AtomicBool, good: &AtomicU64) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut number = 0;
    let mut keys = (0..KEYS).cycle();
    while !stop.load(Ordering::Relaxed) {
        let mut events = Vec::new();
        for key in keys.by_ref().take(AT_ONCE) {
            let key = format!("{name}:{key}");
            number += 1;
            events.push(set_inline(&key, &number.to_string()));
            number += 1;
            events.extend([set_inline(&key, &number.to_string()), get(json!(key))]);
        }
        let Ok(answer) = daemon.try_post(&[("content-type", "application/x-ndjson")], ndjson(&events).as_bytes())
        else {
            continue;
        };
        let answer = answer.json();
        let (mut is_good, mut last) = (true, HashMap::new());
        for (sent, came) in events.iter().zip(answer["events"].as_array().into_iter().flatten()) {
            let result = &came["results"][0];
            if result["status"] == "stored" {
                let key = result["key"].as_str().expect("a key").to_owned();
                let value = sent["value"]["data"]["value"].as_str().expect("a value");
                last.insert(key.clone(), value.to_owned());
                acknowledged.insert(key, value.parse().expect("a number"));
            } else if result["status"] == "hit" {
                let key = result["key"].as_str().expect("a key");
                assert_eq!(result["value"].as_str(), last.get(key).map(String::as_str), "{key} out of order: {answer}");
            } else {
                is_good = false;
            }
        }
        if is_good && answer["status"] == "ok" {
            good.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

/// Posts until keys of all nodes are written and read in one answer; how long that took.
pub fn full_service(daemon: &Daemon, limit: Duration) -> Duration {
    let start = Instant::now();
    let events: Vec<Value> = (0..60).map(|n| set_inline(&format!("probe:{n}"), "v")).collect();
    loop {
        let answer = daemon.post_ndjson(&ndjson(&events));
        if answer.status == 200 && start.elapsed() < limit {
            return start.elapsed();
        }
        let counts = &answer.json()["counts"];
        assert!(start.elapsed() < limit, "no full service after {:?}: {counts}", start.elapsed());
    }
}

/// How often to kill, in tests that take long.
pub fn rounds() -> usize {
    std::env::var("CLUSTER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}
