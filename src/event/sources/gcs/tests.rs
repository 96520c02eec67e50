use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::event::sources::captured::Captured;
use crate::event::sources::{Change, Facts, Format, Ignored, Notified, ObjectChange, Parsed, Place, SourceFault};

fn resource() -> Value {
    json!({
        "kind": "storage#object", "bucket": "b", "name": "a/é.txt", "generation": "1699999999999999", "size": "3",
        "contentType": "text/plain", "etag": "CJ+=", "mediaLink": "https://storage.googleapis.com/download/a",
    })
}

fn attributes(kind: &str) -> Value {
    json!({
        "eventType": kind, "bucketId": "b", "objectId": "a/é.txt", "objectGeneration": "1699999999999999",
        "eventTime": "2026-11-28T22:44:51.411Z", "payloadFormat": "JSON_API_V1",
        "notificationConfig": "projects/_/buckets/b/notificationConfigs/1",
    })
}

fn push(attributes: Value, data: Option<&str>) -> Value {
    let mut message = json!({"attributes": attributes, "messageId": "m-1", "message_id": "m-1", "publishTime": "2026-11-28T22:44:52Z"});
    if let Some(data) = data {
        message["data"] = BASE64.encode(data).into();
    }
    json!({"message": message, "subscription": "projects/p/subscriptions/s"})
}

fn wrapped(body: &Value) -> Captured {
    Captured::new(&[("content-type", "application/json")], body.to_string().as_bytes())
}

fn element(captured: &Captured) -> Notified<'static> {
    for format in [Format::Gcs, Format::Auto] {
        match captured.parse(format).map(Parsed::into_owned) {
            Ok(Parsed::Elements(mut elements)) if elements.len() == 1 && format == Format::Auto => {
                return elements.remove(0);
            }
            Ok(Parsed::Elements(elements)) if elements.len() == 1 => {}
            other => panic!("{other:?}"),
        }
    }
    unreachable!()
}

fn expected(change: Change) -> ObjectChange<'static> {
    ObjectChange {
        change,
        bucket: "b".into(),
        object: "a/é.txt".into(),
        url: Some("https://storage.googleapis.com/download/a".into()),
        place: Place::Number(1_699_999_999_999_999),
        facts: Facts {
            size: Some(3),
            etag: Some("CJ+=".into()),
            content_type: Some("text/plain".into()),
            time: Some("2026-11-28T22:44:51.411Z".into()),
            version: Some("1699999999999999".into()),
        },
        id: Some("m-1".into()),
        time_ms: Some(1_795_905_891_411),
    }
}

#[test]
fn a_push_is_read_wrapped_and_unwrapped() {
    let data = resource().to_string();
    let captured = wrapped(&push(attributes("OBJECT_FINALIZE"), Some(&data)));
    assert_eq!(element(&captured), Notified::Change(expected(Change::Set)));
    for prefix in ["", "x-goog-pubsub-"] {
        let mut captured = Captured::new(&[("x-goog-pubsub-message-id", "m-1")], data.as_bytes());
        for (name, value) in attributes("OBJECT_DELETE").as_object().unwrap() {
            let name = format!("{prefix}{}", name.to_ascii_lowercase());
            captured = captured.with(&name, value.as_str().unwrap().as_bytes());
        }
        assert_eq!(element(&captured), Notified::Change(expected(Change::Delete)), "{prefix}");
    }
}

#[test]
fn attributes_alone_name_the_object() {
    let captured = wrapped(&push(attributes("OBJECT_FINALIZE"), None));
    let facts = Facts { size: None, etag: None, content_type: None, ..expected(Change::Set).facts };
    assert_eq!(element(&captured), Notified::Change(ObjectChange { url: None, facts, ..expected(Change::Set) }));
}

#[test]
fn what_went_by_an_overwrite_is_ignored_and_what_went_for_good_is_deleted() {
    for kind in ["OBJECT_DELETE", "OBJECT_ARCHIVE"] {
        let mut attributes = attributes(kind);
        let gone = wrapped(&push(attributes.clone(), Some(&resource().to_string())));
        assert_eq!(element(&gone), Notified::Change(expected(Change::Delete)), "{kind}");
        attributes["overwrittenByGeneration"] = "1700000000000000".into();
        let replaced = wrapped(&push(attributes, Some(&resource().to_string())));
        assert_eq!(element(&replaced), Notified::Ignored(Ignored::Overwritten), "{kind}");
    }
    let mut attributes = attributes("OBJECT_FINALIZE");
    attributes["overwroteGeneration"] = "1600000000000000".into();
    assert_eq!(
        element(&wrapped(&push(attributes, Some(&resource().to_string())))),
        Notified::Change(expected(Change::Set))
    );
}

#[test]
fn what_changes_no_object_is_ignored() {
    for (kind, why) in [
        ("OBJECT_METADATA_UPDATE", Ignored::Metadata),
        ("OBJECT_SOMETHING", Ignored::UnknownEvent),
        ("", Ignored::UnknownEvent),
    ] {
        assert_eq!(element(&wrapped(&push(attributes(kind), None))), Notified::Ignored(why), "{kind}");
    }
    let folder = json!({"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "d/", "objectGeneration": "1"});
    assert_eq!(element(&wrapped(&push(folder, None))), Notified::Ignored(Ignored::Folder));
    let other = json!({"message": {"data": BASE64.encode("hello"), "messageId": "1"}, "subscription": "s"});
    assert_eq!(element(&wrapped(&other)), Notified::Ignored(Ignored::UnknownEvent));
}

#[test]
fn what_is_no_push_is_refused() {
    for body in ["", "{", "{}", "[]", "{\"subscription\":\"s\"}", "{\"message\":7}"] {
        let captured = Captured::new(&[], body.as_bytes());
        assert!(matches!(captured.parse(Format::Gcs), Err(SourceFault::Malformed(_))), "{body}");
    }
    let mut broken = push(attributes("OBJECT_FINALIZE"), None);
    broken["message"]["data"] = "not base64".into();
    let detail = "`message.data` is not base64";
    assert_eq!(wrapped(&broken).parse(Format::Gcs), Err(SourceFault::Malformed(detail.to_owned())));
    let nameless = json!({"eventType": "OBJECT_FINALIZE", "bucketId": "b"});
    let detail = "nothing names the object";
    assert_eq!(wrapped(&push(nameless, None)).parse(Format::Gcs), Err(SourceFault::Malformed(detail.to_owned())));
    let captured = Captured::new(&[("content-type", "text/html")], b"{}");
    assert!(matches!(captured.parse(Format::Gcs), Err(SourceFault::MediaType(_))));
}
