//! Load from several clients while a scenario breaks something, a watcher that reads Redis behind the service's back, and
//! the judgement at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::ledger::{Found, Ledger, Verdict, read};
use super::support::{Blob, BlobServer, eventually};
use super::tally::Tally;

/// So long may clients try to settle what is left when the scenario has done its worst.
const SETTLING: Duration = Duration::from_secs(45);
/// The watcher looks so long after the last answer.
const AFTERMATH: Duration = Duration::from_millis(300);
const WATCH: Duration = Duration::from_millis(10);

/// What load a scenario wants.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// The service's port, which stays over its restarts.
    pub service: u16,
    /// Redis itself, with no proxy before it.
    pub redis: u16,
    pub clients: usize,
    pub keys_each: usize,
    /// Operations of one request at most.
    pub batch: u64,
    /// What takes longer is late.
    pub limit: Duration,
    /// A `Retry-After` is honoured so far.
    pub patience: Duration,
    /// What is still under way somewhere may come so long after the last answer.
    pub aftermath: Duration,
}

impl Plan {
    /// The usual load, and as much patience as the service's own defaults take.
    pub fn of(seed: u64, service: u16, redis: u16) -> Self {
        let (limit, patience) = (Duration::from_secs(6), Duration::from_secs(1));
        let aftermath = AFTERMATH;
        Plan { seed, service, redis, clients: 6, keys_each: 8, batch: 15, limit, patience, aftermath }
    }

    /// Asks again sooner, so that more rounds fit the time.
    pub fn impatient(self) -> Self {
        Plan { patience: Duration::from_millis(200), ..self }
    }

    /// To see a write that comes `late`: by then there are newer ones, on so many keys that none is overwritten at once.
    pub fn looks_for_ghosts(self, late: Duration) -> Self {
        Plan { keys_each: 40, aftermath: AFTERMATH + late, ..self.impatient() }
    }
}

pub struct Load<'a> {
    pub plan: Plan,
    pub address: SocketAddr,
    pub blobs: Option<&'a BlobServer>,
    pub ledger: Ledger,
    pub tally: Tally,
    stopped: AtomicBool,
    stopped_at: Mutex<Option<Instant>>,
    watched: AtomicBool,
}

/// Runs the clients while `during` breaks things; what they saw, judged.
pub fn under_load(plan: Plan, blobs: Option<&BlobServer>, during: impl FnOnce(&Load)) -> Tally {
    if let Some(blobs) = blobs {
        blobs.fallback(|target| Some(Blob::bytes(format!("{}:blob", target.trim_start_matches('/')))));
    }
    let load = Load {
        plan,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, plan.service)),
        blobs,
        ledger: Ledger::new(plan.clients, plan.keys_each),
        tally: Tally::default(),
        stopped: AtomicBool::new(false),
        stopped_at: Mutex::new(None),
        watched: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        // Whatever panics here must not leave the others running, or the scope never ends.
        let _watcher_ends = Ending(&load.watched);
        let load = &load;
        scope.spawn(move || load.watch());
        let clients = thread::scope(|scope| {
            let _clients_end = Ending(&load.stopped);
            let clients: Vec<_> =
                (0..plan.clients).map(|number| scope.spawn(move || Client::new(load, number).run())).collect();
            during(load);
            load.stop();
            clients.into_iter().map(|client| client.join().is_ok()).collect::<Vec<_>>()
        });
        if clients.contains(&false) {
            load.tally.complain(|| "a client panicked".to_owned());
        }
        thread::sleep(plan.aftermath);
    });
    load.close();
    load.tally
}

impl Load<'_> {
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub fn is_given_up(&self) -> bool {
        self.stopped_at().is_some_and(|at| at.elapsed() > SETTLING)
    }

    /// Waits until so many more writes were acknowledged: the service is at work. Complains if that takes too long.
    pub fn wait_acknowledged(&self, more: u64, limit: Duration) {
        let goal = self.tally.acknowledged.load(Relaxed) + more;
        if !eventually(limit, || self.tally.acknowledged.load(Relaxed) >= goal) {
            self.tally.complain(|| format!("less than {more} writes were acknowledged within {limit:?}"));
        }
    }

    fn stop(&self) {
        *self.stopped_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
        self.stopped.store(true, Relaxed);
    }

    fn stopped_at(&self) -> Option<Instant> {
        *self.stopped_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads all keys again and again: no number may fall below what was acknowledged before the read.
    fn watch(&self) {
        let mut connection = None;
        let mut known = vec![Verdict::Right(0); self.ledger.len()];
        while !self.watched.load(Relaxed) {
            thread::sleep(WATCH);
            for (key, (floor, found)) in self.read_all(&mut connection).into_iter().enumerate() {
                let verdict = self.ledger.judge(key, floor, found);
                if !matches!(verdict, Verdict::Right(_)) && verdict != known[key] {
                    self.tally.out_of_order.fetch_add(1, Relaxed);
                    self.tally.complain(|| {
                        format!("{} seen as {found:?} after {floor} was acknowledged", self.ledger.name(key))
                    });
                }
                known[key] = verdict;
            }
        }
    }

    /// All keys with what was acknowledged before they were read; nothing if Redis does not answer.
    fn read_all(&self, connection: &mut Option<redis::Connection>) -> Vec<(u64, Found)> {
        let floors: Vec<u64> = (0..self.ledger.len()).map(|key| self.ledger.floor(key)).collect();
        if connection.is_none() {
            *connection = self.connect();
        }
        let names: Vec<String> = (0..self.ledger.len()).map(|key| self.ledger.name(key)).collect();
        let values = connection.as_mut().and_then(|connection| {
            let values: Option<Vec<Option<Vec<u8>>>> = redis::cmd("MGET").arg(names).query(connection).ok();
            values
        });
        let Some(values) = values else {
            *connection = None;
            return Vec::new();
        };
        floors.into_iter().zip(values.iter().map(|value| read(value.as_deref()))).collect()
    }

    fn connect(&self) -> Option<redis::Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.plan.redis)).ok()?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        Some(connection)
    }

    /// What every key holds in the end, against what was acknowledged.
    fn close(&self) {
        let held = self.read_all(&mut None);
        if held.is_empty() {
            self.tally.complain(|| "Redis could not be read in the end".to_owned());
        }
        for (key, (floor, found)) in held.into_iter().enumerate() {
            let (counter, count) = match self.ledger.judge(key, floor, found) {
                Verdict::Right(number) => (&self.tally.applied, number),
                Verdict::Lost(count) => (&self.tally.lost, count),
                Verdict::OutOfOrder => (&self.tally.out_of_order, 1),
                Verdict::Foreign => {
                    self.tally.complain(|| format!("{} holds {found:?}", self.ledger.name(key)));
                    continue;
                }
            };
            Tally::add(counter, count);
        }
    }
}

/// Raises a flag at the end of a scope, however it ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
