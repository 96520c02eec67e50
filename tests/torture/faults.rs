//! Every way in which a blob's host fails, all at once, each on a host of its own: each event ends with its class and its
//! problem in time, nothing of a failed blob is stored, and events that have nothing to do with them do not notice.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Extent;
use super::beside::{Beside, compare};
use super::misbehaving::{Host, answer, hang, repeat, reset, say};
use super::site::{Plot, SECOND, Site, rests};
use super::support::{Redis, URN, Wire, closed_port, gzip, gzip_bomb, set_blob};
use super::tally::Row;

const MIB: usize = 1 << 20;
/// Settings of the service that make every fault show itself in time.
const CAP: usize = MIB;
const ATTEMPTS: usize = 3;
const ATTEMPT: Duration = Duration::from_millis(1200);
const DEADLINE: Duration = Duration::from_millis(3500);
/// An answer, whatever the host does.
const LIMIT: Duration = Duration::from_millis(4500);
const AT_ONCE: Duration = SECOND;
/// Between two events of one fault.
const PAUSE: Duration = Duration::from_millis(400);

const STORED: &str = "stored";
const UNAVAILABLE: &str = "blob-unavailable";
const FORBIDDEN: &str = "blob-forbidden";
const NOT_FOUND: &str = "blob-not-found";
const DENIED: &str = "blob-denied";
const TOO_LARGE: &str = "blob-too-large";

/// A line of the table.
struct Fault {
    name: &'static str,
    url: String,
    host: Option<Host>,
    /// Which must not be asked at all.
    forbidden: Option<Host>,
    /// What the first event and those after it end with: `stored`, or the type of the problem.
    expected: Vec<&'static str>,
    /// Requests that an event takes.
    asks: Option<usize>,
    /// What must be stored, if anything.
    blob: Vec<u8>,
    limit: Duration,
}

/// What became of the events of one fault.
#[derive(Default)]
struct Seen {
    ends: Vec<String>,
    slowest: Duration,
    complaints: Vec<String>,
}

pub fn blob_faults(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| {
        daemon
            .set("fetch.max_blob_bytes", CAP)
            .set("fetch.attempts", ATTEMPTS)
            .set("fetch.timeout_ms", ATTEMPT.as_millis())
            .set("fetch.deadline_ms", DEADLINE.as_millis())
    });
    let beside = Beside::on(&site);
    let time = extent.pick(2 * SECOND, 8 * SECOND);
    let mut row = Row { name: "blob-faults".to_owned(), ..Row::default() };
    beside.measure(&site, SECOND);
    compare(&mut row, "the hosts at fault", |row| {
        let calm = beside.measure(&site, time);
        let faults = faults();
        row.rounds += 1;
        let stop = AtomicBool::new(false);
        let (during, seen) = thread::scope(|scope| {
            let (site, stop) = (&site, &stop);
            let askers: Vec<_> = faults
                .iter()
                .enumerate()
                .map(|(number, fault)| scope.spawn(move || fault.ask(number, site, stop)))
                .collect();
            let during = beside.measure(site, time);
            stop.store(true, Relaxed);
            (during, askers.into_iter().map(|asker| asker.join().expect("no panic")).collect::<Vec<_>>())
        });
        for (number, (fault, seen)) in faults.iter().zip(seen).enumerate() {
            fault.judge(number, seen, &site, row);
        }
        [calm, during]
    });
    beside.judge(&site, &mut row);
    rests(&site.daemon, &mut row);
    row
}

impl Fault {
    fn new(name: &'static str, host: Host, expected: &'static str) -> Self {
        Fault { url: host.url("http"), host: Some(host), ..Fault::at(name, String::new(), expected) }
    }

    fn at(name: &'static str, url: String, expected: &'static str) -> Self {
        let (asks, blob) = (None, Vec::new());
        Fault { name, url, host: None, forbidden: None, expected: vec![expected], asks, blob, limit: LIMIT }
    }

    fn over_tls(name: &'static str, host: Host) -> Self {
        Fault { url: host.url("https"), ..Fault::new(name, host, UNAVAILABLE) }
    }

    fn asks(self, requests: usize) -> Self {
        Fault { asks: Some(requests), ..self }
    }

    fn never(self, host: Host) -> Self {
        Fault { forbidden: Some(host), ..self }
    }

    fn at_once(self) -> Self {
        Fault { limit: AT_ONCE, ..self }
    }

    fn then(mut self, expected: &'static str) -> Self {
        self.expected.push(expected);
        self
    }

    fn holds(self, blob: &[u8]) -> Self {
        Fault { blob: blob.to_vec(), ..self }
    }

    fn key(&self, number: usize) -> String {
        format!("f:{number}")
    }

    /// Posts events one after another, at least two.
    fn ask(&self, number: usize, site: &Site, stop: &AtomicBool) -> Seen {
        let (mut seen, mut wire) = (Seen::default(), Wire::open(site.daemon.address()));
        let event = set_blob(&self.key(number), &self.url).to_string();
        while seen.ends.len() < 2 || !stop.load(Relaxed) {
            let posted = Instant::now();
            wire.send_request("POST", "/events", &[("Content-Type", "application/json")], event.as_bytes());
            let Ok(answer) = wire.try_answer(false) else {
                seen.complaints.push("no answer".to_owned());
                return seen;
            };
            seen.slowest = seen.slowest.max(posted.elapsed());
            let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let end = end_of(&json);
            let expected = self.expected.get(seen.ends.len()).or(self.expected.last()).copied().unwrap_or_default();
            let (status, class) = class_of(expected);
            let class_is_right = answer.status == status && json["status"] == class;
            let may_come_again = status != 503 || answer.header("retry-after").is_some();
            if end != expected || !class_is_right || !may_come_again {
                seen.complaints.push(format!("{expected} expected: {} {}", answer.status, answer.text()));
            }
            seen.ends.push(end);
            thread::sleep(PAUSE);
        }
        seen
    }

    fn judge(&self, number: usize, mut seen: Seen, site: &Site, row: &mut Row) {
        let count = seen.ends.len();
        if let (Some(asks), Some(host)) = (self.asks, &self.host) {
            let requests = host.requests();
            if requests != asks * count {
                seen.complaints.push(format!("{requests} requests for {count} events, not {asks} each"));
            }
        }
        if self.forbidden.as_ref().is_some_and(|host| host.requests() > 0) {
            seen.complaints.push("a host was asked that must not be".to_owned());
        }
        let held = site.redis.value(&self.key(number));
        let stores = self.expected.contains(&STORED);
        if held.as_deref() != stores.then_some(self.blob.as_slice()) {
            seen.complaints.push(format!("Redis holds {} bytes", held.map_or(0, |held| held.len())));
        }
        if seen.slowest > self.limit {
            row.late += 1;
            seen.complaints.push(format!("an answer took {:?}, allowed are {:?}", seen.slowest, self.limit));
        }
        seen.ends.sort_unstable();
        seen.ends.dedup();
        let (expected, ends) = (self.expected.join(", then "), seen.ends.join(", "));
        let classes: Vec<_> = self.expected.iter().map(|expected| class_of(expected).1).collect();
        row.note(format!(
            "{:<28} asked {count:>3}, expected {} ({expected}), seen {ends}, slowest {} ms",
            self.name,
            classes.join(", then "),
            seen.slowest.as_millis()
        ));
        let complaints = seen.complaints.into_iter().take(2);
        row.complaints.extend(complaints.map(|complaint| format!("{}: {complaint}", self.name)));
    }
}

fn end_of(json: &Value) -> String {
    let entry = &json["results"][0];
    let kind = entry["problem"]["type"].as_str().or(entry["status"].as_str()).unwrap_or_default();
    kind.trim_start_matches(URN).to_owned()
}

/// Status and class that go with an end.
fn class_of(end: &str) -> (u16, &'static str) {
    match end {
        STORED => (200, "ok"),
        UNAVAILABLE => (503, "unavailable"),
        _ => (422, "rejected"),
    }
}

fn faults() -> Vec<Fault> {
    [connections(), bodies(), redirects(), codings(), statuses()].into_iter().flatten().collect()
}

fn connections() -> Vec<Fault> {
    let half_head = |stream: &mut _| say(stream, b"HTTP/1.1 200 OK\r\nContent-Le");
    vec![
        Fault::at("refuses", format!("http://127.0.0.1:{}/", closed_port()), UNAVAILABLE),
        Fault::new("resets at once", Host::accepting(|stream, _| reset(stream)), UNAVAILABLE),
        Fault::new("resets before the head", Host::answering(|stream, _| reset(stream)), UNAVAILABLE),
        Fault::new("closes before the head", Host::saying(""), UNAVAILABLE),
        Fault::new("never answers", Host::answering(|stream, _| hang(stream)), UNAVAILABLE),
        Fault::new(
            "half a head, then hangs",
            Host::answering(move |stream, _| {
                half_head(stream);
                hang(stream);
            }),
            UNAVAILABLE,
        ),
        Fault::new("is no HTTP", Host::saying("220 mail.example ESMTP\r\n"), UNAVAILABLE),
        Fault::new(
            "endless head",
            Host::answering(|stream, _| {
                say(stream, b"HTTP/1.1 200 OK\r\n");
                repeat(stream, &b"X-More: 0123456789\r\n".repeat(200), Duration::ZERO);
            }),
            UNAVAILABLE,
        ),
        Fault::over_tls("unknown certificate", Host::unknown()),
        Fault::over_tls("TLS, never a handshake", Host::accepting(|stream, _| hang(stream))),
        Fault::over_tls("plain where TLS is due", Host::accepting(|stream, _| say(stream, &answer(400, "", b"")))),
    ]
}

fn bodies() -> Vec<Fault> {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let after = move |length, then: fn(&mut _)| {
        Host::answering(move |stream, _| {
            say(stream, head(length).as_bytes());
            then(stream);
        })
    };
    let endless = |framing: &'static str, piece: &'static [u8]| {
        Host::answering(move |stream, _| {
            say(stream, format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes());
            repeat(stream, &piece.repeat(256), Duration::ZERO);
        })
    };
    vec![
        Fault::new("a head, then hangs", after(100, hang), UNAVAILABLE),
        Fault::new("a byte a second", after(100, |stream| repeat(stream, b"x", SECOND)), UNAVAILABLE),
        Fault::new("says more than it sends", after(100, |stream| say(stream, &[b'x'; 60])), UNAVAILABLE)
            .asks(ATTEMPTS),
        Fault::new(
            "the same, and stays",
            after(100, |stream| {
                say(stream, &[b'x'; 60]);
                hang(stream);
            }),
            UNAVAILABLE,
        ),
        Fault::new("says less than it sends", after(4, |stream| say(stream, b"blobHTTP/1.1 200 OK\r\n")), STORED)
            .holds(b"blob"),
        Fault::new(
            "resets in the body",
            after(100, |stream| {
                say(stream, &[b'x'; 60]);
                reset(stream);
            }),
            UNAVAILABLE,
        ),
        Fault::new(
            "ends early in chunks",
            Host::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            UNAVAILABLE,
        )
        .asks(ATTEMPTS),
        Fault::new("says more than the cap", after(CAP + 1, hang), TOO_LARGE).asks(1).at_once(),
        Fault::new("endless in chunks", endless("Transfer-Encoding: chunked\r\n", ENDLESS_CHUNK), TOO_LARGE).asks(1),
        Fault::new("endless without a length", endless("", ENDLESS_CHUNK), TOO_LARGE).asks(1),
    ]
}

const ENDLESS_CHUNK: &[u8] = b"40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n";

fn redirects() -> Vec<Fault> {
    // One of our own, so that even a service without a guard calls nobody else.
    let private = Host::private(answer(200, "", b"secret"));
    let to = |location: &str| Host::saying(answer(302, &format!("Location: {location}\r\n"), b""));
    vec![
        Fault::new("redirects to itself", to("/blob"), FORBIDDEN).asks(4),
        Fault::new("redirects to a private host", to(&private.url("http")), FORBIDDEN).asks(1).at_once().never(private),
        Fault::new("redirects to a file", to("file:///etc/passwd"), FORBIDDEN).asks(1).at_once(),
        Fault::new("redirects to nowhere", Host::saying(answer(302, "", b"")), DENIED).asks(1).at_once(),
    ]
}

fn codings() -> Vec<Fault> {
    let coded = |coding: &str, body: &[u8]| Host::saying(answer(200, &format!("Content-Encoding: {coding}\r\n"), body));
    let whole = gzip(&[b'x'; 1000]);
    vec![
        Fault::new("plain called gzip", coded("gzip", b"no gzip at all"), UNAVAILABLE).asks(ATTEMPTS),
        Fault::new("an unknown coding", coded("snappy", b"????"), DENIED).asks(1).at_once(),
        Fault::new("gzip cut short", coded("gzip", &whole[..whole.len() / 2]), UNAVAILABLE).asks(ATTEMPTS),
        Fault::new("a gzip bomb", coded("gzip", &gzip_bomb(64 * MIB)), TOO_LARGE).asks(1),
        Fault::new("gzip of gzip, a bomb", coded("gzip, gzip", &gzip(&gzip_bomb(64 * MIB))), TOO_LARGE).asks(1),
    ]
}

fn statuses() -> Vec<Fault> {
    let failing = |status: u16, headers: &str| Host::saying(answer(status, headers, b"not this"));
    let first_of_two = |status: u16, headers: &'static str| {
        Host::answering(move |stream, number| match number % 2 {
            0 => say(stream, &answer(status, headers, b"not this")),
            _ => say(stream, &answer(200, "", b"at last")),
        })
    };
    let not_there_yet = Host::answering(|stream, number| match number {
        0 => say(stream, &answer(404, "", b"not this")),
        _ => say(stream, &answer(200, "", b"at last")),
    });
    let mut faults = vec![
        Fault::new("404, then 200", not_there_yet, NOT_FOUND).then(STORED).holds(b"at last").asks(1).at_once(),
        Fault::new("410", failing(410, ""), NOT_FOUND).asks(1).at_once(),
        Fault::new("403", failing(403, ""), DENIED).asks(1).at_once(),
        Fault::new("206", failing(206, ""), DENIED).asks(1).at_once(),
        Fault::new("304", Host::saying("HTTP/1.1 304 No\r\n\r\n"), DENIED).asks(1).at_once(),
    ];
    let rows: [(u16, [&'static str; 3]); 4] = [
        (408, ["408", "408, Retry-After: 1, 200", "408, Retry-After: 9"]),
        (429, ["429", "429, Retry-After: 1, 200", "429, Retry-After: 9"]),
        (500, ["500", "500, Retry-After: 1, 200", "500, Retry-After: 9"]),
        (503, ["503", "503, Retry-After: 1, 200", "503, Retry-After: 9"]),
    ];
    for (status, [alone, waits, gives_up]) in rows {
        faults.push(Fault::new(alone, failing(status, ""), UNAVAILABLE).asks(ATTEMPTS));
        let soon = first_of_two(status, "Retry-After: 1\r\n");
        faults.push(Fault::new(waits, soon, STORED).holds(b"at last").asks(2));
        // Of those that come meanwhile the host is asked nothing.
        faults.push(Fault::new(gives_up, failing(status, "Retry-After: 9\r\n"), UNAVAILABLE).at_once());
    }
    faults
}
