//! Fetching from servers that fail, lie, hang and redirect.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Blob, BlobServer, Daemon, Random, Stage, get, gzip, ndjson, problem_type, results, set_blob};

const SECOND: Duration = Duration::from_secs(1);

/// Sets `k` from this URL: `stored`, or the problem's type; and how long it took.
pub fn fetch(daemon: &Daemon, url: &str) -> (String, Duration) {
    let begin = Instant::now();
    let json = daemon.post(&set_blob("k", url)).json();
    let entry = &json["results"][0];
    let said = if entry["status"] == "stored" { "stored" } else { problem_type(&entry["problem"]) };
    (said.to_owned(), begin.elapsed())
}

#[track_caller]
pub fn assert_fetch(stage: &Stage, path: &str, want: &str) -> Duration {
    let (said, took) = fetch(&stage.daemon, &stage.blobs.url(path));
    assert_eq!(said, want, "{path}");
    took
}

#[test]
fn a_failing_server_is_asked_again_until_it_succeeds() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 4));
    let tries =
        vec![Blob::status(503), Blob::status(429), Blob::bytes("cut short").cut_after(3), Blob::bytes("at last")];
    stage.blobs.put_sequence("/b", tries);
    assert_fetch(&stage, "/b", "stored");
    assert_eq!(stage.blobs.hits("/b"), 4);
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"at last".as_slice()));
}

#[test]
fn attempts_are_counted() {
    for attempts in [1, 2, 3] {
        let stage = Stage::with(|daemon| daemon.set("fetch.attempts", attempts));
        stage.blobs.put("/b", Blob::status(500));
        assert_fetch(&stage, "/b", "blob-unavailable");
        assert_eq!(stage.blobs.hits("/b"), attempts);
    }
}

#[test]
fn retry_after_is_respected_and_one_that_is_too_long_ends_the_fetch_at_once() {
    let stage = Stage::with(|daemon| daemon.set("fetch.deadline_ms", 8000));
    let wait = |value: &str| Blob::status(503).header("Retry-After", value);
    stage.blobs.put_sequence("/wait", vec![wait("2"), Blob::bytes("x")]);
    let took = assert_fetch(&stage, "/wait", "stored");
    assert!((2 * SECOND - SECOND / 10..5 * SECOND).contains(&took), "{took:?}");
    for value in ["9", "3600", "99999999999999", "Fri, 01 Jan 2100 00:00:00 GMT"] {
        let host = BlobServer::start();
        host.put("/long", wait(value));
        let (said, took) = fetch(&stage.daemon, &host.url("/long"));
        assert!(said == "blob-unavailable" && took < SECOND, "Retry-After: {value}: {said} after {took:?}");
        assert_eq!(host.hits("/long"), 1, "Retry-After: {value}");
    }
}

#[test]
fn three_redirects_are_followed_and_a_fourth_is_forbidden() {
    let stage = Stage::with(|daemon| daemon);
    let blobs = &stage.blobs;
    blobs.put("/0", Blob::bytes("here"));
    blobs.put("/1", Blob::redirect(&blobs.url("/0")));
    blobs.put("/2", Blob::redirect("1?q=%2F"));
    blobs.put("/3", Blob::redirect("/2"));
    blobs.put("/4", Blob::redirect("/3"));
    blobs.put("/loop", Blob::redirect("/loop"));
    for path in ["/1", "/2", "/3"] {
        assert_fetch(&stage, path, "stored");
        assert_eq!(stage.redis.value("k").as_deref(), Some(b"here".as_slice()));
    }
    assert_fetch(&stage, "/4", "blob-forbidden");
    assert_fetch(&stage, "/loop", "blob-forbidden");
    assert_eq!(blobs.hits("/loop"), 4, "three redirects are followed, the fourth is not");
    for status in [301, 302, 303, 307, 308] {
        blobs.put("/any", Blob::status(status).header("Location", "/0"));
        assert_fetch(&stage, "/any", "stored");
    }
}

#[test]
fn a_redirect_to_a_forbidden_place_is_not_followed() {
    let stage = Stage::with(|daemon| daemon);
    let other = BlobServer::start();
    other.put("/x", Blob::bytes("secret"));
    let port = other.port();
    let places = [
        format!("http://localhost:{port}/x"),
        format!("http://127.0.0.2:{port}/x"),
        format!("http://[::1]:{port}/x"),
        format!("http://127.0.0.1.nip.example:{port}/x"),
        "http://169.254.169.254/latest/meta-data".into(),
        "ftp://127.0.0.1/x".into(),
        "file:///etc/passwd".into(),
        format!("http://user:pass@127.0.0.1:{port}/x"),
    ];
    for place in places {
        stage.blobs.put("/away", Blob::redirect(&place));
        assert_eq!(fetch(&stage.daemon, &stage.blobs.url("/away")).0, "blob-forbidden", "{place}");
    }
    assert_eq!(other.targets(), Vec::<String>::new());
}

#[test]
fn whatever_the_framing_the_bytes_are_the_same() {
    let stage = Stage::with(|daemon| daemon);
    let mut random = Random::seeded(7);
    for size in [0, 1, 100, 65_536, 1_000_003] {
        let body = random.bytes(size);
        let forms = [
            Blob::bytes(&body),
            Blob::bytes(&body).chunked(),
            Blob::bytes(&body).gzip(),
            Blob::bytes(&body).gzip().chunked(),
            Blob::bytes(&body).header("Content-Encoding", "identity"),
            Blob::bytes(&body).header("Content-Type", "text/plain; charset=latin1"),
            Blob::bytes(&body).drip(size / 3 + 1, Duration::from_millis(5)),
        ];
        for (form, blob) in forms.into_iter().enumerate() {
            stage.blobs.put("/b", blob);
            assert_fetch(&stage, "/b", "stored");
            assert!(stage.redis.value("k").as_deref() == Some(&body), "{size} bytes, form {form}");
        }
    }
}

#[test]
fn bodies_that_are_cut_short_or_cannot_be_decoded_are_never_stored() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 2));
    let body = Random::seeded(1).bytes(10_000);
    let packed = gzip(&body);
    let mut flipped = packed.clone();
    flipped[5000] ^= 0xff;
    let coded = |bytes: &[u8]| Blob::bytes(bytes).header("Content-Encoding", "gzip");
    let broken = [
        Blob::bytes(&body).cut_after(0),
        Blob::bytes(&body).cut_after(9_999),
        Blob::bytes(&body).chunked().cut_after(9_999),
        Blob::bytes(&body).chunked().cut_after(10_000),
        Blob::bytes(&body).content_length(10_001).cut_after(10_000),
        coded(&body),
        coded(&packed[..packed.len() - 1]),
        coded(&packed[..5000]),
        coded(&flipped),
        coded(&packed).chunked().cut_after(5000),
    ];
    for (case, blob) in broken.into_iter().enumerate() {
        stage.blobs.put("/b", blob.clone());
        let (said, _) = fetch(&stage.daemon, &stage.blobs.url("/b"));
        assert_eq!(said, "blob-unavailable", "case {case}");
        assert_eq!(stage.blobs.hits("/b"), 2, "case {case} is worth another attempt");
        assert!(!stage.redis.exists("k"), "case {case}");
        stage.blobs.put_sequence("/again", vec![blob, Blob::bytes(&body)]);
        assert_fetch(&stage, "/again", "stored");
        assert!(stage.redis.value("k").as_deref() == Some(&body), "case {case}");
        redis::cmd("DEL").arg("k").exec(&mut stage.redis.conn()).unwrap();
    }
}

#[test]
fn what_follows_a_declared_length_does_not_leak_into_the_next_answer() {
    let stage = Stage::with(|daemon| daemon.set("fetch.pool_size", 1));
    stage.blobs.put("/short", Blob::bytes("12345HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").content_length(5));
    stage.blobs.put("/next", Blob::bytes("next"));
    for _ in 0..5 {
        assert_fetch(&stage, "/short", "stored");
        assert_eq!(stage.redis.value("k").as_deref(), Some(b"12345".as_slice()));
        assert_fetch(&stage, "/next", "stored");
        assert_eq!(stage.redis.value("k").as_deref(), Some(b"next".as_slice()));
    }
}

#[test]
fn a_slow_attempt_and_a_slow_fetch_are_ended_in_time() {
    let stage = Stage::with(|daemon| daemon.set("fetch.timeout_ms", 500).set("fetch.attempts", 2));
    stage.blobs.put("/drip", Blob::bytes([b'x'; 100]).drip(1, Duration::from_millis(100)));
    stage.blobs.put("/hang", Blob::hang());
    for path in ["/drip", "/hang"] {
        let took = assert_fetch(&stage, path, "blob-unavailable");
        assert!((SECOND / 2..6 * SECOND).contains(&took), "{path}: {took:?}");
    }
    assert_eq!(stage.blobs.hits("/drip"), 2);
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 100).set("fetch.deadline_ms", 1500));
    stage.blobs.put("/down", Blob::status(503));
    let took = assert_fetch(&stage, "/down", "blob-unavailable");
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn a_query_is_sent_as_it_came_and_never_seen_again() {
    let stage = Stage::with(|daemon| daemon.set("log_level", "debug").set("fetch.attempts", 2));
    let blobs = &stage.blobs;
    let query = "?sig=TOPSECRET%2Fx+y&b=%20";
    blobs.put("/ok", Blob::bytes("x"));
    blobs.put("/gone", Blob::status(404));
    blobs.put("/down", Blob::status(503));
    blobs.put("/cut", Blob::bytes("xyz").cut_after(1));
    blobs.put("/moved", Blob::redirect("/ok?next=TOPSECRET"));
    blobs.put("/away", Blob::redirect("http://localhost/x?next=TOPSECRET"));
    let mut said = String::new();
    for path in ["/ok", "/gone", "/down", "/cut", "/moved", "/away"] {
        let url = format!("{}{query}", blobs.url(path));
        for data in [json!(url), json!({"key": "k", "url": url}), json!([url, {"key": "k", "url": url}])] {
            said += &stage.daemon.post(&crate::support::set(data)).text();
        }
    }
    for url in [
        "http://u:TOPSECRET@127.0.0.1/x",
        "http://127.0.0.1:99999/?s=TOPSECRET",
        "ftp://h/?s=TOPSECRET",
        "http://h/?TOPSECRET",
    ] {
        said += &stage.daemon.post(&crate::support::set(json!({"url": url}))).text();
        said += &stage.daemon.post(&crate::support::set(json!([url]))).text();
    }
    assert!(!said.contains("TOPSECRET"), "{said}");
    let log = stage.daemon.logs().join("\n");
    assert!(!log.contains("TOPSECRET"), "{log}");
    assert!(blobs.targets().contains(&format!("/ok{query}")), "{:?}", blobs.targets());
    assert_eq!(results(&stage.daemon.post(&get(json!("ok"))), 200, "ok")[0]["value"], "x", "the key is the path alone");
}

#[test]
fn what_is_fetched_is_what_was_named_byte_for_byte() {
    let stage = Stage::new();
    stage.blobs.fallback(|target| Some(Blob::bytes(format!("at {target}"))));
    for (target, key) in [
        ("/a%23b.json", "a#b.json"),
        ("/a%2Fb%20c/%C3%A9%2e", "a/b c/\u{e9}."),
        ("/a+b/..c/d..", "a+b/..c/d.."),
        ("//a//b", "/a//b"),
        ("/a:b@c;d=e,f!$&'()*~_-.|", "a:b@c;d=e,f!$&'()*~_-.|"),
        ("/%2525?x=%27&y='z'&/?:@!$()*+,;", "%25"),
        ("/q?", "q"),
        ("/UP%2f%2F?A=%c3%a9", "UP//"),
    ] {
        stage.ok(&json!({"key": "SET", "value": {"data": stage.blobs.url(target)}}));
        assert_eq!(stage.blobs.targets().last().map(String::as_str), Some(target));
        assert_eq!(stage.redis.value(key).as_deref(), Some(format!("at {target}").as_bytes()), "{key}");
    }
    let head = stage.blobs.heads().pop().expect("a request");
    assert!(head.starts_with("GET /UP%2f%2F?A=%c3%a9 HTTP/1.1\r\n"), "{head}");
}

#[test]
fn a_host_that_asks_for_it_is_left_alone_and_our_sender_is_told() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    let busy = BlobServer::start();
    busy.put("/busy", Blob::status(503).header("Retry-After", "3"));
    busy.put("/other", Blob::bytes("x"));
    stage.blobs.put("/quick", Blob::bytes("quick"));
    let answer = stage.daemon.post(&set_blob("k", &busy.url("/busy")));
    assert_eq!((answer.status, answer.retry_after()), (503, 3));
    assert_fetch(&stage, "/quick", "stored");
    let (said, took) = fetch(&stage.daemon, &busy.url("/other"));
    assert!(said == "stored" && took > 2 * SECOND, "another of the same host: {said} after {took:?}");
    let long = BlobServer::start();
    long.put("/long", Blob::status(429).header("Retry-After", "3600"));
    for _ in 0..2 {
        let begin = Instant::now();
        let answer = stage.daemon.post_ndjson(&ndjson(&[set_blob("k", &long.url("/long"))]));
        assert_eq!((answer.status, long.hits("/long"), answer.retry_after()), (503, 1, 300), "asked once");
        assert!(begin.elapsed() < SECOND);
    }
}

#[test]
fn a_failed_blob_says_what_was_asked_of_whom_and_how_often() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 2));
    stage.blobs.put("/a/gone.png", Blob::status(404));
    stage.blobs.put("/a/busy.png", Blob::status(503));
    for (path, said) in
        [("/a/gone.png", "the server answered 404"), ("/a/busy.png", "the server answered 503 (attempt 2)")]
    {
        let url = stage.blobs.url(path);
        let answer = stage.daemon.post(&set_blob("k", &format!("{url}?sig=SECRET"))).json();
        let detail = format!("GET {url}: {said}");
        assert_eq!(answer["results"][0]["problem"]["detail"], detail.as_str());
        let line = stage.daemon.log_line(|line| line.contains("event not carried out") && line.contains(path));
        assert!(line.contains(&detail) && !line.contains("SECRET"), "{line}");
    }
    let failures = stage.daemon.get("/status.json").text();
    assert!(failures.contains("/a/gone.png: the server answered 404") && !failures.contains("SECRET"), "{failures}");
}
