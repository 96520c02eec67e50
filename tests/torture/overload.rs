//! More work than Redis takes: what gets through must not fall, the rest must be refused at once, and memory stay flat.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Extent;
use super::machine::resident_mib;
use super::proxy::{Fault, Way};
use super::site::{Plot, SECOND, Site, rests};
use super::support::{Daemon, Redis, Wire, ndjson, results, set_inline};
use super::tally::Row;

/// Bytes a second on each connection to Redis. A full pipeline (`redis.batch_max_bytes`) takes less than the time that
/// the service waits for its answer.
const RATE: u64 = 800_000;
/// Events of one request. Few and large requests: the open loop must have many under way, each with a connection.
const EVENTS: usize = 24;
const VALUE: usize = 1000;
const CLOSED_CLIENTS: u64 = 32;
const OFFERED: f64 = 3.0;

/// What must hold.
const LEAST_GOODPUT: f64 = 0.85;
const SLOWEST_ACCEPTED: Duration = Duration::from_secs(2);
const SLOWEST_REFUSED: Duration = Duration::from_secs(1);
const GROWTH: f64 = 1.2;
const GROWTH_MIB: f64 = 16.0;
/// The load has settled after this part of the time: memory is compared from here on.
const SETTLED: f64 = 0.4;

#[derive(Default)]
struct Seen {
    /// How long a request that was carried out took, and one that was refused.
    accepted: Mutex<Vec<Duration>>,
    refused: Mutex<Vec<Duration>>,
    /// Numbers of the events that were carried out, also those of a request that was refused in part.
    carried_out: Mutex<Vec<u64>>,
    problems: Mutex<HashMap<String, u64>>,
    next: AtomicU64,
}

/// Once more if it is not held: the machine itself may have been overloaded.
pub fn overload(extent: &Extent) -> Row {
    let first = once(extent);
    if first.is_held() {
        return first;
    }
    let mut row = once(extent);
    row.note(format!("measured again, for: {}", first.complaints.join("; ")));
    row
}

fn once(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).proxied().start(|daemon| daemon);
    if let Some(proxy) = &site.proxy {
        proxy.set(Way::ToRedis, Fault::Throttle(RATE));
    }
    let closed = closed_loop(&site.daemon, extent.pick(3 * SECOND, 10 * SECOND));
    let time = extent.pick(15 * SECOND, 60 * SECOND);
    redis::cmd("FLUSHALL").exec(&mut site.redis.conn()).expect("FLUSHALL");
    let (seen, memory) = open_loop(&site, closed * OFFERED / EVENTS as f64, time);
    judge(&site, closed, time, seen, memory)
}

/// Events a second that get through when nobody sends before an answer.
fn closed_loop(daemon: &Daemon, time: Duration) -> f64 {
    let (seen, begin) = (Seen::default(), Instant::now());
    thread::scope(|scope| {
        for _ in 0..CLOSED_CLIENTS {
            scope.spawn(|| {
                while begin.elapsed() < time {
                    post(daemon, &seen);
                }
            });
        }
    });
    seen.carried_out.into_inner().expect("no panic").len() as f64 / begin.elapsed().as_secs_f64()
}

/// Requests at a fixed rate whatever becomes of the earlier ones; and resident memory when it has settled and at the end.
fn open_loop(site: &Site, per_second: f64, time: Duration) -> (Seen, [f64; 2]) {
    let (seen, begin) = (Seen::default(), Instant::now());
    let mut settled = 0.0;
    thread::scope(|scope| {
        for number in 0.. {
            let due = Duration::from_secs_f64(f64::from(number) / per_second);
            if due >= time {
                break;
            }
            if settled == 0.0 && due >= time.mul_f64(SETTLED) {
                settled = resident_mib(site.daemon.pid());
            }
            thread::sleep(due.saturating_sub(begin.elapsed()));
            let client = thread::Builder::new().stack_size(256 << 10);
            client.spawn_scoped(scope, || post(&site.daemon, &seen)).expect("a thread");
        }
    });
    (seen, [settled, resident_mib(site.daemon.pid())])
}

fn post(daemon: &Daemon, seen: &Seen) {
    let first = seen.next.fetch_add(EVENTS as u64, Relaxed);
    let value = "v".repeat(VALUE);
    let numbers = first..first + EVENTS as u64;
    let events: Vec<Value> = numbers.map(|number| set_inline(&key(number), &value)).collect();
    let begin = Instant::now();
    let answer = Wire::try_open(daemon.address()).and_then(|mut wire| {
        wire.send_request("POST", "/events", &[("Content-Type", "application/x-ndjson")], ndjson(&events).as_bytes());
        wire.try_answer(false)
    });
    let took = begin.elapsed();
    let kind = match &answer {
        Err(error) => format!("no answer: {error}"),
        Ok(answer) if answer.status == 200 => String::new(),
        Ok(answer) => problem(answer.status, &serde_json::from_slice(&answer.body).unwrap_or(Value::Null)),
    };
    let json = answer.as_ref().ok().and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
    let elements = json.as_ref().and_then(|json| json["events"].as_array()).into_iter().flatten();
    let carried_out = elements.filter(|event| event["status"] == "ok").filter_map(|event| event["index"].as_u64());
    seen.carried_out.lock().expect("no panic").extend(carried_out.map(|index| first + index));
    let list = if kind.is_empty() { &seen.accepted } else { &seen.refused };
    list.lock().expect("no panic").push(took);
    if !kind.is_empty() {
        *seen.problems.lock().expect("no panic").entry(kind).or_default() += 1;
    }
}

/// The status with the type of the first problem.
fn problem(status: u16, json: &Value) -> String {
    let events = json["events"].as_array().into_iter().flatten();
    let inner = events.flat_map(|event| event["results"].as_array().into_iter().flatten());
    let kind = inner.map(|entry| &entry["problem"]).chain([json]).find_map(|problem| problem["type"].as_str());
    format!("{status} {}", kind.unwrap_or_default().rsplit(':').next().unwrap_or_default())
}

fn judge(site: &Site, closed: f64, time: Duration, seen: Seen, [settled, end]: [f64; 2]) -> Row {
    let (accepted, refused) = (taken(seen.accepted), taken(seen.refused));
    let carried_out = seen.carried_out.into_inner().expect("no panic");
    let applied = applied(site, &carried_out);
    let goodput = carried_out.len() as f64 / time.as_secs_f64() / closed;
    let (slow, refusal) = (p99(&accepted), p99(&refused));
    let events = |requests: usize| (requests * EVENTS) as u64;
    let mut row = Row {
        name: "overload".to_owned(),
        rounds: 1,
        sent: events(accepted.len() + refused.len()),
        acknowledged: carried_out.len() as u64,
        applied,
        lost: carried_out.len() as u64 - applied,
        ..Row::default()
    };
    row.note(format!(
        "{closed:.0} events a second get through; {OFFERED} times that was offered, in requests of {EVENTS}"
    ));
    row.note(format!("goodput {goodput:.2} of it; p99 of the accepted {slow:?}, of the refused {refusal:?}"));
    row.note(format!("resident {settled:.1} MiB when settled, {end:.1} MiB at the end"));
    row.note(format!("{} requests carried out, {} refused at least in part", accepted.len(), refused.len()));
    row.note(format!("{} new connections to Redis", site.daemon.metric("cache_sync_redis_reconnects_total", &[])));
    row.note(format!("refused: {:?}", seen.problems.into_inner().expect("no panic")));
    row.expect(goodput >= LEAST_GOODPUT, || format!("goodput {goodput:.2} is below {LEAST_GOODPUT}"));
    row.expect(slow < SLOWEST_ACCEPTED, || format!("p99 of the accepted is {slow:?}"));
    row.expect(refusal < SLOWEST_REFUSED, || format!("p99 of the refused is {refusal:?}: not at once"));
    row.expect(end < settled * GROWTH + GROWTH_MIB, || format!("memory grew from {settled:.1} to {end:.1} MiB"));
    if let Some(proxy) = &site.proxy {
        proxy.set(Way::ToRedis, Fault::None);
    }
    rests(&site.daemon, &mut row);
    results(&site.daemon.post(&set_inline("after", "v")), 200, "ok");
    row
}

/// Each event has a key of its own.
fn key(number: u64) -> String {
    format!("o:{number}")
}

/// How many of these are in Redis.
fn applied(site: &Site, numbers: &[u64]) -> u64 {
    let mut connection = site.redis.conn();
    let count = |part: &[u64]| -> u64 {
        let keys: Vec<String> = part.iter().map(|number| key(*number)).collect();
        redis::cmd("EXISTS").arg(keys).query(&mut connection).expect("EXISTS")
    };
    numbers.chunks(1000).map(count).sum()
}

fn taken(list: Mutex<Vec<Duration>>) -> Vec<Duration> {
    list.into_inner().expect("no panic")
}

pub fn p99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}
