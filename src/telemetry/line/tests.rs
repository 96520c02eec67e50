use std::time::{Duration, UNIX_EPOCH};

use log::kv::Value;

use super::escape::MAX_PART_BYTES;
use super::*;

const NASTY: &str = "a\r\nb\t\"c\\\u{1b}[31m\u{0}\u{7f}\u{85}\u{2028}\u{2029}\u{202e}é🦀";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(seconds, 123_456_789)
}

fn line(format: LineFormat, cluster: &str, target: &str, message: &str, fields: &[(&str, Value<'_>)]) -> String {
    let layout = Layout { format, cluster: cluster.into() };
    let mut out = Vec::new();
    let fields = fields.to_vec();
    let mut builder = Record::builder();
    builder.level(log::Level::Info).target(target).key_values(&fields);
    layout.write(&mut out, &builder.args(format_args!("{message}")).build(), at(1_795_404_840));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_text_line_has_time_level_message_fields_and_cluster() {
    let fields = [("address", Value::from("127.0.0.1:8080")), ("keys", Value::from(3_u64)), ("id", Value::from(""))];
    assert_eq!(
        line(LineFormat::Text, "prod", "redis_cache_sync::http", "listening", &fields),
        "2026-11-23T03:34:00.123Z INFO  listening address=127.0.0.1:8080 keys=3 id=\"\" cluster=prod\n"
    );
    assert_eq!(
        line(LineFormat::Text, "", "awc::client", "a b", &[("note", Value::from("x y=z"))]),
        "2026-11-23T03:34:00.123Z INFO  a b note=\"x y=z\" target=awc::client\n"
    );
}

#[test]
fn a_json_line_is_one_object_with_typed_fields() {
    let fields = [
        ("n", Value::from(-7_i64)),
        ("big", Value::from(u64::MAX)),
        ("ratio", Value::from(0.5)),
        ("nan", Value::from(f64::NAN)),
        ("ok", Value::from(true)),
        ("none", Value::null()),
        ("body", Value::from("mine")),
    ];
    let line = line(LineFormat::Json, "prod", "redis_cache_sync", "done", &fields);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2026-11-23T03:34:00.123Z", "severity_text": "INFO", "severity_number": 9, "body": "done",
        "service.name": "redis-cache-sync", "service.version": env!("CARGO_PKG_VERSION"),
        "otel.scope.name": "redis_cache_sync", "k8s.cluster.name": "prod",
        "n": -7, "big": u64::MAX, "ratio": 0.5, "nan": "NaN", "ok": true, "none": null, "body_": "mine",
    });
    assert_eq!(json, expected);
}

#[test]
fn levels_have_the_numbers_of_opentelemetry() {
    for (level, text, number) in [
        (log::Level::Trace, "TRACE", 1),
        (log::Level::Debug, "DEBUG", 5),
        (log::Level::Info, "INFO", 9),
        (log::Level::Warn, "WARN", 13),
        (log::Level::Error, "ERROR", 17),
    ] {
        let layout = Layout { format: LineFormat::Json, cluster: String::new() };
        let mut out = Vec::new();
        layout.write(&mut out, &Record::builder().level(level).build(), at(0));
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&json["severity_text"], &json["severity_number"]), (&text.into(), &number.into()));
    }
}

#[test]
fn what_opentelemetry_has_a_name_for_has_that_name_in_json_alone() {
    let names = [
        ("method", "http.request.method"),
        ("path", "url.path"),
        ("status", "http.response.status_code"),
        ("bytes_in", "http.request.body.size"),
        ("bytes_out", "http.response.body.size"),
        ("problem", "error.type"),
        ("cause", "exception.message"),
        ("thread", "thread.name"),
        ("request_id", "request_id"),
        ("trace_id", "trace_id"),
    ];
    let fields: Vec<_> = names.iter().map(|(short, _)| (*short, Value::from(*short))).collect();
    let json = line(LineFormat::Json, "", "t", "m", &fields);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = line(LineFormat::Text, "", "t", "m", &fields);
    for (short, long) in names {
        assert_eq!(json[long], short);
        assert!(text.contains(&format!(" {short}={short}")), "{text}");
    }
}

#[test]
fn what_ends_in_numbers_comes_in_parts_and_what_every_line_says_not_again() {
    let place = r#"{"code.file.path":"src/a.rs","code.line.number":7,"code.column.number":12}"#;
    for (short, text, expected) in [
        ("address", "127.0.0.1:8080", r#"{"server.address":"127.0.0.1","server.port":8080}"#),
        ("address", "[::1]:80", r#"{"server.address":"::1","server.port":80}"#),
        ("address", "nowhere\n", r#"{"server.address":"nowhere\n"}"#),
        ("address", "a:99999999999", r#"{"server.address":"a:99999999999"}"#),
        ("peer", "10.0.0.7:4711", r#"{"network.peer.address":"10.0.0.7","network.peer.port":4711}"#),
        ("location", "src/a.rs:7:12", place),
        ("version", "0.1.0", "{}"),
    ] {
        let line = line(LineFormat::Json, "", "t", "m", &[(short, Value::from_display(&text))]);
        let (_, fields) = line.split_once(r#""otel.scope.name":"t""#).unwrap();
        let fields = fields.trim_end().trim_start_matches(',');
        assert_eq!(format!("{{{fields}"), expected);
    }
}

#[test]
fn hostile_text_stays_one_line_in_both_formats() {
    for format in [LineFormat::Text, LineFormat::Json] {
        let line = line(format, NASTY, NASTY, NASTY, &[(NASTY, Value::from(NASTY))]);
        let body = line.strip_suffix('\n').unwrap();
        assert!(!body.contains(|c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(c)), "{body:?}");
        assert!(body.contains("é🦀"), "{body}");
    }
}

#[test]
fn hostile_text_survives_a_json_round_trip() {
    let line = line(LineFormat::Json, NASTY, NASTY, NASTY, &[(NASTY, Value::from(NASTY))]);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    for member in ["body", "otel.scope.name", "k8s.cluster.name", NASTY] {
        assert_eq!(json[member], NASTY);
    }
}

#[test]
fn an_endless_field_is_cut_at_a_character() {
    let long = "é".repeat(MAX_PART_BYTES);
    for format in [LineFormat::Text, LineFormat::Json] {
        let line = line(format, "", env!("CARGO_CRATE_NAME"), "m", &[("long", Value::from_display(&long))]);
        assert!(line.len() < MAX_PART_BYTES + 300 && line.contains("é…\""), "{} bytes", line.len());
    }
}
