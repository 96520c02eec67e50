//! `/openapi.json` says what the daemon does: what it is sent after the document's examples, and after those of docs/events.md, is
//! answered as the document has it.

use std::collections::BTreeSet;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::docs::{self, page};
use crate::support::{Answer, Blob, BlobServer, Daemon, Gate, PATIENCE, Redis, eventually, set_blob, set_inline};

/// Where the document's blobs are.
const BLOBS: &str = "https://blobs.example.com";

const SOURCE: &str = "/sources/{source}";
const LETTERS: [&str; 2] = ["/dead-letters/drop", "/dead-letters/replay"];

/// The headers of a request, its body, and the status that answers it.
type Case<'a> = (Vec<(&'a str, &'a str)>, &'a [u8], u16);

struct Document(Value);

impl Document {
    fn of(daemon: &Daemon) -> Self {
        let answer = daemon.get("/openapi.json");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        Document(answer.json())
    }

    fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"))
    }

    /// What a reference stands for.
    fn resolved<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node["$ref"].as_str() {
            Some(reference) => self.at(reference.trim_start_matches('#')),
            None => node,
        }
    }

    /// Of a schema within the document.
    fn validator(&self, schema: &Value) -> Validator {
        let mut root = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [schema]});
        root["components"] = self.0["components"].clone();
        jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{error}: {schema}"))
    }

    #[track_caller]
    fn assert_fits(&self, schema: &Value, instance: &Value) {
        let faults: Vec<String> = self.validator(schema).iter_errors(instance).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?}\nin {instance:#}\nby {schema:#}");
    }

    /// The answer is one that the document has for this route.
    #[track_caller]
    fn assert_answers(&self, method: &str, path: &str, answer: &Answer) {
        let responses = self.at(&format!("/paths/{}/{method}/responses", path.replace('/', "~1")));
        let told = format!("{method} {path}: {} {}", answer.status, answer.text());
        let response = self.resolved(responses.get(answer.status.to_string()).unwrap_or_else(|| panic!("{told}")));
        for (name, header) in response["headers"].as_object().expect("headers") {
            let (header, given) = (self.resolved(header), answer.header(&name.to_lowercase()));
            assert!(given.is_some() || header["required"] != true, "no {name}: {told}");
            if let Some(given) = given {
                let is_number = header["schema"]["type"] == "integer";
                let given =
                    if is_number { given.parse::<u64>().map_or(json!(given), Value::from) } else { json!(given) };
                self.assert_fits(&header["schema"], &given);
            }
        }
        let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let media = response["content"].get(kind).unwrap_or_else(|| panic!("{kind} is not told of: {told}"));
        let body = if kind.ends_with("json") { answer.json() } else { json!(answer.text()) };
        self.assert_fits(&media["schema"], &body);
    }
}

fn scene() -> (Redis, BlobServer, Daemon) {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    for path in ["/dot.png", "/img/dot.png"] {
        blobs.put(path, Blob::bytes(include_bytes!("../../src/cli/demo/blobs/dot.png")));
    }
    redis::cmd("RPUSH").arg(&["a-list", "item"]).exec(&mut redis.conn()).expect("RPUSH");
    let daemon = Daemon::with_redis(&redis);
    (redis, blobs, daemon)
}

/// The nodes of a tree, each with its pointer.
fn walk(node: &Value, at: String, visit: &mut impl FnMut(&str, &Value)) {
    visit(&at, node);
    match node {
        Value::Object(members) => members.iter().for_each(|(name, node)| walk(node, format!("{at}/{name}"), visit)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, node)| walk(node, format!("{at}/{n}"), visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_left_to_be_filled_in() {
    let daemon = Daemon::embedded();
    let document = Document::of(&daemon);
    let (mut referred, mut places) = (BTreeSet::new(), 0);
    walk(&document.0, String::new(), &mut |at, node| {
        places += 1;
        if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
            document.at(reference.trim_start_matches('#'));
            referred.insert(reference.to_owned());
        }
        assert!(!node.as_str().is_some_and(|text| text.contains("{{")), "{at}: {node}");
    });
    assert!(places > 1000, "{places}");
    for kind in ["schemas", "headers", "parameters", "responses"] {
        for name in document.at(&format!("/components/{kind}")).as_object().expect("components").keys() {
            assert!(referred.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is of no use");
        }
    }
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let daemon = Daemon::embedded();
    let document = Document::of(&daemon);
    let paths: Vec<&String> = document.at("/paths").as_object().expect("paths").keys().collect();
    assert_eq!(
        paths,
        [
            "/",
            "/dead-letters.json",
            LETTERS[0],
            LETTERS[1],
            "/docs",
            "/events",
            "/key.json",
            "/live",
            "/metrics",
            "/openapi.json",
            "/ready",
            "/replica.json",
            "/replicas.json",
            SOURCE,
            "/status.json"
        ]
    );
    let posts = ["/events", SOURCE, LETTERS[0], LETTERS[1]];
    for path in paths.into_iter().filter(|path| !posts.contains(&path.as_str())) {
        document.assert_answers("get", path, &daemon.get(path));
        let mut wire = daemon.wire();
        wire.send_request("DELETE", path, &[], b"");
        document.assert_answers("get", path, &wire.answer());
    }
    daemon.post(&json!({"key": "SET", "version": 7, "value": {"data": {"key": "k", "value": "v"}, "ttl": 60}}));
    for query in ["?key=k", "?key=none", "?key="] {
        document.assert_answers("get", "/key.json", &daemon.get(&format!("/key.json{query}")));
    }
}

#[test]
fn what_is_kept_and_its_dead_letters_are_answered_as_the_document_has_it() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = Daemon::builder().redis(&redis).set("fetch.allowed_hosts", format!("127.0.0.1:{}", blobs.port()));
    let daemon = daemon.start();
    let document = Document::of(&daemon);
    let kept = [("prefer", "respond-async, return=minimal")];
    let bad = set_blob("k", &format!("{}?sig=secret", blobs.url("/gone")));
    let invalid = json!({"key": "SET", "value": {}});
    for (body, status) in [(bad, 202), (json!([set_inline("a", "1"), invalid]), 207), (invalid.clone(), 422)] {
        let answer = daemon.post_with(&kept, body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
        document.assert_answers("post", "/events", &answer);
    }
    let listed = |query: &str| {
        let answer = daemon.get(&format!("/dead-letters.json{query}"));
        document.assert_answers("get", "/dead-letters.json", &answer);
        answer
    };
    let letters = || listed("").json()["letters"].clone();
    assert!(eventually(PATIENCE, || letters()[0]["problem"] == "blob-not-found"), "{}", letters());
    let id = letters()[0]["id"].as_str().expect("an id").to_owned();
    let shown = listed(&format!("?id={id}"));
    assert!(shown.text().contains("/gone?…") && !shown.text().contains("secret"), "{}", shown.text());
    for (query, count) in [("?key=k*", 1), ("?key=a", 0), ("?problem=timeout", 0), ("?age=1h", 0), ("?age=%3C1h", 1)] {
        assert_eq!(listed(query).json()["letters"].as_array().map(Vec::len), Some(count), "{query}");
    }
    listed("?age=soon").problem(400, "invalid-request");
    listed("?id=%2B").problem(400, "invalid-request");
    listed("?id=1-1").problem(404, "not-found");
    let json = [("content-type", "application/json")];
    let change = |how: usize, headers: &[(&str, &str)], body: &Value| {
        let answer = daemon.post_to(LETTERS[how], headers, body.to_string().as_bytes());
        document.assert_answers("post", LETTERS[how], &answer);
        answer
    };
    change(0, &[("content-type", "text/plain")], &json!({"ids": [id]})).problem(415, "unsupported-media-type");
    for bad in [json!({}), json!({"ids": []}), json!({"ids": ["-"]}), json!({"ids": [id], "all": true})] {
        change(0, &json, &bad).problem(400, "invalid-request");
    }
    blobs.put("/gone", Blob::bytes("there again"));
    assert_eq!(change(1, &json, &json!({"ids": [id, "1-1"]})).json(), json!({"done": 1, "stays": []}));
    assert!(eventually(PATIENCE, || redis.value("k").as_deref() == Some(b"there again")));
    assert_eq!(change(0, &json, &json!({"ids": [id]})).json(), json!({"done": 0, "stays": []}));
    assert_eq!(listed("").json(), json!({"letters": [], "next": null}));
}

#[test]
fn dead_letters_are_behind_the_token() {
    let redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("auth.tokens", "0123456789abcdef").start();
    let document = Document::of(&daemon);
    let answer = daemon.get("/dead-letters.json");
    answer.problem(401, "unauthorized");
    document.assert_answers("get", "/dead-letters.json", &answer);
    for path in LETTERS {
        let answer = daemon.post_to(path, &[("content-type", "application/json")], b"{\"ids\":[\"1-0\"]}");
        answer.problem(401, "unauthorized");
    }
    let with = [("content-type", "application/json"), ("authorization", "Bearer 0123456789abcdef")];
    assert_eq!(daemon.post_to(LETTERS[0], &with, b"{\"ids\":[\"1-0\"]}").json()["done"], 0);
}

#[test]
fn the_examples_of_notifications_are_answered_as_the_document_has_it() {
    let daemon = Daemon::builder().embedded().set("sources.photos.value", "facts").set("sources.other.format", "s3");
    let daemon = daemon.set("sources.other.tokens", "0123456789abcdef").start();
    let document = Document::of(&daemon);
    let content = document.at("/paths/~1sources~1{source}/post/requestBody/content").as_object().expect("media types");
    for (kind, media) in content {
        for example in media["examples"].as_object().expect("examples").values() {
            let body = &example["value"];
            let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            let answer = daemon.post_to("/sources/photos", &[("content-type", kind)], body.as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            document.assert_answers("post", SOURCE, &answer);
        }
    }
    for (kind, body) in
        [("application/json", "{\"a\":1}"), ("application/cloudevents+xml", "<e/>"), ("application/json", "")]
    {
        document.assert_answers(
            "post",
            SOURCE,
            &daemon.post_to("/sources/photos", &[("content-type", kind)], body.as_bytes()),
        );
    }
    for path in ["/sources/none", "/sources/other"] {
        document.assert_answers("post", SOURCE, &daemon.post_to(path, &[], b"{}"));
        document.assert_answers("get", SOURCE, &daemon.get(path));
    }
    document.assert_answers("get", SOURCE, &daemon.get("/sources/photos"));
    let mut wire = daemon.wire();
    wire.send_request("DELETE", "/sources/photos", &[], b"");
    document.assert_answers("get", SOURCE, &wire.answer());
}

#[test]
fn the_examples_of_requests_are_valid_and_answered_as_the_document_has_it() {
    let (_redis, blobs, daemon) = scene();
    let document = Document::of(&daemon);
    let mut statuses = BTreeSet::new();
    for kind in ["application/json", "application/x-ndjson"] {
        let media = document.at(&format!("/paths/~1events/post/requestBody/content/{}", kind.replace('/', "~1")));
        let examples = media["examples"].as_object().expect("examples");
        assert!(!examples.is_empty());
        for (name, example) in examples {
            let body = &example["value"];
            let is_bad = ["invalid", "batch"].contains(&name.as_str());
            assert_eq!(document.validator(&media["schema"]).is_valid(body), !is_bad, "{name}");
            let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned).replace(BLOBS, &blobs.url(""));
            let answer = daemon.post_with(&[("content-type", kind), ("prefer", "return=minimal")], body.as_bytes());
            document.assert_answers("post", "/events", &answer);
            statuses.insert(answer.status);
        }
    }
    assert_eq!(statuses, [200, 207, 422].into());
}

#[test]
fn the_examples_of_answers_fit_their_schemas() {
    let document = Document::of(&Daemon::embedded());
    let mut seen = 0;
    walk(&document.0, String::new(), &mut |at, node| {
        if let (Some(schema), Some(examples)) = (node.get("schema"), node.get("examples").and_then(Value::as_object))
            && !at.contains("requestBody")
        {
            for example in examples.values() {
                document.assert_fits(schema, &example["value"]);
                seen += 1;
            }
        }
    });
    assert!(seen > 12, "{seen}");
}

#[test]
fn the_examples_of_the_docs_are_answered_as_the_document_has_it() {
    let blobs = BlobServer::start();
    blobs.put("/dot.png", Blob::bytes(include_bytes!("../../src/cli/demo/blobs/dot.png")));
    let daemon = Daemon::embedded();
    let document = Document::of(&daemon);
    let examples = page::posts(docs::read("docs/events.md"));
    assert!(examples.len() >= 10, "{}", examples.len());
    for (kind, body, _) in examples {
        let answer = daemon.post_with(&[("content-type", kind)], body.replace(docs::BLOBS, &blobs.url("")).as_bytes());
        document.assert_answers("post", "/events", &answer);
    }
}

#[test]
fn refusals_are_answered_as_the_document_has_it() {
    let builder = Daemon::builder().embedded().set("auth.tokens", "t").set("event.max_events", 2);
    let daemon = builder.set("http.max_body_bytes", 500).set("http.body_timeout_ms", 200).start();
    let document = Document::of(&daemon);
    let token = ("authorization", "Bearer t");
    let huge = vec![b' '; 501];
    let cases: [Case; 7] = [
        (vec![], b"{}", 401),
        (vec![token], b"{", 400),
        (vec![token, ("content-encoding", "gzip")], b"{}", 400),
        (vec![token, ("content-type", "text/xml")], b"{}", 415),
        (vec![token], &huge, 413),
        (vec![token], b"[{},{},{}]", 413),
        (vec![token], b"{}", 422),
    ];
    for (headers, body, status) in cases {
        let mut wire = daemon.wire();
        wire.send_request("POST", "/events", &headers, body);
        let answer = wire.answer();
        assert_eq!(answer.status, status, "{}", answer.text());
        document.assert_answers("post", "/events", &answer);
    }
    let raw = |head: &str| daemon.raw(format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes());
    for (head, status) in [
        ("Authorization: Bearer t\r\nContent-Length: 9\r\n".to_owned(), 408),
        ("X\0: a\r\n".to_owned(), 400),
        (format!("X: {}\r\n", "x".repeat(300_000)), 431),
    ] {
        let answer = raw(&head);
        assert_eq!(answer.status, status, "{}", answer.text());
        document.assert_answers("post", "/events", &answer);
    }
    document.assert_answers("get", "/status.json", &daemon.get("/status.json"));
}

#[test]
fn what_is_unavailable_is_answered_as_the_document_has_it() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 200).start();
    let document = Document::of(&daemon);
    redis.kill();
    let event = set_inline("k", "v");
    for body in [&event, &json!([event, {"key": "GET"}]), &json!({"key": "DELETE_PATTERN", "value": {"data": "k*"}})] {
        let answer = daemon.post_with(&[("prefer", "return=minimal")], body.to_string().as_bytes());
        assert_eq!(answer.status, 503, "{}", answer.text());
        document.assert_answers("post", "/events", &answer);
    }
    assert!(eventually(Duration::from_secs(5), || daemon.get("/ready").status == 503));
    document.assert_answers("get", "/ready", &daemon.get("/ready"));
    document.assert_answers("get", "/status.json", &daemon.get("/status.json"));
    let (blobs, gate) = (BlobServer::start(), Gate::closed());
    blobs.put("/slow", Blob::bytes("v").gate(&gate));
    let mut held = daemon.wire();
    held.send_request("POST", "/events", &[], set_blob("slow", &blobs.url("/slow")).to_string().as_bytes());
    blobs.wait_hits("/slow", 1);
    daemon.sigterm();
    assert!(eventually(Duration::from_secs(5), || daemon.get("/ready").text().contains("draining")));
    let refused = daemon.post(&event);
    assert_eq!(refused.status, 503);
    document.assert_answers("post", "/events", &refused);
}

#[test]
fn bounds_and_security_are_those_of_the_running_service() {
    let open = Document::of(&Daemon::embedded());
    assert_eq!(open.at("/info/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(open.at("/paths/~1events/post/security/0"), &json!({}), "nobody has to show anything");
    let settings =
        [("event.max_keys", 7), ("event.max_key_bytes", 99), ("event.max_ttl_seconds", 60), ("event.max_events", 5)];
    let builder = Daemon::builder().embedded().set("auth.tokens", "t").set("redis.version_prefix", "v.(");
    let daemon = settings.into_iter().fold(builder, |builder, (path, value)| builder.set(path, value)).start();
    let document = Document::of(&daemon);
    let schemas = "/components/schemas";
    assert_eq!(document.at(&format!("{schemas}/Keys/maxItems")), 7);
    assert_eq!(document.at(&format!("{schemas}/Key/maxLength")), 99);
    assert_eq!(document.at(&format!("{schemas}/Ttl/anyOf/0/maximum")), 60);
    assert_eq!(document.at(&format!("{schemas}/Batch/maxItems")), 5);
    let key = document.validator(&json!({"$ref": "#/components/schemas/Key"}));
    assert!(!key.is_valid(&json!("v.(k")) && key.is_valid(&json!("vx(k")));
    assert!(!key.is_valid(&json!("rcs:journal")) && key.is_valid(&json!("rcs:journals")));
    assert!(!key.is_valid(&json!("{rcs:journal}:dead")));
    let security = document.at("/paths/~1events/post/security").as_array().expect("a list");
    assert!(security.len() == 2 && security[0].get("bearer").is_some(), "{security:?}");
}
