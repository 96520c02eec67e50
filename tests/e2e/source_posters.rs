//! Who may post to a source, and what a producer asks before it does.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::docs;
use crate::reload::{How, change};
use crate::support::http::request;
use crate::support::{Answer, Blob, BlobServer, Builder, Daemon, Gate, eventually};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JSON: (&str, &str) = ("content-type", "application/json");
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:t";

fn source(format: &str) -> Builder {
    let builder = Daemon::builder().embedded().set("sources.s.format", format);
    builder.set("sources.s.value", "facts").set("log_level", "debug")
}

/// A notification of Event Grid, of one blob.
fn created() -> Vec<u8> {
    json!([{
        "id": "e-1", "eventType": "Microsoft.Storage.BlobCreated", "eventTime": "2026-11-28T22:44:51Z", "dataVersion": "",
        "subject": "/blobServices/default/containers/c/blobs/a.txt",
        "data": {"url": "https://acct.blob.core.windows.net/c/a.txt", "sequencer": "0A", "contentLength": 7},
    }])
    .to_string()
    .into_bytes()
}

fn post(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Answer {
    daemon.post_to(path, &[&[JSON], headers].concat(), &created())
}

fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut wire = daemon.wire();
    assert!(wire.send(&request(method, path, headers, b"")));
    if method == "HEAD" { wire.answer_to_head() } else { wire.answer() }
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    answer.problem(401, "unauthorized");
    assert!(answer.header("www-authenticate").is_some());
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_token_may_stand_in_the_url_and_nowhere_else_does_it_show() {
    let daemon = source("event-grid").set("auth.tokens", "operator:aaaabbbbccccdddd").start();
    for path in [
        "/sources/s?token=aaaabbbbccccdddd",
        "/sources/s?x=1&access_token=aaaabbbbccccdddd",
        "/sources/s?token=aaaa%62bbbccccdddd",
    ] {
        assert_eq!(post(&daemon, path, &[]).status, 200, "{path}");
    }
    assert_eq!(post(&daemon, "/sources/s", &[("authorization", "Bearer aaaabbbbccccdddd")]).status, 200);
    for path in [
        "/sources/s",
        "/sources/s?token=",
        "/sources/s?token=zzzzbbbbccccdddd",
        "/sources/s?Token=aaaabbbbccccdddd",
        "/sources/s?token",
    ] {
        assert_refused(&post(&daemon, path, &[]));
    }
    // Events take it from a header alone.
    assert_refused(&daemon.post_to("/events?token=aaaabbbbccccdddd", &[JSON], b"[]"));
    assert_eq!(post(&daemon, "/sources/none?token=aaaabbbbccccdddd", &[]).status, 404);
    ask(&daemon, "PUT", "/sources/s?token=aaaabbbbccccdddd", &[]).problem(405, "method-not-allowed");
    daemon.log_line(|line| line.contains("token=operator"));
    let logs = daemon.logs().join("\n");
    assert!(!logs.contains("ccccdddd") && !logs.contains("?token"), "{logs}");
}

#[test]
fn what_a_source_asks_for_holds_in_place_of_what_events_ask_for() {
    let daemon = source("event-grid")
        .set("auth.tokens", "ofeventsofevents")
        .set("sources.s.tokens", "ofsourceofsource")
        .set("sources.t.format", "event-grid")
        .set("sources.t.value", "facts")
        .start();
    let with = |path: &str, token: &str| post(&daemon, path, &[("authorization", &format!("Bearer {token}"))]).status;
    assert_eq!((with("/sources/s", "ofsourceofsource"), with("/sources/s", "ofeventsofevents")), (200, 401));
    assert_eq!((with("/sources/t", "ofsourceofsource"), with("/sources/t", "ofeventsofevents")), (401, 200));
    assert_eq!((with("/events", "ofsourceofsource"), with("/events", "ofeventsofevents")), (401, 207));
}

#[test]
fn a_source_that_asks_for_something_is_shut_though_events_are_not_and_may_be_called_by_any_name() {
    let daemon =
        source("event-grid").set("sources.s.tokens", "ofsourceofsource").set("sources.t.value", "facts").start();
    assert_refused(&post(&daemon, "/sources/s", &[]));
    assert_eq!(post(&daemon, "/sources/t", &[]).status, 200, "it asks for nothing");
    assert_eq!(daemon.post(&json!([])).status, 200);
    let called = |path: &str, host: &str| post(&daemon, path, &[("host", host)]);
    called("/sources/t", "cache.example").problem(421, "misdirected-request");
    called("/events", "cache.example").problem(421, "misdirected-request");
    let token = ("authorization", "Bearer ofsourceofsource");
    assert_eq!(post(&daemon, "/sources/s", &[("host", "cache.example"), token]).status, 200);
    assert_refused(&called("/sources/s", "cache.example"));
}

/// An event as Knative's broker sends it to the subscriber of a trigger.
const BY_KNATIVE: [(&str, &str); 6] = [
    JSON,
    ("ce-specversion", "1.0"),
    ("ce-id", "e-1"),
    ("ce-source", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"),
    ("ce-subject", "/blobServices/default/containers/c/blobs/a.txt"),
    ("ce-type", "Microsoft.Storage.BlobCreated"),
];

#[test]
fn the_trigger_of_the_guide_reaches_a_source_with_the_token_of_the_guide_and_one_that_is_open_as_the_base_deploys_it() {
    let page = docs::read("docs/sources.md");
    let uri = page.split("subscriber: {uri: \"http://").nth(1).and_then(|rest| rest.split('"').next());
    let (host, path) = uri.and_then(|uri| uri.split_once('/')).expect("the trigger's URI");
    let token = page.split("tokens = [\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the source's token");
    let base: Value =
        serde_norway::from_str(include_str!("../../manifests/base/configmap.yaml")).expect("the config map");
    let names = base.pointer("/data/HTTP_HOSTS").and_then(Value::as_str).expect("names");
    for (setting, value) in [("sources.photos.tokens", token), ("http.hosts", names)] {
        let daemon = Daemon::builder().embedded().set("sources.photos.format", "cloudevents");
        let daemon = daemon.set("sources.photos.value", "facts").set(setting, value).start();
        let headers = [&BY_KNATIVE[..], &[("host", host)]].concat();
        let data = br#"{"url": "https://acct.blob.core.windows.net/c/a.txt", "sequencer": "0A", "contentLength": 7}"#;
        let answer = daemon.post_to(&format!("/{path}"), &headers, data);
        assert_eq!((answer.status, &answer.json()["counts"]["ok"]), (200, &json!(1)), "{setting}: {}", answer.text());
        // The broker would take a body that is no event for a failure, and send it all again.
        let answer = daemon.post_to(&format!("/{path}"), &[&headers[..], &[("prefer", "reply")]].concat(), data);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{setting}");
        assert_eq!(answer.header("content-type"), None);
    }
}

#[test]
fn a_standard_webhook_s_signature_lets_in_and_a_changed_body_does_not() {
    let daemon = source("event-grid").set("sources.s.webhook_secrets", format!("whsec_{SECRET}")).start();
    let (time, body) = (now().to_string(), created());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).expect("base64"));
    let signature = STANDARD.encode(hmac::sign(&key, &[format!("m.{time}.").as_bytes(), &body].concat()));
    let send = |signatures: &str, body: &[u8]| {
        let headers = [JSON, ("webhook-id", "m"), ("webhook-timestamp", &time), ("webhook-signature", signatures)];
        daemon.post_to("/sources/s", &headers, body)
    };
    for good in [format!("v1,{signature}"), format!("v1a,zz junk  v1,AAAA v1,{signature} v2,x")] {
        assert_eq!(send(&good, &body).status, 200, "{good}");
    }
    assert_refused(&send(&format!("v1,{signature}"), &[&body[..], b" "].concat()));
    assert_refused(&send("v1,AAAA", &body));
    // What is not JSON is refused for its signature first.
    assert_refused(&send(&format!("v1,{signature}"), b"{"));
    assert_refused(&post(&daemon, "/sources/s", &[]));
}

/// An OpenID Connect issuer of its own, with the key of these tests.
struct Issuer {
    server: BlobServer,
}

fn rsa() -> RsaKeyPair {
    let der = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("../keys/rsa.pem")).expect("a key");
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key")
}

impl Issuer {
    fn start() -> Self {
        let issuer = Issuer { server: BlobServer::start() };
        issuer.publish("k1");
        issuer
    }

    fn name(&self) -> String {
        self.server.url("/tenant")
    }

    fn publish(&self, id: &str) {
        let discovery = json!({"issuer": self.name(), "jwks_uri": self.server.url("/keys")});
        self.server.put("/tenant/.well-known/openid-configuration", Blob::bytes(discovery.to_string()));
        self.put_keys(id, |keys| keys);
    }

    fn put_keys(&self, id: &str, how: impl FnOnce(Blob) -> Blob) {
        let key = PublicKeyComponents::<Vec<u8>>::from(rsa().public());
        let [n, e] = [key.n, key.e].map(|part| URL_SAFE_NO_PAD.encode(part));
        let keys = json!({"keys": [{"kty": "RSA", "use": "sig", "kid": id, "n": n, "e": e}]});
        self.server.put("/keys", how(Blob::bytes(keys.to_string())));
    }

    fn token(&self, id: &str, audience: &str, expires: u64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": self.name(), "aud": audience, "exp": expires, "sub": "1"});
        let text = format!("{}.{}", part(json!({"alg": "RS256", "kid": id})), part(claims));
        let key = rsa();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("a signature");
        format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn source(&self) -> Builder {
        // Its host is named by the operator, so it need not be among those of blobs.
        let builder = source("event-grid").set("fetch.allowed_hosts", "blobs.example");
        builder.set("sources.s.oidc_issuer", self.name()).set("sources.s.oidc_audience", "us")
    }
}

#[test]
fn a_token_of_the_issuer_lets_in() {
    let issuer = Issuer::start();
    let daemon = issuer.source().start();
    let send = |token: &str| post(&daemon, "/sources/s", &[("authorization", token)]);
    for _ in 0..3 {
        assert_eq!(send(&issuer.token("k1", "us", now() + 60)).status, 200);
    }
    let in_url = issuer.token("k1", "us", now() + 60).replace("Bearer ", "/sources/s?access_token=");
    assert_eq!(post(&daemon, &in_url, &[]).status, 200);
    assert_eq!(issuer.server.hits("/keys"), 1, "keys are kept");
    assert_refused(&send(&issuer.token("k1", "others", now() + 60)));
    assert_refused(&send(&issuer.token("k1", "us", now() - 120)));
    assert_refused(&send(&issuer.token("k2", "us", now() + 60)));
    assert_refused(&send("Bearer a.b.c"));
    assert_refused(&send("Bearer aaaabbbbccccdddd"));
    assert_refused(&post(&daemon, "/sources/s", &[]));
    let logs = daemon.logs().join("\n");
    assert!(!logs.contains("eyJ"), "{logs}");
}

/// The keys are fetched before anybody asks for the body.
#[test]
fn who_waits_for_leave_gets_it_once_the_keys_have_come_and_none_if_they_do_not_let_in() {
    for (audience, status) in [("us", 100), ("others", 401)] {
        let (issuer, gate) = (Issuer::start(), Gate::closed());
        issuer.put_keys("k1", |keys| keys.gate(&gate));
        let daemon = issuer.source().start();
        let (token, length) = (issuer.token("k1", audience, now() + 60), created().len().to_string());
        let headers = [JSON, ("authorization", &token), ("content-length", &length), ("expect", "100-continue")];
        let mut wire = daemon.wire();
        wire.send(&request("POST", "/sources/s", &headers, b""));
        issuer.server.wait_hits("/keys", 1);
        gate.open();
        if status == 100 {
            assert_eq!(wire.answer_to_head().status, 100);
            wire.send(&created());
            assert_eq!(wire.answer().status, 200);
        } else {
            assert_refused(&wire.answer());
        }
    }
}

#[test]
fn a_token_of_another_account_is_refused_where_accounts_are_named() {
    let issuer = Issuer::start();
    let daemon = issuer.source().set("sources.s.oidc_subjects", "1").set("sources.t.oidc_issuer", issuer.name());
    let daemon = daemon.set("sources.t.oidc_audience", "us").set("sources.t.oidc_subjects", "2,3").start();
    let token = issuer.token("k1", "us", now() + 60);
    assert_eq!(post(&daemon, "/sources/s", &[("authorization", &token)]).status, 200);
    assert_refused(&post(&daemon, "/sources/t", &[("authorization", &token)]));
}

#[test]
fn while_the_keys_cannot_be_had_a_producer_is_to_try_again() {
    let issuer = Issuer::start();
    issuer.server.put("/keys", Blob::status(503));
    let daemon = issuer.source().start();
    let token = issuer.token("k1", "us", now() + 3600);
    let answer = post(&daemon, "/sources/s", &[("authorization", &token)]);
    answer.problem(503, "keys-unavailable");
    answer.retry_after();
    issuer.publish("k1");
    // The issuer is not asked for each request.
    let good = || post(&daemon, "/sources/s", &[("authorization", &token)]).status == 200;
    assert!(eventually(Duration::from_secs(30), good));
    assert_eq!(issuer.server.hits("/keys"), 1, "since they are published");
}

#[test]
fn whoever_waits_for_the_keys_of_an_issuer_that_hangs_is_answered_when_the_drain_has_to_end() {
    let issuer = Issuer::start();
    issuer.server.put("/keys", Blob::hang());
    let mut daemon = issuer.source().set("http.shutdown_seconds", 2).start();
    let token = issuer.token("k1", "us", now() + 3600);
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let mut wire = daemon.wire();
            wire.send_request("POST", "/sources/s", &[JSON, ("authorization", &token)], &created());
            wire
        })
        .collect();
    issuer.server.wait_hits("/keys", 1);
    daemon.sigterm();
    for mut wire in senders {
        wire.answer().problem(503, "shutting-down");
    }
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn keys_of_an_issuer_are_not_fetched_from_where_nobody_may_call() {
    let (issuer, other) = (Issuer::start(), BlobServer::start());
    let discovery = json!({"issuer": issuer.name(), "jwks_uri": other.url("/keys")});
    issuer.server.put("/tenant/.well-known/openid-configuration", Blob::bytes(discovery.to_string()));
    let daemon = issuer.source().start();
    let answer = post(&daemon, "/sources/s", &[("authorization", &issuer.token("k1", "us", now() + 60))]);
    answer.problem(503, "keys-unavailable");
    assert_eq!(other.hits("/keys"), 0);
    daemon.log_line(|line| line.contains("keys of a token issuer cannot be fetched"));
}

#[test]
fn hosts_that_are_allowed_follow_the_settings_for_the_keys_of_an_issuer_too() {
    let (issuer, other) = (Issuer::start(), Issuer::start());
    let discovery = json!({"issuer": issuer.name(), "jwks_uri": other.server.url("/keys")});
    issuer.server.put("/tenant/.well-known/openid-configuration", Blob::bytes(discovery.to_string()));
    let text = |host: &str| format!("[fetch]\nallowed_hosts = [\"{host}\"]\n");
    let builder = issuer.source().unset("fetch.allowed_hosts");
    let daemon = builder.file("config/default.toml", &text("blobs.example")).start();
    let token = issuer.token("k1", "us", now() + 3600);
    let send = || post(&daemon, "/sources/s", &[("authorization", &token)]);
    send().problem(503, "keys-unavailable");
    change(&daemon, How::HangUp, &text(&format!("127.0.0.1:{}", other.server.port())));
    // The issuer is not asked for each request.
    assert!(eventually(Duration::from_secs(30), || send().status == 200));
}

#[test]
fn tokens_of_a_file_are_read_again() {
    let daemon = source("event-grid").file("tokens", "firstfirstfirst1").set("sources.s.tokens_file", "tokens").start();
    let with = |token: &str| post(&daemon, "/sources/s", &[("authorization", &format!("Bearer {token}"))]).status;
    assert_eq!((with("firstfirstfirst1"), with("secondsecondsec2")), (200, 401));
    fs::write(daemon.dir().join("tokens"), "secondsecondsec2").expect("it can be written");
    assert!(eventually(Duration::from_secs(10), || with("secondsecondsec2") == 200));
    assert_eq!(with("firstfirstfirst1"), 401);
}

#[test]
fn tokens_of_a_file_are_read_again_once_another_file_is_mended() {
    let builder = source("event-grid").file("tokens", "firstfirstfirst1").file("password", "a password");
    let builder = builder.set("sources.s.tokens_file", "tokens").set("redis.password_file", "password");
    let daemon = builder.start();
    let with = |token: &str| post(&daemon, "/sources/s", &[("authorization", &format!("Bearer {token}"))]).status;
    let at = |path: &str| daemon.dir().join(path);
    fs::rename(at("password"), at("away")).expect("it can be renamed");
    fs::write(at("tokens"), "secondsecondsec2").expect("it can be written");
    daemon.log_line(|line| line.contains("new settings are invalid"));
    assert_eq!((with("firstfirstfirst1"), with("secondsecondsec2")), (200, 401));
    fs::rename(at("away"), at("password")).expect("it can be renamed");
    assert!(eventually(Duration::from_secs(10), || with("secondsecondsec2") == 200));
    assert_eq!(with("firstfirstfirst1"), 401);
    let told = daemon.logs().iter().filter(|line| line.contains("new settings are invalid")).count();
    assert_eq!(told, 1, "the same faults are told of once");
}

#[test]
fn event_grid_s_validation_gets_its_code_back_if_the_sender_may_post() {
    let daemon = source("event-grid").set("sources.s.tokens", "ofsourceofsource").start();
    let body = json!([{
        "id": "2d1781af", "topic": "/subscriptions/s", "subject": "", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": "2026-11-28T22:44:51Z", "metadataVersion": "1", "dataVersion": "1",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net/x"},
    }]);
    let headers = [JSON, ("aeg-event-type", "SubscriptionValidation")];
    let send = |path: &str| daemon.post_to(path, &headers, body.to_string().as_bytes());
    let answer = send("/sources/s?token=ofsourceofsource");
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}))
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_refused(&send("/sources/s"));
}

#[test]
fn cloud_events_ask_for_leave_by_options_and_a_browser_gets_none() {
    let daemon =
        source("cloudevents").set("sources.s.tokens", "ofsourceofsource").set("sources.t.value", "facts").start();
    let asked = [("webhook-request-origin", "eventgrid.azure.net"), ("webhook-request-rate", "120")];
    for path in ["/sources/s?token=ofsourceofsource", "/sources/t"] {
        let answer = ask(&daemon, "OPTIONS", path, &asked);
        assert_eq!(
            (answer.status, answer.header("webhook-allowed-origin")),
            (200, Some("eventgrid.azure.net")),
            "{path}"
        );
        assert_eq!(answer.header("webhook-allowed-rate"), Some("*"));
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")));
    }
    assert_eq!(ask(&daemon, "OPTIONS", "/sources/t", &asked[..1]).header("webhook-allowed-rate"), None);
    assert_refused(&ask(&daemon, "OPTIONS", "/sources/s", &asked));
    for headers in [
        &[][..],
        &[("webhook-request-origin", "")],
        &[("origin", "https://evil.example"), ("access-control-request-method", "POST")],
    ] {
        let answer = ask(&daemon, "OPTIONS", "/sources/t", headers);
        answer.problem(405, "method-not-allowed");
        assert!(
            answer.header("access-control-allow-origin").is_none() && answer.header("webhook-allowed-origin").is_none()
        );
    }
    assert_eq!(ask(&daemon, "OPTIONS", "/sources/none", &asked).status, 404);
}

#[test]
fn whoever_looks_whether_a_source_is_there_is_told() {
    let daemon = source("s3").set("sources.s.tokens", "ofsourceofsource").start();
    let token = ("authorization", "Bearer ofsourceofsource");
    let answer = ask(&daemon, "GET", "/sources/s", &[token]);
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok", "source": "s", "format": "s3"})));
    assert_eq!(ask(&daemon, "HEAD", "/sources/s", &[token]).status, 200);
    assert_refused(&ask(&daemon, "GET", "/sources/s", &[]));
    for (body, headers) in [(&b""[..], &[token][..]), (b"{}", &[token, JSON]), (b" ", &[token])] {
        let answer = daemon.post_to("/sources/s", headers, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["events"], json!([]));
    }
}

/// A message of SNS that nobody signed.
fn message(kind: &str, topic: &str, host: &str) -> Vec<u8> {
    json!({
        "Type": kind, "MessageId": "m-1", "TopicArn": topic, "Message": "{\"Records\":[]}", "Token": "1",
        "Timestamp": "2026-11-28T22:10:51.483Z", "SignatureVersion": "1", "Signature": "AAAA",
        "SigningCertURL": format!("{host}/SimpleNotificationService-0.pem"),
        "SubscribeURL": format!("{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token=1"),
    })
    .to_string()
    .into_bytes()
}

#[test]
fn sns_may_publish_by_signature_or_token_for_topics_alone_that_are_let_in() {
    let elsewhere = BlobServer::start();
    let daemon = source("sns").set("sources.s.topics", TOPIC).set("sources.s.tokens", "ofsourceofsource").start();
    let host = elsewhere.url("");
    let send = |path: &str, body: &[u8]| daemon.post_to(path, &[("content-type", "text/plain; charset=UTF-8")], body);
    let with_token = "/sources/s?token=ofsourceofsource";
    for path in ["/sources/s", with_token] {
        // Neither the token nor its own word makes a subscription a good one.
        assert_refused(&send(path, &message("SubscriptionConfirmation", TOPIC, host.trim_end_matches('/'))));
        assert_refused(&send(path, &message("Notification", "arn:aws:sns:eu-west-1:123456789012:other", &host)));
    }
    assert_refused(&send("/sources/s", &message("Notification", TOPIC, &host)));
    assert_eq!(send(with_token, &message("Notification", TOPIC, &host)).status, 200);
    assert_refused(&send("/sources/s", b"{\"Records\":[]}"));
    assert_eq!(send(with_token, b"{\"Records\":[]}").status, 200, "raw delivery");
    assert_eq!(elsewhere.targets(), Vec::<String>::new());
}

#[test]
fn a_source_stays_shut_when_the_last_of_what_it_asks_for_is_taken_away() {
    for asked in [format!("topics = [\"{TOPIC}\"]"), "tokens = [\"ofsourceofsource\"]".to_owned()] {
        let source = "[sources.s]\nformat = \"sns\"\nvalue = \"facts\"\n";
        let builder = Daemon::builder().embedded().unset("fetch.allowed_hosts");
        let daemon = builder.file("config/default.toml", &format!("{source}{asked}\n")).start();
        let send = || daemon.post_to("/sources/s", &[("content-type", "text/plain")], b"{\"Records\":[]}");
        assert_refused(&send());
        for text in [source.to_owned(), format!("{source}include = [\"photos/*\"]\n")] {
            change(&daemon, How::HangUp, &text);
            assert_refused(&send());
        }
        change(&daemon, How::HangUp, &format!("auth.tokens = [\"ofeventsofevents\"]\n{source}"));
        let path = "/sources/s?token=ofeventsofevents";
        assert_eq!(daemon.post_to(path, &[("content-type", "text/plain")], b"{\"Records\":[]}").status, 200);
    }
}

#[test]
fn without_topics_no_subscription_is_confirmed() {
    let elsewhere = BlobServer::start();
    let daemon = source("sns").start();
    let headers = [("content-type", "text/plain"), ("x-amz-sns-message-type", "SubscriptionConfirmation")];
    let body = message("SubscriptionConfirmation", TOPIC, elsewhere.url("").trim_end_matches('/'));
    assert_refused(&daemon.post_to("/sources/s", &headers, &body));
    assert_eq!(elsewhere.targets(), Vec::<String>::new());
}
