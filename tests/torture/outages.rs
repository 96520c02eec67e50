//! Redis stopped, killed, emptied, closing its connections, refusing and slow.

use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::site::{Plot, SECOND};
use super::support::{Redis, closed_port};
use super::tally::Row;

/// SIGSTOP: sockets stay open and nothing answers.
pub fn stop(extent: &Extent) -> Row {
    let lengths = extent.pick(&[1][..], &[1, 5, 30]);
    let site = Plot::on(Redis::start()).start(|daemon| daemon);
    site.struck("redis-stop", extent, lengths.len(), |strike, round| {
        strike.redis.pause();
        thread::sleep(Duration::from_secs(lengths[round]));
        strike.redis.resume();
    })
}

/// Killed and started again with what it had acknowledged.
pub fn kill(extent: &Extent) -> Row {
    let site = Plot::on(Redis::durable()).impatient().start(|daemon| daemon);
    site.struck("redis-kill", extent, extent.pick_of(2, 20, 100), |strike, _| {
        strike.redis.kill();
        thread::sleep(strike.some_time(0, 1500));
        strike.redis.restart();
    })
}

/// Killed and started again with nothing.
pub fn empty(extent: &Extent) -> Row {
    let site = Plot::on(Redis::durable()).impatient().start(|daemon| daemon);
    site.struck("redis-empty", extent, extent.pick(1, 10), |strike, _| {
        strike.redis.kill();
        strike.load.ledger.void();
        strike.redis.forget();
        strike.redis.restart();
    })
}

/// Its connections are closed from the other side, again and again.
pub fn client_kill(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).impatient().start(|daemon| daemon);
    site.struck("client-kill", extent, extent.pick(1, 5), |strike, _| {
        let end = Instant::now() + 2 * SECOND;
        while Instant::now() < end {
            kill_connections(strike.redis);
            thread::sleep(strike.some_time(1, 40));
        }
    })
}

/// A replica of nobody: writes are refused, reads are not.
pub fn readonly(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).impatient().start(|daemon| daemon);
    let nobody = closed_port().to_string();
    site.struck("readonly", extent, extent.pick(1, 5), |strike, _| {
        for (host, port) in [("127.0.0.1", nobody.as_str()), ("NO", "ONE")] {
            redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut strike.redis.conn()).expect("REPLICAOF");
            if host != "NO" {
                thread::sleep(strike.some_time(200, 2000));
            }
        }
    })
}

/// No memory for writes for a while.
pub fn oom(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).impatient().start(|daemon| daemon);
    site.struck("oom", extent, extent.pick(1, 5), |strike, _| {
        configure(strike.redis, "maxmemory-policy", "noeviction");
        configure(strike.redis, "maxmemory", "1");
        thread::sleep(strike.some_time(200, 2000));
        configure(strike.redis, "maxmemory", "0");
    })
}

/// Half a second of work in which nothing else is done, again and again.
pub fn slow(extent: &Extent) -> Row {
    let busy = "local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end \
                local e = now() + 500 while now() < e do end";
    let site = Plot::on(Redis::start()).start(|daemon| daemon);
    site.struck("slow", extent, extent.pick(1, 3), |strike, _| {
        for _ in 0..4 {
            redis::cmd("EVAL").arg(busy).arg(0).exec(&mut strike.redis.conn()).expect("EVAL");
            thread::sleep(strike.some_time(1, 100));
        }
    })
}

/// Another password than the service has, and its connections closed so that it notices.
pub fn password(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).impatient().start(|daemon| daemon);
    site.struck("password", extent, extent.pick(1, 5), |strike, _| {
        let mut connection = strike.redis.conn();
        let mut set = |password: &str| {
            redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).exec(&mut connection).expect("CONFIG SET");
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut connection).expect("CLIENT KILL");
        };
        set("another");
        let time = strike.some_time(200, 2000);
        thread::sleep(time);
        set("");
    })
}

fn kill_connections(redis: &Redis) {
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut redis.conn()).expect("CLIENT KILL");
}

fn configure(redis: &Redis, name: &str, value: &str) {
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut redis.conn()).expect("CONFIG SET");
}
