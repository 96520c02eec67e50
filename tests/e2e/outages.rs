//! Redis going away, hanging and coming back: nobody is left without an answer, and nothing old overwrites newer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lifecycle::assert_not_ready;
use crate::support::{
    Builder, Daemon, Redis, Stage, delete, delete_pattern, eventually, get, ndjson, problem_type, results, set_inline,
};

const SECOND: Duration = Duration::from_secs(1);

/// Posts from several clients until told to stop; every request's time and answer.
fn under_load(daemon: &Daemon, during: impl FnOnce()) -> Vec<(Duration, u16, Value)> {
    let (stop, all) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for client in 0..6 {
            let (stop, all) = (&stop, &all);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let event = if n % 4 == 3 {
                        get(json!(format!("{client}:{n}")))
                    } else {
                        set_inline(&format!("{client}:{n}"), "v")
                    };
                    let begin = Instant::now();
                    let answer = daemon.post(&event);
                    all.lock().unwrap().push((begin.elapsed(), answer.status, answer.json()));
                }
            });
        }
        during();
        stop.store(true, Ordering::Relaxed);
    });
    all.into_inner().unwrap()
}

/// Waits until the load is under way.
fn wait_for_load(daemon: &Daemon) {
    let done = || daemon.metric("cache_sync_events_total", &["type=\"SET\"", "outcome=\"ok\""]) >= 50.0;
    assert!(eventually(10 * SECOND, done), "{:#?}", daemon.metrics());
}

/// The ports of the daemon's connections, by its name for them.
fn daemon_connections(redis: &Redis) -> Vec<u16> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.conn()).expect("CLIENT LIST");
    let ours = list.lines().filter(|line| line.contains("name=redis-cache-sync"));
    ours.filter_map(|line| line.split(" addr=127.0.0.1:").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// Waits until so many events are accepted and not yet done.
fn wait_for_events(daemon: &Daemon, events: u32) {
    let accepted = || daemon.metric("cache_sync_admission_events", &[]) >= f64::from(events);
    assert!(eventually(10 * SECOND, accepted), "{events} events were never in flight");
}

#[track_caller]
fn assert_answered(all: &[(Duration, u16, Value)], limit: Duration) {
    let count = |wanted: u16| all.iter().filter(|(_, status, _)| *status == wanted).count();
    assert!(count(200) > 0 && count(503) > 0, "{} answers of 200, {} of 503", count(200), count(503));
    for (took, status, json) in all {
        assert!(*took < limit, "an answer took {took:?}: {json}");
        if *status != 200 {
            assert_eq!(*status, 503, "{json}");
            assert_eq!(problem_type(&json["results"][0]["problem"]), "cache-unavailable", "{json}");
        }
    }
}

#[test]
fn redis_killed_under_load_costs_time_but_no_answer() {
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(|daemon| daemon.set("redis.retry_ms", 1000));
    let all = under_load(&daemon, || {
        wait_for_load(&daemon);
        redis.kill();
        assert!(eventually(3 * SECOND, || daemon.get("/ready").status == 503), "/ready did not turn");
        assert_not_ready(&daemon);
        assert_eq!(daemon.get("/live").status, 200, "/live never asks Redis");
        assert_eq!(daemon.metric("cache_sync_redis_up", &[]), 0.0);
        let begin = Instant::now();
        assert_eq!(daemon.get("/ready").status, 503);
        assert!(begin.elapsed() < SECOND / 2, "/ready is never slow: {:?}", begin.elapsed());
        // An outage of some length: requests begin and end within it.
        thread::sleep(SECOND);
        redis.restart();
        let back = Instant::now();
        let serves = || daemon.get("/ready").status == 200 && daemon.post(&set_inline("k", "v")).status == 200;
        assert!(eventually(2 * SECOND, serves), "no service {:?} after Redis came back", back.elapsed());
        assert_eq!(daemon.metric("cache_sync_redis_up", &[]), 1.0);
    });
    assert_answered(&all, 2 * SECOND);
    assert_eq!(redis.value("k").as_deref(), Some(b"v".as_slice()));
}

#[test]
fn redis_that_hangs_under_load_costs_time_but_no_answer() {
    let settings = |daemon: Builder| daemon.set("redis.retry_ms", 1000).set("redis.response_timeout_ms", 400);
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(settings);
    let all = under_load(&daemon, || {
        wait_for_load(&daemon);
        redis.pause();
        assert!(eventually(5 * SECOND, || daemon.get("/ready").status == 503), "/ready did not turn");
        assert_eq!(daemon.get("/live").status, 200);
        let given_up = || daemon.metric("cache_sync_events_total", &["type=\"SET\"", "outcome=\"unavailable\""]) > 0.0;
        assert!(eventually(5 * SECOND, given_up), "nothing was given up");
        redis.resume();
        let serves = || daemon.get("/ready").status == 200 && daemon.post(&set_inline("k", "v")).status == 200;
        assert!(eventually(2 * SECOND, serves), "no service after Redis came back");
    });
    assert_answered(&all, 2 * SECOND);
}

#[test]
fn what_expires_while_a_connection_is_made_is_not_written_once_there_is_one() {
    let mut redis = Redis::start();
    redis.pause();
    let settings = [("redis.pool_size", 1), ("redis.retry_ms", 3000), ("redis.connect_timeout_ms", 1400)];
    let daemon = Daemon::builder().redis(&redis).unready();
    let daemon = settings.into_iter().fold(daemon, |daemon, (name, value)| daemon.set(name, value)).start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // What came later is in one batch with it, and has time left.
        for client in 0..20 {
            let (daemon, is_over) = (&daemon, &is_over);
            scope.spawn(move || {
                for n in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    daemon.post(&set_inline(&format!("later:{client}:{n}"), "v"));
                }
            });
        }
        let answer = daemon.post(&set_inline("old", "v"));
        redis.resume();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answer.status, 503, "{}", answer.text());
    });
    assert!(eventually(10 * SECOND, || daemon.post(&set_inline("new", "v")).status == 200));
    assert_eq!(redis.value("old"), None);
}

#[test]
fn a_write_given_up_never_overwrites_a_newer_one() {
    let settings = |daemon: Builder| daemon.set("redis.retry_ms", 500).set("redis.response_timeout_ms", 200);
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(settings);
    for round in 0..5 {
        redis.pause();
        let old: Vec<_> = (0..20).map(|n| set_inline(&format!("k{n}"), &format!("old {round}"))).collect();
        let answer = daemon.post_ndjson(&ndjson(&old));
        assert_eq!(answer.json()["counts"]["unavailable"], 20, "{}", answer.text());
        let new: Vec<_> = (0..20).map(|n| set_inline(&format!("k{n}"), &format!("new {round}"))).collect();
        redis.resume();
        assert!(eventually(5 * SECOND, || daemon.post_ndjson(&ndjson(&new)).status == 200));
        for _ in 0..3 {
            for n in 0..20 {
                assert_eq!(redis.value(&format!("k{n}")), Some(format!("new {round}").into_bytes()));
            }
        }
    }
}

#[test]
fn order_holds_over_a_broken_connection() {
    let Stage { daemon, redis, blobs: _blobs } = Stage::with(|daemon| daemon);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut conn = redis.conn();
                let _ =
                    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").exec(&mut conn);
                thread::sleep(Duration::from_millis(15));
            }
        });
        for round in 0..30u64 {
            let events: Vec<_> =
                (0..200u64).map(|n| set_inline(&format!("k{}", n % 5), &format!("{round}:{n}"))).collect();
            let answer = daemon.post_ndjson(&ndjson(&events));
            assert_eq!(answer.status, 200, "{}", answer.text());
            let read = results(&daemon.post(&get(json!(["k0", "k1", "k2", "k3", "k4"]))), 200, "ok");
            for (n, entry) in read.iter().enumerate() {
                assert_eq!(entry["value"], format!("{round}:{}", 195 + n));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn it_starts_without_redis_and_becomes_ready_when_it_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 300).unready().start();
    assert_not_ready(&daemon);
    assert_eq!(daemon.get("/live").status, 200);
    assert_eq!(daemon.post(&set_inline("k", "v")).status, 503);
    redis.restart();
    assert!(eventually(3 * SECOND, || daemon.get("/ready").status == 200));
    assert_eq!(daemon.post(&set_inline("k", "v")).status, 200);
}

#[test]
fn a_write_given_up_never_outlives_a_later_pattern_delete() {
    let settings = |daemon: Builder| {
        daemon.set("redis.pool_size", 1).set("redis.retry_ms", 600).set("redis.response_timeout_ms", 500)
    };
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(settings);
    let value = "x".repeat(300_000);
    let mut overtaken = 0;
    for round in 0..10 {
        // The scanner has its connection.
        assert_eq!(daemon.post(&delete_pattern(json!("none:*"))).status, 200);
        let lines = daemon_connections(&redis);
        redis.pause();
        let given_up = daemon.post(&set_inline("s:1", &value));
        assert_eq!(given_up.status, 503, "{}", given_up.text());
        let swept = thread::scope(|scope| {
            let sweep = scope.spawn(|| daemon.post(&delete_pattern(json!("s:*"))).status == 200);
            // The scan lies in its socket, beside the write in the other; or the machine was too slow for that.
            let in_store =
                || redis.unread().iter().filter(|(peer, unread)| lines.contains(peer) && **unread > 0).count();
            eventually(5 * SECOND, || in_store() == lines.len() || sweep.is_finished());
            redis.resume();
            sweep.join().expect("an answer")
        });
        if swept {
            overtaken += 1;
            // Each question takes the server at least once more around all its connections.
            let came_back = (0..50).any(|_| redis.exists("s:1"));
            assert!(!came_back, "round {round}: it came back after the pattern delete");
        }
        if overtaken == 3 {
            return;
        }
        let well = || daemon.get("/ready").status == 200;
        assert!(eventually(5 * SECOND, well), "round {round}: not ready again");
    }
    assert!(overtaken > 0, "no pattern delete came in time");
}

#[test]
fn a_write_behind_a_pattern_delete_is_answered_while_an_attempt_hangs() {
    let settings = |daemon: Builder| {
        daemon.set("redis.pool_size", 1).set("redis.retry_ms", 500).set("redis.response_timeout_ms", 2000)
    };
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(settings);
    let large = set_inline("large", &"x".repeat(12_000_000)).to_string();
    assert_eq!(daemon.post(&set_inline("small", "v")).status, 200);
    redis.pause();
    thread::scope(|scope| {
        // So large that its attempt has seconds.
        scope.spawn(|| daemon.post_text(&large));
        wait_for_events(&daemon, 1);
        scope.spawn(|| daemon.post(&delete_pattern(json!("s:*"))));
        wait_for_events(&daemon, 2);
        let begin = Instant::now();
        let answer = daemon.post(&set_inline("small", "w"));
        let took = begin.elapsed();
        redis.resume();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(took < SECOND * 3 / 2, "redis.retry_ms is half a second, the answer took {took:?}");
    });
}

#[test]
fn reads_and_deletes_go_on_while_redis_is_full() {
    let Stage { daemon, redis, blobs: _blobs } = Stage::with(|daemon| daemon.set("redis.pool_size", 1));
    redis.put("other", b"v");
    let limit = |bytes: u32| redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut redis.conn());
    limit(1).expect("CONFIG SET");
    let mut events: Vec<_> = (0..3000).map(|n| set_inline(&format!("k{}", n % 1500), &n.to_string())).collect();
    events.push(delete(json!("k7")));
    let body = ndjson(&events);
    thread::scope(|scope| {
        let refused = scope.spawn(|| daemon.post_ndjson(&body));
        wait_for_events(&daemon, 3001);
        for _ in 0..20 {
            let begin = Instant::now();
            let answer = daemon.post(&get(json!("other")));
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(begin.elapsed() < SECOND, "a read took {:?}", begin.elapsed());
        }
        limit(0).expect("CONFIG SET");
        let answer = refused.join().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    for n in 0..1500 {
        let want = (n != 7).then(|| (n + 1500).to_string().into_bytes());
        assert_eq!(redis.value(&format!("k{n}")), want, "k{n}");
    }
}

/// The time of the slowest of some.
fn slowest(mut ask: impl FnMut(usize)) -> Duration {
    let timed = |n| {
        let begin = Instant::now();
        ask(n);
        begin.elapsed()
    };
    (0..20).map(timed).max().unwrap_or_default()
}

#[test]
fn a_full_redis_answers_reads_and_deletes_at_once_and_is_relieved_by_them() {
    let settings = |daemon: Builder| daemon.set("redis.pool_size", 1).set("redis.retry_ms", 8000);
    let Stage { daemon, redis, blobs: _blobs } = Stage::with(settings);
    for n in 0..100 {
        redis.put(&format!("large{n}"), &vec![b'x'; 100_000]);
    }
    redis.put("other", b"v");
    let ask = |n: usize| {
        assert_eq!(results(&daemon.post(&get(json!("other"))), 200, "ok")[0]["status"], "hit");
        assert_eq!(results(&daemon.post(&delete(json!(format!("large{n}")))), 200, "ok")[0]["status"], "deleted");
    };
    let healthy = slowest(ask);
    let info: String = redis::cmd("INFO").arg("memory").query(&mut redis.conn()).expect("INFO");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
    // So little room that half of what is left has to go.
    let limit = used.expect("used_memory") - 4_000_000;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).exec(&mut redis.conn()).expect("CONFIG SET");
    thread::scope(|scope| {
        let post = |n| {
            let (daemon, event) = (&daemon, set_inline(&format!("s{n}"), "v"));
            scope.spawn(move || daemon.post(&event))
        };
        let refused: Vec<_> = (0..4).map(post).collect();
        wait_for_events(&daemon, 4);
        let full = slowest(|n| ask(20 + n));
        assert!(full < healthy * 10 + SECOND / 4, "{full:?}, with room {healthy:?}");
        assert!(refused.iter().all(|request| !request.is_finished()), "Redis is full");
        for n in 40..100 {
            assert_eq!(daemon.post(&delete(json!(format!("large{n}")))).status, 200);
        }
        for request in refused {
            assert_eq!(request.join().expect("an answer").status, 200);
        }
    });
}

#[test]
fn what_redis_refuses_says_its_last_reply_and_since_when() {
    let settings = |daemon: Builder| daemon.set("redis.pool_size", 1).set("redis.retry_ms", 400);
    let Stage { daemon, redis, blobs: _blobs } = Stage::with(settings);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut redis.conn()).expect("CONFIG SET");
    let answer = daemon.post(&set_inline("k", "v"));
    let detail = answer.json()["results"][0]["problem"]["detail"].to_string();
    assert!(answer.status == 503 && detail.contains("`redis.retry_ms`"), "{detail}");
    assert!(
        detail.contains("its last reply was OOM; it has refused commands for 0.") && detail.ends_with(" s\""),
        "{detail}"
    );
    daemon.log_line(|line| line.contains("cache refuses commands, retrying") && line.contains("OOM"));
    assert_eq!(daemon.get("/ready").status, 200, "it can be read and relieved");
}

#[test]
fn while_redis_is_known_to_be_down_requests_are_answered_at_once() {
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(|daemon| daemon.set("redis.retry_ms", 3000));
    redis.kill();
    let begin = Instant::now();
    let first = daemon.post(&set_inline("k", "v"));
    let detail = first.json()["results"][0]["problem"]["detail"].to_string();
    assert_eq!(first.status, 503, "{detail}");
    assert!(begin.elapsed() > SECOND * 2, "it is tried for redis.retry_ms, {:?}", begin.elapsed());
    assert!(detail.contains("refused"), "{detail}");
    let is_quick = || {
        let begin = Instant::now();
        let answer = daemon.post(&json!([set_inline("k", "w"), get(json!("k"))]));
        assert_eq!(answer.status, 503, "{}", answer.text());
        begin.elapsed() < SECOND
    };
    assert!(eventually(5 * SECOND, is_quick), "still tried for redis.retry_ms");
    let slow = (0..20).filter(|_| !is_quick()).count();
    assert_eq!(slow, 0, "of 20");
    let reasons = daemon.get("/ready").json()["reasons"].to_string();
    assert!(reasons.contains("cannot be reached for ") && reasons.contains("refused"), "{reasons}");
    redis.restart();
    let back = Instant::now();
    assert!(eventually(5 * SECOND, || daemon.post(&set_inline("k", "x")).status == 200));
    assert!(back.elapsed() < 2 * SECOND, "it came back after {:?}", back.elapsed());
    assert_eq!(redis.value("k").as_deref(), Some(b"x".as_slice()));
}

#[test]
fn a_restart_of_redis_loses_nothing_that_was_accepted_meanwhile() {
    let Stage { daemon, mut redis, blobs: _blobs } = Stage::with(|daemon| daemon.set("redis.pool_size", 1));
    assert_eq!(daemon.post(&set_inline("first", "v")).status, 200);
    redis.kill();
    assert!(eventually(3 * SECOND, || daemon.get("/ready").status == 503), "/ready did not turn");
    thread::scope(|scope| {
        let daemon = &daemon;
        let waiting: Vec<_> =
            (0..8).map(|n| scope.spawn(move || daemon.post(&set_inline(&format!("k{n}"), "v")))).collect();
        wait_for_events(daemon, 8);
        redis.restart();
        for request in waiting {
            let answer = request.join().expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
}

#[test]
fn a_hot_key_that_is_read_and_written_in_turn_does_not_make_redis_unavailable() {
    let Stage { daemon, redis, blobs: _blobs } = Stage::with(|daemon| daemon.set("redis.pool_size", 1));
    let events: Vec<_> = (0..5_000).flat_map(|n: u32| [get(json!("hot")), set_inline("hot", &n.to_string())]).collect();
    let body = ndjson(&events);
    thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| daemon.post_ndjson(&body))).collect();
        for request in both {
            assert_eq!(request.join().expect("an answer").status, 200);
        }
    });
    assert_eq!(redis.value("hot").as_deref(), Some(b"4999".as_slice()));
}
