//! `/metrics` for who prefers OpenMetrics: the same samples, and traces beside the histograms of sampled requests alone.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Daemon, Wire, get, set_inline};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type and the text.
fn asked(daemon: &Daemon, accept: &str) -> (String, String) {
    let mut wire = Wire::open(daemon.address());
    wire.send_request("GET", "/metrics", &[("accept", accept)], b"");
    let answer = wire.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    (answer.header("content-type").unwrap_or_default().to_owned(), answer.text())
}

fn openmetrics(daemon: &Daemon) -> String {
    asked(daemon, "application/openmetrics-text").1
}

fn exemplars(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && line.contains(" # {")).collect()
}

fn post(daemon: &Daemon, flags: &str, body: &serde_json::Value) -> u16 {
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    daemon.post_with(&[("traceparent", &parent)], body.to_string().as_bytes()).status
}

#[test]
fn only_sampled_requests_leave_a_trace_beside_the_histograms_and_the_usual_text_has_none() {
    let daemon = Daemon::embedded();
    assert_eq!((post(&daemon, "00", &set_inline("k", "v")), daemon.post(&get(json!("k"))).status), (200, 200));
    assert_eq!(exemplars(&openmetrics(&daemon)), Vec::<&str>::new());
    assert_eq!(post(&daemon, "01", &json!([set_inline("k", "v"), get(json!("k")), {"key": "nothing"}])), 207);
    let text = openmetrics(&daemon);
    let of = |name: &str| exemplars(&text).into_iter().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let requests = of(r#"cache_sync_request_duration_seconds_bucket{route="/events",status="207""#);
    assert_eq!((requests.len(), of("cache_sync_event_delay_seconds_bucket").is_empty()), (1, false), "{text}");
    for line in exemplars(&text) {
        let (sample, exemplar) = line.split_once(" # ").expect("an exemplar");
        let labels = exemplar.strip_prefix(&format!(r#"{{trace_id="{TRACE}",span_id=""#)).expect("its labels");
        let (span, rest) = labels.split_once("\"} ").expect("a span");
        let numbers: Vec<f64> = rest.split(' ').map(|number| number.parse().expect("a number")).collect();
        let le = sample.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a bound").0;
        let bound: f64 = le.replace("+Inf", "inf").parse().expect("a number");
        assert!(span.len() == 16 && numbers[0] > 0.0 && numbers[0] <= bound && numbers[1] > 1.6e9, "{line}");
        let counted: u64 = sample.rsplit_once(' ').and_then(|(_, count)| count.parse().ok()).expect("a count");
        assert!(counted > 0, "{line}");
    }
    assert!(!daemon.get("/metrics").text().contains(TRACE));
}

#[test]
fn both_formats_have_the_same_samples() {
    let daemon = Daemon::builder().embedded().set("cluster", "west").start();
    daemon.post(&set_inline("k", "v"));
    let (kind, plain) = asked(&daemon, "*/*");
    assert_eq!(kind, PLAIN);
    let (kind, text) = asked(&daemon, "application/openmetrics-text; version=1.0.0");
    assert_eq!(kind, OPENMETRICS);
    assert!(text.ends_with("\n# EOF\n") && !plain.contains("# EOF") && !plain.contains("# UNIT"), "{text}");
    // Without values, some of which change meanwhile; bounds have another form.
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.contains(r#"route="/metrics""#));
        samples
            .map(|line| line.split(" # ").next().unwrap_or_default().rsplit_once(' ').expect("a sample").0)
            .map(|name| name.replace(".0\"", "\""))
            .collect()
    };
    assert_eq!(names(&plain), names(&text));
    assert!(plain.lines().any(|line| line.starts_with("# TYPE cache_sync_events_total counter")));
    for line in ["# TYPE cache_sync_events counter", "# UNIT cache_sync_fetched_bytes bytes"] {
        assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
    }
}

#[test]
fn openmetrics_is_for_who_prefers_it_by_name() {
    let daemon = Daemon::embedded();
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let rather_plain = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
    for (accept, is_openmetrics) in [
        (prometheus, true),
        ("application/openmetrics-text", true),
        ("application/openmetrics-text;version=1.0.0, text/plain", true),
        (rather_plain, false),
        ("application/openmetrics-text;version=0.0.1", false),
        ("application/openmetrics-text;version=2.0.0,*/*;q=0.1", false),
        ("application/openmetrics-text;q=0", false),
        ("text/plain", false),
        ("text/html,*/*;q=0.1", false),
        ("*/*", false),
        ("nonsense;;=,,", false),
        ("", false),
    ] {
        let kind = asked(&daemon, accept).0;
        assert_eq!(kind, if is_openmetrics { OPENMETRICS } else { PLAIN }, "{accept}");
    }
    let plain = daemon.get("/metrics");
    assert_eq!(plain.header("content-type"), Some(PLAIN));
}
