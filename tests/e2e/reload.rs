//! Settings that change while the daemon runs: by SIGHUP and by a changed file, whole or not at all, and without an
//! event lost, refused or out of order.

#[cfg(feature = "failpoints")]
mod failpoints;
mod load;

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use redis_cache_sync::config::SETTINGS;
use serde_json::json;

use crate::support::{
    Blob, Daemon, PATIENCE, Redis, Stage, eventually, get, problem_type, results, set_blob, set_inline, signal,
};

/// Two looks, and what reading and a busy machine take.
const SOON: Duration = Duration::from_secs(5);
const FILE: &str = "config/default.toml";

/// How a change reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// Written in place; SIGHUP.
    HangUp,
    /// Written beside it and renamed.
    Renamed,
    /// As the kubelet swaps a mounted ConfigMap.
    Swapped,
}

pub const ALL: [How; 3] = [How::HangUp, How::Renamed, How::Swapped];

/// Begins with this file; what the tests change is left to it.
pub fn daemon_with(redis: &Redis, text: &str) -> Daemon {
    let builder = Daemon::builder().redis(redis).unset("fetch.allowed_hosts").file(FILE, text);
    builder.start()
}

/// Gives the file another text.
fn write(daemon: &Daemon, how: How, text: &str) {
    let at = |path: &str| daemon.dir().join(path);
    match how {
        How::HangUp => {
            fs::write(at(FILE), text).expect("it can be written");
            signal(daemon.pid(), "HUP");
        }
        How::Renamed => {
            fs::write(at("new"), text).expect("it can be written");
            fs::rename(at("new"), at(FILE)).expect("it can be renamed");
        }
        How::Swapped => {
            let version = format!("config/..{}", fs::read_dir(at("config")).expect("a directory").count());
            fs::create_dir(at(&version)).expect("a directory");
            fs::write(at(&version).join("default.toml"), text).expect("it can be written");
            symlink(at(&version), at("config/..data_tmp")).expect("a link");
            fs::rename(at("config/..data_tmp"), at("config/..data")).expect("the link is swapped");
            if !at(FILE).is_symlink() {
                symlink("..data/default.toml", at("link")).expect("a link");
                fs::rename(at("link"), at(FILE)).expect("it can be renamed");
            }
        }
    }
}

fn count(daemon: &Daemon, what: &str) -> usize {
    daemon.logs().iter().filter(|line| line.contains(what)).count()
}

/// The same, and waits until it has taken effect.
#[track_caller]
pub fn change(daemon: &Daemon, how: How, text: &str) {
    let before = count(daemon, "settings have changed");
    write(daemon, how, text);
    let has_changed = eventually(SOON, || count(daemon, "settings have changed") > before);
    assert!(has_changed, "{how:?}: {text} took no effect");
}

pub fn actors(daemon: &Daemon, actor: &str) -> f64 {
    daemon.metric("cache_sync_actors", &[&format!("actor=\"{actor}\"")])
}

#[track_caller]
pub fn wait_actors(daemon: &Daemon, actor: &str, count: usize) {
    let fits = eventually(SOON, || actors(daemon, actor) == count as f64);
    assert!(fits, "{} of {actor}, not {count}", actors(daemon, actor));
}

fn status_with(daemon: &Daemon, token: Option<&str>) -> u16 {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.as_deref().map(|text| ("authorization", text)));
    daemon.post_with(&headers, get(json!("k")).to_string().as_bytes()).status
}

#[test]
fn the_level_of_the_log_follows_the_settings() {
    let redis = Redis::start();
    let daemon = daemon_with(&redis, "");
    let lines_of_event = || {
        let before = count(&daemon, "DEBUG event");
        daemon.post(&get(json!("k")));
        let has_line = || count(&daemon, "DEBUG event") > before;
        // A line is out within a tenth of a second.
        eventually(Duration::from_millis(500), has_line)
    };
    assert!(!lines_of_event());
    for how in ALL {
        change(&daemon, how, "log_level = \"debug\"\n");
        assert!(lines_of_event(), "{how:?}");
        change(&daemon, how, "log_level = \"warn\"\n");
        assert!(!lines_of_event(), "{how:?}");
    }
    let last = daemon.log_line(|line| line.contains("settings have changed"));
    assert!(last.contains("INFO") && last.contains("log_level = \\\"debug\\\""), "{last}");
}

#[test]
fn how_many_requests_have_a_line_follows_the_settings() {
    let redis = Redis::start();
    let daemon = daemon_with(&redis, "");
    let lines_of = |id: &str, requests: usize| {
        for _ in 0..requests {
            daemon.post_with(&[("x-request-id", id)], get(json!("k")).to_string().as_bytes());
        }
        // Its line comes behind theirs, whichever worker each came to: one thread writes.
        let end = format!("end-of-{}", id.to_uppercase());
        daemon.post_with(&[("x-request-id", &end)], b"{");
        daemon.log_line(|line| line.contains(" request ") && line.contains(&end));
        count(&daemon, &format!("request_id={id}"))
    };
    assert_eq!(lines_of("each", 20), 20);
    change(&daemon, How::Renamed, "log_requests_one_in = 1000000\n");
    assert!(lines_of("few", 50) < 20);
    change(&daemon, How::Renamed, "log_requests_one_in = 1\n");
    assert_eq!(lines_of("again", 20), 20);
}

#[test]
fn tokens_of_the_settings_follow_them_and_stand_nowhere_in_the_log() {
    let redis = Redis::start();
    let daemon = daemon_with(&redis, "[auth]\ntokens = [\"s3cret-0\"]\n");
    let mut old = "s3cret-0".to_owned();
    for (number, how) in ALL.into_iter().enumerate() {
        let new = format!("s3cret-{}", number + 1);
        change(&daemon, how, &format!("[auth]\ntokens = [\"{new}\", \"s3cret-both\"]\n"));
        assert_eq!([status_with(&daemon, Some(&new)), status_with(&daemon, Some("s3cret-both"))], [200, 200]);
        assert_eq!([status_with(&daemon, Some(&old)), status_with(&daemon, None)], [401, 401], "{how:?}");
        old = new;
    }
    let line = daemon.log_line(|line| line.contains("settings have changed"));
    assert!(line.contains("auth.tokens"), "{line}");
    // No change opens the door again.
    change(&daemon, How::HangUp, "");
    assert_eq!([status_with(&daemon, Some(&old)), status_with(&daemon, None)], [401, 401]);
    daemon.log_line(|line| line.contains("WARN") && line.contains("all requests are rejected"));
    assert!(!daemon.logs().iter().any(|line| line.contains("s3cret")), "{:#?}", daemon.logs());
}

#[test]
fn the_first_token_shuts_a_door_that_was_open() {
    let redis = Redis::start();
    let daemon = daemon_with(&redis, "");
    let asks_for_nothing =
        || daemon.get("/openapi.json").json()["paths"]["/events"]["post"]["security"][0] == json!({});
    assert_eq!(status_with(&daemon, None), 200);
    assert!(asks_for_nothing());
    change(&daemon, How::HangUp, "[auth]\nwebhook_secrets = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n");
    assert_eq!(status_with(&daemon, None), 401);
    change(&daemon, How::HangUp, "[auth]\ntokens = \"only\"\n");
    assert_eq!([status_with(&daemon, None), status_with(&daemon, Some("only"))], [401, 200]);
    assert!(!asks_for_nothing(), "the document says what holds now");
    assert!(!daemon.logs().iter().any(|line| line.contains("MfKQ9r8")), "{:#?}", daemon.logs());
}

#[test]
fn hosts_that_are_allowed_follow_the_settings() {
    let stage = Stage::new();
    stage.blobs.put("/b", Blob::bytes("blob"));
    let hosts = |hosts: &str| format!("[fetch]\nallowed_hosts = [{hosts}]\nattempts = 1\n");
    let daemon = daemon_with(&stage.redis, &hosts("\"127.0.0.1\""));
    let event = set_blob("k", &stage.blobs.url("/b"));
    for how in ALL {
        results(&daemon.post(&event), 200, "ok");
        change(&daemon, how, &hosts("\"elsewhere.example\""));
        // Many, so that every fetcher has its turn.
        for _ in 0..8 {
            let refused = results(&daemon.post(&event), 422, "rejected");
            assert_eq!(problem_type(&refused[0]["problem"]), "blob-forbidden", "{how:?}");
        }
        change(&daemon, how, &hosts("\"elsewhere.example\", \"127.0.0.1\""));
    }
    results(&daemon.post(&event), 200, "ok");
}

#[test]
fn pools_follow_the_settings_up_and_down() {
    let stage = Stage::new();
    let (workers, clients) = (2, || connections(&stage.redis));
    let others = clients();
    let sizes = |own: usize, pool: usize| {
        format!(
            "[intake]\npool_size = {own}\n[validation]\npool_size = {own}\n[fetch]\npool_size = {pool}\n\
             [redis]\npool_size = {pool}\n"
        )
    };
    let builder = Daemon::builder().redis(&stage.redis).set("http.workers", workers).file(FILE, &sizes(0, 2));
    let daemon = builder.start();
    let threads = || fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("Linux").count();
    let threads_at_first = threads();
    for (turn, (own, pool)) in [(1, 4), (0, 1), (3, 8), (2, 64), (0, 2)].into_iter().enumerate() {
        change(&daemon, ALL[turn % 3], &sizes(own, pool));
        for actor in ["intake", "validation"] {
            wait_actors(&daemon, actor, if own == 0 { workers } else { own });
        }
        for actor in ["fetcher", "writer"] {
            wait_actors(&daemon, actor, pool);
        }
        // The scanner makes its connection with the first pattern.
        let fits = eventually(SOON, || clients() - others == pool);
        assert!(fits, "{} connections for {pool} writers", clients() - others);
        assert_eq!(daemon.get("/ready").status, 200);
        results(&daemon.post(&get(json!("k"))), 200, "ok");
    }
    let ended = eventually(SOON, || threads() <= threads_at_first);
    assert!(ended, "{} threads, {threads_at_first} at first", threads());
    assert_eq!(daemon.metric("cache_sync_actor_restarts_total", &[]), 0.0);
}

/// Those of the writers, by the name that the service gives them.
pub fn connections(redis: &Redis) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.conn()).expect("CLIENT LIST");
    list.lines().filter(|line| line.contains(" name=redis-cache-sync:")).count()
}

#[test]
fn a_writer_that_cannot_begin_is_in_nobodys_way() {
    let redis = Redis::start();
    let mut control = redis.conn();
    // One worker, to which all writers are near.
    let daemon = Daemon::builder().redis(&redis).set("http.workers", 1).file(FILE, "[redis]\npool_size = 1\n").start();
    let mut limit = |most: usize| {
        redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(most).exec(&mut control).expect("CONFIG SET");
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut control).expect("CLIENT LIST");
        list.lines().filter(|line| line.contains(" name=redis-cache-sync:")).count()
    };
    // The journal's connection is one of those that are let in.
    let named = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.conn()).expect("CLIENT LIST");
        list.matches(" name=redis-cache-sync").count()
    };
    assert!(eventually(SOON, || named() == 2), "{}", named());
    assert_eq!(limit(3), 1);
    change(&daemon, How::HangUp, "[redis]\npool_size = 4\n");
    let refused = || count(&daemon, "write to the cache failed") >= 3;
    assert!(eventually(SOON, refused), "Redis lets more in than it may");
    for number in 0..200 {
        results(&daemon.post(&get(json!(format!("k{number}")))), 200, "ok");
    }
    assert_eq!((daemon.get("/ready").status, limit(3)), (200, 1));
    assert!(eventually(SOON, || limit(100) == 4), "they do not begin when they may");
    let used = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.conn()).expect("CLIENT LIST");
        let own = list.lines().filter(|line| line.contains(" name=redis-cache-sync:"));
        // What an idle one, or one that has just begun, said last.
        own.filter(|line| !line.contains(" cmd=ping ") && !line.contains(" cmd=info ")).count()
    };
    let all_used = eventually(SOON, || {
        (0..50).for_each(|number| drop(results(&daemon.post(&get(json!(format!("k{number}")))), 200, "ok")));
        used() == 4
    });
    assert!(all_used, "{} of 4 are used", used());
}

#[test]
fn what_comes_late_to_a_writer_that_was_laid_off_is_written_in_order() {
    let stage = Stage::new();
    let gate = crate::support::Gate::closed();
    stage.blobs.fallback({
        let gate = gate.clone();
        move |target| Some(Blob::bytes(target.trim_start_matches('/')).gate(&gate))
    });
    let others = connections(&stage.redis);
    let text = |size: usize| format!("[fetch]\nallowed_hosts = \"127.0.0.1\"\n[redis]\npool_size = {size}\n");
    let builder = Daemon::builder().redis(&stage.redis).unset("fetch.allowed_hosts").set("http.workers", 1);
    let daemon = builder.file(FILE, &text(8)).start();
    thread::scope(|scope| {
        // So many that each writer is the choice of some of them.
        let posts: Vec<_> = (0..64)
            .map(|number| {
                let key = format!("k{number}");
                let blob = set_blob(&key, &stage.blobs.url(&format!("/{number}")));
                let events = match number % 2 {
                    0 => json!([blob]),
                    _ => json!([blob, get(json!(key)), set_inline(&key, "later"), get(json!(key))]),
                };
                let daemon = &daemon;
                scope.spawn(move || daemon.post(&events))
            })
            .collect();
        assert!(eventually(PATIENCE, || daemon.metric("cache_sync_admission_events", &[]) == 32.0 * 5.0));
        change(&daemon, How::HangUp, &text(1));
        wait_actors(&daemon, "writer", 1);
        assert!(eventually(SOON, || connections(&stage.redis) - others == 1));
        gate.open();
        for (number, post) in posts.into_iter().enumerate() {
            let answer = post.join().expect("no panic");
            assert_eq!(answer.status, 200, "{}", answer.text());
            let json = answer.json();
            if number % 2 == 1 {
                let read = |index: usize| &json["events"][index]["results"][0]["value"];
                assert_eq!((read(1), read(3)), (&json!(number.to_string()), &json!("later")), "{json}");
            }
        }
    });
    for number in 0..64 {
        let last = if number % 2 == 1 { "later".to_owned() } else { number.to_string() };
        assert_eq!(stage.redis.value(&format!("k{number}")), Some(last.into_bytes()));
    }
    let sweep = crate::support::delete_pattern(json!("k*"));
    let swept = results(&daemon.post(&sweep), 200, "ok");
    assert_eq!(swept[0]["deleted"], 64, "{swept:?}");
    wait_actors(&daemon, "writer", 1);
    // One of the scanner.
    assert!(eventually(SOON, || connections(&stage.redis) - others == 2));
}

#[test]
fn more_fetches_begin_as_soon_as_there_is_room() {
    let stage = Stage::new();
    let gate = crate::support::Gate::closed();
    stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
    let text = |size: usize, each: usize, per_host: usize| {
        format!(
            "[fetch]\nallowed_hosts = \"127.0.0.1\"\npool_size = {size}\nconcurrency = {each}\nper_host = {per_host}\n"
        )
    };
    let daemon = daemon_with(&stage.redis, &text(1, 2, 64));
    thread::scope(|scope| {
        let (daemon, url) = (&daemon, stage.blobs.url("/b"));
        let posts: Vec<_> = (0..12)
            .map(|number| {
                let event = set_blob(&format!("k{number}"), &url);
                scope.spawn(move || daemon.post(&event))
            })
            .collect();
        let now_and = |text: &str, hits: usize| {
            if !text.is_empty() {
                change(daemon, How::HangUp, text);
            }
            stage.blobs.wait_hits("/b", hits);
            assert!(!eventually(Duration::from_millis(100), || stage.blobs.hits("/b") > hits), "{text}");
        };
        now_and("", 2);
        now_and(&text(1, 4, 64), 4);
        now_and(&text(2, 4, 6), 6);
        now_and(&text(2, 4, 7), 7);
        now_and(&text(2, 4, 64), 8);
        now_and(&text(1, 1, 64), 8);
        gate.open();
        for post in posts {
            results(&post.join().expect("no panic"), 200, "ok");
        }
    });
    wait_actors(&daemon, "fetcher", 1);
}

#[test]
fn settings_at_fault_change_nothing_and_every_fault_is_named() {
    let redis = Redis::start();
    let good = "log_level = \"info\"\n[auth]\ntokens = [\"good\"]\n[redis]\npool_size = 3\n";
    let daemon = daemon_with(&redis, good);
    let bad =
        "log_level = \"debug\"\nnonsense = 1\n[auth]\ntokens = [\"s3cret of two words\"]\n[redis]\npool_size = 65\n";
    for (turn, how) in ALL.into_iter().enumerate() {
        let before = count(&daemon, "new settings are invalid");
        // Another text each time, for it is looked at for changes.
        write(&daemon, how, &format!("# {turn}\n{bad}"));
        assert!(eventually(SOON, || count(&daemon, "new settings are invalid") > before), "{how:?}");
        assert_eq!([status_with(&daemon, Some("good")), status_with(&daemon, None)], [200, 401], "{how:?}");
    }
    for named in ["nonsense", "auth.tokens", "redis.pool_size = 65"] {
        assert!(count(&daemon, named) >= 3, "{named}");
        daemon.log_line(|line| line.contains("ERROR") && line.contains(named));
    }
    assert_eq!(actors(&daemon, "writer"), 3.0);
    assert_eq!(count(&daemon, "DEBUG"), 0);
    assert_eq!(count(&daemon, "settings have changed"), 0);

    fs::remove_file(daemon.dir().join(FILE)).expect("it is there");
    daemon.log_line(|line| line.contains("ERROR") && line.contains(FILE) && line.contains("gone"));
    assert_eq!([status_with(&daemon, Some("good")), status_with(&daemon, None)], [200, 401]);
    assert!(!daemon.logs().iter().any(|line| line.contains("s3cret") || line.contains("\"good\"")));
    change(&daemon, How::Renamed, "[auth]\ntokens = [\"good\"]\n[redis]\npool_size = 4\n");
    wait_actors(&daemon, "writer", 4);
}

#[test]
fn what_cannot_change_is_named_in_one_warning_and_the_rest_takes_effect() {
    let redis = Redis::start();
    let daemon = daemon_with(&redis, "");
    let text = "[http]\nworkers = 7\n[redis]\nhost = \"elsewhere\"\npassword = \"s3cret\"\npool_size = 3\n";
    change(&daemon, How::HangUp, text);
    let line = daemon.log_line(|line| line.contains("WARN") && line.contains("restart"));
    assert!(line.contains("http.workers") && line.contains("redis.password"), "{line}");
    // The environment says where Redis is: what the file says changes nothing, with or without a restart.
    assert!(!line.contains("redis.host") && !line.contains("pool_size"), "{line}");
    assert_eq!(count(&daemon, "only after a restart"), 1);
    wait_actors(&daemon, "writer", 3);
    assert!(!daemon.logs().iter().any(|line| line.contains("s3cret")), "{:#?}", daemon.logs());
}

#[test]
fn what_is_overridden_changes_nothing_and_is_not_warned_of() {
    let redis = Redis::start();
    let builder = Daemon::builder().redis(&redis).set("redis.pool_size", 3).set("http.workers", 2);
    let daemon = builder.args(&["--fetch-pool-size", "3"]).file(".env", "LOG_LEVEL=info\n").file(FILE, "").start();
    let text = "log_level = \"debug\"\n[redis]\npool_size = 1\n[http]\nworkers = 1\n[fetch]\npool_size = 1\n";
    for how in [How::HangUp, How::Renamed] {
        let before = count(&daemon, "nothing changed");
        write(&daemon, how, &format!("# {how:?}\n{text}"));
        assert!(eventually(SOON, || count(&daemon, "nothing changed") > before), "{how:?}");
    }
    assert_eq!([actors(&daemon, "writer"), actors(&daemon, "fetcher")], [3.0, 3.0]);
    assert_eq!(count(&daemon, "restart") + count(&daemon, "settings have changed") + count(&daemon, "DEBUG"), 0);
    // What wins may change itself.
    fs::write(daemon.dir().join(".env"), "LOG_LEVEL=warn\n").expect("it can be written");
    daemon.log_line(|line| line.contains("settings have changed") && line.contains("log_level"));
}

#[test]
fn hanging_up_ends_it_in_no_phase() {
    let mut stage = Stage::new();
    let gate = crate::support::Gate::closed();
    stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
    signal(stage.daemon.pid(), "HUP");
    stage.daemon.log_line(|line| line.contains("nothing changed"));
    let event = set_blob("k", &stage.blobs.url("/b"));
    thread::scope(|scope| {
        let held = scope.spawn(|| stage.daemon.post(&event));
        stage.blobs.wait_hits("/b", 1);
        stage.daemon.sigterm();
        stage.daemon.log_line(|line| line.contains("draining"));
        for _ in 0..3 {
            signal(stage.daemon.pid(), "HUP");
        }
        stage.daemon.log_line(|line| line.contains("SIGHUP") && line.contains("draining"));
        gate.open();
        results(&held.join().expect("no panic"), 200, "ok");
    });
    assert_eq!(stage.daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn hanging_up_while_it_starts_does_not_end_it() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("tokens");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    // It cannot come further than to this file until somebody writes to it.
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .env_clear()
        .envs([("PORT", "0"), ("BIND", "127.0.0.1"), ("CACHE_BACKEND", "embedded")])
        .env("AUTH_TOKENS_FILE", &fifo)
        .current_dir(dir.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("the daemon's binary can be run");
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap_or_default() & 1 == 1
    };
    let listens = eventually(PATIENCE, caught);
    signal(child.id(), "HUP");
    thread::sleep(Duration::from_millis(200));
    let ended = child.try_wait().expect("it can be waited for");
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    assert!(listens && ended.is_none(), "{listens} {ended:?}");
}

/// The list that the docs and the reload go by, against what the tests of this file show to take effect.
#[test]
fn every_live_setting_is_shown_to_be_so() {
    let live: Vec<&str> = SETTINGS.iter().filter(|setting| setting.is_live).map(|setting| setting.path).collect();
    let shown = [
        "log_level",
        "log_requests_one_in",
        "auth.tokens",
        "auth.webhook_secrets",
        "redis.pool_size",
        "intake.pool_size",
        "validation.pool_size",
        "fetch.pool_size",
        "fetch.concurrency",
        "fetch.per_host",
        "fetch.allowed_hosts",
    ];
    assert_eq!(live, shown);
}
