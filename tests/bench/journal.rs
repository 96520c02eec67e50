//! Events that are kept: how fast they are accepted, and how soon they are applied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::batches::{BATCH, CONNECTIONS};
use crate::commands::Cache;
use crate::process::run;
use crate::report::Bound::{AtLeast, AtMost, Told};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, Command, KEYS, VALUE_BYTES, arrays, one_by_one, sets};
use crate::service::Service;
use crate::support::{PATIENCE, Wire, eventually, find_program, signal};
use crate::wrk::Load;

const PAIRS: usize = 5;
const ASYNC: (&str, &str) = ("prefer", "respond-async");

const PLAIN: &str = "plain SETs";
const XADD: &str = "redis-benchmark XADD";
/// What the time from the acceptance to the cache is held against.
const BOUND_MS: f64 = 25.0;

pub const SINGLES: &[Figure] = &[
    Figure { name: "journal-single", unit: "events/s", reference: PLAIN, must: AtLeast(0.9), aim: AtLeast(1.0) },
    Figure { name: "journal-single-xadd", unit: "events/s", reference: XADD, must: Told, aim: Told },
    Figure { name: "journal-single-fed", unit: "events/s", reference: PLAIN, must: Told, aim: Told },
];

pub const BATCHES: &[Figure] = &[
    Figure { name: "journal-batch", unit: "events/s", reference: PLAIN, must: AtLeast(0.8), aim: AtLeast(0.9) },
    Figure { name: "journal-batch-fed", unit: "events/s", reference: PLAIN, must: Told, aim: Told },
];

pub const APPLIED: &[Figure] =
    &[Figure { name: "journal-applied", unit: "ms p99", reference: "25 ms", must: AtMost(1.0), aim: AtMost(0.5) }];

pub fn singles(figures: &[&'static Figure]) -> Vec<Row> {
    let bodies = || Bodies::json(&one_by_one(&sets(KEYS)));
    accepted(figures, &bodies(), &bodies().kept(), (64, 1))
}

pub fn batches(figures: &[&'static Figure]) -> Vec<Row> {
    let bodies = || Bodies::json(&arrays(&sets(100 * BATCH), BATCH));
    accepted(figures, &bodies(), &bodies().kept(), (CONNECTIONS, BATCH))
}

/// Answers of 202 beside answers of 200 to the same: while the cache of what feeds the journal is stopped, so that it is only filled,
/// and while this one process fills and feeds.
fn accepted(
    figures: &[&'static Figure],
    plain: &Bodies,
    kept: &Bodies,
    (connections, events): (u32, usize),
) -> Vec<Row> {
    let (caches, journals) = ([(); 3].map(|()| Cache::start()), [(); 2].map(|()| Cache::start()));
    let services = [
        Service::ours(&caches[0]),
        Service::journaled(&caches[1], &journals[0]),
        Service::journaled(&caches[2], &journals[1]),
    ];
    let measure = |service: &Service, redis: &Cache, bodies: &Bodies| {
        Load { bodies, connections, events }.measure(service, redis).throughput()
    };
    let mut rows: Vec<Row> =
        figures.iter().map(|figure| Row { figure, ours: Vec::new(), reference: Vec::new() }).collect();
    for round in 0..=PAIRS {
        let plainly = measure(&services[0], &caches[0], plain);
        signal(caches[1].pid(), "STOP");
        let alone = measure(&services[1], &journals[0], kept);
        journals[0].empty();
        signal(caches[1].pid(), "CONT");
        let beside = measure(&services[2], &journals[1], kept);
        journals[1].empty();
        let xadd = if events == 1 { xadd(&journals[0]) } else { plainly };
        // The first round is to warm up.
        for row in rows.iter_mut().filter(|_| round > 0) {
            row.ours.push(if row.figure.name.ends_with("-fed") { beside } else { alone });
            row.reference.push(if row.figure.reference == XADD { xadd } else { plainly });
        }
    }
    rows
}

/// The same entries by Redis's own client, 64 connections, none of them pipelined.
fn xadd(journal: &Cache) -> Sample {
    journal.empty();
    let program = find_program("redis-benchmark").expect("redis-benchmark comes with redis-server");
    let value = "x".repeat(VALUE_BYTES + 80);
    let mut command = std::process::Command::new(program);
    command.args(["-p", &journal.port().to_string(), "-c", "64", "-n", "200000", "--csv"]);
    command.args(["XADD", "rcs:journal", "*", "e", &value]);
    let text = String::from_utf8_lossy(&run(&mut command, None).stdout).into_owned();
    let rate = text.lines().last().and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    journal.empty();
    Sample::plain(rate.unwrap_or_else(|| panic!("redis-benchmark said:\n{text}")))
}

/// From the acceptance of an event to its value in the cache, beside half of the load that is accepted at most.
pub fn applied(figures: &[&'static Figure]) -> Vec<Row> {
    let (cache, journal) = (Cache::start(), Cache::start());
    let service = Service::journaled(&cache, &journal);
    let bodies = Bodies::json(&one_by_one(&sets(KEYS))).kept();
    let most = Load { bodies: &bodies, connections: 64, events: 1 }.measure(&service, &journal).events_per_second;
    let left = || redis::cmd("XLEN").arg("rcs:journal").query::<u64>(&mut journal.conn()) == Ok(0);
    assert!(eventually(PATIENCE, left), "what was accepted is not applied");
    let mut row = Row { figure: figures[0], ours: Vec::new(), reference: Vec::new() };
    for _ in 0..PAIRS {
        let mut times = beside(&service, &cache, most / 2.0);
        times.sort_unstable();
        row.ours.push(Sample::plain(times[times.len() * 99 / 100].as_secs_f64() * 1e3));
        row.reference.push(Sample::plain(BOUND_MS));
    }
    vec![row]
}

const PROBES: usize = 400;
const PROBE_EVERY: Duration = Duration::from_millis(5);
const SENDERS: usize = 8;
/// Of a request of the load: single events of so many a second take all of a small machine for their sending alone.
const TOGETHER: usize = 10;

fn beside(service: &Service, cache: &Cache, events_per_second: f64) -> Vec<Duration> {
    let over = AtomicBool::new(false);
    let bodies = arrays(&sets(KEYS), TOGETHER);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (over, bodies) = (&over, &bodies);
            scope.spawn(move || {
                let mut wire = service.wire();
                let every = Duration::from_secs_f64((TOGETHER * SENDERS) as f64 / events_per_second);
                let begun = Instant::now();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    thread::sleep((every * number).saturating_sub(begun.elapsed()));
                    keep(&mut wire, &bodies[(number as usize * SENDERS + sender) % bodies.len()]);
                    number += 1;
                }
            });
        }
        let times = probe(service, cache);
        over.store(true, Ordering::Relaxed);
        times
    })
}

fn probe(service: &Service, cache: &Cache) -> Vec<Duration> {
    let (mut wire, mut conn) = (service.wire(), cache.conn());
    let one = |number: usize| {
        let value = format!("{number}");
        keep(&mut wire, &Command::Set("probe".into(), value.clone()).event());
        let accepted = Instant::now();
        while redis::cmd("GET").arg("probe").query::<Option<String>>(&mut conn).expect("GET").as_ref() != Some(&value) {
            assert!(accepted.elapsed() < PATIENCE, "it is not applied");
        }
        let took = accepted.elapsed();
        thread::sleep(PROBE_EVERY);
        took
    };
    let times = (0..PROBES).map(one).collect();
    redis::cmd("DEL").arg("probe").exec(&mut conn).expect("DEL");
    times
}

fn keep(wire: &mut Wire, body: &str) {
    wire.send_request("POST", "/events", &[("content-type", "application/json"), ASYNC], body.as_bytes());
    let answer = wire.answer();
    assert_eq!(answer.status, 202, "{}", answer.text());
}
