//! Four replicas that are killed and started again while events with versions come in any order, twice and late, through
//! any of them.
//!
//! `REPLICAS_EVENTS=100000 REPLICAS_SEEDS=10` in the environment do at length what takes a few seconds otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Builder, Daemon, PATIENCE, Random, delete, free_port, get, ndjson, results, set_inline};

const REPLICAS: usize = 4;
const KEYS: u64 = 5000;
const SENDERS: usize = 8;
const BATCH: usize = 100;

struct Plan {
    /// Batches in the order in which they are taken up.
    batches: Vec<Vec<Value>>,
    /// What each key holds in the end.
    highest: HashMap<String, Option<String>>,
}

/// Half of the keys have numbers for versions, the others texts.
fn plan(seed: u64, count: usize) -> Plan {
    let mut random = Random::seeded(seed);
    let (mut events, mut highest) = (Vec::new(), HashMap::new());
    for number in 0..count {
        let choice = random.below(KEYS);
        let key = format!("{seed}:{choice}");
        let value = random.chance(85).then(|| format!("{number}"));
        let mut event = match &value {
            Some(value) => set_inline(&key, value),
            None => delete(json!(key)),
        };
        event["version"] =
            if choice.is_multiple_of(2) { json!(number) } else { json!(format!("2026-11-23T{number:09}")) };
        highest.insert(key, value);
        let times = if random.chance(33) { 2 } else { 1 };
        events.extend(std::iter::repeat_n(event, times));
    }
    for place in (1..events.len()).rev() {
        events.swap(place, random.below(place as u64 + 1) as usize);
    }
    let batches = events.chunks(BATCH).map(<[Value]>::to_vec).collect();
    Plan { batches, highest }
}

/// Sends until all of it is settled, each time through another replica.
fn deliver(mut events: Vec<Value>, ports: &[u16], random: &mut Random) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let begin = Instant::now();
    while !events.is_empty() {
        assert!(begin.elapsed() < PATIENCE * 2, "{} events are not settled", events.len());
        let port = ports[random.below(ports.len() as u64) as usize];
        let request = agent.post(format!("http://127.0.0.1:{port}/events"));
        let sent = request.header("content-type", "application/x-ndjson").send(ndjson(&events));
        let Ok(text) = sent.and_then(|mut response| response.body_mut().read_to_string()) else { continue };
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        // Without a list it is a refusal of the whole.
        let Some(ends) = answer["events"].as_array() else { continue };
        let mut ends = ends.iter();
        events.retain(|event| {
            let end = ends.next().expect("an element for each event");
            assert!(end["status"] == "ok" || end["status"] == "unavailable", "{event}: {end}");
            end["status"] != "ok"
        });
    }
}

/// Asserts that in the end each key holds what its highest version says.
pub fn converge(replica: impl Fn() -> Builder + Sync) {
    let (count, seeds) = (asked("REPLICAS_EVENTS", 10_000), asked("REPLICAS_SEEDS", 1));
    for seed in 1..=seeds as u64 {
        let (highest, kills) = run(seed, count, &replica);
        let reader = replica().start();
        let keys: Vec<&String> = highest.keys().collect();
        let mut differences = 0;
        for keys in keys.chunks(500) {
            let answer = reader.post(&get(json!(keys)));
            for (key, entry) in keys.iter().zip(results(&answer, 200, "ok")) {
                differences += usize::from(entry["value"].as_str() != highest[*key].as_deref());
            }
        }
        println!("seed {seed}: {count} events, {kills} kills, {differences} differences");
        assert_eq!(differences, 0, "seed {seed}");
        assert!(kills > 0);
    }
}

/// Runs the plan through replicas that are killed and started again all the while; how often they were.
fn run(seed: u64, count: usize, replica: &(impl Fn() -> Builder + Sync)) -> (HashMap<String, Option<String>>, usize) {
    let Plan { batches, highest } = plan(seed, count);
    let ports: Vec<u16> = (0..REPLICAS).map(|_| free_port()).collect();
    let mut replicas: Vec<Daemon> = ports.iter().map(|port| replica().set("port", port).start()).collect();
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut kills = 0;
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS as u64)
            .map(|sender| {
                let (ports, batches, next) = (&ports, &batches, &next);
                scope.spawn(move || {
                    let mut random = Random::seeded(seed ^ (sender + 1) << 32);
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if random.chance(2) {
                            thread::sleep(Duration::from_millis(random.below(2000)));
                        }
                        deliver(batch.clone(), ports, &mut random);
                    }
                })
            })
            .collect();
        let killer = scope.spawn(|| {
            let mut random = Random::seeded(!seed);
            while !is_over.load(Ordering::Relaxed) {
                let place = random.below(REPLICAS as u64) as usize;
                drop(replicas.swap_remove(place));
                let port = ports.iter().find(|port| replicas.iter().all(|other| other.address().port() != **port));
                replicas.push(replica().set("port", port.expect("one is missing")).start());
                kills += 1;
                thread::sleep(Duration::from_millis(random.below(300)));
            }
        });
        let ends: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        killer.join().expect("the replicas start again");
        ends.into_iter().for_each(|end| end.expect("a sender comes to its end"));
    });
    (highest, kills)
}

/// A number from the environment.
fn asked(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
