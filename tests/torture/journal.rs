//! The journal: replicas that share it are killed, stopped and cut off, and its Redis dies. What was accepted is applied in its
//! order all the same: the state at the end is that of a model.

use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::proxy::{Fault, Proxy, RETRANSMISSION, Way};
use super::site::SECOND;
use super::support::journaled::{Accepted, Sending, differences, stored, while_accepting};
use super::support::{Builder, Daemon, PATIENCE, Random, Redis, eventually, free_port, signal};
use super::tally::Row;

const REPLICAS: usize = 3;
const SENDERS: u64 = 4;
/// Accepted requests between two faults.
const BETWEEN: u64 = 20;
/// Accepted requests after the last fault: few, so that they do not cover up what it left behind.
const AFTER: u64 = 4;
/// Requests that wait for the cache when the one that feeds is struck: more than one batch of its writers.
const IN_PROGRESS: u64 = 15;
/// After that a hole has brought all that it held back.
const HELD_BACK: Duration = RETRANSMISSION.saturating_add(Duration::from_millis(100));
/// Milliseconds that a write is tried.
const RETRY: u64 = 1000;
/// Another goes on within that time.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// Replicas before one cache and one journal.
struct Replicas {
    cache: Redis,
    journal: Redis,
    daemons: Vec<Daemon>,
    ports: Vec<u16>,
    /// Of each, before the cache and before the journal.
    networks: Vec<[Proxy; 2]>,
    /// Milliseconds that a write is tried.
    retry: u64,
    random: Random,
    notes: Vec<String>,
}

impl Replicas {
    fn start(extent: &Extent, journal: Redis, proxied: bool, retry: u64) -> Self {
        let cache = Redis::start();
        let ports: Vec<u16> = (0..REPLICAS).map(|_| free_port()).collect();
        let network = |_: &u16| [Proxy::start(cache.port()), Proxy::start(journal.port())];
        let networks = if proxied { ports.iter().map(network).collect() } else { Vec::new() };
        let random = Random::seeded(extent.seed);
        let (daemons, notes) = (Vec::new(), Vec::new());
        let mut replicas = Replicas { cache, journal, daemons, ports, networks, retry, random, notes };
        replicas.daemons = (0..REPLICAS).map(|number| replicas.builder(number).start()).collect();
        replicas
    }

    fn builder(&self, number: usize) -> Builder {
        let [cache, journal] = match self.networks.get(number) {
            Some(networks) => networks.each_ref().map(Proxy::port),
            None => [self.cache.port(), self.journal.port()],
        };
        let builder = Daemon::builder().set("port", self.ports[number]).set("log_level", "warn");
        let builder = builder.set("redis.host", "127.0.0.1").set("redis.port", cache);
        let builder = builder.set("redis.response_timeout_ms", 400).set("redis.retry_ms", self.retry);
        let builder = builder.set("event.deadline_ms", self.retry.max(14_000) * 2);
        builder.set("journal.url", format!("redis://127.0.0.1:{journal}/0"))
    }

    /// The one that has the lease; waits for it.
    fn holder(&self) -> usize {
        let holds = |daemon: &Daemon| {
            let metrics = daemon.try_get("/metrics").map(|answer| answer.text()).unwrap_or_default();
            metrics.lines().any(|line| line.starts_with("cache_sync_journal_lease") && line.ends_with(" 1"))
        };
        let found = || self.daemons.iter().position(holds);
        assert!(eventually(PATIENCE, || found().is_some()), "nobody has the lease");
        found().unwrap_or(0)
    }

    /// Signals the one that feeds while it has work in progress: the cache answers nothing until then.
    fn signal_at_work(&mut self, sending: &Sending, name: &str) -> usize {
        let victim = self.holder();
        self.cache.pause();
        sending.go_on(IN_PROGRESS);
        signal(self.daemons[victim].pid(), name);
        self.cache.resume();
        victim
    }

    /// The faults, `rounds` of them, under load; then the state at the end.
    fn struck(mut self, name: &str, seed: u64, rounds: usize, strike: impl Fn(&mut Self, &Sending, usize)) -> Row {
        let ports = self.ports.clone();
        let accepted = while_accepting(&ports, SENDERS, seed, |sending| {
            for round in 0..rounds {
                sending.go_on(BETWEEN);
                let pause = self.random.below(200);
                thread::sleep(Duration::from_millis(pause));
                strike(&mut self, sending, round);
            }
            sending.go_on(AFTER);
        });
        let row = row(name, rounds, &accepted, (&self.cache, &self.journal));
        self.notes.into_iter().fold(row, |mut row, note| {
            row.note(note);
            row
        })
    }
}

/// Waits until the journal is empty, and compares.
fn row(name: &str, rounds: usize, accepted: &Accepted, (cache, journal): (&Redis, &Redis)) -> Row {
    let begun = Instant::now();
    let left = || redis::cmd("XLEN").arg("rcs:journal").query::<u64>(&mut journal.conn()).unwrap_or(u64::MAX);
    let is_empty = eventually(PATIENCE * 2, || left() == 0);
    let late: u64 = redis::cmd("GET").arg("{rcs:journal}:late").query(&mut journal.conn()).unwrap_or(0);
    let wrong = differences(&accepted.state, &stored(&mut cache.conn()));
    let mut row = Row {
        name: name.to_owned(),
        rounds,
        sent: accepted.events,
        acknowledged: accepted.events,
        applied: accepted.events.saturating_sub(left()),
        lost: wrong.len() as u64,
        ..Row::default()
    };
    row.note(format!(
        "{} requests were sent again, slowest {} ms, empty {} ms after the last, {late} appends were too late",
        accepted.repeated,
        accepted.slowest.as_millis(),
        begun.elapsed().as_millis()
    ));
    row.expect(is_empty, || format!("{} entries are left in the journal", left()));
    row.expect(wrong.is_empty(), || format!("{} keys: {}", wrong.len(), wrong[..wrong.len().min(5)].join("; ")));
    row
}

/// `kill -9` of the one that feeds, and a new one on its port.
pub fn kill(extent: &Extent) -> Row {
    let replicas = Replicas::start(extent, Redis::start(), false, RETRY);
    replicas.struck("journal-kill", extent.seed, extent.pick_of(1, 15, 200), |replicas, sending, _| {
        let victim = replicas.signal_at_work(sending, "KILL");
        replicas.daemons[victim].wait_exit(5 * SECOND);
        replicas.daemons[victim] = replicas.builder(victim).start();
    })
}

/// SIGSTOP of the one that feeds: another takes over, and it writes nothing when it comes back.
pub fn stop(extent: &Extent) -> Row {
    let lengths = extent.pick_of(&[0][..], &[20], &[20, 20, 20]);
    // Else what it has in hand is given up for its age alone.
    let replicas = Replicas::start(extent, Redis::start(), false, 60_000);
    replicas.struck("journal-stop", extent.seed, lengths.len(), |replicas, sending, round| {
        let begun = Instant::now();
        let victim = replicas.signal_at_work(sending, "STOP");
        let epoch = || redis::cmd("GET").arg("{rcs:journal}:epoch").query::<u64>(&mut replicas.journal.conn());
        let before = epoch();
        let is_taken = eventually(TAKEN_OVER, || epoch() != before);
        let took = begun.elapsed();
        thread::sleep((lengths[round] * SECOND).saturating_sub(took));
        // By now what it had in progress is done by another, and more on the same keys.
        sending.go_on(BETWEEN);
        signal(replicas.daemons[victim].pid(), "CONT");
        assert!(is_taken, "nobody took over within {TAKEN_OVER:?}");
        replicas.notes.push(format!("another took over after {} ms", took.as_millis()));
    })
}

/// The one that feeds, or any other, is cut off from the cache, from the journal, or from both, in one direction or the other.
pub fn partitions(extent: &Extent) -> Row {
    let replicas = Replicas::start(extent, Redis::start(), true, RETRY);
    let rounds = extent.pick_of(1, 8, 40);
    replicas.struck("journal-partitions", extent.seed, rounds, |replicas, sending, round| match round {
        0 => replicas.cut_off_for_good(sending),
        _ => replicas.cut_off(round),
    })
}

impl Replicas {
    /// The one that feeds is killed while all that it has sent is still on its way: nobody is there to take that back.
    fn cut_off_for_good(&mut self, sending: &Sending) {
        let victim = self.holder();
        self.networks[victim].iter().for_each(|network| network.set(Way::ToRedis, Fault::BlackHole));
        sending.go_on(BETWEEN);
        signal(self.daemons[victim].pid(), "KILL");
        self.daemons[victim].wait_exit(5 * SECOND);
        self.networks[victim].iter().for_each(|network| network.set(Way::ToRedis, Fault::None));
        let is_over = Instant::now();
        self.daemons[victim] = self.builder(victim).start();
        thread::sleep(HELD_BACK.saturating_sub(is_over.elapsed()));
    }

    fn cut_off(&mut self, round: usize) {
        let victim = if round % 3 == 2 { self.random.below(REPLICAS as u64) as usize } else { self.holder() };
        let (which, fault, way) = (self.random.below(3), self.random.below(3), self.random.below(2));
        let fault = [Fault::BlackHole, Fault::HalfClose, Fault::Reset][fault as usize];
        let way = [Way::ToRedis, Way::ToService][way as usize];
        let time = Duration::from_millis(500 + self.random.below(8000));
        let networks = &self.networks[victim];
        let chosen = networks.iter().enumerate().filter(|(place, _)| which == 2 || which == *place as u64);
        let chosen: Vec<&Proxy> = chosen.map(|(_, network)| network).collect();
        chosen.iter().for_each(|network| network.set(way, fault));
        thread::sleep(time);
        chosen.iter().for_each(|network| network.set(way, Fault::None));
        if fault == Fault::BlackHole {
            thread::sleep(HELD_BACK);
        }
    }
}

/// The journal's Redis is killed; it returns with its append-only file, which is written always.
pub fn redis_kill(extent: &Extent) -> Row {
    let replicas = Replicas::start(extent, Redis::durable(), false, RETRY);
    replicas.struck("journal-redis-kill", extent.seed, extent.pick_of(2, 10, 50), |replicas, _, _| {
        replicas.journal.kill();
        let pause = replicas.random.below(1500);
        thread::sleep(Duration::from_millis(pause));
        replicas.journal.restart();
    })
}
