//! Sizes that go up and down under load: nobody is refused, and each key keeps its order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{How, actors, change, connections, daemon_with, wait_actors};
use crate::support::{Answer, Blob, Random, Stage, delete_pattern, eventually, get, set_blob, set_inline};

const CLIENTS: usize = 8;
const HOT: [&str; 2] = ["hot:0", "hot:1"];
const SIZES: [usize; 5] = [1, 4, 2, 8, 1];
const ROUNDS: usize = 3;

/// A write to a hot key, which all clients share.
struct Written {
    key: usize,
    number: u64,
    begun: Instant,
    done: Instant,
}

/// What was read of one.
struct Seen {
    key: usize,
    number: u64,
    begun: Instant,
}

#[derive(Default)]
struct History {
    last: AtomicU64,
    written: Mutex<Vec<Written>>,
    seen: Mutex<Vec<Seen>>,
    over: AtomicBool,
    events: AtomicU64,
}

fn sizes(size: usize, own: usize) -> String {
    format!(
        "log_level = \"info\"\n[redis]\npool_size = {size}\n[intake]\npool_size = {own}\n[validation]\npool_size = {own}\n\
         [fetch]\nallowed_hosts = \"127.0.0.1\"\npool_size = {size}\nconcurrency = {}\nper_host = {}\n",
        4 * size,
        8 * size,
    )
}

#[test]
fn sizes_that_change_under_load_lose_refuse_and_reorder_nothing() {
    let stage = Stage::new();
    stage.blobs.fallback(|target| {
        let text = target.trim_start_matches('/').to_owned();
        Some(Blob::bytes(text).delay(Duration::from_millis(2)))
    });
    let (others, daemon) = (connections(&stage.redis), daemon_with(&stage.redis, &sizes(1, 0)));
    let history = History::default();
    thread::scope(|scope| {
        let (daemon, history, url) = (&daemon, &history, stage.blobs.url(""));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let url = url.clone();
                scope.spawn(move || {
                    let post = |events: &Value| daemon.post(events);
                    Client { client, url, history, random: Random::seeded(client as u64), number: 0 }.run(post)
                })
            })
            .collect();
        let probe = scope.spawn(move || {
            while !history.over.load(Relaxed) {
                let ready = daemon.get("/ready");
                assert_eq!(ready.status, 200, "it was not ready for a moment: {}", ready.text());
            }
        });
        // Whatever fails here must not leave the others running, or the scope never ends.
        let end = Ending(&history.over);
        for round in 0..ROUNDS {
            for (turn, size) in SIZES.into_iter().enumerate().skip(1) {
                let own = [0, 2, 1, 4, 0][turn];
                let how = if (round + turn) % 3 == 0 { How::Renamed } else { How::HangUp };
                change(daemon, how, &format!("# {round}.{turn}\n{}", sizes(size, own)));
                let goal = history.events.load(Relaxed) + 300;
                let goes_on = || history.events.load(Relaxed) >= goal || history.over.load(Relaxed);
                assert!(eventually(Duration::from_secs(20), goes_on), "the load stands still with {size}");
            }
        }
        drop(end);
        clients.into_iter().for_each(|client| client.join().expect("a client was not content"));
        probe.join().expect("the probe was not content");
    });
    in_order(&history);
    for actor in ["writer", "fetcher"] {
        wait_actors(&daemon, actor, 1);
    }
    let locals = actors(&daemon, "router") - 1.0;
    for actor in ["intake", "validation"] {
        wait_actors(&daemon, actor, locals as usize);
    }
    // One of the scanner beside the writer's.
    let fits = eventually(Duration::from_secs(5), || connections(&stage.redis) - others == 2);
    assert!(fits, "{} connections", connections(&stage.redis) - others);
    assert_eq!(daemon.metric("cache_sync_actor_restarts_total", &[]), 0.0);
    assert_eq!(daemon.metric("cache_sync_admission_events", &[]), 0.0);
}

/// Raises a flag at the end of a scope, however it ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Who reads a value must not find one that had been overwritten before it asked: by a write that began when the found one
/// was done.
fn in_order(history: &History) {
    let (written, seen) = (history.written.lock().expect("no panic"), history.seen.lock().expect("no panic"));
    assert!(seen.len() > 100 && written.len() > 100, "{} of {}", seen.len(), written.len());
    for Seen { key, number, begun } in seen.iter() {
        let found = written.iter().find(|write| write.number == *number).map(|write| write.done);
        let overwrites =
            |write: &&Written| write.key == *key && write.done < *begun && found.is_none_or(|done| done < write.begun);
        if let Some(newer) = written.iter().find(overwrites).filter(|_| found.is_some() || *number == 0) {
            panic!("{} was read as {number} after {} was there", HOT[*key], newer.number);
        }
    }
}

struct Client<'a> {
    client: usize,
    url: String,
    history: &'a History,
    random: Random,
    /// Of the last write to its own keys.
    number: u64,
}

impl Client<'_> {
    fn run(mut self, post: impl Fn(&Value) -> Answer) {
        while !self.history.over.load(Relaxed) {
            match self.random.below(10) {
                0 => self.sweep(&post),
                1..6 => self.chain(&post),
                _ => self.hot(&post),
            }
        }
    }

    fn own(&self, key: u64) -> String {
        format!("own{}:{key}", self.client)
    }

    fn post(&self, post: &impl Fn(&Value) -> Answer, events: &[Value]) -> Vec<Value> {
        let answer = post(&json!(events));
        assert_eq!(answer.status, 200, "a request failed: {}", answer.text());
        self.history.events.fetch_add(events.len() as u64, Relaxed);
        answer.json()["events"].as_array().expect("a batch").iter().map(|event| event["results"][0].clone()).collect()
    }

    fn write(&mut self, key: &str) -> Value {
        self.number += 1;
        let value = format!("{}:{}", self.client, self.number);
        match self.random.below(3) {
            0 => set_blob(key, &format!("{}/{value}", self.url.trim_end_matches('/'))),
            _ => set_inline(key, &value),
        }
    }

    /// Writes and reads on one key, of which each read must see the write before it.
    fn chain(&mut self, post: &impl Fn(&Value) -> Answer) {
        let key = self.own(self.random.clone().below(2));
        let (mut events, mut due) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.random.below(5) {
            events.push(self.write(&key));
            due.push(format!("{}:{}", self.client, self.number));
            events.push(get(json!(key)));
        }
        let found = self.post(post, &events);
        for (pair, due) in found.chunks(2).zip(due) {
            assert_eq!(pair[1]["value"], due, "{found:#?}");
        }
        let last = self.post(post, &[get(json!(key))]);
        assert_eq!(last[0]["value"], format!("{}:{}", self.client, self.number), "of {key}");
    }

    /// A pattern between writes.
    fn sweep(&mut self, post: &impl Fn(&Value) -> Answer) {
        let keys = [self.own(0), self.own(1)];
        let before = [self.write(&keys[0]), self.write(&keys[1])];
        let pattern = delete_pattern(json!(format!("own{}:*", self.client)));
        let after = self.write(&keys[1]);
        let due = format!("{}:{}", self.client, self.number);
        let [first, second] = before;
        let events = [first, second, pattern, after, get(json!(keys[0])), get(json!(keys[1]))];
        let found = self.post(post, &events);
        assert_eq!((&found[2]["deleted"], &found[4]["status"]), (&json!(2), &json!("miss")), "{found:#?}");
        assert_eq!(found[5]["value"], due, "{found:#?}");
    }

    /// A key on which all of them are at work at once.
    fn hot(&mut self, post: &impl Fn(&Value) -> Answer) {
        let key = self.random.below(HOT.len() as u64) as usize;
        let begun = Instant::now();
        if self.random.chance(50) {
            let found = self.post(post, &[get(json!(HOT[key]))]);
            let number = found[0]["value"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
            return self.history.seen.lock().expect("no panic").push(Seen { key, number, begun });
        }
        let number = self.history.last.fetch_add(1, Relaxed) + 1;
        let event = match self.random.below(4) {
            0 => set_blob(HOT[key], &format!("{}/{number}", self.url.trim_end_matches('/'))),
            _ => set_inline(HOT[key], &number.to_string()),
        };
        self.post(post, &[event]);
        let done = Instant::now();
        self.history.written.lock().expect("no panic").push(Written { key, number, begun, done });
    }
}
