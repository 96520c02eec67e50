//! `/metrics`, `/live` and `/ready` of a healthy daemon.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Blob, Daemon, Stage, delete, delete_pattern, get, set_blob, set_inline};

#[test]
fn events_are_counted_by_type_and_outcome() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/down", Blob::status(503));
    let count = |kind: &str, outcome: &str| {
        let labels = [format!("type=\"{kind}\""), format!("outcome=\"{outcome}\"")];
        stage.daemon.metric("cache_sync_events_total", &[&labels[0], &labels[1]])
    };
    stage.daemon.post(&json!([
        set_inline("a", "1"),
        set_inline("b", "1"),
        set_blob("c", &stage.blobs.url("/gone")),
        set_blob("d", &stage.blobs.url("/down")),
        get(json!("a")),
        delete(json!("a")),
    ]));
    stage.daemon.post(&delete_pattern(json!("b*")));
    let want = [
        ("SET", "ok", 2.0),
        ("SET", "rejected", 1.0),
        ("SET", "unavailable", 1.0),
        ("GET", "ok", 1.0),
        ("DELETE", "ok", 1.0),
        ("DELETE_PATTERN", "ok", 1.0),
    ];
    for (kind, outcome, events) in want {
        assert_eq!(count(kind, outcome), events, "{kind} {outcome}");
    }
}

#[test]
fn the_promised_metrics_are_there_from_the_start() {
    let stage = Stage::new();
    let answer = stage.daemon.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{answer:?}");
    assert!(answer.text().contains("# TYPE cache_sync_redis_up gauge"), "{}", answer.text());
    let metrics = stage.daemon.metrics();
    assert!(metrics.keys().all(|name| name.starts_with("cache_sync_")), "{metrics:#?}");
    assert_eq!(stage.daemon.metric("cache_sync_redis_up", &[]), 1.0);
    for name in ["cache_sync_admission_events", "cache_sync_admission_bytes"] {
        let found = metrics.keys().any(|sample| sample.split('{').next() == Some(name));
        assert!(found && stage.daemon.metric(name, &[]) == 0.0, "{name}: {metrics:#?}");
    }
    for actor in ["intake", "validation", "router", "fetcher", "writer"] {
        let label = format!("actor=\"{actor}\"");
        assert!(stage.daemon.metric("cache_sync_actors", &[&label]) >= 1.0, "{actor}: {metrics:#?}");
        let restarts =
            metrics.iter().find(|(name, _)| name.starts_with("cache_sync_actor_restarts") && name.contains(&label));
        assert_eq!(restarts.map(|(_, count)| *count), Some(0.0), "{actor}: {metrics:#?}");
    }
}

#[test]
fn pools_have_the_size_that_was_set() {
    let stage = Stage::with(|daemon| daemon.set("fetch.pool_size", 3).set("redis.pool_size", 5));
    let actors = |actor: &str| stage.daemon.metric("cache_sync_actors", &[&format!("actor=\"{actor}\"")]);
    assert_eq!((actors("fetcher"), actors("writer")), (3.0, 5.0));
    assert_eq!((stage.daemon.get("/live").status, stage.daemon.get("/ready").status), (200, 200));
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let daemon = Daemon::embedded();
    let metrics = daemon.get("/metrics").text();
    let exported: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let readme = include_str!("../../README.md");
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let named: BTreeSet<&str> = readme
        .match_indices("cache_sync_")
        .filter(|(at, _)| !readme[..*at].ends_with(is_name))
        .map(|(at, _)| readme[at..].split(|character| !is_name(character)).next().unwrap_or_default())
        .filter(|name| *name != "cache_sync_")
        .collect();
    assert_eq!(named, exported);
}
