//! Order against a model: random operations on a few keys, answered and ended as a plain map would have it.
//!
//! A run sends its operations in one or two requests. With two, either the second follows the first's answer, or it
//! overlaps: it is sent once the blob server has seen the fetch of the first's last event, which stands on a key of its
//! own, so that all of the first is accepted and much of it still waits for slow blobs.
//!
//! `MODEL_RUNS` sets the number of runs, `MODEL_SEED` replays one (printed with a failure).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Blob, BlobServer, Daemon, Random, Redis, ndjson};

const KEYS: u64 = 4;
const CLIENTS: u64 = 12;

#[derive(Debug, Clone)]
enum Source {
    Inline(String),
    /// The value, how long it takes, and the status: 200, 404 (rejected) or 503 (unavailable).
    Blob(String, u64, u16),
}

#[derive(Debug, Clone)]
enum Operation {
    Set(Vec<(u64, Source)>),
    Get(Vec<u64>),
    Delete(Vec<u64>),
    /// The pattern's part behind the run's prefix, the keys that it matches, and whether it only previews.
    Pattern(&'static str, &'static [u64], bool),
}

/// What the keys hold, and what it has to say to each operation.
#[derive(Default)]
struct Model(BTreeMap<u64, String>);

impl Model {
    /// The result of every entry, as the daemon must give it.
    fn apply(&mut self, run: &str, operation: &Operation) -> Vec<Value> {
        let name = |key: &u64| key_name(run, *key);
        match operation {
            Operation::Set(entries) => entries.iter().map(|(key, source)| self.set(run, *key, source)).collect(),
            Operation::Get(keys) => keys
                .iter()
                .map(|key| match self.0.get(key) {
                    Some(value) => json!({"key": name(key), "status": "hit", "value": value}),
                    None => json!({"key": name(key), "status": "miss"}),
                })
                .collect(),
            Operation::Delete(keys) => keys
                .iter()
                .map(|key| {
                    let status = if self.0.remove(key).is_some() { "deleted" } else { "absent" };
                    json!({"key": name(key), "status": status})
                })
                .collect(),
            Operation::Pattern(tail, keys, dry_run) => {
                let pattern = format!("{run}:{tail}");
                let matched: Vec<_> = keys.iter().filter(|key| self.0.contains_key(key)).collect();
                if *dry_run {
                    let sample: Vec<_> = matched.iter().map(|key| name(key)).collect();
                    return vec![
                        json!({"pattern": pattern, "status": "preview", "matched": matched.len(), "sample": sample}),
                    ];
                }
                let count = matched.len();
                self.0.retain(|key, _| !keys.contains(key));
                vec![json!({"pattern": pattern, "status": "deleted", "matched": count, "deleted": count})]
            }
        }
    }

    fn set(&mut self, run: &str, key: u64, source: &Source) -> Value {
        let name = key_name(run, key);
        let (value, origin) = match source {
            Source::Inline(value) => (value, "inline"),
            Source::Blob(value, _, 200) => (value, "blob"),
            Source::Blob(_, _, 404) => return json!({"key": name, "status": "rejected", "problem": "blob-not-found"}),
            Source::Blob(..) => return json!({"key": name, "status": "unavailable", "problem": "blob-unavailable"}),
        };
        self.0.insert(key, value.clone());
        json!({"key": name, "status": "stored", "bytes": value.len(), "ttl": null, "source": origin})
    }
}

fn key_name(run: &str, key: u64) -> String {
    format!("{run}:k{key}")
}

fn random_operation(random: &mut Random) -> Operation {
    let keys = |random: &mut Random| (0..1 + random.below(2)).map(|_| random.below(KEYS)).collect::<Vec<_>>();
    match random.below(100) {
        0..55 => {
            let entries = keys(random).into_iter().map(|key| {
                let value = format!("v{}", random.below(1_000_000));
                let source = match random.below(10) {
                    0..4 => Source::Inline(value),
                    4..8 => Source::Blob(value, random.below(6), 200),
                    8 => Source::Blob(value, random.below(4), 404),
                    _ => Source::Blob(value, random.below(4), 503),
                };
                (key, source)
            });
            Operation::Set(entries.collect())
        }
        55..72 => Operation::Get(keys(random)),
        72..85 => Operation::Delete(keys(random)),
        _ => {
            let patterns: [(&str, &[u64]); 5] =
                [("k*", &[0, 1, 2, 3]), ("k[01]", &[0, 1]), ("k2", &[2]), ("k[^3]", &[0, 1, 2]), ("?[3-9]", &[3])];
            let (tail, keys) = patterns[random.below(5) as usize];
            Operation::Pattern(tail, keys, random.chance(30))
        }
    }
}

fn event(run: &str, blobs: &BlobServer, operation: &Operation) -> Value {
    let names = |keys: &[u64]| keys.iter().map(|key| key_name(run, *key)).collect::<Vec<_>>();
    let (kind, data) = match operation {
        Operation::Set(entries) => {
            let entries = entries.iter().map(|(key, source)| match source {
                Source::Inline(value) => json!({"key": key_name(run, *key), "value": value}),
                Source::Blob(value, delay, status) => {
                    json!({"key": key_name(run, *key), "url": blobs.url(&format!("/m/{delay}/{status}/{value}"))})
                }
            });
            ("SET", entries.collect())
        }
        Operation::Get(keys) => ("GET", json!(names(keys))),
        Operation::Delete(keys) => ("DELETE", json!(names(keys))),
        Operation::Pattern(tail, _, dry_run) => {
            ("DELETE_PATTERN", json!({"pattern": format!("{run}:{tail}"), "dry_run": dry_run}))
        }
    };
    json!({"key": kind, "value": {"data": data}})
}

/// `/m/DELAY/STATUS/VALUE`, and anything else as itself after a short wait.
fn serve_blobs() -> BlobServer {
    let blobs = BlobServer::start();
    blobs.fallback(|target| {
        let mut parts = target.strip_prefix("/m/")?.split('/');
        let delay = Duration::from_millis(parts.next()?.parse().ok()?);
        let status = parts.next()?.parse().ok()?;
        let value = parts.next()?;
        Some(if status == 200 { Blob::bytes(value) } else { Blob::status(status) }.delay(delay))
    });
    blobs
}

/// The keys that operations change.
fn changed(run: &str, operations: &[Operation]) -> Vec<String> {
    let keys = operations.iter().flat_map(|operation| match operation {
        Operation::Set(entries) => entries.iter().map(|(key, _)| *key).collect(),
        Operation::Delete(keys) => keys.clone(),
        Operation::Pattern(_, keys, false) => keys.to_vec(),
        Operation::Get(_) | Operation::Pattern(_, _, true) => Vec::new(),
    });
    keys.map(|key| key_name(run, key)).collect()
}

/// The model's results of one request, with what the request's own later writes supersede. `after` are the operations
/// of later requests: a preview holds up nobody, so of the keys that are changed after it it may see either state.
fn expected(model: &mut Model, run: &str, operations: &[Operation], after: &[Operation]) -> Vec<Vec<Value>> {
    let mut events: Vec<_> = operations.iter().map(|operation| model.apply(run, operation)).collect();
    for (index, event) in events.iter_mut().enumerate() {
        if matches!(operations[index], Operation::Pattern(_, _, true)) {
            event[0]["either"] = json!([changed(run, &operations[index + 1..]), changed(run, after)].concat());
        }
    }
    let mut written = Vec::new();
    for (event, operation) in events.iter_mut().zip(operations).rev() {
        if !matches!(operation, Operation::Set(_) | Operation::Delete(_)) {
            continue;
        }
        for entry in event.iter_mut().rev() {
            let key = entry["key"].clone();
            match entry["status"].as_str() {
                Some("stored" | "deleted" | "absent") => written.push(key),
                Some("unavailable") if written.contains(&key) => *entry = json!({"key": key, "status": "superseded"}),
                _ => {}
            }
        }
    }
    events
}

fn class_of(entries: &[Value]) -> &'static str {
    let any = |status: &str| entries.iter().any(|entry| entry["status"] == status);
    match (any("unavailable"), any("rejected")) {
        (true, _) => "unavailable",
        (_, true) => "rejected",
        _ => "ok",
    }
}

/// Compares a batch's answer with what the model says.
fn compare(answer: &Answer, want: &[Vec<Value>]) {
    let json = answer.json();
    let classes: Vec<_> = want.iter().map(|entries| class_of(entries)).collect();
    let count = |class: &str| classes.iter().filter(|c| **c == class).count();
    let (rejected, unavailable) = (count("rejected"), count("unavailable"));
    assert_eq!(json["counts"], json!({"ok": count("ok"), "rejected": rejected, "unavailable": unavailable}), "{json}");
    let status = if unavailable > 0 {
        503
    } else if rejected > 0 {
        207
    } else {
        200
    };
    assert_eq!(answer.status, status, "{json}");
    for (index, entries) in want.iter().enumerate() {
        let event = &json["events"][index];
        assert_eq!(event["status"], classes[index], "event {index}: {json}");
        let mut found = event["results"].as_array().cloned().unwrap_or_default();
        for entry in &mut found {
            let slug = entry["problem"]["type"].as_str().and_then(|kind| kind.rsplit(':').next()).map(Value::from);
            if let Some(slug) = slug {
                entry["problem"] = slug;
            }
            if let Some(sample) = entry.get_mut("sample").and_then(Value::as_array_mut) {
                sample.sort_by_key(|key| key.to_string());
            }
        }
        let mut wanted = entries.clone();
        if let Some(either) = wanted[0].as_object_mut().and_then(|entry| entry.remove("either")) {
            assert_eq!(found[0]["matched"], found[0]["sample"].as_array().map_or(0, Vec::len), "event {index}: {json}");
            for entry in [&mut found[0], &mut wanted[0]] {
                entry["matched"].take();
                let either = either.as_array().expect("keys");
                entry["sample"].as_array_mut().expect("a sample").retain(|key| !either.contains(key));
            }
        }
        assert_eq!(found, wanted, "event {index}: {json}");
    }
}

fn post(daemon: &Daemon, events: &[Value]) -> Answer {
    daemon.post_with(&[("content-type", "application/x-ndjson")], ndjson(events).as_bytes())
}

/// One run: `seed` decides everything.
fn run(daemon: &Daemon, blobs: &BlobServer, seed: u64) -> Result<(), String> {
    let mut random = Random::seeded(seed);
    let run = format!("r{seed}");
    let operations: Vec<_> = (0..3 + random.below(6)).map(|_| random_operation(&mut random)).collect();
    let split = match random.below(3) {
        0 => operations.len(),
        _ => 1 + random.below(operations.len() as u64 - 1) as usize,
    };
    let overlapping = split < operations.len() && random.chance(60);
    let (first, second) = operations.split_at(split);
    let events = |operations: &[Operation]| operations.iter().map(|o| event(&run, blobs, o)).collect::<Vec<_>>();
    let mut model = Model::default();
    let mut wanted = expected(&mut model, &run, first, second);
    let wanted_second = expected(&mut model, &run, second, &[]);
    let mut posted = events(first);
    let marker = format!("/m/{}/200/{run}", 2 + random.below(6));
    if overlapping {
        posted.push(json!({"key": "SET", "value": {"data": {"key": format!("{run}:end"), "url": blobs.url(&marker)}}}));
        let bytes = run.len();
        let end =
            json!({"key": format!("{run}:end"), "status": "stored", "bytes": bytes, "ttl": null, "source": "blob"});
        wanted.push(vec![end]);
    }
    let check = || {
        if overlapping {
            let (one, two) = thread::scope(|scope| {
                let one = scope.spawn(|| post(daemon, &posted));
                blobs.wait_hits(&marker, 1);
                let two = post(daemon, &events(second));
                (one.join().expect("an answer"), two)
            });
            compare(&one, &wanted);
            compare(&two, &wanted_second);
            return;
        }
        compare(&post(daemon, &posted), &wanted);
        if !second.is_empty() {
            compare(&post(daemon, &events(second)), &wanted_second);
        }
    };
    let finish = || {
        let all: Vec<_> = (0..KEYS).collect();
        let cleaning = [Operation::Get(all.clone()), Operation::Delete(all)];
        let mut model = Model(model.0.clone());
        let want = expected(&mut model, &run, &cleaning, &[]);
        let mut last = events(&cleaning);
        last.push(json!({"key": "DELETE", "value": {"data": format!("{run}:end")}}));
        let answer = post(daemon, &last);
        let found = answer.json();
        for (index, entries) in want.iter().enumerate() {
            assert_eq!(found["events"][index]["results"], json!(entries), "the final state, event {index}");
        }
    };
    catch_unwind(AssertUnwindSafe(check)).and_then(|()| catch_unwind(AssertUnwindSafe(finish))).map_err(|_| {
        format!("MODEL_SEED={seed}: split at {split}, overlapping: {overlapping}, operations: {operations:#?}")
    })
}

/// Runs as many as asked for, by several clients at once; every seed is another run.
fn runs(daemon: &Daemon, default: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let blobs = serve_blobs();
    if let Some(seed) = number("MODEL_SEED") {
        run(daemon, &blobs, seed).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let (limit, next) = (number("MODEL_RUNS").unwrap_or(default), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= limit {
                        return;
                    }
                    if let Err(failure) = run(daemon, &blobs, seed) {
                        next.store(limit, Ordering::Relaxed);
                        panic!("{failure}");
                    }
                }
            });
        }
    });
    assert!(next.load(Ordering::Relaxed) >= limit);
}

#[test]
fn answers_and_final_state_are_the_models_over_the_embedded_cache() {
    runs(&Daemon::builder().embedded().set("fetch.attempts", 1).start(), 10_000);
}

#[test]
fn answers_and_final_state_are_the_models_over_redis() {
    let redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("fetch.attempts", 1).start();
    runs(&daemon, 1_000);
    assert_eq!(redis.key_count(), 0, "every run takes its keys away again");
}
