//! Signed requests, after the Standard Webhooks specification, in place of a token.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;

use crate::reload::{ALL, change, daemon_with};
use crate::support::http::request;
use crate::support::{Answer, Daemon, Redis, Wire, eventually, get, gzip, set_inline};

const FIRST: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ID: &str = "msg_1";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).expect("base64"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}

fn daemon() -> Daemon {
    let secrets = format!("whsec_{FIRST},whsec_{SECOND}");
    Daemon::builder().embedded().set("auth.webhook_secrets", secrets).start()
}

/// Posts with these headers' worth.
fn post(daemon: &Daemon, timestamp: &str, signatures: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers = [("webhook-id", ID), ("webhook-timestamp", timestamp), ("webhook-signature", signatures)];
    daemon.post_with(&[&headers, more].concat(), body)
}

fn event() -> Vec<u8> {
    get(json!("k")).to_string().into_bytes()
}

#[track_caller]
fn assert_refused(answer: &Answer, why: &str) {
    let problem = answer.problem(401, "unauthorized");
    assert!(answer.header("www-authenticate").is_some());
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{why}: {problem}");
}

#[test]
fn a_signature_with_any_of_the_secrets_lets_in_and_lets_in_again() {
    let (daemon, body, time) = (daemon(), event(), now().to_string());
    for secret in [FIRST, SECOND] {
        let good = sign(secret, ID, &time, &body);
        for signatures in [good.clone(), format!("{} {good}", sign(OTHER, ID, &time, &body)), format!("v1a,x {good}")] {
            // The same id twice: a sender that repeats an event must get it carried out.
            for _ in 0..2 {
                let answer = post(&daemon, &time, &signatures, &[], &body);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
    }
}

#[test]
fn what_is_not_signed_with_a_secret_of_ours_is_refused() {
    let (daemon, body, time) = (daemon(), event(), now().to_string());
    let good = sign(FIRST, ID, &time, &body);
    let changed = set_inline("k", "v").to_string();
    assert_refused(&post(&daemon, &time, &sign(OTHER, ID, &time, &body), &[], &body), "webhook-signature");
    assert_refused(&post(&daemon, &time, &good, &[], changed.as_bytes()), "webhook-signature");
    assert_refused(&post(&daemon, &time, &sign(FIRST, "msg_2", &time, &body), &[], &body), "webhook-signature");
    let earlier = (now() - 1).to_string();
    assert_refused(&post(&daemon, &earlier, &good, &[], &body), "webhook-signature");
    assert_refused(&post(&daemon, &time, &good.replace("v1,", "v2,"), &[], &body), "webhook-signature");
    // Before anything is made of the body.
    assert_refused(&post(&daemon, &time, &good, &[], b"{"), "webhook-signature");
    assert_eq!(daemon.post(&get(json!("k"))).status, 401);
    for token in [FIRST, "", &format!("whsec_{FIRST}")] {
        let authorization = format!("Bearer {token}");
        assert_eq!(daemon.post_with(&[("authorization", &authorization)], &body).status, 401, "a secret is no token");
    }
}

#[test]
fn the_time_may_be_five_minutes_off_either_way() {
    let (daemon, body) = (daemon(), event());
    for (off, let_in) in [(-290, true), (290, true), (-310, false), (310, false), (-1_000_000, false)] {
        let time = (now() + off).to_string();
        let answer = post(&daemon, &time, &sign(FIRST, ID, &time, &body), &[], &body);
        if let_in {
            assert_eq!(answer.status, 200, "{off}: {}", answer.text());
        } else {
            assert_refused(&answer, "webhook-timestamp");
        }
    }
}

#[test]
fn the_signature_is_of_the_body_as_it_was_sent() {
    let (daemon, time) = (daemon(), now().to_string());
    let plain = json!((0..2000).map(|n| set_inline(&format!("key-{n}"), "v")).collect::<Vec<_>>()).to_string();
    let packed = gzip(plain.as_bytes());
    let coding = [("content-encoding", "gzip")];
    let of_packed = sign(FIRST, ID, &time, &packed);
    assert_eq!(post(&daemon, &time, &of_packed, &coding, &packed).status, 200);
    assert_refused(&post(&daemon, &time, &sign(FIRST, ID, &time, plain.as_bytes()), &coding, &packed), "signature");

    // What is no gzip is judged by its signature first, the part behind the fault included.
    let mut broken = packed.clone();
    broken[20..].fill(0xff);
    broken.extend(vec![b'x'; 300_000]);
    assert_refused(&post(&daemon, &time, &of_packed, &coding, &broken), "signature");
    let answer = post(&daemon, &time, &sign(FIRST, ID, &time, &broken), &coding, &broken);
    answer.problem(400, "malformed-json");

    // In chunks, each a part of its own.
    let (first, second) = plain.split_at(plain.len() / 2);
    let chunked = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    let signature = sign(FIRST, ID, &time, plain.as_bytes());
    let headers = [("webhook-id", ID), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    let answer = daemon.raw(&request(
        "POST",
        "/events",
        &[&headers[..], &[("transfer-encoding", "chunked")]].concat(),
        chunked.as_bytes(),
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_cannot_be_let_in_is_refused_before_its_body_comes() {
    let (daemon, time, late) = (daemon(), now().to_string(), (now() - 400).to_string());
    let good = sign(FIRST, ID, &time, b"");
    let length = ("content-length", "1000");
    for headers in [
        &[length][..],
        &[length, ("webhook-timestamp", &time), ("webhook-signature", &good)],
        &[length, ("webhook-id", ID), ("webhook-signature", &good)],
        &[length, ("webhook-id", ID), ("webhook-timestamp", &time)],
        &[length, ("webhook-id", ID), ("webhook-timestamp", &time), ("webhook-signature", "v1,AAAA")],
        &[length, ("webhook-id", ID), ("webhook-timestamp", &late), ("webhook-signature", &good)],
    ] {
        let mut wire = daemon.wire();
        wire.send_request("POST", "/events", headers, b"");
        wire.answer().problem(401, "unauthorized");
    }
}

#[test]
fn beside_tokens_either_lets_in() {
    let builder = Daemon::builder().embedded().set("auth.tokens", "token");
    let daemon = builder.set("auth.webhook_secrets", format!("whsec_{FIRST}")).start();
    let (body, time) = (event(), now().to_string());
    let wrong = sign(OTHER, ID, &time, &body);
    assert_eq!(daemon.post_with(&[("authorization", "Bearer token")], &body).status, 200);
    assert_eq!(post(&daemon, &time, &wrong, &[("authorization", "Bearer token")], &body).status, 200);
    let signed = sign(FIRST, ID, &time, &body);
    assert_eq!(post(&daemon, &time, &signed, &[("authorization", "Bearer wrong")], &body).status, 200);
    assert_refused(&post(&daemon, &time, &wrong, &[("authorization", "Bearer wrong")], &body), "signature");
    assert_refused(&daemon.post(&get(json!("k"))), "neither");
}

#[test]
fn secrets_of_a_file_can_be_changed_without_a_restart() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), format!("whsec_{FIRST}\n")).expect("it can be written");
    let daemon = Daemon::builder().embedded().set("auth.webhook_secrets_file", file.path().display()).start();
    let (body, time) = (event(), now().to_string());
    let is_let_in = |secret| post(&daemon, &time, &sign(secret, ID, &time, &body), &[], &body).status == 200;
    assert!(is_let_in(FIRST) && !is_let_in(SECOND));
    fs::write(file.path(), format!("whsec_{SECOND}\n")).expect("it can be written");
    assert!(eventually(Duration::from_secs(2), || is_let_in(SECOND)) && !is_let_in(FIRST));
}

#[test]
fn secrets_of_the_settings_follow_them() {
    let text = |secret: &str| format!("[auth]\nwebhook_secrets = [\"whsec_{SECOND}\", \"whsec_{secret}\"]\n");
    let redis = Redis::start();
    let (daemon, body) = (daemon_with(&redis, &text(FIRST)), event());
    let (mut old, mut new) = (FIRST, OTHER);
    for how in ALL {
        change(&daemon, how, &text(new));
        let time = now().to_string();
        let signed = |secret| post(&daemon, &time, &sign(secret, ID, &time, &body), &[], &body);
        assert_eq!([signed(new).status, signed(SECOND).status], [200, 200], "{how:?}");
        assert_refused(&signed(old), "No signature in webhook-signature");
        (old, new) = (new, old);
    }
    let line = daemon.log_line(|line| line.contains("settings have changed"));
    assert!(line.contains("auth.webhook_secrets"), "{line}");
    assert!(!daemon.logs().iter().any(|line| [FIRST, SECOND, OTHER].iter().any(|secret| line.contains(secret))));
}

#[test]
fn forged_bodies_that_are_held_back_do_not_shut_signed_senders_out() {
    let builder = Daemon::builder().embedded().set("auth.webhook_secrets", format!("whsec_{FIRST}"));
    let builder = builder.set("http.max_body_bytes", 1 << 20).set("event.max_events", 100);
    let builder = builder.set("fetch.max_blob_bytes", 1 << 20).set("intake.max_in_flight_bytes", 4 << 20);
    let daemon = builder.set("http.body_timeout_ms", 6000).start();
    let time = now().to_string();
    let forged = format!("v1,{}", STANDARD.encode([7; 32]));
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", &time),
        ("webhook-signature", &forged),
        ("content-length", "1000000"),
    ];
    // Each but for its last byte: together more than all that admission holds.
    let mut held: Vec<_> = (0..8).map(|_| daemon.wire()).collect();
    for wire in &mut held {
        wire.send(&request("POST", "/events", &headers, &vec![b' '; 999_999]));
    }
    let in_use = || daemon.metric("cache_sync_admission_bytes", &[]);
    // One is held, unless they have pushed each other out by now.
    eventually(Duration::from_secs(2), || in_use() > 900_000.0);
    for _ in 0..20 {
        let body = event();
        assert_eq!(post(&daemon, &time, &sign(FIRST, ID, &time, &body), &[], &body).status, 200);
        assert!(in_use() < 2_000_000.0, "{}", in_use());
    }
    let answers: Vec<_> = held.iter_mut().map(Wire::answer).collect();
    let is_told = |answer: &Answer| {
        answer.status == 503 || answer.status == 408 && answer.text().contains("a third of http.body_timeout_ms")
    };
    assert!(answers.iter().all(is_told), "{:?}", answers.iter().map(Answer::text).collect::<Vec<_>>());
    assert!(eventually(Duration::from_secs(5), || in_use() == 0.0), "{}", in_use());
}
