//! As much at once as the limits allow, and more: everything ends, in order, and the budget is never overdrawn.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Extent;
use super::ledger::{Found, read};
use super::site::{Plot, Site, rests};
use super::support::{Blob, Daemon, Redis, Wire, ndjson, set_blob};
use super::tally::{Row, Tally};

const MIB: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(5);
/// `event.deadline_ms`, and a second.
const LIMIT: Duration = Duration::from_secs(29);
/// Everything, repeats included.
const ALL: Duration = Duration::from_secs(90);
/// Characters of an answer that a complaint shows.
const SHOWN: usize = 300;
/// What is full has room again soon.
const RETRY: Duration = Duration::from_millis(300);

/// The defaults.
const MAX_EVENTS: usize = 10_000;
const MAX_BODY: usize = 16 * MIB;
const IN_FLIGHT: (usize, usize) = (20_000, 256 * MIB);
const BATCHES: usize = 8;
/// So many events of a batch are on one key.
const EACH_KEY: usize = 10;

const BLOB: usize = 8 * MIB;
const BUDGET: usize = 32 * MIB;
const BLOB_CLIENTS: usize = 10;
const BLOBS_ON_A_KEY: usize = 4;

pub fn all(extent: &Extent) -> Vec<Row> {
    vec![batches(extent), blobs(extent)]
}

/// Batches of as many events as may be, of as many bytes as may be, eight at once.
fn batches(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| daemon);
    let row = Row { name: "limits-batches".to_owned(), rounds: extent.pick_of(1, 1, 5), ..Row::default() };
    let bound = (IN_FLIGHT.0, IN_FLIGHT.1);
    let keys = MAX_EVENTS / EACH_KEY;
    pressed(row, &site, bound, |tally, round| {
        at_once(BATCHES, |client| settle(&site, batch(client, round).as_bytes(), tally, MAX_EVENTS));
        for client in 0..BATCHES {
            let names: Vec<_> = (0..keys).map(|key| format!("b:{client}:{key}")).collect();
            let last = |key| (round * MAX_EVENTS + (EACH_KEY - 1) * keys + key) as u64;
            judge(&site, tally, &names, EACH_KEY as u64, last);
        }
    })
}

/// As NDJSON, padded to the last byte that is allowed.
fn batch(client: usize, round: usize) -> String {
    let keys = MAX_EVENTS / EACH_KEY;
    let line = |number: usize, padding: &str| {
        let (key, number) = (number % keys, round * MAX_EVENTS + number);
        format!(
            "{{\"key\":\"SET\",\"value\":{{\"data\":{{\"key\":\"b:{client}:{key}\",\"value\":\"{number}:{padding}\"}}}}}}\n"
        )
    };
    let bare: usize = (0..MAX_EVENTS).map(|number| line(number, "").len()).sum();
    let padding = "v".repeat((MAX_BODY - bare) / MAX_EVENTS);
    let mut body = String::with_capacity(MAX_BODY);
    (0..MAX_EVENTS).for_each(|number| body.push_str(&line(number, &padding)));
    let rest = MAX_BODY - body.len();
    let _ = write!(body, "{}", " ".repeat(rest));
    body
}

/// Blobs of the largest size, several on each key, more at once than the budget holds; of some the length is unknown.
fn blobs(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| {
        daemon
            .set("fetch.max_blob_bytes", BLOB)
            .set("http.max_body_bytes", BLOB)
            .set("intake.max_in_flight_bytes", BUDGET)
            .set("redis.response_timeout_ms", 10_000)
            .set("redis.retry_ms", 20_000)
    });
    site.blobs.fallback(|target| {
        let number = target.trim_start_matches('/');
        let mut body = format!("{number}:").into_bytes();
        body.resize(BLOB, b'b');
        let blob = Blob::bytes(body);
        let is_odd = number.parse::<u64>().is_ok_and(|number| number % 2 == 1);
        Some(if is_odd { blob.chunked() } else { blob })
    });
    let row = Row { name: "limits-blobs".to_owned(), rounds: extent.pick_of(1, 3, 10), ..Row::default() };
    // Beyond the budget there is the reserve, one blob, for the oldest that waits.
    pressed(row, &site, (IN_FLIGHT.0, BUDGET + BLOB), |tally, round| {
        let number = |client: usize, nth: usize| (round * BLOB_CLIENTS + client) * BLOBS_ON_A_KEY + nth;
        at_once(BLOB_CLIENTS, |client| {
            let event = |nth| set_blob(&format!("l:{client}"), &site.blobs.url(&format!("/{}", number(client, nth))));
            let events: Vec<_> = (0..BLOBS_ON_A_KEY).map(event).collect();
            settle(&site, ndjson(&events).as_bytes(), tally, BLOBS_ON_A_KEY);
        });
        for client in 0..BLOB_CLIENTS {
            let last = |_| number(client, BLOBS_ON_A_KEY - 1) as u64;
            judge(&site, tally, &[format!("l:{client}")], BLOBS_ON_A_KEY as u64, last);
        }
    })
}

fn at_once(clients: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for client in 0..clients {
            let work = &work;
            scope.spawn(move || work(client));
        }
    });
}

/// Runs the rounds while admission is watched: never more than `bound` (events, bytes), and all of it home in the end.
fn pressed(mut row: Row, site: &Site, bound: (usize, usize), round: impl Fn(&Tally, usize)) -> Row {
    let (tally, is_over, most) = (Tally::default(), AtomicBool::new(false), Mutex::new((0.0, 0.0)));
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let now = admission(&site.daemon);
                let mut most = most.lock().expect("no panic");
                *most = (f64::max(most.0, now.0), f64::max(most.1, now.1));
                drop(most);
                thread::sleep(LOOK);
            }
        });
        (0..row.rounds).for_each(|number| round(&tally, number));
        is_over.store(true, Relaxed);
    });
    let most = most.into_inner().expect("no panic");
    let mut judged = tally.into_row(std::mem::take(&mut row.name), row.rounds).all_answered();
    judged.note(format!(
        "in {:.1} s; at most {} events and {:.1} MiB inside, allowed are {} and {} MiB",
        begin.elapsed().as_secs_f64(),
        most.0,
        most.1 / MIB as f64,
        bound.0,
        bound.1 / MIB
    ));
    let within = most.0 <= bound.0 as f64 && most.1 <= bound.1 as f64;
    judged.expect(within, || format!("admission is overdrawn: {most:?} (events, bytes)"));
    judged.expect(most.1 > 0.0, || "admission was never seen to hold anything".to_owned());
    judged.expect(judged.acknowledged == judged.sent, || "not everything was carried out".to_owned());
    rests(&site.daemon, &mut judged);
    judged
}

fn admission(daemon: &Daemon) -> (f64, f64) {
    let metrics = daemon.metrics();
    let held = |what: &str| {
        let name = format!("cache_sync_admission_{what}");
        metrics.iter().find(|(sample, _)| sample.starts_with(&name)).map_or(f64::NAN, |(_, value)| *value)
    };
    (held("events"), held("bytes"))
}

/// Posts until all of it is ok; what is, is not posted again.
fn settle(site: &Site, body: &[u8], tally: &Tally, events: usize) {
    Tally::add(&tally.sent, events as u64);
    let (begin, mut left, mut last) = (Instant::now(), body.to_vec(), String::new());
    while begin.elapsed() < ALL {
        let mut wire = Wire::open(site.daemon.address());
        let posted = Instant::now();
        Tally::add(&tally.requests, 1);
        wire.send_request("POST", "/events", &[("Content-Type", "application/x-ndjson")], &left);
        let answer = wire.try_answer(false);
        tally.took(posted.elapsed(), LIMIT, || "a large batch".to_owned());
        match answer {
            Ok(answer) if answer.status == 200 => return Tally::add(&tally.acknowledged, events as u64),
            Ok(answer) if answer.status == 503 => {
                Tally::add(&tally.unavailable, 1);
                let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
                if let Some(found) = json["events"].as_array() {
                    left = not_ok(&left, found);
                }
                last = answer.text().chars().take(SHOWN).collect();
            }
            Ok(answer) => return tally.complain(|| format!("{} {:.300}", answer.status, answer.text())),
            Err(error) => tally.unanswered(|| error.to_string()),
        }
        thread::sleep(RETRY);
    }
    tally.complain(|| format!("not carried out within {ALL:?}: {last}"));
}

/// The lines whose events are not ok.
fn not_ok(body: &[u8], events: &[Value]) -> Vec<u8> {
    let lines = body.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let left = lines.zip(events).filter(|(_, event)| event["status"] != "ok");
    left.flat_map(|(line, _)| line).copied().collect()
}

/// Each key must hold the last of the writes that it got.
fn judge(site: &Site, tally: &Tally, names: &[String], writes: u64, last: impl Fn(usize) -> u64) {
    let mut connection = site.redis.conn();
    for (number, name) in names.iter().enumerate() {
        let held: Option<Vec<u8>> =
            redis::cmd("GETRANGE").arg(name).arg(0).arg(20).query(&mut connection).expect("GETRANGE");
        let counter: &AtomicU64 = match read(held.as_deref()) {
            Found::Number(held) if held == last(number) => &tally.applied,
            Found::Number(_) => &tally.out_of_order,
            _ => &tally.lost,
        };
        Tally::add(counter, if std::ptr::eq(counter, &tally.out_of_order) { 1 } else { writes });
    }
}
