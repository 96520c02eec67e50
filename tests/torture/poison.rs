//! What cannot be applied among what can, and a cache that is gone for long: the journal keeps the one apart and the other back.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Extent;
use super::machine::resident_mib;
use super::site::SECOND;
use super::support::{Blob, BlobServer, Daemon, PATIENCE, Redis, eventually, set_blob, set_inline};
use super::tally::Row;

const BATCH: u64 = 500;
/// One of so many is refused for good.
const RARITY: u64 = 100;
/// Events that are accepted before the cache answers no more, and before it is gone.
const BEFORE: u64 = 500;
const GONE: u64 = 700;
/// Of the refused, this many are written anew before they are run again.
const NEWER: u64 = 10;
const ASYNC: (&str, &str) = ("prefer", "respond-async");

/// One of a hundred can never be applied, until its cause is mended.
pub fn poison(extent: &Extent) -> Row {
    let events: u64 = extent.pick(2_000, 100_000);
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    blobs.put("/bad", Blob::status(403));
    let daemon = Daemon::builder().redis(&redis).set("log_level", "error");
    let daemon = daemon.set("fetch.allowed_hosts", format!("127.0.0.1:{}", blobs.port())).start();
    let url = blobs.url("/bad");
    let event = |n: u64| match n % RARITY {
        0 => set_blob(&format!("poison:{n}"), &url),
        _ => set_inline(&format!("good:{n}"), &n.to_string()),
    };
    let mut row = Row { name: "journal-poison".to_owned(), rounds: 1, sent: events, ..Row::default() };
    for from in (0..events).step_by(BATCH as usize) {
        let batch: Vec<Value> = (from..from + BATCH).map(event).collect();
        let status = daemon.post_with(&[ASYNC], json!(batch).to_string().as_bytes()).status;
        row.acknowledged += if status == 202 { BATCH } else { 0 };
    }
    row.expect(is_emptied(&redis, PATIENCE * 4), || "the journal is not emptied".to_owned());
    let of = |name: &str| redis::cmd("KEYS").arg(name).query::<BTreeSet<String>>(&mut redis.conn()).expect("KEYS");
    let poison: BTreeSet<String> = (0..events).step_by(RARITY as usize).map(|n| format!("poison:{n}")).collect();
    row.applied = of("good:*").len() as u64;
    row.lost = events - poison.len() as u64 - row.applied;
    let dead = letters(&redis);
    row.expect(dead == poison, || format!("{} dead letters, expected {}", dead.len(), poison.len()));
    blobs.put("/bad", Blob::bytes("mended"));
    let newer: BTreeSet<String> = poison.iter().take(NEWER as usize).cloned().collect();
    for key in &newer {
        row.expect(daemon.post(&set_inline(key, "newer")).status == 200, || format!("{key} is not written"));
    }
    let replayed = dead_letters(&redis, &["replay"]);
    row.expect(replayed.status.success(), || format!("replay: {}", String::from_utf8_lossy(&replayed.stderr)));
    let is_done = || is_emptied(&redis, SECOND) && letters(&redis) == newer;
    row.expect(eventually(PATIENCE * 2, is_done), || format!("{} letters are left", letters(&redis).len()));
    let wrong = poison.iter().filter(|key| {
        let expected = if newer.contains(*key) { "newer" } else { "mended" };
        redis.value(key).as_deref() != Some(expected.as_bytes())
    });
    row.out_of_order = wrong.count() as u64;
    row.note(format!("{} dead letters, {} of them written anew before they were run again", poison.len(), newer.len()));
    row
}

/// The keys of all dead letters.
fn letters(redis: &Redis) -> BTreeSet<String> {
    let output = dead_letters(redis, &["list", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let letters = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    letters.filter_map(|letter| Some(letter["keys"][0].as_str()?.to_owned())).collect()
}

fn dead_letters(redis: &Redis, args: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
    command.arg("dead-letters").args(args).env_clear().current_dir(std::env::temp_dir());
    command.env("REDIS_URL", format!("redis://127.0.0.1:{}/0", redis.port()));
    command.output().expect("the program runs")
}

fn is_emptied(redis: &Redis, within: Duration) -> bool {
    eventually(within, || redis::cmd("XLEN").arg("rcs:journal").query::<u64>(&mut redis.conn()) == Ok(0))
}

/// The cache is gone for long, and a journal of its own accepts all the while: all of it is applied soon after.
pub fn outage(extent: &Extent) -> Row {
    let (length, rate): (Duration, u64) = extent.pick((3 * SECOND, 1000), (60 * SECOND, 5000));
    let (mut cache, journal) = (Redis::durable(), Redis::start());
    let url = format!("redis://127.0.0.1:{}/0", journal.port());
    let daemon = Daemon::builder().redis(&cache).set("journal.url", url).set("log_level", "error");
    // Attempts while the cache is gone do not count: else they would be used up soon.
    let daemon = daemon.set("journal.max_attempts", 3).set("redis.retry_ms", 1000).start();
    let mut row = Row { name: "journal-outage".to_owned(), rounds: 1, ..Row::default() };
    // What is in progress when the cache goes is written once.
    let key = |n: u64| if n < GONE { format!("first:{n}") } else { format!("k:{}", n % 1009) };
    let is_over = AtomicBool::new(false);
    let mut state = BTreeMap::new();
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| memory(daemon.pid(), &is_over));
        let begun = Instant::now();
        let mut number = 0_u64;
        while begun.elapsed() < length {
            match number {
                // What is in progress then finds out with the time.
                BEFORE => cache.pause(),
                GONE => cache.kill(),
                _ => {}
            }
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let batch: Vec<Value> = (number..number + 50).map(|n| set_inline(&key(n), &n.to_string())).collect();
            let status = daemon.post_with(&[ASYNC], json!(batch).to_string().as_bytes()).status;
            row.expect(status == 202, || format!("batch {number} is answered {status}"));
            (number..number + 50).for_each(|n| drop(state.insert(key(n), n.to_string())));
            number += 50;
        }
        row.sent = number;
        is_over.store(true, Ordering::Relaxed);
        watching.join().expect("it watches to the end")
    });
    (row.acknowledged, row.applied) = (row.sent, row.sent);
    let reached = row.sent as f64 / length.as_secs_f64();
    cache.restart();
    let back = Instant::now();
    let is_applied = is_emptied(&journal, 30 * SECOND);
    let after = resident_mib(daemon.pid());
    row.note(format!(
        "{reached:.0} events/s for {} s; all applied {:.1} s after; memory {:.0} MiB at the beginning, {:.0} at most, {after:.0} after",
        length.as_secs(),
        back.elapsed().as_secs_f64(),
        most.0,
        most.1
    ));
    row.expect(is_applied, || "not all is applied 30 s after the cache is back".to_owned());
    row.expect(most.1 <= most.0 + 48.0 && after <= most.0 + 96.0, || "memory grows with what waits".to_owned());
    row.lost = state.iter().filter(|(key, value)| cache.value(key).as_deref() != Some(value.as_bytes())).count() as u64;
    row
}

/// A moment after the beginning, and the most since.
fn memory(pid: u32, is_over: &AtomicBool) -> (f64, f64) {
    thread::sleep(2 * SECOND);
    let first = resident_mib(pid);
    let mut most = first;
    while !is_over.load(Ordering::Relaxed) {
        most = most.max(resident_mib(pid));
        thread::sleep(SECOND / 5);
    }
    (first, most)
}
