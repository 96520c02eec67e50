//! A whole run with a secret in every place where one may be: none of them comes out anywhere.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;

use crate::support::{Blob, BlobServer, Builder, Daemon, Redis, Wire, delete, eventually, get, set, set_inline};

/// Stands in every secret.
const PLANT: &str = "PLANTED";
const KEY: &[u8] = b"PLANTED-key-of-webhooks-";
const PASSWORD: &str = "PLANTED-password";
const TOKEN: &str = "PLANTED-token";

/// What must not come out: the mark, and what secrets look like in base64.
fn planted() -> Vec<String> {
    vec![PLANT.to_owned(), STANDARD.encode(KEY), STANDARD.encode("PLANTED-bytes!"), "U2lnbmVk".to_owned()]
}

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for plant in planted() {
        let line = text.lines().find(|line| line.contains(&plant));
        assert!(line.is_none(), "{what} tells {plant}: {line:?}");
    }
}

struct Run {
    redis: Redis,
    blobs: BlobServer,
    tokens: tempfile::NamedTempFile,
}

impl Run {
    fn new() -> Self {
        let tokens = tempfile::NamedTempFile::new().expect("a file");
        fs::write(tokens.path(), "PLANTED-token-of-file").expect("it can be written");
        let redis = Redis::start();
        let mut conn = redis.conn();
        redis::cmd("CONFIG").arg(&["SET", "requirepass", PASSWORD]).exec(&mut conn).expect("CONFIG SET");
        Run { redis, blobs: BlobServer::start(), tokens }
    }

    fn builder(&self, format: &str) -> Builder {
        let builder = Daemon::builder().redis(&self.redis).set("log_level", "debug").set("log_format", format);
        let builder = builder.set("redis.password", PASSWORD).set("auth.tokens", TOKEN).set("fetch.attempts", 2);
        let builder = builder.set("auth.webhook_secrets", format!("whsec_{}", STANDARD.encode(KEY)));
        builder.set("auth.tokens_file", self.tokens.path().display()).set("redis.retry_ms", 300)
    }

    /// Every kind of event, good and bad; the answers.
    fn events(&self) -> Vec<String> {
        for (path, blob) in [
            ("/blob", Blob::bytes("PLANTED-blob")),
            ("/down", Blob::status(503)),
            ("/denied", Blob::status(403)),
            ("/to", Blob::redirect("/gone?sig=PLANTED-in-location")),
            ("/forbidden", Blob::redirect("http://10.0.0.1/?sig=PLANTED-in-location")),
            ("/cut", Blob::bytes("PLANTED-blob").cut_after(3)),
        ] {
            self.blobs.put(path, blob);
        }
        let urls = ["/blob", "/down", "/denied", "/to", "/forbidden", "/cut", "/gone"];
        let mut events: Vec<String> = urls
            .iter()
            .map(|path| set(json!([format!("{}?sig=PLANTED-in-query#PLANTED", self.blobs.url(path))])).to_string())
            .collect();
        events.extend([
            set_inline("k", "PLANTED-value").to_string(),
            set(json!({"key": "k", "value": {"card": "PLANTED-value"}})).to_string(),
            set(json!({"key": "k", "value": STANDARD.encode("PLANTED-bytes!"), "encoding": "base64"})).to_string(),
            json!([set_inline("k", "PLANTED-value"), delete(json!("k")), {"key": "GET"}]).to_string(),
            get(json!("none")).to_string(),
            r#"{"key":"SET","value":{"data":{"key":"a","value":"PLANTED-broken""#.to_owned(),
            r#"{"key":"SET","value":{"data":{"key":"a","value":"PLANTED==","encoding":"base64"}}}"#.to_owned(),
            r#"{"key":"SET","value":{"data":{"key":"a","value":"PLANTED\ud800"}}}"#.to_owned(),
            r#"{"key":"SET","value":{"data":"http://u:PLANTED@h/?PLANTED"}}"#.to_owned(),
            r#"{"key":"SET","value":{"data":{"key":"a","value":"PLANTED","url":"ftp://h/?PLANTED"}}}"#.to_owned(),
            r#"{"key":"SET","value":{"data":{"key":"a","value":null},"ttl":"PLANTED"}}"#.to_owned(),
        ]);
        events
    }
}

/// Posts with a token, signed, and with what opens nothing.
fn post_in_every_way(daemon: &Daemon, body: &str) -> Vec<(u16, String)> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_string();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), format!("PLANTED-id.{time}.{body}").as_bytes());
    let good = format!("v1,{}", STANDARD.encode(tag));
    let wrong = format!("v1,U2lnbmVk{}", "A".repeat(35) + "=");
    let signed =
        |signature| vec![("webhook-id", "PLANTED-id"), ("webhook-timestamp", &time), ("webhook-signature", signature)];
    let ways: [Vec<(&str, &str)>; 6] = [
        vec![("authorization", "Bearer PLANTED-token"), ("cookie", "PLANTED=1")],
        vec![("authorization", "Bearer PLANTED-token-of-file")],
        signed(&good),
        signed(&wrong),
        vec![("authorization", "Bearer PLANTED-guess")],
        vec![("authorization", "Basic PLANTED")],
    ];
    let mut said = Vec::new();
    for headers in ways {
        let answer = daemon.post_with(&headers, body.as_bytes());
        let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        said.push((answer.status, headers + &answer.text()));
    }
    said
}

#[test]
fn no_secret_comes_out_of_a_whole_run() {
    for format in ["text", "json"] {
        let mut run = Run::new();
        let builder = run.builder(format);
        assert_clean("check-config", &builder.check_config());
        let mut daemon = builder.start();
        for event in run.events() {
            let said = post_in_every_way(&daemon, &event);
            let statuses: Vec<bool> = said.iter().map(|(status, _)| *status != 401).collect();
            assert_eq!(statuses, [true, true, true, false, false, false], "{event}: {said:?}");
            said.iter().for_each(|(_, text)| assert_clean(&event, text));
        }
        for bytes in [&b"GET /nope?sig=PLANTED HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"PLANTED junk\r\n\r\n"] {
            let mut wire = Wire::open(daemon.address());
            wire.send(bytes);
            assert_clean("an answer to what is no event", &wire.answer().text());
        }

        fs::write(run.tokens.path(), "PLANTED-token two words").expect("it can be written");
        daemon.log_line(|line| line.contains("auth.tokens_file") && line.contains("cannot be used"));
        run.redis.kill();
        for event in [set_inline("k", "PLANTED-value"), get(json!("k"))] {
            let said = post_in_every_way(&daemon, &event.to_string());
            assert_eq!(said[0].0, 503, "{said:?}");
            said.iter().for_each(|(_, text)| assert_clean("an answer without Redis", text));
        }
        assert!(eventually(Duration::from_secs(5), || daemon.get("/ready").status == 503));
        for path in ["/ready", "/live", "/metrics", "/?sig=PLANTED"] {
            assert_clean(path, &daemon.get(path).text());
        }
        let mut wire = Wire::open(daemon.address());
        wire.send_request("GET", "/status.json", &[("authorization", &format!("Bearer {TOKEN}"))], b"");
        let status = wire.answer();
        assert_eq!(status.json()["failures"].as_array().map(Vec::len), Some(50), "{}", status.text());
        assert_clean("/status.json", &status.text());
        daemon.sigterm();
        daemon.wait_exit(Duration::from_secs(10));
        let log = daemon.logs();
        assert!(log.len() > 100, "hardly anything was logged: {}", log.len());
        assert_clean("the log", &log.join("\n"));
    }
}

#[test]
fn settings_at_fault_tell_no_secret_either() {
    let run = Run::new();
    for (path, value) in [
        ("auth.tokens", "PLANTED token"),
        ("auth.webhook_secrets", "whsec_PLANTED"),
        ("auth.webhook_secrets", "PLANTED"),
        ("redis.url", "redis://u:PLANTED@h:port"),
        ("redis.url", "redis://u:PLANTED@h/1?PLANTED"),
    ] {
        let said = run.builder("text").set(path, value).check_config();
        assert!(said.contains("cannot start") && said.contains(path), "{said}");
        assert_clean(path, &said);
    }
    assert_clean("redis.url", &run.builder("text").set("redis.url", "redis://u:PLANTED-pw@h/1").check_config());
    fs::write(run.tokens.path(), "PLANTED one").expect("it can be written");
    assert_clean("auth.tokens_file", &run.builder("text").check_config());
}

#[test]
fn a_start_that_lets_everybody_in_warns_and_others_do_not() {
    let is_warning = |line: &str| line.contains("WARN") && line.contains("everybody");
    let builder = || Daemon::builder().embedded().set("bind", "0.0.0.0");
    builder().start().log_line(is_warning);
    for quiet in [builder().set("auth.tokens", "t"), builder().set("bind", "127.0.0.1")] {
        let daemon = quiet.start();
        daemon.log_line(|line| line.contains("listening"));
        assert!(!daemon.logs().iter().any(|line| is_warning(line)), "{:?}", daemon.logs());
    }
}
