//! Several replicas share one journal: one of them feeds, and another takes over when it dies or hangs. What was accepted is
//! applied in its order all the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::journal::{ASYNC, assert_accepted, assert_empty, keep};
use crate::support::{
    Blob, BlobServer, Daemon, Gate, PATIENCE, Random, Redis, delete, delete_pattern, eventually, set_blob, set_inline,
    signal,
};

/// The one that has the lease.
fn holder(daemons: &[Daemon]) -> Option<usize> {
    daemons.iter().position(|daemon| daemon.metric("cache_sync_journal_lease", &[]) == 1.0)
}

#[track_caller]
fn wait_for_holder(daemons: &[Daemon]) -> usize {
    assert!(eventually(PATIENCE, || holder(daemons).is_some()), "nobody has the lease");
    holder(daemons).expect("a holder")
}

/// The next events, and what they do to the keys.
fn batch(number: u64, random: &mut Random, model: &mut BTreeMap<String, String>) -> Value {
    let events = (0..20).map(|place| {
        let (group, key) = (random.below(3), random.below(20));
        let key = format!("g{group}:{key}");
        match random.below(20) {
            0 => {
                model.retain(|key, _| !key.starts_with(&format!("g{group}:")));
                delete_pattern(json!(format!("g{group}:*")))
            }
            1..4 => {
                model.remove(&key);
                delete(json!(key))
            }
            _ => {
                let value = format!("{number}.{place}");
                model.insert(key.clone(), value.clone());
                set_inline(&key, &value)
            }
        }
    });
    Value::Array(events.collect())
}

fn stored(redis: &Redis) -> BTreeMap<String, String> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("g*").query(&mut redis.conn()).expect("KEYS");
    let value = |key: String| redis.value(&key).map(|value| (key, String::from_utf8_lossy(&value).into_owned()));
    keys.into_iter().filter_map(value).collect()
}

#[test]
fn the_holder_is_killed_again_and_again_and_the_state_is_that_of_the_accepted_order() {
    let rounds = std::env::var("JOURNAL_KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2_u64);
    let (cache, journal) = (Redis::start(), Redis::start());
    let start = || {
        let url = format!("redis://127.0.0.1:{}/0", journal.port());
        Daemon::builder().redis(&cache).set("journal.url", url).set("log_level", "warn").start()
    };
    let mut daemons = vec![start(), start(), start()];
    let (mut random, mut model, mut number) = (Random::seeded(7), BTreeMap::new(), 0);
    for _ in 0..rounds {
        let end = Instant::now() + Duration::from_secs(1);
        let mut killed = false;
        while Instant::now() < end || !killed {
            number += 1;
            let events = batch(number, &mut random, &mut model).to_string();
            // One that is refused or lost is sent again before anything else.
            let sent = || {
                let daemon = &daemons[number as usize % daemons.len()];
                daemon.try_post(&[ASYNC], events.as_bytes()).is_ok_and(|answer| answer.status == 202)
            };
            assert!(eventually(PATIENCE, sent), "batch {number} is not accepted");
            if !killed && random.below(50) == 0 {
                let victim = wait_for_holder(&daemons);
                signal(daemons[victim].pid(), "KILL");
                daemons[victim] = start();
                killed = true;
            }
        }
    }
    assert_empty(&journal);
    assert_eq!(stored(&cache), model, "after {number} batches");
}

#[test]
fn a_holder_that_hangs_is_replaced_and_writes_nothing_when_it_comes_back() {
    let (cache, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    blobs.put_sequence("/b", vec![Blob::bytes("old").gate(&gate), Blob::bytes("new")]);
    let start = || {
        let allowed = format!("127.0.0.1:{}", blobs.port());
        let daemon = Daemon::builder().redis(&cache).set("fetch.allowed_hosts", allowed);
        daemon.set("redis.retry_ms", 60_000).set("event.deadline_ms", 120_000).set("fetch.timeout_ms", 100_000).start()
    };
    let daemons = [start(), start()];
    assert_accepted(&keep(&daemons[0], &set_blob("k", &blobs.url("/b"))), 1);
    blobs.wait_hits("/b", 1);
    let first = wait_for_holder(&daemons);
    signal(daemons[first].pid(), "STOP");
    let stopped = Instant::now();
    let second = &daemons[1 - first];
    // Its bytes are in the socket of the one that hangs.
    gate.open();
    let took_over = || second.metric("cache_sync_journal_lease", &[]) == 1.0;
    assert!(eventually(Duration::from_secs(10), took_over), "nobody took over within {:?}", stopped.elapsed());
    assert_empty(&cache);
    assert_eq!(cache.value("k").as_deref(), Some(&b"new"[..]));
    assert_accepted(&keep(second, &set_inline("k", "newest")), 1);
    assert_empty(&cache);
    signal(daemons[first].pid(), "CONT");
    daemons[first].log_line(|line| line.contains("journal's lease was lost"));
    assert_accepted(&keep(&daemons[first], &set_inline("other", "1")), 1);
    assert_empty(&cache);
    let idle = || daemons[first].metric("cache_sync_admission_events", &[]) == 0.0;
    assert!(eventually(PATIENCE, idle), "what it had in hand has ended");
    assert_eq!(cache.value("k").as_deref(), Some(&b"newest"[..]));
    assert!(!took_over() || holder(&daemons) == Some(1 - first));
}
