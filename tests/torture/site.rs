//! A Redis, a service and a blob server for one scenario, and what must hold of them after every one.

use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::load::{Load, Plan, under_load};
use super::proxy::Proxy;
use super::support::{BlobServer, Builder, Daemon, Random, Redis, eventually, free_port, ndjson, set_inline};
use super::tally::Row;

pub const SECOND: Duration = Duration::from_secs(1);
/// Full service again, once Redis is back.
const RECOVERY: Duration = Duration::from_secs(2);
/// The load is under way once so many writes were acknowledged.
pub const UNDER_WAY: u64 = 100;
/// Probes go to so many keys: enough to meet every writer.
const PROBES: usize = 32;

/// Builds a site.
pub struct Plot {
    redis: Redis,
    retry: Duration,
    response: Duration,
    proxied: bool,
}

pub struct Site {
    pub redis: Redis,
    pub daemon: Daemon,
    pub blobs: BlobServer,
    pub proxy: Option<Proxy>,
    port: u16,
    retry: Duration,
    /// So late may come what the proxy holds back.
    ghosts: Option<Duration>,
}

/// What a scenario has at hand while the clients are at work.
pub struct Strike<'a> {
    pub redis: &'a mut Redis,
    pub proxy: Option<&'a Proxy>,
    pub load: &'a Load<'a>,
    pub random: Random,
}

/// A daemon that comes back on the port it had.
pub fn service(port: u16, redis: u16) -> Builder {
    let builder = Daemon::builder().set("port", port).set("log_level", "warn");
    builder.set("redis.host", "127.0.0.1").set("redis.port", redis)
}

impl Plot {
    /// With the service's own defaults for waiting.
    pub fn on(redis: Redis) -> Self {
        Plot { redis, retry: 5 * SECOND, response: 2 * SECOND, proxied: false }
    }

    /// With waits short enough that giving up is part of the scenario.
    pub fn impatient(self) -> Self {
        Plot { retry: SECOND, response: Duration::from_millis(400), ..self }
    }

    /// With a proxy between the service and Redis.
    pub fn proxied(self) -> Self {
        Plot { proxied: true, ..self }
    }

    pub fn start(self, more: impl FnOnce(Builder) -> Builder) -> Site {
        let proxy = self.proxied.then(|| Proxy::start(self.redis.port()));
        let port = free_port();
        let builder = service(port, proxy.as_ref().map_or(self.redis.port(), Proxy::port))
            .set("redis.retry_ms", self.retry.as_millis())
            .set("redis.response_timeout_ms", self.response.as_millis());
        let daemon = more(builder).start();
        Site { redis: self.redis, daemon, blobs: BlobServer::start(), proxy, port, retry: self.retry, ghosts: None }
    }
}

impl Site {
    pub fn plan(&self, extent: &Extent) -> Plan {
        let limit = self.retry + SECOND;
        let plan = Plan { limit, ..Plan::of(extent.seed, self.port, self.redis.port()) };
        match self.ghosts {
            Some(late) => plan.looks_for_ghosts(late),
            None => plan,
        }
    }

    /// Something is held back, and delivered so late.
    pub fn haunted(self, late: Duration) -> Self {
        Site { ghosts: Some(late), ..self }
    }

    /// Strikes `rounds` times under load; after each the service must be back in time.
    pub fn struck(
        mut self,
        name: &str,
        extent: &Extent,
        rounds: usize,
        mut strike: impl FnMut(&mut Strike, usize),
    ) -> Row {
        let (plan, daemon, redis) = (self.plan(extent), &self.daemon, &mut self.redis);
        let random = Random::seeded(extent.seed);
        let mut slowest = Duration::ZERO;
        let tally = under_load(plan, Some(&self.blobs), |load| {
            let mut at_hand = Strike { redis, proxy: self.proxy.as_ref(), load, random };
            for round in 0..rounds {
                load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
                thread::sleep(at_hand.some_time(1, 100));
                strike(&mut at_hand, round);
                let begin = Instant::now();
                if !eventually(RECOVERY, || serves(daemon)) {
                    load.tally.complain(|| format!("no full service {RECOVERY:?} after the end of round {round}"));
                }
                slowest = slowest.max(begin.elapsed());
            }
            load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
        });
        let mut row = tally.into_row(name, rounds).all_answered();
        row.note(format!("full service again after {} ms at most", slowest.as_millis()));
        rests(&self.daemon, &mut row);
        let restarts = self.daemon.metric("cache_sync_actor_restarts_total", &[]);
        row.expect(restarts == 0.0, || format!("{restarts} actors were restarted, and nothing made them panic"));
        row
    }
}

impl Strike<'_> {
    /// A time between the two, by the seed.
    pub fn some_time(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.random.below(most_ms - least_ms))
    }
}

/// Everything is well at this moment: events on keys of every writer are carried out.
fn serves(daemon: &Daemon) -> bool {
    let events: Vec<_> = (0..PROBES).map(|probe| set_inline(&format!("probe:{probe}"), "v")).collect();
    daemon.post_ndjson(&ndjson(&events)).status == 200 && daemon.get("/ready").status == 200
}

/// With nobody asking, nothing is held.
pub fn rests(daemon: &Daemon, row: &mut Row) {
    let held = || ["events", "bytes"].map(|what| daemon.metric(&format!("cache_sync_admission_{what}"), &[]));
    let home = eventually(5 * SECOND, || held() == [0.0, 0.0]);
    row.expect(home, || format!("admission still holds {:?} (events, bytes)", held()));
    let live = daemon.get("/live").status;
    row.expect(live == 200, || format!("/live answers {live}"));
}
