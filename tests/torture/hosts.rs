//! A blob host that hangs while its events keep coming, beside one that is well: only the events of the first may notice.
//! They fail at once when it is known to hang, and are carried out again soon after it is back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::beside::{Beside, compare};
use super::site::{Plot, SECOND, Site, rests};
use super::support::{Blob, BlobServer, HungHosts, Redis, Wire, eventually, set_blob};
use super::tally::Row;

const PER_HOST: usize = 16;
/// Clients of the host that hangs: more than may ask it at once.
const CLIENTS: usize = 40;
const ATTEMPT: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(10);
/// Known to hang, an attempt after the first event.
const KNOWN: Duration = Duration::from_secs(4);
const FAST: Duration = Duration::from_secs(1);
const RECOVERY: Duration = Duration::from_secs(2);
/// It is watched so long after it is back.
const AFTER: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(200);

/// Hosts that answer nothing, each with one event under way.
const HUNG_HOSTS: usize = 10_000;
/// From the first connection of theirs until the others are measured.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// A host that was never asked has its turn within this, while they wait.
const NEW_HOST: Duration = Duration::from_secs(2);

/// One event of the host that hangs.
struct Post {
    at: Instant,
    took: Duration,
    status: Option<u16>,
}

/// The host, which may hang: what it was asked while it did is never answered.
struct Hung {
    host: BlobServer,
    hangs: Arc<AtomicBool>,
    next: AtomicU64,
}

pub fn hung_host(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| {
        daemon
            .set("fetch.per_host", PER_HOST)
            .set("fetch.timeout_ms", ATTEMPT.as_millis())
            .set("fetch.deadline_ms", DEADLINE.as_millis())
    });
    let (hung, beside) = (Hung::start(), Beside::on(&site));
    let time = extent.pick(6 * SECOND, 10 * SECOND);
    let mut row = Row { name: "hung-host".to_owned(), ..Row::default() };
    beside.measure(&site, SECOND);
    compare(&mut row, "the host that hangs", |row| {
        let calm = beside.measure(&site, time);
        row.rounds += 1;
        let during = hung.beside(&site, &beside, time, row);
        [calm, during]
    });
    beside.judge(&site, &mut row);
    rests(&site.daemon, &mut row);
    row
}

/// Any number of hosts that answer nothing, beside one that is well and some that are new: these have their turn soon.
pub fn hung_hosts(extent: &Extent) -> Row {
    let hung = HungHosts::start(HUNG_HOSTS);
    let site = Plot::on(Redis::start()).start(|daemon| daemon.set("fetch.allowed_hosts", hung.allowed()));
    let beside = Beside::on(&site);
    let time = extent.pick(6 * SECOND, 10 * SECOND);
    let mut row = Row { name: "hung-hosts".to_owned(), ..Row::default() };
    beside.measure(&site, SECOND);
    compare(&mut row, "the hosts that hang", |row| {
        let calm = beside.measure(&site, time);
        row.rounds += 1;
        thread::scope(|scope| {
            let before = hung.connections();
            let posted = scope.spawn(|| site.daemon.post_ndjson(&hung.events(0..HUNG_HOSTS)));
            let are_asked = eventually(5 * SECOND, || hung.connections() > before);
            row.expect(are_asked, || "the hosts that hang were not asked".to_owned());
            thread::sleep(UNDER_WAY);
            let during = beside.measure(&site, time);
            let slowest = (0..5).map(|_| new_host(&site)).max().unwrap_or_default();
            row.note(format!("{HUNG_HOSTS} hosts hang; new hosts had their blob after {slowest:?} at most"));
            row.expect(slowest < NEW_HOST, || format!("a host that was never asked had its turn after {slowest:?}"));
            row.expect(!posted.is_finished(), || "the hosts that hang were done with".to_owned());
            let answer = posted.join().expect("no panic").json();
            let unavailable = &answer["counts"]["unavailable"];
            row.expect(*unavailable == HUNG_HOSTS, || format!("of the hosts that hang {unavailable} were unavailable"));
            [calm, during]
        })
    });
    beside.judge(&site, &mut row);
    rests(&site.daemon, &mut row);
    row
}

/// How long a blob of a host takes that was never asked.
fn new_host(site: &Site) -> Duration {
    let host = BlobServer::start();
    host.put("/b", Blob::bytes("new"));
    let begun = Instant::now();
    let answer = site.daemon.post(&set_blob("new", &host.url("/b")));
    if answer.status == 200 { begun.elapsed() } else { Duration::MAX }
}

impl Hung {
    fn start() -> Self {
        let (host, hangs) = (BlobServer::start(), Arc::new(AtomicBool::new(false)));
        let state = hangs.clone();
        host.fallback(move |target| match state.load(Relaxed) {
            true => Some(Blob::hang()),
            false => Some(Blob::bytes(format!("{}:blob", target.trim_start_matches('/')))),
        });
        Hung { host, hangs, next: AtomicU64::new(0) }
    }

    /// It hangs for so long and is back then, while its events keep coming; what the others saw in the meantime.
    fn beside(&self, site: &Site, beside: &Beside, time: Duration, row: &mut Row) -> super::beside::Phase {
        let (posts, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        self.hangs.store(true, Relaxed);
        let hung_at = Instant::now();
        let (during, back_at) = thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (posts, stop) = (&posts, &stop);
                scope.spawn(move || self.keep_posting(site, beside, client, posts, stop));
            }
            let hangs = eventually(5 * SECOND, || self.host.running() >= PER_HOST.min(CLIENTS));
            row.expect(hangs, || format!("the host has only {} requests", self.host.running()));
            let during = beside.measure(site, time);
            let back_at = Instant::now();
            self.hangs.store(false, Relaxed);
            thread::sleep(AFTER);
            stop.store(true, Relaxed);
            (during, back_at)
        });
        judge(&posts.into_inner().expect("no panic"), hung_at, back_at, row);
        during
    }

    fn keep_posting(&self, site: &Site, beside: &Beside, client: usize, posts: &Mutex<Vec<Post>>, stop: &AtomicBool) {
        let (key, mut wire) = (format!("h:{client}"), Wire::open(site.daemon.address()));
        while !stop.load(Relaxed) {
            let number = self.next.fetch_add(1, Relaxed);
            let event = set_blob(&key, &self.host.url(&format!("/{number}"))).to_string();
            let at = Instant::now();
            beside.note_sent();
            wire.send_request("POST", "/events", &[("Content-Type", "application/json")], event.as_bytes());
            let status = wire.try_answer(false).ok().map(|answer| answer.status);
            if status == Some(200) {
                beside.acknowledge(key.clone(), number);
            }
            posts.lock().expect("no panic").push(Post { at, took: at.elapsed(), status });
            thread::sleep(PAUSE);
        }
    }
}

fn judge(posts: &[Post], hung_at: Instant, back_at: Instant, row: &mut Row) {
    let known = hung_at + KNOWN;
    let while_known = || posts.iter().filter(|post| post.at >= known && post.at < back_at);
    let slow = while_known().filter(|post| post.took > FAST).count();
    // What goes there to see whether it answers again.
    let probes = back_at.duration_since(known).as_secs() as usize + 1;
    let back = posts.iter().filter(|post| post.at > back_at && post.status == Some(200));
    let first = back.map(|post| (post.at + post.took).duration_since(back_at)).min();
    let since = |post: &&Post| post.at >= back_at + RECOVERY;
    let failing = posts.iter().filter(since).filter(|post| post.status != Some(200)).count();
    let served = posts.iter().filter(since).count() - failing;
    row.note(format!(
        "known to hang: {} events failed, {slow} slowly ({probes} probes allowed); back: the first stored after {first:?}, \
         from {RECOVERY:?} on {served} were and {failing} were not",
        while_known().count()
    ));
    row.expect(while_known().count() > 10 * probes, || "too few events while it was known to hang".to_owned());
    row.expect(slow <= probes, || format!("{slow} events of a host known to hang took more than {FAST:?}"));
    row.expect(first.is_some_and(|first| first <= RECOVERY), || {
        format!("the first was stored {first:?} after its return")
    });
    row.expect(failing == 0 && served > 0, || format!("{failing} failed later than {RECOVERY:?} after its return"));
    let wrong = posts.iter().filter(|post| ![Some(200), Some(503)].contains(&post.status)).count();
    row.expect(wrong == 0, || format!("{wrong} events of the host that hangs had neither 200 nor 503"));
    let late = posts.iter().filter(|post| post.took > DEADLINE + FAST).count();
    row.late += late as u64;
}
