//! `send`: files of events posted to a real daemon, whatever happens in between.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Blob, BlobServer, Daemon, Gate, Redis, Stage, closed_port, delete_pattern, eventually, gzip, ndjson, set_blob,
    set_inline, signal,
};

const SECOND: Duration = Duration::from_secs(1);

/// A directory with files of events, and the command in it.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Desk(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("it can be written");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
        command.arg("send").args(args).current_dir(self.0.path()).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, to: &str, args: &[&str]) -> Child {
        let args = [&["--to", to], args].concat();
        self.command(&args).spawn().expect("the binary can be run")
    }

    pub fn send(&self, to: &str, args: &[&str], stdin: &[u8]) -> Ended {
        let mut child = self.start(to, args);
        // One that ends early reads no more.
        let _ = child.stdin.take().expect("piped").write_all(stdin);
        Ended::of(child)
    }
}

pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(child: Child) -> Self {
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ended { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    #[track_caller]
    pub fn assert(&self, code: i32, counts: &str) {
        assert!(self.out.starts_with(&format!("{counts} in ")), "{counts}: {} {}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
    }
}

pub fn url(daemon: &Daemon) -> String {
    format!("http://{}", daemon.address())
}

fn text(events: &[Value]) -> String {
    ndjson(events)
}

#[test]
fn files_of_every_form_are_stored_and_counted() {
    let stage = Stage::new();
    let desk = Desk::new();
    let events: Vec<Value> = (0..2000).map(|n| set_inline(&format!("k{}", n % 700), &n.to_string())).collect();
    desk.write("a.ndjson", text(&events));
    desk.write("b.json", json!([set_inline("array:1", "x"), set_inline("array:2", "]},")]).to_string());
    desk.write("c.json", serde_json::to_string_pretty(&set_inline("pretty", "y")).expect("JSON"));
    desk.write("d.gz", gzip(text(&[set_inline("packed", "z")]).as_bytes()));
    let stdin = set_inline("stdin", "s").to_string();
    let to = format!("{}/events", url(&stage.daemon));
    let ended = desk.send(&to, &["a.ndjson", "b.json", "c.json", "d.gz", "-"], stdin.as_bytes());
    ended.assert(0, "sent 2005, ok 2005, rejected 0, unavailable 0");
    assert_eq!(ended.err, "");
    for n in 0..700 {
        let last = (0..2000).rev().find(|at| at % 700 == n).expect("one");
        assert_eq!(stage.redis.value(&format!("k{n}")), Some(last.to_string().into_bytes()), "k{n}");
    }
    for (key, value) in [("array:1", "x"), ("array:2", "]},"), ("pretty", "y"), ("packed", "z"), ("stdin", "s")] {
        assert_eq!(stage.redis.value(key).as_deref(), Some(value.as_bytes()), "{key}");
    }
}

#[test]
fn what_is_rejected_is_told_by_id_and_line_kept_and_not_repeated() {
    let stage = Stage::new();
    let desk = Desk::new();
    let bad = json!({"key": "SET", "id": "bad-1", "value": {"data": {"key": "k", "value": null}}}).to_string();
    let lines = format!("{}\n\n{bad}\nno json\n{}\n", set_inline("a", "1"), set_inline("b", "2"));
    desk.write("in", &lines);
    let ended = desk.send(&url(&stage.daemon), &["in", "--failed", "out"], b"");
    ended.assert(1, "sent 4, ok 2, rejected 2, unavailable 0");
    assert!(ended.err.contains("rejected: in:3 id bad-1: The event is not valid: /value/data/value"), "{}", ended.err);
    assert!(ended.err.contains("rejected: in:4: "), "{}", ended.err);
    assert_eq!(desk.read("out"), format!("{bad}\nno json\n"));
    assert_eq!(stage.redis.value("b").as_deref(), Some(b"2".as_slice()));
    let again = desk.send(&url(&stage.daemon), &["in", "--failed", "out"], b"");
    assert_eq!(again.code, Some(64));
    assert!(again.err.contains("not empty"), "{}", again.err);

    desk.write("many", "{no json\n".repeat(25));
    let ended = desk.send(&url(&stage.daemon), &["many"], b"");
    ended.assert(1, "sent 25, ok 0, rejected 25, unavailable 0");
    assert_eq!(ended.err.lines().count(), 21);
    assert!(ended.err.ends_with("… and 5 more\n"), "{}", ended.err);
}

#[test]
fn order_holds_while_redis_hangs_and_patterns_keep_their_place() {
    let settings = |daemon: crate::support::Builder| {
        daemon.set("redis.retry_ms", 300).set("redis.response_timeout_ms", 200).set("http.workers", 2)
    };
    let mut stage = Stage::with(settings);
    let desk = Desk::new();
    let mut events = Vec::new();
    for round in 0..6 {
        events.extend((0..400).map(|n| set_inline(&format!("k{}", n % 40), &format!("{round}:{n}"))));
        events.push(set_inline(&format!("gone:{round}"), "x"));
        events.push(delete_pattern(json!("gone:*")));
        events.push(set_inline("gone:last", &round.to_string()));
    }
    desk.write("in", text(&events));
    stage.redis.pause();
    let child = desk.start(&url(&stage.daemon), &["in", "--batch", "25"]);
    let given_up = || stage.daemon.metric("cache_sync_events_total", &["outcome=\"unavailable\""]) > 0.0;
    assert!(eventually(10 * SECOND, given_up), "nothing was given up");
    stage.redis.resume();
    Ended::of(child).assert(0, "sent 2418, ok 2418, rejected 0, unavailable 0");
    for n in 0..40 {
        let expected = format!("5:{}", 360 + n).into_bytes();
        assert_eq!(stage.redis.value(&format!("k{n}")), Some(expected), "k{n}");
    }
    assert_eq!(stage.redis.value("gone:last").as_deref(), Some(b"5".as_slice()));
    assert!((0..6).all(|round| !stage.redis.exists(&format!("gone:{round}"))));
}

#[test]
fn what_was_given_up_and_all_behind_it_can_be_sent_again() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    let desk = Desk::new();
    stage.blobs.put("/b", Blob::status(503));
    let behind = [
        set_blob("k", &stage.blobs.url("/b")),
        set_inline("k", "newer"),
        delete_pattern(json!("k*")),
        set_inline("k", "newest"),
    ];
    let mut events = vec![set_inline("before", "1")];
    events.push(behind[0].clone());
    events.extend((0..2000).map(|n| set_inline(&format!("other:{n}"), "x")));
    events.extend(behind[1..].iter().cloned());
    events.push(set_inline("after", "2"));
    desk.write("in", text(&events));
    let ended = desk.send(&url(&stage.daemon), &["in", "--failed", "out", "--retry-for", "1", "--batch", "2"], b"");
    ended.assert(1, "sent 2006, ok 2002, rejected 0, unavailable 4");
    assert_eq!(desk.read("out"), text(&behind));
    assert!(!stage.redis.exists("k"));
    assert_eq!(stage.redis.value("after").as_deref(), Some(b"2".as_slice()));
    stage.blobs.put("/b", Blob::bytes("blob"));
    let ended = desk.send(&url(&stage.daemon), &["out"], b"");
    ended.assert(0, "sent 4, ok 4, rejected 0, unavailable 0");
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"newest".as_slice()));
}

#[test]
fn an_overloaded_service_is_asked_again_after_the_time_it_asked_for() {
    let service = BlobServer::start();
    let ok = r#"{"status":"ok","counts":{"ok":1,"rejected":0,"unavailable":0},"events":[]}"#;
    let busy = |status| Blob::status(status).header("Retry-After", "1");
    service.put_sequence("/events", vec![busy(503), busy(429), Blob::bytes(ok)]);
    let desk = Desk::new();
    desk.write("in", text(&[set_inline("k", "v")]));
    let begun = Instant::now();
    desk.send(&service.url(""), &["in"], b"").assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    assert!(begun.elapsed() >= 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(service.hits("/events"), 3);
}

#[test]
fn a_batch_that_is_too_large_is_sent_in_parts() {
    let daemon = Daemon::builder().embedded().set("event.max_events", 100).start();
    let desk = Desk::new();
    desk.write("in", text(&(0..1500).map(|n| set_inline(&format!("k{n}"), "v")).collect::<Vec<_>>()));
    let ended = desk.send(&url(&daemon), &["in"], b"");
    ended.assert(0, "sent 1500, ok 1500, rejected 0, unavailable 0");
}

#[test]
fn a_time_to_wait_beyond_all_bounds_ends_the_tries() {
    let service = BlobServer::start();
    service.put("/events", Blob::status(503).header("Retry-After", "18446744073709551615"));
    let desk = Desk::new();
    desk.write("in", text(&[set_inline("k", "v")]));
    let ended = desk.send(&service.url(""), &["in", "--failed", "out"], b"");
    ended.assert(1, "sent 1, ok 0, rejected 0, unavailable 1");
    assert_eq!((service.hits("/events"), desk.read("out").lines().count()), (1, 1));
    let mode = fs::metadata(desk.path("out")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds values");
}

#[test]
fn an_event_that_is_too_large_costs_no_other_of_its_file() {
    let daemon = Daemon::embedded();
    let desk = Desk::new();
    let giant =
        format!("{{\"key\":\"SET\",\"value\":{{\"data\":{{\"key\":\"g\",\"value\":\"{}\"}}}}}}", "x".repeat(65 << 20));
    desk.write("in", format!("{}\n{giant}\n{}\n", set_inline("a", "1"), set_inline("b", "2")));
    let ended = desk.send(&url(&daemon), &["in"], b"");
    ended.assert(1, "sent 3, ok 2, rejected 1, unavailable 0");
    assert!(ended.err.contains("rejected: in:2: an event of more than 64 MiB"), "{}", ended.err);
}

#[test]
fn a_table_is_sent_row_by_row_and_never_taken_for_events() {
    let stage = Stage::new();
    let desk = Desk::new();
    desk.write("t.csv", "id,name\n1,Ada\n2,\"Grace, H.\"\n,nobody\n");
    let ended = desk.send(&url(&stage.daemon), &["t.csv"], b"");
    ended.assert(1, "sent 0, ok 0, rejected 0, unavailable 0");
    assert!(ended.err.contains("line 1") && ended.err.contains("--csv"), "{}", ended.err);
    let args = ["--csv", "t.csv", "--key", "user:{id}", "--value", "name", "--ttl", "1000"];
    let ended = desk.send(&url(&stage.daemon), &args, b"");
    ended.assert(1, "sent 3, ok 2, rejected 1, unavailable 0");
    assert!(ended.err.contains("rejected: t.csv:4: a column of its key is empty"), "{}", ended.err);
    assert_eq!(stage.redis.value("user:2").as_deref(), Some(b"Grace, H.".as_slice()));
    assert!((990..=1000).contains(&stage.redis.ttl("user:1")));
    let ended = desk.send(&url(&stage.daemon), &["--csv", "-", "--key", "row:{a}"], b"a,b\n7,x\n");
    ended.assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    assert_eq!(stage.redis.value("row:7").as_deref(), Some(b"{\"a\":\"7\",\"b\":\"x\"}".as_slice()));
    let ended = desk.send(&url(&stage.daemon), &["--csv", "t.csv", "--key", "{nothing}"], b"");
    assert!(ended.code == Some(1) && ended.err.contains("there are id, name"), "{}", ended.err);
    let ended = desk.send(&url(&stage.daemon), &["--csv", "t.csv"], b"");
    assert!(ended.code == Some(64) && ended.err.contains("--key"), "{}", ended.err);
}

#[test]
fn the_strings_of_a_redis_are_copied_with_what_is_left_of_their_expiries() {
    let (stage, other) = (Stage::new(), Redis::start());
    let binary: Vec<u8> = (0..=255).collect();
    other.put("user:1", b"Ada");
    other.put("user:2", &binary);
    other.put("other", b"x");
    other.put("rcs:v:{x}user:1", b"n1");
    let mut conn = other.conn();
    redis::cmd("EXPIRE").arg("user:1").arg(1000).exec(&mut conn).expect("it is done");
    redis::cmd("RPUSH").arg("user:list").arg("x").exec(&mut conn).expect("it is done");
    let from = format!("redis://127.0.0.1:{}", other.port());
    let desk = Desk::new();
    let ended = desk.send(&url(&stage.daemon), &["--from-redis", &from, "--pattern", "user:*"], b"");
    ended.assert(1, "sent 3, ok 2, rejected 1, unavailable 0");
    assert!(ended.err.contains("rejected: user:list: it does not hold a string"), "{}", ended.err);
    assert_eq!(stage.redis.value("user:2"), Some(binary));
    assert!((990..=1000).contains(&stage.redis.ttl("user:1")) && stage.redis.ttl("user:2") == -1);
    assert_eq!(stage.redis.key_count(), 2);
    for n in 0..2_000 {
        other.put(&format!("many:{n}"), b"v");
    }
    let ended = desk.send(&url(&stage.daemon), &["--from-redis", &from, "--pattern", "many:*"], b"");
    ended.assert(0, "sent 2000, ok 2000, rejected 0, unavailable 0");
    let ended = desk.send(&url(&stage.daemon), &["--from-redis", "redis://:secret@127.0.0.1:1"], b"");
    assert!(ended.code == Some(1) && !ended.err.contains("secret"), "{}", ended.err);
}

#[test]
fn the_password_of_a_redis_comes_from_a_file_or_the_environment_and_one_among_the_arguments_is_warned_of() {
    const PASSWORD: &str = "p/w:@%41 ü";
    let (stage, other) = (Stage::new(), Redis::start());
    other.put("k", b"v");
    let set = ["SET", "requirepass", PASSWORD];
    redis::cmd("CONFIG").arg(&set).exec(&mut other.conn()).expect("CONFIG SET");
    let desk = Desk::new();
    desk.write("password", format!("{PASSWORD}\n"));
    let (to, at) = (url(&stage.daemon), format!("redis://127.0.0.1:{}", other.port()));
    let all = "sent 1, ok 1, rejected 0, unavailable 0";
    let from_file = desk.send(&to, &["--from-redis", &at, "--redis-password-file", "password"], b"");
    from_file.assert(0, all);
    let args = ["--to", &to, "--from-redis", &at];
    let from_environment = desk.command(&args).env("SEND_REDIS_PASSWORD", PASSWORD).spawn().expect("it can be run");
    let from_environment = Ended::of(from_environment);
    from_environment.assert(0, all);
    let wrong = desk.command(&args).env("SEND_REDIS_PASSWORD", "hunter2").spawn().expect("it can be run");
    let wrong = Ended::of(wrong);
    assert!(wrong.code == Some(1) && wrong.err.contains("rejected the user name or the password"), "{}", wrong.err);

    let shown = at.replace("//", "//:p%2Fw:%40%2541%20%C3%BC@");
    let from_arguments = desk.send(&to, &["--from-redis", &shown], b"");
    from_arguments.assert(0, all);
    let warning = "process lists show the password in --from-redis";
    assert!(from_arguments.err.contains(warning), "{}", from_arguments.err);
    let twice = desk.send(&to, &["--from-redis", &shown, "--redis-password-file", "password"], b"");
    assert!(twice.code == Some(64) && twice.err.contains("another one was given as well"), "{}", twice.err);
    for ended in [&from_file, &from_environment, &wrong, &from_arguments, &twice] {
        assert!(!ended.err.contains("p/w") && !ended.err.contains("p%2F"), "{}", ended.err);
    }
    assert!(!from_file.err.contains("process lists") && !from_environment.err.contains("process lists"));
}

#[test]
fn it_waits_as_long_as_it_is_told_and_signs_what_it_sends() {
    let service = BlobServer::start();
    let gate = Gate::closed();
    service.put("/events", Blob::bytes("{}").gate(&gate));
    let desk = Desk::new();
    desk.write("in", text(&[set_inline("k", "v")]));
    let ended = desk.send(&service.url(""), &["in", "--answer-within", "1", "--retry-for", "0"], b"");
    assert!(ended.code == Some(1) && ended.err.contains("no answer within 1 s"), "{}", ended.err);

    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let daemon = Daemon::builder().embedded().set("auth.webhook_secrets", secret).start();
    desk.write("secret", secret);
    let ended = desk.send(&url(&daemon), &["in", "--webhook-secret-file", "secret"], b"");
    ended.assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    desk.send(&url(&daemon), &["in"], b"").assert(1, "sent 1, ok 0, rejected 0, unavailable 1");
}

#[test]
fn nobody_there_ends_it_within_the_time_for_retries_and_everything_is_kept() {
    let desk = Desk::new();
    let events = text(&(0..30_000).map(|n| set_inline(&format!("k{n}"), "v")).collect::<Vec<_>>());
    desk.write("in", &events);
    let begun = Instant::now();
    let nobody = format!("http://127.0.0.1:{}", closed_port());
    let ended = desk.send(&nobody, &["in", "--retry-for", "1", "--failed", "out"], b"");
    ended.assert(1, "sent 30000, ok 0, rejected 0, unavailable 30000");
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    assert!(ended.err.contains("refused"), "{}", ended.err);
    assert!(desk.read("out") == events, "not everything was kept as it was");
    let ended = desk.send("http://no-such-host.invalid", &["in", "--retry-for", "0"], b"");
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("--skip 0"), "{}", ended.err);
}

#[test]
fn a_token_is_sent_and_shown_nowhere_and_a_wrong_one_ends_it() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "billing:right-token-4711").start();
    let desk = Desk::new();
    desk.write("in", text(&[set_inline("k", "v")]));
    desk.write("right", "right-token-4711\n");
    desk.write("wrong", "wrong-token-4712\n");
    let ended = desk.send(&url(&daemon), &["in", "--token-file", "wrong"], b"");
    ended.assert(1, "sent 1, ok 0, rejected 0, unavailable 1");
    assert!(ended.err.contains("answered 401") && !ended.err.contains("4712"), "{}", ended.err);
    desk.write("line", "billing:right-token-4711 read write\n");
    for good in ["right", "line"] {
        let ended = desk.send(&url(&daemon), &["in", "--token-file", good], b"");
        ended.assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    }
    let mut command = desk.command(&["--to", &url(&daemon), "in"]);
    let output = command.env("SEND_TOKEN", "right-token-4711").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_fault_in_the_command_line_is_told_and_nothing_sent() {
    let desk = Desk::new();
    desk.write("in", "");
    for (args, reason) in [
        (&["in"][..], "--to"),
        (&["--to", "http://h", "missing"], "missing: there is no such file"),
        (&["--to", "http://h", "."], "directory"),
        (&["--to", "h:1", "in"], "--to"),
        (&["--to", "http://h", "in", "--bogus"], "--bogus"),
        (&["--to", "http://h", "in", "--batch", "0"], "--batch"),
        (&["--to", "http://h", "in", "--token-file", "missing"], "--token-file"),
        (&["--to", "http://h"], "<FILE>"),
    ] {
        let output = desk.command(args).output().expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {err}");
        assert!(err.contains(reason), "{args:?}: {err}");
    }
}

#[test]
fn a_signal_lets_what_is_on_its_way_end_and_tells_how_to_go_on() {
    for name in ["INT", "TERM"] {
        let stage = Stage::new();
        let desk = Desk::new();
        let gate = Gate::closed();
        stage.blobs.put("/slow", Blob::bytes("late").gate(&gate));
        let events = [
            set_inline("a", "1"),
            set_blob("slow", &stage.blobs.url("/slow")),
            delete_pattern(json!("x*")),
            set_inline("b", "2"),
        ];
        desk.write("in", text(&events));
        let mut child = desk.start(&url(&stage.daemon), &["in"]);
        stage.blobs.wait_hits("/slow", 1);
        signal(child.id(), name);
        let mut told = BufReader::new(child.stderr.take().expect("piped"));
        let mut err = String::new();
        told.read_line(&mut err).expect("it tells of the signal");
        assert!(err.starts_with("interrupted: waiting"), "{err}");
        gate.open();
        told.read_to_string(&mut err).expect("text");
        let ended = Ended { err, ..Ended::of(child) };
        ended.assert(1, "sent 2, ok 2, rejected 0, unavailable 0");
        assert!(
            ended.err.contains("stopped at in:3 after 2 events; to continue, run it again with --skip 2"),
            "{}",
            ended.err
        );
        assert_eq!(stage.redis.value("slow").as_deref(), Some(b"late".as_slice()));
        assert!(!stage.redis.exists("b"));
        desk.send(&url(&stage.daemon), &["in", "--skip", "2"], b"")
            .assert(0, "sent 2, ok 2, rejected 0, unavailable 0");
        assert_eq!(stage.redis.value("b").as_deref(), Some(b"2".as_slice()));
    }
}

#[test]
fn the_counts_are_told_though_nobody_reads_what_went_wrong() {
    let daemon = Daemon::embedded();
    let mut child = Desk::new().start(&url(&daemon), &["-"]);
    drop(child.stderr.take());
    child.stdin.take().expect("piped").write_all(b"{\"event\":\"SET\"}\n").expect("it is read");
    Ended::of(child).assert(1, "sent 1, ok 0, rejected 1, unavailable 0");
}

#[test]
fn events_of_a_pipe_go_as_they_come() {
    let stage = Stage::new();
    let desk = Desk::new();
    let mut child = desk.start(&url(&stage.daemon), &["-"]);
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(format!("{}\n{{\"key\":", set_inline("a", "1")).as_bytes()).expect("it reads");
    assert!(eventually(10 * SECOND, || stage.redis.exists("a")), "it waits for more");
    drop(pipe);
    Ended::of(child).assert(1, "sent 2, ok 1, rejected 1, unavailable 0");
}

#[test]
fn memory_does_not_grow_with_the_file_while_nobody_answers_nor_afterwards() {
    let service = BlobServer::start();
    let gate = Gate::closed();
    let ok = r#"{"status":"ok","counts":{"ok":1,"rejected":0,"unavailable":0},"events":[]}"#;
    service.put("/events", Blob::bytes(ok).gate(&gate));
    let desk = Desk::new();
    let mut child = desk.start(&service.url(""), &["-"]);
    let mut pipe = child.stdin.take().expect("piped");
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let peak_mib = || {
        let status = fs::read_to_string(&status).expect("a process");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    };
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let value = "x".repeat(20_000);
            for n in 0..9_000 {
                pipe.write_all(format!("{}\n", set_inline(&format!("k{}", n % 97), &value)).as_bytes())
                    .expect("it reads");
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        // No more is taken, for a second: so it waits.
        let mut last = (u64::MAX, Instant::now());
        let stands = eventually(30 * SECOND, || {
            let now = written.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > SECOND
        });
        assert!(stands && !writer.is_finished(), "it reads on though nobody answers: {} MiB", peak_mib());
        assert!(peak_mib() < 140, "{} MiB", peak_mib());
        gate.open();
        writer.join().expect("all is read");
    });
    assert!(peak_mib() < 140, "{} MiB for 180 MB", peak_mib());
    drop(pipe);
    Ended::of(child).assert(0, "sent 9000, ok 9000, rejected 0, unavailable 0");
}
