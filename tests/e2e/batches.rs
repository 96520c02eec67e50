//! Batches: arrays and NDJSON, their counts and status, the minimal answer, and what supersedes what.

use serde_json::{Value, json};

use crate::support::{
    Answer, Blob, Stage, delete, delete_pattern, get, ndjson, problem_type, set, set_blob, set_inline,
};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Asserts status and counts of a batch's answer; its events.
#[track_caller]
fn batch(answer: &Answer, status: u16, class: &str, counts: [u64; 3]) -> Vec<Value> {
    assert_eq!(answer.status, status, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["status"], class, "{json}");
    let [ok, rejected, unavailable] = counts;
    assert_eq!(json["counts"], json!({"ok": ok, "rejected": rejected, "unavailable": unavailable}), "{json}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
    json["events"].as_array().unwrap_or_else(|| panic!("no events: {json}")).clone()
}

fn statuses(event: &Value) -> Vec<&str> {
    let results = event["results"].as_array().unwrap_or_else(|| panic!("no results: {event}"));
    results.iter().map(|entry| entry["status"].as_str().unwrap_or_default()).collect()
}

/// A stage whose `/gone` is 404 and whose `/down` is 503, tried once.
fn stage() -> Stage {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/gone", Blob::status(404));
    stage.blobs.put("/down", Blob::status(503));
    stage.blobs.put("/ok", Blob::bytes("blob"));
    stage
}

#[test]
fn an_array_and_ndjson_are_answered_event_by_event_in_order() {
    let stage = stage();
    let mut first = set_inline("a", "1");
    first["id"] = json!("e-1");
    let events = [first, get(json!(["a", "c"])), delete(json!("a")), delete_pattern(json!("nobody*"))];
    let stored = json!({"key": "a", "status": "stored", "bytes": 1, "ttl": null, "source": "inline"});
    let want = json!({
        "status": "ok",
        "counts": {"ok": 4, "rejected": 0, "unavailable": 0},
        "events": [
            {"index": 0, "status": "ok", "event": "SET", "id": "e-1", "results": [stored]},
            {"index": 1, "status": "ok", "event": "GET",
             "results": [{"key": "a", "status": "hit", "value": "1"}, {"key": "c", "status": "miss"}]},
            {"index": 2, "status": "ok", "event": "DELETE", "results": [{"key": "a", "status": "deleted"}]},
            {"index": 3, "status": "ok", "event": "DELETE_PATTERN",
             "results": [{"pattern": "nobody*", "status": "deleted", "matched": 0, "deleted": 0}]},
        ],
    });
    let answer = stage.daemon.post(&json!(events));
    assert_eq!((answer.status, answer.json()), (200, want.clone()));
    let answer = stage.daemon.post_ndjson(&ndjson(&events));
    assert_eq!((answer.status, answer.json()), (200, want.clone()));
    let spaced = format!("\n  \n{}\r\n\t\r\n\n{}\n{}\n \n{}", events[0], events[1], events[2], events[3]);
    let answer = stage.daemon.post_ndjson(&spaced);
    assert_eq!((answer.status, answer.json()), (200, want), "blank lines are skipped and not counted");
}

#[test]
fn a_batch_of_one_is_a_batch() {
    let stage = stage();
    let event = set_inline("a", "1");
    for answer in [
        stage.daemon.post(&json!([event])),
        stage.daemon.post_ndjson(&event.to_string()),
        stage.daemon.post_text(&format!(" \n [{event}]\n")),
    ] {
        let events = batch(&answer, 200, "ok", [1, 0, 0]);
        assert_eq!((events.len(), &events[0]["index"], &events[0]["event"]), (1, &json!(0), &json!("SET")));
    }
}

#[test]
fn no_events_are_no_fault() {
    let stage = stage();
    for answer in [
        stage.daemon.post_text("[]"),
        stage.daemon.post_text(" [ ] "),
        stage.daemon.post_ndjson(""),
        stage.daemon.post_ndjson("\n \r\n\n"),
    ] {
        assert_eq!(batch(&answer, 200, "ok", [0, 0, 0]), Vec::<Value>::new());
    }
}

#[test]
fn the_worst_event_decides_the_status() {
    let stage = stage();
    let ok = set_inline("a", "1");
    let gone = set_blob("b", &stage.blobs.url("/gone"));
    let down = set_blob("c", &stage.blobs.url("/down"));
    let invalid = json!({"key": "GET", "value": {"data": ""}});
    let cases = [
        (json!([ok, ok]), 200, "ok", [2, 0, 0]),
        (json!([ok, gone]), 207, "rejected", [1, 1, 0]),
        (json!([gone]), 207, "rejected", [0, 1, 0]),
        (json!([invalid]), 207, "rejected", [0, 1, 0]),
        (json!([invalid, ok, gone]), 207, "rejected", [1, 2, 0]),
        (json!([ok, down]), 503, "unavailable", [1, 0, 1]),
        (json!([down, gone, ok, invalid]), 503, "unavailable", [1, 2, 1]),
    ];
    for (events, status, class, counts) in cases {
        let events = events.as_array().expect("an array");
        let found = batch(&stage.daemon.post(&json!(events)), status, class, counts);
        assert_eq!(found.len(), events.len());
        batch(&stage.daemon.post_ndjson(&ndjson(events)), status, class, counts);
    }
}

#[test]
fn an_invalid_event_does_not_hold_back_the_others() {
    let stage = stage();
    let events = json!([
        {"key": "SET", "id": "bad", "value": {"data": {"key": "x", "value": 1}, "ttl": 0}},
        {"key": "SET", "id": 7, "value": {"data": {"key": "x", "value": 1}}},
        {"key": "SET", "id": "good", "value": {"data": {"key": "a", "value": 1}}},
        42,
        "text",
        [],
    ]);
    let found = batch(&stage.daemon.post(&events), 207, "rejected", [1, 5, 0]);
    let pointers = ["/value/ttl", "/id", "", "", "", ""];
    for (index, event) in found.iter().enumerate() {
        assert_eq!(event["index"], index);
        if index == 2 {
            assert_eq!((&event["status"], &event["id"]), (&json!("ok"), &json!("good")));
            continue;
        }
        assert_eq!(event["status"], "rejected", "{event}");
        assert_eq!(event.get("id"), (index == 0).then_some(&json!("bad")), "{event}");
        assert!(event.get("results").is_none(), "{event}");
        let problem = &event["problem"];
        assert_eq!(problem_type(problem), "invalid-event", "{event}");
        assert_eq!(problem["errors"].as_array().map(Vec::len), Some(1), "{event}");
        assert_eq!(problem["errors"][0]["pointer"], pointers[index], "{event}");
    }
    assert_eq!(stage.redis.key_count(), 1);
}

#[test]
fn a_broken_line_is_one_rejected_event_but_a_broken_array_is_no_batch() {
    let stage = stage();
    let good = set_inline("a", "1");
    let body = format!("{good}\n{{\"key\":\n\n{good}\nnul\n{good} {good}\n[1]\n{good}");
    let found = batch(&stage.daemon.post_ndjson(&body), 207, "rejected", [3, 4, 0]);
    let indexes: Vec<_> = found.iter().map(|event| event["index"].as_u64().unwrap_or(99)).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);
    for (index, slug) in [(1, "malformed-json"), (3, "malformed-json"), (4, "malformed-json"), (5, "invalid-event")] {
        assert_eq!(found[index]["status"], "rejected");
        assert_eq!(problem_type(&found[index]["problem"]), slug, "{}", found[index]);
    }
    redis::cmd("FLUSHALL").exec(&mut stage.redis.conn()).unwrap();
    stage.daemon.post_text(&format!("[{good},{{]")).problem(400, "malformed-json");
    stage.daemon.post_text(&format!("[{good}")).problem(400, "malformed-json");
    assert_eq!(stage.redis.key_count(), 0, "nothing of a broken array is carried out");
}

#[test]
fn the_minimal_answer_lists_only_what_is_not_ok() {
    let stage = stage();
    let ok = set_inline("a", "1");
    let gone = set_blob("b", &stage.blobs.url("/gone"));
    let minimal = [NDJSON, ("prefer", "return=minimal")];
    let answer = stage.daemon.post_with(&minimal, ndjson(&[ok.clone(), gone.clone(), ok.clone()]).as_bytes());
    assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    let events = batch(&answer, 207, "rejected", [2, 1, 0]);
    assert_eq!((events.len(), &events[0]["index"]), (1, &json!(1)));
    let answer = stage.daemon.post_with(&minimal, ok.to_string().as_bytes());
    assert_eq!(batch(&answer, 200, "ok", [1, 0, 0]), Vec::<Value>::new());
    let several = [NDJSON, ("prefer", "handling=lenient, return=minimal; x=1")];
    let answer = stage.daemon.post_with(&several, ok.to_string().as_bytes());
    assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    let answer = stage.daemon.post_with(&[NDJSON, ("prefer", "return=representation")], ok.to_string().as_bytes());
    assert_eq!(batch(&answer, 200, "ok", [1, 0, 0]).len(), 1);
    assert_ne!(answer.header("preference-applied"), Some("return=minimal"));
    let both = [NDJSON, ("prefer", "return=representation, return=minimal")];
    let answer = stage.daemon.post_with(&both, ok.to_string().as_bytes());
    assert_eq!(batch(&answer, 200, "ok", [1, 0, 0]).len(), 1, "of a preference given twice the first counts");
}

#[test]
fn an_unavailable_write_is_superseded_by_a_later_one_that_is_ok() {
    let stage = stage();
    let (gone, down, fine) = (stage.blobs.url("/gone"), stage.blobs.url("/down"), stage.blobs.url("/ok"));
    let inline = set_inline("k", "new");
    let down_k = set_blob("k", &down);
    let cases = [
        // A later SET, a later blob, a later DELETE, even one that found nothing.
        (json!([down_k, inline]), 200, vec![vec!["superseded"], vec!["stored"]]),
        (json!([down_k, set_blob("k", &fine)]), 200, vec![vec!["superseded"], vec!["stored"]]),
        (
            json!([down_k, delete(json!("k")), delete(json!("k"))]),
            200,
            vec![vec!["superseded"], vec!["deleted"], vec!["absent"]],
        ),
        (json!([down_k, down_k, inline]), 200, vec![vec!["superseded"], vec!["superseded"], vec!["stored"]]),
        // Not by an earlier one, another key, a read, a pattern, or one that failed itself.
        (json!([inline, down_k]), 503, vec![vec!["stored"], vec!["unavailable"]]),
        (json!([down_k, set_inline("j", "x")]), 503, vec![vec!["unavailable"], vec!["stored"]]),
        (json!([down_k, get(json!("k"))]), 503, vec![vec!["unavailable"], vec!["hit"]]),
        (json!([down_k, delete_pattern(json!("k*"))]), 503, vec![vec!["unavailable"], vec!["deleted"]]),
        (json!([down_k, set_blob("k", &gone)]), 503, vec![vec!["unavailable"], vec!["rejected"]]),
        // What was rejected stays so.
        (json!([set_blob("k", &gone), inline]), 207, vec![vec!["rejected"], vec!["stored"]]),
        // Two entries of one event count.
        (
            json!([set(json!([{"key": "k", "url": down}, {"key": "k", "value": 1}]))]),
            200,
            vec![vec!["superseded", "stored"]],
        ),
        (
            json!([set(json!([{"key": "k", "value": 1}, {"key": "k", "url": down}]))]),
            503,
            vec![vec!["stored", "unavailable"]],
        ),
    ];
    for (events, status, want) in cases {
        stage.redis.put("k", b"old");
        let answer = stage.daemon.post(&events);
        let json = answer.json();
        let found = json["events"].as_array().unwrap_or_else(|| panic!("no events: {json}"));
        assert_eq!(found.iter().map(statuses).collect::<Vec<_>>(), want, "{events}: {json}");
        assert_eq!(answer.status, status, "{events}: {json}");
        let class = match status {
            200 => "ok",
            207 => "rejected",
            _ => "unavailable",
        };
        assert_eq!(json["status"], class, "{json}");
        let oks = found.iter().filter(|event| event["status"] == "ok").count();
        assert_eq!(json["counts"]["ok"], oks, "{json}");
        let superseded = found.iter().flat_map(|event| event["results"].as_array().into_iter().flatten());
        let superseded = superseded.filter(|entry| entry["status"] == "superseded");
        assert!(superseded.into_iter().all(|entry| *entry == json!({"key": "k", "status": "superseded"})), "{json}");
    }
    let two = set(json!([{"key": "k", "url": down}, {"key": "k", "value": 1}]));
    let single = stage.daemon.post(&two);
    assert_eq!((single.status, statuses(&single.json())), (200, vec!["superseded", "stored"]));
}

#[test]
fn as_many_events_as_are_allowed_go_in_one_batch() {
    let stage = stage();
    let events: Vec<_> = (0..10_000).map(|n| set_inline(&format!("k{}", n % 5000), &n.to_string())).collect();
    let found = batch(&stage.daemon.post_ndjson(&ndjson(&events)), 200, "ok", [10_000, 0, 0]);
    assert_eq!(found.len(), 10_000);
    assert!(found.iter().enumerate().all(|(index, event)| event["index"] == index));
    assert_eq!(stage.redis.key_count(), 5000);
    for n in (5000..10_000).step_by(97) {
        assert_eq!(stage.redis.value(&format!("k{}", n % 5000)), Some(n.to_string().into_bytes()));
    }
}
