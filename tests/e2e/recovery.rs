//! After an outage, and while only some of it is over: what is refused, and that nothing of it stays.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::faulty_way::{Fault, Proxy, Way};
use crate::support::{
    Daemon, Redis, closed_port, delete_pattern, eventually, ndjson, problem_type, results, set_inline,
};

const SECOND: Duration = Duration::from_secs(1);

/// A long way, one writer, more waiting than it gets through, and an outage as long as operations are tried: what waits expires
/// in whatever way, and once Redis is back nobody is refused for it.
#[test]
fn the_door_opens_again_after_an_outage_however_what_waited_has_ended() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let daemon = Daemon::builder().set("redis.host", "127.0.0.1").set("redis.port", proxy.port());
    let daemon = daemon.set("redis.pool_size", 1).set("redis.retry_ms", 1030).start();
    let ways = [Way::ToRedis, Way::ToService];
    let set = |fault: Fault| ways.iter().for_each(|way| proxy.set(*way, fault));
    let far = Fault::Delay(Duration::from_millis(25));
    let events: Vec<_> = (0..10_000).map(|n| set_inline(&format!("k{n}"), "v")).collect();
    let batch = ndjson(&events);
    set(far);
    for (round, fault) in
        [Fault::BlackHole, Fault::Reset, Fault::BlackHole, Fault::Reset, Fault::BlackHole].into_iter().enumerate()
    {
        thread::scope(|scope| {
            let sent = scope.spawn(|| daemon.post_ndjson(&batch).status);
            let is_begun = || redis.calls("mset") > 0;
            assert!(eventually(10 * SECOND, is_begun), "round {round}: nothing was written");
            redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut redis.conn()).expect("RESETSTAT");
            set(fault);
            let status = sent.join().expect("an answer");
            assert_eq!(status, 503, "round {round}: the outage came too late");
        });
        set(far);
        let back = Instant::now();
        let opens = || daemon.post(&set_inline("after", &round.to_string())).status == 200;
        assert!(eventually(6 * SECOND, opens), "round {round}: {}", daemon.post(&set_inline("after", "x")).text());
        println!("round {round}: served again {:?} after {fault:?}", back.elapsed());
        assert!(eventually(6 * SECOND, || daemon.get("/ready").status == 200));
    }
}

/// A replica answers pings and takes no writes. The first request shows that; those that come rarely after it are not tried
/// for as long again.
#[test]
fn a_redis_that_takes_no_writes_is_known_to_be_down_however_rare_requests_are() {
    let redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 1000).set("redis.pool_size", 1).start();
    let replica_of = |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut redis.conn()).expect("REPLICAOF");
    };
    replica_of("127.0.0.1", &closed_port().to_string());
    let timed = || {
        let begun = Instant::now();
        let answer = daemon.post(&set_inline("k", "v"));
        assert_eq!(answer.status, 503, "{}", answer.text());
        begun.elapsed()
    };
    assert!(timed() > SECOND / 2, "it was not tried");
    for _ in 0..2 {
        let pings = redis.calls("ping");
        assert!(eventually(10 * SECOND, || redis.calls("ping") > pings + 4), "no pings");
        let took = timed();
        assert!(took < SECOND / 2, "it was tried for {took:?}, and it is known that Redis takes no writes");
    }
    replica_of("NO", "ONE");
    assert!(eventually(10 * SECOND, || daemon.post(&set_inline("k", "v")).status == 200));
}

#[test]
fn a_forbidden_key_among_those_of_a_pattern_is_told_and_the_others_are_deleted() {
    let redis = Redis::start();
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "sync", "on", ">pw", "~s:open:*", "~rcs:v:*", "+@all"]);
    user.exec(&mut redis.conn()).expect("ACL SETUSER");
    let daemon = Daemon::builder().redis(&redis).set("redis.username", "sync").set("redis.password", "pw").start();
    for key in (0..300).map(|n| format!("s:open:{n}")).chain(["s:closed".to_owned()]) {
        redis.put(&key, b"v");
    }
    let result = results(&daemon.post(&delete_pattern(json!("s:*"))), 422, "rejected").remove(0);
    assert_eq!((&result["matched"], &result["deleted"]), (&json!(301), &json!(300)), "{result}");
    assert_eq!(problem_type(&result["problem"]), "cache-refused", "{result}");
    assert_eq!(redis.key_count(), 1);
    assert!(redis.exists("s:closed"));
}
