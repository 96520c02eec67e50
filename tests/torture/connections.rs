//! Connections that take their time or none at all: slow heads, slow bodies, thousands that idle, pipelined requests, halves
//! that are closed. Those who are served do not notice, the slow are cut off with 408, and nothing of it stays.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::beside::{Beside, compare};
use super::machine::descriptors;
use super::site::{Plot, SECOND, Site, rests};
use super::support::http::request;
use super::support::{Redis, Wire, eventually, get, set_inline};
use super::tally::Row;

/// For a head and for a body.
const PATIENCE: Duration = Duration::from_secs(2);
/// A slow one is cut off so long after that.
const GRACE: Duration = Duration::from_secs(1);
const DRIP: Duration = Duration::from_millis(200);
const SLOW: usize = 50;
const IDLE: usize = 5000;
/// What the harness and the service need beside.
const OTHER_DESCRIPTORS: usize = 600;
const PIPELINED: u64 = 10;
const PAUSE: Duration = Duration::from_millis(50);
const MORE_DESCRIPTORS: usize = 8;

#[derive(Default)]
struct Seen {
    idle: AtomicU64,
    /// Slow ones that were cut off with 408.
    cut_off: AtomicU64,
    pipelined: AtomicU64,
    halves: AtomicU64,
    next: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

pub fn connections(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| {
        let timeout = PATIENCE.as_millis();
        daemon.set("http.head_timeout_ms", timeout).set("http.body_timeout_ms", timeout)
    });
    let beside = Beside::on(&site);
    let idle = IDLE.min(open_files_allowed().saturating_sub(OTHER_DESCRIPTORS));
    let time = extent.pick(4 * SECOND, 7 * SECOND);
    let mut row = Row { name: "connections".to_owned(), ..Row::default() };
    beside.measure(&site, SECOND);
    let before = descriptors(site.daemon.pid());
    let seen = Seen::default();
    compare(&mut row, "all the others", |row| {
        let calm = beside.measure(&site, time);
        row.rounds += 1;
        let stop = AtomicBool::new(false);
        let kept = idling(&site, idle, &seen);
        let during = thread::scope(|scope| {
            for kind in [slow_heads, slow_bodies, pipelined, half_closed] {
                let (site, beside, seen, stop) = (&site, &beside, &seen, &stop);
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        kind(site, beside, seen);
                    }
                });
            }
            let during = beside.measure(&site, time);
            stop.store(true, Relaxed);
            during
        });
        still_there(kept, &seen);
        [calm, during]
    });
    judge(&site, seen, idle, before, &mut row);
    beside.judge(&site, &mut row);
    rests(&site.daemon, &mut row);
    row
}

fn judge(site: &Site, seen: Seen, idle: usize, before: usize, row: &mut Row) {
    let pid = site.daemon.pid();
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let kinds = [count(&seen.cut_off), count(&seen.pipelined), count(&seen.halves)];
    row.note(format!(
        "{idle} connections idle; {} slow ones cut off with 408, {} requests pipelined, {} on half-closed sockets",
        kinds[0], kinds[1], kinds[2]
    ));
    let cut_short = if idle < IDLE { format!(" (`ulimit -n` allows no {IDLE})") } else { String::new() };
    row.note(format!("{} idle connections answered afterwards{cut_short}", count(&seen.idle)));
    row.expect(count(&seen.idle) == (idle * row.rounds) as u64, || "idle connections were closed".to_owned());
    row.expect(kinds.iter().all(|count| *count > 0), || format!("some kind never came to its end: {kinds:?}"));
    let complaints = seen.complaints.into_inner().expect("no panic");
    row.complaints.extend(complaints.into_iter().take(5));
    let few = eventually(15 * SECOND, || descriptors(pid) <= before + MORE_DESCRIPTORS);
    row.note(format!("file descriptors {before} before, {} after", descriptors(pid)));
    row.expect(few, || "connections have piled up".to_owned());
}

impl Seen {
    fn complain(&self, what: impl Into<String>) {
        self.complaints.lock().expect("no panic").push(what.into());
    }
}

/// The soft limit (proc(5)).
fn open_files_allowed() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(usize::MAX)
}

/// Each has asked once, so that it may idle as long as connections are kept.
fn idling(site: &Site, count: usize, seen: &Seen) -> Vec<Wire> {
    let open = |_| {
        let mut wire = Wire::open(site.daemon.address());
        if !is_served(&mut wire) {
            seen.complain("a new connection was not answered");
        }
        wire
    };
    (0..count).map(open).collect()
}

fn is_served(wire: &mut Wire) -> bool {
    wire.send_request("GET", "/live", &[], b"");
    wire.try_answer(false).is_ok_and(|answer| answer.status == 200)
}

fn still_there(wires: Vec<Wire>, seen: &Seen) {
    for mut wire in wires {
        seen.idle.fetch_add(u64::from(is_served(&mut wire)), Relaxed);
    }
}

fn slow_heads(site: &Site, _: &Beside, seen: &Seen) {
    drip(site.daemon.address(), b"POST /events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", seen);
}

fn slow_bodies(site: &Site, _: &Beside, seen: &Seen) {
    drip(site.daemon.address(), b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", seen);
}

/// A byte now and then on many connections, until each is answered 408; in time.
fn drip(address: SocketAddr, start: &[u8], seen: &Seen) {
    let begin = Instant::now();
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    slow.iter_mut().all(|stream| stream.write_all(start).is_ok());
    while begin.elapsed() < PATIENCE + GRACE {
        thread::sleep(DRIP);
        slow.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
    }
    for mut stream in slow {
        let _ = stream.set_read_timeout(Some(PAUSE));
        let mut answer = [0; 12];
        match stream.read_exact(&mut answer) {
            Ok(()) if &answer == b"HTTP/1.1 408" => drop(seen.cut_off.fetch_add(1, Relaxed)),
            Ok(()) => seen.complain(format!("a slow one was answered {:?}", String::from_utf8_lossy(&answer))),
            Err(error) => seen.complain(format!("a slow one had no answer after {:?}: {error}", begin.elapsed())),
        }
    }
}

/// Requests sent in one go on one connection: each answered, in their order.
fn pipelined(site: &Site, beside: &Beside, seen: &Seen) {
    let mut wire = Wire::open(site.daemon.address());
    let first = seen.next.fetch_add(PIPELINED, Relaxed);
    let mut bytes = Vec::new();
    for number in first..first + PIPELINED {
        let set = set_inline("p:1", &format!("{number}:pipelined")).to_string();
        for (body, id) in [(set, format!("set-{number}")), (get("p:1".into()).to_string(), format!("get-{number}"))] {
            bytes.extend(request("POST", "/events", &[("X-Request-Id", id.as_str())], body.as_bytes()));
        }
        beside.note_sent();
    }
    wire.send(&bytes);
    for number in first..first + PIPELINED {
        for what in ["set", "get"] {
            let (id, answer) = (format!("{what}-{number}"), wire.try_answer(false));
            let Ok(answer) = answer.inspect_err(|error| seen.complain(format!("{id}: {error}"))) else { return };
            if answer.status != 200 || answer.header("x-request-id") != Some(id.as_str()) {
                seen.complain(format!("{id} was answered {} {}", answer.status, answer.text()));
            }
            let value = answer.json()["results"][0]["value"].clone();
            if what == "get" && value != format!("{number}:pipelined") {
                seen.complain(format!("{id} found {value}"));
            }
        }
        beside.acknowledge("p:1".to_owned(), number);
        seen.pipelined.fetch_add(2, Relaxed);
    }
    thread::sleep(PAUSE);
}

/// A sender that has nothing more to say is answered all the same; one that stops in the middle is let go.
fn half_closed(site: &Site, beside: &Beside, seen: &Seen) {
    let number = seen.next.fetch_add(1, Relaxed);
    let whole = request("POST", "/events", &[], set_inline("p:2", &format!("{number}:half")).to_string().as_bytes());
    for (bytes, is_whole) in [(&whole[..], true), (&whole[..whole.len() - 10], false), (&whole[..20], false)] {
        let mut wire = Wire::open(site.daemon.address());
        wire.send(bytes);
        let socket = wire.writer();
        let _ = socket.set_read_timeout(Some(PATIENCE + GRACE));
        let _ = socket.shutdown(Shutdown::Write);
        if is_whole {
            beside.note_sent();
        }
        let begin = Instant::now();
        match wire.try_answer(false) {
            Ok(answer) if is_whole && answer.status == 200 => {
                beside.acknowledge("p:2".to_owned(), number);
                seen.halves.fetch_add(1, Relaxed);
            }
            Ok(answer) if !is_whole && (400..500).contains(&answer.status) => {}
            Err(_) if !is_whole && begin.elapsed() < PATIENCE + GRACE => {}
            other => seen.complain(format!("a half-closed socket after {:?}: {other:?}", begin.elapsed())),
        }
    }
    thread::sleep(PAUSE);
}
