//! Notifications made to hurt, or of any shape but that of their format: none of them stops the service, and none is answered by a
//! status for which its producer would send it again for ever.

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, get, results};

const FORMATS: [&str; 8] = ["auto", "s3", "eventbridge", "sns", "event-grid", "gcs", "cloudevents", "seaweedfs"];
const JSON: (&str, &str) = ("content-type", "application/json");

/// A source of each format, by its own name.
fn sources() -> Daemon {
    let all = FORMATS.iter().fold(Daemon::builder().embedded().set("log_level", "warn"), |builder, format| {
        let name = route(format);
        builder.set(&format!("sources.{name}.format"), format).set(&format!("sources.{name}.value"), "facts")
    });
    all.start()
}

fn route(format: &str) -> String {
    format.replace('-', "")
}

/// A notification of each format, of one object.
fn good() -> [(&'static str, Value); 7] {
    let records = json!({"Records": [{
        "eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k", "size": 5, "eTag": "e", "sequencer": "0A", "versionId": "v"}},
    }]});
    let blob = json!({"api": "PutBlob", "url": "https://acct.blob.core.windows.net/c/k", "contentLength": 5, "sequencer": "0A"});
    let subject = "/blobServices/default/containers/c/blobs/k";
    [
        ("s3", records.clone()),
        (
            "sns",
            json!({
                "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": records.to_string(),
                "Timestamp": "2026-11-28T22:54:42.103Z",
            }),
        ),
        (
            "eventbridge",
            json!({
                "id": "e", "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-28T22:10:40Z",
                "detail": {"bucket": {"name": "b"}, "object": {"key": "k", "size": 5, "sequencer": "0A"}},
            }),
        ),
        (
            "event-grid",
            json!([{
                "id": "e", "eventType": "Microsoft.Storage.BlobCreated", "subject": subject, "eventTime": "2026-11-28T22:44:51Z",
                "data": blob, "dataVersion": "",
            }]),
        ),
        (
            "cloudevents",
            json!({
                "specversion": "1.0", "id": "e", "source": "/s", "type": "Microsoft.Storage.BlobCreated", "subject": subject,
                "time": "2026-11-28T22:44:51Z", "data": blob,
            }),
        ),
        (
            "gcs",
            json!({"message": {
                "attributes": {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "k", "objectGeneration": "7"},
                "messageId": "1", "data": "e30=",
            }}),
        ),
        (
            "seaweedfs",
            json!({
                "event_type": "create", "key": "/buckets/b/k",
                "message": {"new_entry": {
                    "name": "k", "is_directory": false, "chunks": [{"modified_ts_ns": 7, "e_tag": "e"}], "extended": {},
                    "attributes": {"file_size": 5, "mtime": 7, "mime": "text/plain"},
                }, "new_parent_path": "/buckets/b"},
            }),
        ),
    ]
}

/// The places of all values in a JSON, the whole of it included.
fn places(value: &Value) -> Vec<String> {
    let below = |name: &str, value: &Value| {
        places(value).into_iter().map(|place| format!("/{name}{place}")).collect::<Vec<_>>()
    };
    let inside: Vec<String> = match value {
        Value::Object(members) => members.iter().flat_map(|(name, value)| below(name, value)).collect(),
        Value::Array(items) => items.iter().enumerate().flat_map(|(at, value)| below(&at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    [String::new()].into_iter().chain(inside).collect()
}

#[track_caller]
fn assert_settled(answer: &Answer, what: &str) {
    assert!([200, 400, 413].contains(&answer.status), "{}: {what}", answer.status);
    assert!(answer.json()["status"].is_string() || answer.status != 200, "{what}");
}

#[test]
fn a_value_of_any_other_type_in_any_place_is_ignored_or_refused() {
    let daemon = sources();
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}"),
        json!("é".repeat(3000)),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"a": {"b": []}}),
    ];
    for (format, notification) in good() {
        for place in places(&notification) {
            for other in &others {
                let mut changed = notification.clone();
                *changed.pointer_mut(&place).expect("a place") = other.clone();
                for route in [route(format), "auto".to_owned()] {
                    let answer = daemon.post_to(&format!("/sources/{route}"), &[JSON], changed.to_string().as_bytes());
                    assert_settled(&answer, &format!("{route}: {changed}"));
                }
            }
        }
        let answer =
            daemon.post_to(&format!("/sources/{}", route(format)), &[JSON], notification.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{format}");
    }
    assert_eq!(results(&daemon.post(&get(json!("k"))), 200, "ok")[0]["status"], "hit");
}

#[test]
fn a_member_given_twice_and_one_too_deep_are_refused_and_hurt_nobody() {
    let daemon = sources();
    let deep = |open: &str, close: &str| format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
    let hostile = [
        deep("[", "]"),
        deep(r#"{"Records":"#, "}"),
        deep(r#"{"message":"#, "}"),
        deep(r#"{"data":"#, "}"),
        "[".repeat(200_000),
        r#"{"a":"#.repeat(100_000),
        format!(r#"{{"Records":[{{"eventName":"ObjectCreated:Put","extra":{}}}]}}"#, deep("[", "]")),
        format!(
            r#"{{"Type":"Notification","MessageId":"m","TopicArn":"t","Timestamp":"t","Message":"{}"}}"#,
            "[".repeat(200_000)
        ),
        format!(
            r#"{{"Records":[{{"eventName":"ObjectCreated:Put","s3":{{"bucket":{{"name":{}}}}}}}]}}"#,
            "9".repeat(200_000)
        ),
    ];
    for format in FORMATS {
        for body in &hostile {
            let answer = daemon.post_to(&format!("/sources/{}", route(format)), &[JSON], body.as_bytes());
            assert_settled(&answer, &format!("{format}: {:.60}", body));
        }
    }
    for (format, notification) in good() {
        let once = notification.to_string();
        for twice in [
            once.replacen(":{", ":{},\"x\":{", 1),
            once.replacen("\"b\"", "\"b\",\"name\":\"c\"", 1),
            format!("{once}{once}"),
        ] {
            let answer = daemon.post_to(&format!("/sources/{}", route(format)), &[JSON], twice.as_bytes());
            assert_settled(&answer, &format!("{format}: {twice}"));
        }
    }
    assert_eq!(daemon.get("/live").status, 200);
}

#[test]
fn more_elements_than_an_event_may_have_are_too_large_and_change_nothing() {
    let daemon = sources();
    let (_, records) = good().into_iter().next().expect("S3");
    let many = vec![records["Records"][0].clone(); 10_001];
    let answer = daemon.post_to("/sources/s3", &[JSON], json!({"Records": many}).to_string().as_bytes());
    answer.problem(413, "payload-too-large");
    assert_eq!(results(&daemon.post(&get(json!("k"))), 200, "ok")[0]["status"], "miss");
}

#[test]
fn what_says_that_it_is_no_json_is_415_whichever_format_is_expected() {
    let daemon = sources();
    for format in FORMATS {
        for content_type in ["text/csv", "application/xml", "image/png"] {
            let answer =
                daemon.post_to(&format!("/sources/{}", route(format)), &[("content-type", content_type)], b"a,b");
            answer.problem(415, "unsupported-media-type");
        }
    }
    for array in ["[{}]", "[[]]", "[1]"] {
        for format in FORMATS {
            let answer = daemon.post_to(&format!("/sources/{}", route(format)), &[JSON], array.as_bytes());
            answer.problem(400, "malformed-json");
        }
    }
}
