//! Events that have nothing to do with what a scenario breaks: inline ones and blobs of a host that is well. They must not
//! notice. Owns their clients, their latencies in a calm phase and beside the fault, and the look at Redis at the end.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::{Found, read};
use super::overload::p99;
use super::site::Site;
use super::support::{Blob, Wire, set_blob, set_inline};
use super::tally::Row;

const CLIENTS: usize = 4;
const KEYS: u64 = 10;
const PAUSE: Duration = Duration::from_millis(5);
/// p99 beside the fault, against that of the calm phase.
const TIMES: f64 = 1.5;
/// A debug build on a machine that others use too.
const NOISE: Duration = Duration::from_millis(10);
/// Phases that are compared may be measured so often: the machine itself is not always calm.
const TRIES: usize = 3;
const KINDS: [&str; 2] = ["inline", "blob"];

/// All that is measured over a scenario.
#[derive(Default)]
pub struct Beside {
    sent: AtomicU64,
    next: AtomicU64,
    /// The numbers that were acknowledged of each key.
    acknowledged: Mutex<HashMap<String, Vec<u64>>>,
    failed: Mutex<(u64, Option<String>)>,
}

/// Latencies of one phase: inline events and blobs.
#[derive(Default)]
pub struct Phase([Mutex<Vec<Duration>>; 2]);

impl Phase {
    fn p99(&self, kind: usize) -> Duration {
        p99(&self.0[kind].lock().expect("no panic"))
    }
}

impl Beside {
    /// The site's own blob server answers every path with its number from now on.
    pub fn on(site: &Site) -> Self {
        site.blobs.fallback(|target| Some(Blob::bytes(format!("{}:blob", target.trim_start_matches('/')))));
        Beside::default()
    }

    /// Sends for so long.
    pub fn measure(&self, site: &Site, time: Duration) -> Phase {
        let (phase, begin) = (Phase::default(), Instant::now());
        self.run(site, &phase, || begin.elapsed() >= time);
        phase
    }

    fn run(&self, site: &Site, phase: &Phase, is_over: impl Fn() -> bool + Sync) {
        thread::scope(|scope| {
            for client in 0..2 * CLIENTS {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut wire = Wire::open(site.daemon.address());
                    while !is_over() {
                        let number = self.next.fetch_add(1, Relaxed);
                        let took = self.post(site, &mut wire, client, number);
                        phase.0[client % 2].lock().expect("no panic").push(took);
                        thread::sleep(PAUSE);
                    }
                });
            }
        });
    }

    fn post(&self, site: &Site, wire: &mut Wire, client: usize, number: u64) -> Duration {
        let key = format!("w:{client}:{}", number % KEYS);
        let event = match client % 2 {
            0 => set_inline(&key, &format!("{number}:inline")),
            _ => set_blob(&key, &site.blobs.url(&format!("/{number}"))),
        };
        self.note_sent();
        let posted = Instant::now();
        wire.send_request("POST", "/events", &[("Content-Type", "application/json")], event.to_string().as_bytes());
        match wire.try_answer(false) {
            Ok(answer) if answer.status == 200 => {
                self.acknowledge(key, number);
            }
            Ok(answer) => self.fail(answer.text()),
            Err(error) => {
                self.fail(error.to_string());
                *wire = Wire::open(site.daemon.address());
            }
        }
        posted.elapsed()
    }

    /// An event of the scenario's own that is counted here too.
    pub fn note_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// The value of a key begins with this number, and those of one key ascend.
    pub fn acknowledge(&self, key: String, number: u64) {
        self.acknowledged.lock().expect("no panic").entry(key).or_default().push(number);
    }

    fn fail(&self, how: String) {
        let mut failed = self.failed.lock().expect("no panic");
        failed.0 += 1;
        failed.1.get_or_insert(how);
    }

    /// What was sent, acknowledged and found in Redis: each client writes a key's numbers in ascending order, so one that
    /// is there or was overtaken is not above what the key holds.
    pub fn judge(self, site: &Site, row: &mut Row) {
        row.sent += self.sent.into_inner();
        let acknowledged = self.acknowledged.into_inner().expect("no panic");
        for (key, numbers) in acknowledged {
            let held = match read(site.redis.value(&key).as_deref()) {
                Found::Number(held) => Some(held),
                _ => None,
            };
            let applied = numbers.iter().filter(|number| held.is_some_and(|held| **number <= held)).count() as u64;
            row.acknowledged += numbers.len() as u64;
            row.applied += applied;
            row.lost += numbers.len() as u64 - applied;
        }
        let (failed, how) = self.failed.into_inner().expect("no panic");
        let how = how.unwrap_or_default();
        row.expect(failed == 0, || format!("{failed} events beside the fault were not carried out: {how}"));
    }
}

/// Compares a calm phase with one beside the fault until they are close enough, a few times at most; the figures of the
/// last go into the row.
pub fn compare(row: &mut Row, fault: &str, mut phases: impl FnMut(&mut Row) -> [Phase; 2]) {
    for left in (0..TRIES).rev() {
        let [calm, during] = phases(row);
        let found: Vec<_> = (0..KINDS.len()).map(|kind| [calm.p99(kind), during.p99(kind)]).collect();
        let is_slower = |[before, with]: &[Duration; 2]| *with > before.mul_f64(TIMES) + NOISE;
        if found.iter().any(is_slower) && left > 0 {
            row.note(format!("measured again: p99 {found:?}"));
            continue;
        }
        for (kind, pair) in KINDS.iter().zip(&found) {
            let [before, with] = pair;
            row.note(format!("{kind}: p99 {before:?} before, {with:?} beside {fault}"));
            row.expect(!is_slower(pair), || format!("{kind}: p99 rose from {before:?} to {with:?}"));
        }
        return;
    }
}
