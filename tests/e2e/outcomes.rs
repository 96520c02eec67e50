//! Work that was taken on and failed: which problem each entry gets, its class, and the status of the answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Blob, BlobServer, Daemon, Gate, Stage, closed_port, eventually, get, problem_type, results, set, set_blob,
    set_inline,
};

/// Asserts that an entry failed so, with a problem that is whole.
#[track_caller]
fn assert_failed(entry: &Value, class: &str, slug: &str) {
    assert_eq!(entry["status"], class, "{entry}");
    let problem = &entry["problem"];
    assert_eq!(problem_type(problem), slug, "{entry}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {entry}");
    }
}

fn status_of(class: &str) -> u16 {
    if class == "rejected" { 422 } else { 503 }
}

/// Sets one blob, which must fail so; returns how long that took.
#[track_caller]
fn assert_blob_fails(daemon: &Daemon, url: &str, class: &str, slug: &str) -> Duration {
    let begin = Instant::now();
    let answer = daemon.post(&set_blob("k", url));
    let took = begin.elapsed();
    assert_eq!(answer.status, status_of(class), "{url}: {}", answer.text());
    let found = results(&answer, status_of(class), class);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["key"], "k");
    assert_failed(&found[0], class, slug);
    if class == "unavailable" {
        answer.retry_after();
    }
    took
}

#[test]
fn a_status_other_than_200_is_told_apart_by_what_it_means() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 2));
    stage.redis.put("k", b"before");
    let classes: [(&[u16], &str, &str); 3] = [
        (&[404, 410], "rejected", "blob-not-found"),
        (
            &[400, 401, 403, 405, 409, 412, 416, 418, 451, 201, 202, 203, 204, 206, 300, 304, 305],
            "rejected",
            "blob-denied",
        ),
        (&[500, 501, 502, 503, 504, 507, 408, 425, 429], "unavailable", "blob-unavailable"),
    ];
    for (statuses, class, slug) in classes {
        for status in statuses {
            let path = format!("/{status}");
            stage.blobs.put(&path, Blob::status(*status));
            assert_blob_fails(&stage.daemon, &stage.blobs.url(&path), class, slug);
            let attempts = if class == "rejected" { 1 } else { 2 };
            assert_eq!(stage.blobs.hits(&path), attempts, "{status}");
        }
    }
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"before".as_slice()), "a failed SET must leave the key alone");
}

#[test]
fn hosts_that_are_not_allowed_are_forbidden_and_never_called() {
    let blobs = BlobServer::start();
    let port = blobs.port();
    let any = Daemon::builder().embedded().set("fetch.allowed_hosts", "").start();
    let this = Daemon::builder().embedded().start();
    let other_port = Daemon::builder().embedded().set("fetch.allowed_hosts", "127.0.0.1:1,*.example.org").start();
    let forbidden = [
        (&any, format!("http://127.0.0.1:{port}/x")),
        (&any, format!("http://localhost:{port}/x")),
        (&any, format!("http://2130706433:{port}/x")),
        (&any, format!("http://0x7f.1:{port}/x")),
        (&any, "http://127.0.0.1/x".into()),
        (&any, "http://127.1/x".into()),
        (&any, "http://[::1]/x".into()),
        (&any, "http://[::ffff:127.0.0.1]/x".into()),
        (&any, "http://[2002:7f00:1::]/x".into()),
        (&any, "http://[64:ff9b::7f00:1]/x".into()),
        (&any, "http://10.0.0.1/x".into()),
        (&any, "http://192.168.1.1/x".into()),
        (&any, "http://172.16.0.1/x".into()),
        (&any, "http://100.64.0.1/x".into()),
        (&any, "http://169.254.169.254/latest/meta-data".into()),
        (&any, "http://168.63.129.16/x".into()),
        (&any, "http://0.0.0.0/x".into()),
        (&any, "http://224.0.0.1/x".into()),
        (&any, "http://[fd00:ec2::254]/x".into()),
        (&any, "http://8.8.8.8:8080/x".into()),
        (&any, "https://8.8.8.8:80443/x".replace("80443", "8443")),
        (&this, format!("http://localhost:{port}/x")),
        (&this, "http://169.254.169.254/x".into()),
        (&this, "http://127.0.0.2/x".into()),
        (&other_port, format!("http://127.0.0.1:{port}/x")),
        (&other_port, "http://example.org/x".into()),
        (&other_port, "http://badexample.org/x".into()),
    ];
    for (daemon, url) in forbidden {
        assert_blob_fails(daemon, &url, "rejected", "blob-forbidden");
    }
    assert_eq!(blobs.targets(), Vec::<String>::new());
    blobs.put("/x", Blob::bytes("x"));
    for host in ["127.0.0.1", "2130706433", "0x7f.1"] {
        results(&this.post(&set_blob("k", &format!("http://{host}:{port}/x"))), 200, "ok");
    }
}

#[test]
fn a_host_that_cannot_be_reached_is_unavailable() {
    let settings = Daemon::builder().embedded().set("fetch.allowed_hosts", "127.0.0.1,gone.invalid");
    let daemon = settings.set("fetch.attempts", 2).set("fetch.deadline_ms", 3000).start();
    for url in [format!("http://127.0.0.1:{}/x", closed_port()), "http://gone.invalid/x".into()] {
        let took = assert_blob_fails(&daemon, &url, "unavailable", "blob-unavailable");
        assert!(took < Duration::from_secs(5), "{url} took {took:?}");
    }
}

#[test]
fn a_blob_that_is_too_large_is_rejected_however_it_comes() {
    let stage = Stage::with(|daemon| daemon.set("fetch.max_blob_bytes", 100_000));
    let large = vec![b'x'; 100_001];
    let blobs = &stage.blobs;
    blobs.put("/declared", Blob::bytes(&large));
    blobs.put("/undeclared", Blob::bytes(&large).chunked());
    blobs.put("/gzip", Blob::bytes(&large).gzip());
    blobs.put("/bomb", Blob::bytes(vec![0; 16 << 20]).gzip());
    blobs.put("/bomb-chunked", Blob::bytes(vec![0; 16 << 20]).gzip().chunked());
    for path in ["/declared", "/undeclared", "/gzip", "/bomb", "/bomb-chunked"] {
        assert_blob_fails(&stage.daemon, &blobs.url(path), "rejected", "blob-too-large");
        assert_eq!(blobs.hits(path), 1, "{path}: too large is no reason to try again");
    }
    let fits = &large[..100_000];
    blobs.put("/fits", Blob::bytes(fits));
    blobs.put("/fits-chunked", Blob::bytes(fits).chunked());
    blobs.put("/fits-gzip", Blob::bytes(fits).gzip());
    for path in ["/fits", "/fits-chunked", "/fits-gzip"] {
        stage.ok(&set_blob("k", &blobs.url(path)));
        assert!(stage.redis.value("k").as_deref() == Some(fits), "{path}");
    }
}

#[test]
fn values_beyond_the_answers_limit_are_rejected() {
    let stage = Stage::with(|daemon| daemon.set("http.max_answer_bytes", 1000));
    stage.redis.put("a", &[b'a'; 600]);
    stage.redis.put("b", &[b'b'; 600]);
    stage.redis.put("c", &[b'c'; 1001]);
    stage.redis.put("d", &[b'd'; 1000]);
    let found = results(&stage.daemon.post(&get(json!(["a", "b", "nobody"]))), 422, "rejected");
    assert_eq!(found[0]["status"], "hit");
    assert_failed(&found[1], "rejected", "answer-too-large");
    assert_eq!(found[2]["status"], "miss");
    assert_failed(&results(&stage.daemon.post(&get(json!("c"))), 422, "rejected")[0], "rejected", "answer-too-large");
    assert_eq!(stage.ok(&get(json!("d")))[0]["status"], "hit");
    let answer = stage.daemon.post(&json!([get(json!("a")), get(json!("b"))]));
    assert_eq!(answer.status, 207, "the limit holds for a batch as a whole: {}", answer.text());
    assert_eq!(answer.json()["counts"], json!({"ok": 1, "rejected": 1, "unavailable": 0}));
}

#[test]
fn a_key_that_holds_no_string_is_of_the_wrong_type() {
    let stage = Stage::new();
    redis::cmd("RPUSH").arg("list").arg("x").exec(&mut stage.redis.conn()).unwrap();
    stage.redis.put("a", b"1");
    let found = results(&stage.daemon.post(&get(json!(["a", "list", "a"]))), 422, "rejected");
    assert_eq!([&found[0]["status"], &found[2]["status"]], ["hit", "hit"]);
    assert_failed(&found[1], "rejected", "wrong-type");
    stage.ok(&set_inline("list", "now a string"));
}

#[test]
fn without_redis_work_is_unavailable_within_its_time() {
    let mut stage = Stage::with(|daemon| daemon.set("redis.retry_ms", 600));
    stage.redis.kill();
    let events = [set_inline("k", "v"), get(json!("k")), json!({"key": "DELETE_PATTERN", "value": {"data": "k*"}})];
    for event in events {
        let begin = Instant::now();
        let answer = stage.daemon.post(&event);
        assert!(begin.elapsed() < Duration::from_millis(1600), "{event} took {:?}", begin.elapsed());
        let found = results(&answer, 503, "unavailable");
        assert_failed(&found[0], "unavailable", "cache-unavailable");
        answer.retry_after();
    }
    stage.redis.restart();
    assert!(eventually(Duration::from_secs(5), || stage.daemon.post(&set_inline("k", "v")).status == 200));
}

#[test]
fn work_that_is_not_done_by_its_deadline_times_out() {
    let stage = Stage::with(|daemon| daemon.set("event.deadline_ms", 700));
    let gate = Gate::closed();
    stage.blobs.put("/slow", Blob::bytes("late").gate(&gate));
    let slow = set(json!([{"key": "fine", "value": 1}, {"key": "k", "url": stage.blobs.url("/slow")}]));
    let begin = Instant::now();
    let answer = stage.daemon.post(&slow);
    let took = begin.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_millis(2200)).contains(&took), "{took:?}");
    let found = results(&answer, 503, "unavailable");
    assert_eq!(found[0]["status"], "stored");
    assert_failed(&found[1], "unavailable", "timeout");
    answer.retry_after();
    gate.open();
    stage.ok(&set_inline("k", "newer"));
    stage.ok(&get(json!("k")));
    assert_eq!(
        stage.redis.value("k").as_deref(),
        Some(b"newer".as_slice()),
        "work not begun by the deadline is dropped"
    );
}

#[test]
fn one_failed_entry_leaves_the_others_alone_and_the_worst_is_the_events() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/gone", Blob::status(404));
    stage.blobs.put("/down", Blob::status(503));
    let (gone, down) = (stage.blobs.url("/gone"), stage.blobs.url("/down"));
    let ok = json!({"key": "a", "value": 1});
    let cases = [
        (json!([ok, {"key": "b", "url": gone}]), "rejected", ["stored", "rejected"].as_slice()),
        (json!([{"key": "b", "url": gone}, ok]), "rejected", &["rejected", "stored"]),
        (json!([{"key": "c", "url": down}, ok]), "unavailable", &["unavailable", "stored"]),
        (
            json!([{"key": "b", "url": gone}, {"key": "c", "url": down}, ok]),
            "unavailable",
            &["rejected", "unavailable", "stored"],
        ),
    ];
    for (data, class, statuses) in cases {
        let answer = stage.daemon.post(&set(data));
        let found = results(&answer, status_of(class), class);
        let found: Vec<_> = found.iter().map(|entry| entry["status"].as_str().unwrap_or_default()).collect();
        assert_eq!(found, statuses);
        assert_eq!(answer.header("retry-after").is_some(), class == "unavailable");
    }
}
