use super::labels::{HTTP_STATUS_CODES, HTTP_STATUSES};
use super::*;

fn metrics(cluster: &str) -> Metrics {
    Metrics::new(cluster).unwrap()
}

#[track_caller]
fn assert_shows(metrics: &Metrics, line: &str) {
    let text = metrics.encode().unwrap();
    assert!(text.lines().any(|l| l == line), "{line} is not among\n{text}");
}

#[test]
fn what_can_be_known_beforehand_shows_0_from_the_start() {
    let metrics = metrics("");
    for line in [
        r#"cache_sync_events_total{outcome="ok",type="SET"} 0"#,
        r#"cache_sync_events_total{outcome="unavailable",type="DELETE_PATTERN"} 0"#,
        r#"cache_sync_events_total{outcome="rejected",type="unknown"} 0"#,
        r#"cache_sync_entries_total{outcome="absent",type="DELETE"} 0"#,
        r#"cache_sync_actor_restarts_total{actor="scanner"} 0"#,
        r#"cache_sync_actors{actor="intake"} 0"#,
        r#"cache_sync_actor_waiting_messages{actor="writer"} 0"#,
        r#"cache_sync_request_duration_seconds_count{route="/events",status="503"} 0"#,
        r#"cache_sync_fetch_duration_seconds_count{outcome="blob-unavailable"} 0"#,
        "cache_sync_admission_events 0",
        "cache_sync_admission_bytes 0",
        "cache_sync_redis_up 0",
        "cache_sync_redis_reconnects_total 0",
    ] {
        assert_shows(&metrics, line);
    }
    let text = metrics.encode().unwrap().replace(r#"host="other""#, "");
    assert!(!text.contains(r#"outcome="hit",type="SET""#) && !text.contains(r#""other""#), "{text}");
}

/// An alert looks at the increase: the first of a series that is not there would raise none.
#[test]
fn each_problem_of_a_write_has_a_series_of_dead_letters_from_the_start() {
    let metrics = metrics("");
    let writes = EventType::ALL.into_iter().filter(|event| *event != EventType::Get);
    for problem in writes.flat_map(EventType::problems).map(ProblemKind::slug) {
        assert_shows(&metrics, &format!(r#"cache_sync_dead_letters_total{{problem="{problem}"}} 0"#));
    }
}

#[test]
fn every_sample_has_the_prefix_and_the_cluster() {
    let metrics = metrics("west \"1\"");
    let text = metrics.encode().unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let is_named = line.starts_with("cache_sync_") || line.starts_with("process_");
        assert!(is_named && line.contains(r#"cluster="west \"1\"""#), "{line}");
    }
}

#[test]
fn events_count_by_type_and_outcome() {
    let metrics = metrics("");
    for event in EventType::ALL {
        for (n, class) in Class::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| metrics.event_done(event, class));
        }
    }
    metrics.event_rejected(None);
    metrics.event_rejected(Some(EventType::Get));
    for event in ["SET", "DELETE", "DELETE_PATTERN"] {
        for (n, outcome) in [(1, "ok"), (2, "rejected"), (3, "unavailable")] {
            assert_shows(&metrics, &format!(r#"cache_sync_events_total{{outcome="{outcome}",type="{event}"}} {n}"#));
        }
    }
    assert_shows(&metrics, r#"cache_sync_events_total{outcome="rejected",type="GET"} 3"#);
    assert_shows(&metrics, r#"cache_sync_events_total{outcome="rejected",type="unknown"} 1"#);
}

#[test]
fn labels_from_outside_stay_within_their_sets() {
    let metrics = metrics("");
    for n in 0..100 {
        metrics.request_done(&format!("/wp-admin/{n}"), 600 + n, Duration::from_millis(3));
        for _ in 0..2 {
            metrics.settled().entry(EventType::Get, format!("new-{n}").leak());
        }
    }
    metrics.request_done("/events", 200, Duration::from_millis(3));
    assert_shows(&metrics, r#"cache_sync_request_duration_seconds_count{route="other",status="other"} 100"#);
    assert_shows(&metrics, r#"cache_sync_entries_total{outcome="other",type="GET"} 200"#);
    assert_shows(&metrics, r#"cache_sync_request_duration_seconds_bucket{route="/events",status="200",le="0.005"} 1"#);
}

#[test]
fn each_known_status_code_has_its_own_label() {
    let labels: Vec<String> = HTTP_STATUS_CODES.iter().map(u16::to_string).collect();
    assert_eq!(labels, HTTP_STATUSES[..HTTP_STATUSES.len() - 1]);
}

#[test]
fn enums_stand_in_their_arrays_where_their_labels_do() {
    for event in EventType::ALL {
        assert_eq!(EVENT_TYPES[event as usize], event.as_str());
    }
    for (n, class) in Class::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, n);
    }
    for (n, actor) in ActorKind::ALL.into_iter().enumerate() {
        assert_eq!(actor as usize, n);
    }
}

#[test]
fn actors_fetches_and_redis_are_told() {
    let metrics = metrics("");
    metrics.actor_started(ActorKind::Writer);
    metrics.actor_started(ActorKind::Writer);
    metrics.actor_stopped(ActorKind::Writer);
    metrics.actor_restarted(ActorKind::Fetcher);
    metrics.fetch_done("ok", Duration::from_millis(20), 4096);
    metrics.fetch_retried();
    metrics.redis_batch(20, Duration::from_micros(300));
    metrics.redis_reconnected();
    metrics.set_redis_up(true);
    metrics.set_admission(3, 999);
    for line in [
        r#"cache_sync_actors{actor="writer"} 1"#,
        r#"cache_sync_actor_restarts_total{actor="fetcher"} 1"#,
        r#"cache_sync_fetch_duration_seconds_count{outcome="ok"} 1"#,
        "cache_sync_fetched_bytes_total 4096",
        "cache_sync_fetch_retries_total 1",
        r#"cache_sync_redis_batch_commands_bucket{le="32"} 1"#,
        r#"cache_sync_redis_batch_commands_bucket{le="16"} 0"#,
        r#"cache_sync_redis_batch_duration_seconds_bucket{le="0.0005"} 1"#,
        "cache_sync_redis_reconnects_total 1",
        "cache_sync_redis_up 1",
        "cache_sync_admission_events 3",
        "cache_sync_admission_bytes 999",
        concat!(r#"cache_sync_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        assert_shows(&metrics, line);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_read_at_each_scrape() {
    let bytes = metrics("").memory_bytes().unwrap();
    assert!(bytes > 1024 * 1024, "{bytes}");
    let text = metrics("c").encode().unwrap();
    let value =
        text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes{cluster=\"c\"} ")).unwrap();
    assert!(value.parse::<u64>().unwrap() > 1 << 20, "{value}");
}
