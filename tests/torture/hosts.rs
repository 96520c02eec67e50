//! A blob host that hangs beside one that is well: only the events of the first may notice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::overload::p99;
use super::site::{Plot, SECOND, Site, rests};
use super::support::{Blob, BlobServer, Redis, Wire, eventually, set_blob, set_inline};
use super::tally::Row;

/// More at once than `fetch.per_host`.
const HANGING: usize = 100;
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
const TIMES: f64 = 1.5;
/// A debug build on a machine that others use too.
const NOISE: Duration = Duration::from_millis(10);

/// Latencies of inline events and of the well host's blobs.
#[derive(Default)]
struct Seen([Mutex<Vec<Duration>>; 2]);

pub fn blob_hosts(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| daemon);
    let hung = BlobServer::start();
    hung.fallback(|_| Some(Blob::hang()));
    site.blobs.fallback(|_| Some(Blob::bytes("blob")));
    let time = extent.pick(3 * SECOND, 15 * SECOND);
    let (errors, unheard) = (AtomicU64::new(0), AtomicU64::new(0));
    measure(&site, SECOND, &errors);
    let calm = measure(&site, time, &errors);
    let stop = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        for client in 0..HANGING {
            let (site, hung, stop, unheard) = (&site, &hung, &stop, &unheard);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let event = set_blob(&format!("h:{client}"), &hung.url(&format!("/{client}/{number}")));
                    let status = post(&mut Wire::open(site.daemon.address()), &event.to_string());
                    unheard.fetch_add(u64::from(status != Some(503)), Relaxed);
                    thread::sleep(SECOND);
                }
            });
        }
        assert!(eventually(5 * SECOND, || hung.running() > 10), "the host does not hang");
        let during = measure(&site, time, &errors);
        stop.store(true, Relaxed);
        during
    });
    judge(&site, &errors, &unheard, [calm, during])
}

fn judge(site: &Site, errors: &AtomicU64, unheard: &AtomicU64, [calm, during]: [Seen; 2]) -> Row {
    let mut row = Row { name: "blob-hosts".to_owned(), rounds: 1, ..Row::default() };
    for (kind, (calm, during)) in ["inline", "blob"].into_iter().zip(calm.0.into_iter().zip(during.0)) {
        let [calm, during] = [calm, during].map(|list| list.into_inner().expect("no panic"));
        row.sent += during.len() as u64;
        let (before, with) = (p99(&calm), p99(&during));
        row.note(format!("{kind}: p99 {before:?} before, {with:?} beside the host that hangs"));
        row.expect(with <= before.mul_f64(TIMES) + NOISE, || format!("{kind}: p99 rose from {before:?} to {with:?}"));
    }
    let errors = errors.load(Relaxed);
    row.acknowledged = row.sent.saturating_sub(errors);
    row.applied = row.acknowledged;
    row.expect(errors == 0, || format!("{errors} events beside the host that hangs were not carried out"));
    let unheard = unheard.load(Relaxed);
    row.expect(unheard == 0, || format!("{unheard} events of the host that hangs were not answered 503"));
    rests(&site.daemon, &mut row);
    row
}

fn measure(site: &Site, time: Duration, errors: &AtomicU64) -> Seen {
    let (seen, begin) = (Seen::default(), Instant::now());
    thread::scope(|scope| {
        for client in 0..2 * CLIENTS {
            let list = &seen.0[client % 2];
            scope.spawn(move || {
                let mut wire = Wire::open(site.daemon.address());
                for number in 0.. {
                    if begin.elapsed() >= time {
                        return;
                    }
                    let key = format!("w:{client}:{}", number % 10);
                    let event = match client % 2 {
                        0 => set_inline(&key, "v"),
                        _ => set_blob(&key, &site.blobs.url(&format!("/{number}"))),
                    };
                    let posted = Instant::now();
                    let status = post(&mut wire, &event.to_string());
                    list.lock().expect("no panic").push(posted.elapsed());
                    errors.fetch_add(u64::from(status != Some(200)), Relaxed);
                    thread::sleep(PAUSE);
                }
            });
        }
    });
    seen
}

fn post(wire: &mut Wire, body: &str) -> Option<u16> {
    wire.send_request("POST", "/events", &[("Content-Type", "application/json")], body.as_bytes());
    wire.try_answer(false).ok().map(|answer| answer.status)
}
