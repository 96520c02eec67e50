use serde_json::{Value, json};

use crate::event::sources::captured::{Captured, MAX_ELEMENTS};
use crate::event::sources::{
    Change, Facts, Format, Handshake, Ignored, Notified, ObjectChange, Parsed, Place, SourceFault,
};

const SUBJECT: &str = "/blobServices/default/containers/c/blobs/a b/é#1.txt";

fn blob_created() -> Value {
    json!({
        "specversion": "1.0", "id": "e-1", "source": "/subscriptions/s/storageAccounts/acct",
        "type": "Microsoft.Storage.BlobCreated", "subject": SUBJECT, "time": "2026-11-28T22:44:51.4118Z",
        "data": {
            "api": "PutBlockList", "contentType": "text/plain", "contentLength": 7, "eTag": "0x8D",
            "url": "https://acct.blob.core.windows.net/c/a b/é#1.txt", "sequencer": "00000000000004420000000000028963",
        },
    })
}

fn expected() -> ObjectChange<'static> {
    ObjectChange {
        change: Change::Set,
        bucket: "c".into(),
        object: "a b/é#1.txt".into(),
        url: Some("https://acct.blob.core.windows.net/c/a%20b/%C3%A9%231.txt".into()),
        place: Place::Hex("00000000000004420000000000028963".into()),
        facts: Facts {
            size: Some(7),
            etag: Some("0x8D".into()),
            content_type: Some("text/plain".into()),
            time: Some("2026-11-28T22:44:51.4118Z".into()),
            version: None,
        },
        id: Some("e-1".into()),
        time_ms: Some(1_795_905_891_411),
    }
}

fn structured(event: &Value) -> Captured {
    Captured::new(&[("content-type", "application/cloudevents+json")], event.to_string().as_bytes())
}

/// An event in binary mode, as the specification has it.
fn binary(event: &Value) -> Captured {
    let mut captured = Captured::new(&[("content-type", "application/json")], event["data"].to_string().as_bytes());
    for (name, value) in event.as_object().expect("an object").iter().filter(|(name, _)| *name != "data") {
        let value = value.as_str().expect("a string");
        let escaped: String = value
            .bytes()
            .map(|byte| match byte {
                b'!'..=b'~' if byte != b'%' && byte != b'"' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        captured = captured.with(&format!("ce-{name}"), escaped.as_bytes());
    }
    captured
}

fn elements(captured: &Captured) -> Vec<Notified<'static>> {
    match captured.parse(Format::CloudEvents).map(Parsed::into_owned) {
        Ok(Parsed::Elements(elements)) => elements,
        other => panic!("{other:?}"),
    }
}

fn fault(captured: &Captured) -> String {
    match captured.parse(Format::CloudEvents) {
        Err(SourceFault::Malformed(detail) | SourceFault::MediaType(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_mode_says_the_same() {
    let set = Notified::Change(expected());
    let mut in_base64 = blob_created();
    let data = in_base64.as_object_mut().unwrap().remove("data").unwrap();
    in_base64["data_base64"] =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data.to_string()).into();
    let mut in_a_string = blob_created();
    in_a_string["data"] = data.to_string().into();
    for event in [&blob_created(), &in_base64, &in_a_string] {
        assert_eq!(elements(&structured(event)), std::slice::from_ref(&set), "{event}");
    }
    for media in [
        "application/CloudEvents-Batch+JSON; charset=utf-8",
        "application/cloudevents-batch+json",
        "application/json",
        "",
    ] {
        let batch = json!([blob_created(), in_base64, blob_created()]);
        let captured = Captured::new(&[("content-type", media)], batch.to_string().as_bytes());
        assert_eq!(elements(&captured), vec![set.clone(); 3], "{media}");
    }
    assert_eq!(elements(&binary(&blob_created())), std::slice::from_ref(&set));
    assert_eq!(elements(&structured(&json!([]))), []);
    let auto = structured(&blob_created()).parse(Format::Auto).map(Parsed::into_owned);
    assert_eq!(auto, Ok(Parsed::Elements(vec![set])));
}

#[test]
fn attributes_are_read_as_their_senders_write_them() {
    let data = blob_created()["data"].to_string();
    let with = |subject: &[u8]| {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "e-1"),
            ("ce-source", "/s"),
            ("ce-type", "Microsoft.Storage.BlobDeleted"),
        ];
        let captured = Captured::new(&headers, data.as_bytes()).with("ce-subject", subject);
        match elements(&captured).as_slice() {
            [Notified::Change(change)] => change.object.clone().into_owned(),
            other => panic!("{other:?}"),
        }
    };
    let before = "/blobServices/default/containers/c/blobs/";
    for (name, object) in [
        (&b"plain.txt"[..], "plain.txt"),
        (b"a%20b%22c%25%C3%A9", "a b\"c%é"),
        ("é漢".as_bytes(), "é漢"),
        (b"\xe9t\xe9", "été"),
        (b"100%", "100%"),
    ] {
        assert_eq!(with(&[before.as_bytes(), name].concat()), object);
    }
    assert_eq!(with(format!("\"{before}a\\\"b c\"").as_bytes()), "a\"b c");
}

#[test]
fn what_the_toolkits_send_is_read_and_of_no_storage() {
    let ignored = Notified::Ignored(Ignored::UnknownEvent);
    for (file, count) in [
        ("cloudevents-batch-eventgrid-js.http", 3),
        ("cloudevents-batch-eventgrid-python.http", 3),
        ("cloudevents-js-binary-extensions.http", 1),
        ("cloudevents-js-binary-json-string.http", 1),
        ("cloudevents-js-binary.http", 1),
        ("cloudevents-js-structured-bytes.http", 1),
        ("cloudevents-js-structured.http", 1),
        ("cloudevents-python-binary-extensions.http", 1),
        ("cloudevents-python-binary-json-string.http", 1),
        ("cloudevents-python-binary-subject.http", 1),
        ("cloudevents-python-binary.http", 1),
        ("cloudevents-python-structured-bytes.http", 1),
        ("cloudevents-python-structured.http", 1),
        ("eventgrid-python-cloudevent.http", 1),
    ] {
        let captured = Captured::named(file);
        assert_eq!(elements(&captured), vec![ignored.clone(); count], "{file}");
        for format in [Format::Auto, Format::EventGrid] {
            let parsed = captured.parse(format).map(Parsed::into_owned);
            assert_eq!(parsed, Ok(Parsed::Elements(vec![ignored.clone(); count])), "{file} as {}", format.as_str());
        }
    }
}

#[test]
fn what_is_no_cloud_event_is_refused_and_said_why() {
    for missing in ["specversion", "id", "source", "type"] {
        let mut event = blob_created();
        event.as_object_mut().unwrap().remove(missing);
        assert_eq!(
            fault(&structured(&json!([event]))),
            format!("element 0: this is not a CloudEvent: `{missing}` is missing")
        );
    }
    let mut event = blob_created();
    event["specversion"] = "2.0".into();
    assert_eq!(fault(&structured(&event)), "element 0: `specversion` must be 1.0");
    event = blob_created();
    event["data"] = json!(["a"]);
    assert_eq!(fault(&structured(&event)), "element 0: the data must be a JSON object for this type");
    event.as_object_mut().unwrap().remove("subject");
    event["data"] = json!({"api": "PutBlob"});
    assert_eq!(fault(&structured(&event)), "element 0: neither `subject` nor `data.url` names a blob in a container");
    for (media, what) in [
        ("application/cloudevents+xml", "CloudEvents must be in their JSON format"),
        ("application/cloudevents-batch+avro", "CloudEvents must be in their JSON format"),
        ("text/plain", "notifications of CloudEvents without `ce-` headers are JSON: Content-Type is application/json"),
    ] {
        let captured = Captured::new(&[("content-type", media)], blob_created().to_string().as_bytes());
        assert_eq!(captured.parse(Format::CloudEvents), Err(SourceFault::MediaType(what.to_owned())), "{media}");
    }
    for body in ["", "{", "[1]", "7", "\"a\"", "{}"] {
        assert!(matches!(structured(&json!(null)).parse(Format::CloudEvents), Err(SourceFault::Malformed(_))));
        let captured = Captured::new(&[], body.as_bytes());
        assert!(matches!(captured.parse(Format::CloudEvents), Err(SourceFault::Malformed(_))), "{body}");
    }
}

fn google(kind: &str) -> Value {
    json!({
        "specversion": "1.0", "id": "g-1", "source": "//storage.googleapis.com/projects/_/buckets/b",
        "type": format!("google.cloud.storage.object.v1.{kind}"), "subject": "objects/a/é.txt", "bucket": "b",
        "time": "2026-11-28T22:44:51Z", "datacontenttype": "application/json",
        "data": {
            "bucket": "b", "name": "a/é.txt", "generation": "1699999999999999", "size": "3", "contentType": "text/plain",
            "etag": "CJ+=", "mediaLink": "https://storage.googleapis.com/download/storage/v1/b/b/o/a%2F%C3%A9.txt?generation=1699999999999999&alt=media",
        },
    })
}

#[test]
fn google_s_objects_carry_their_generation() {
    let change = |kind| match elements(&structured(&google(kind))).remove(0) {
        Notified::Change(change) => (change.change, change.bucket, change.object, change.place),
        other => panic!("{other:?}"),
    };
    let place = Place::Number(1_699_999_999_999_999);
    assert_eq!(change("finalized"), (Change::Set, "b".into(), "a/é.txt".into(), place.clone()));
    assert_eq!(change("deleted"), (Change::Delete, "b".into(), "a/é.txt".into(), place.clone()));
    assert_eq!(change("archived").0, Change::Delete);
    assert_eq!(elements(&structured(&google("metadataUpdated"))), [Notified::Ignored(Ignored::Metadata)]);
    assert_eq!(elements(&structured(&google("v2"))), [Notified::Ignored(Ignored::UnknownEvent)]);
    assert_eq!(elements(&binary(&google("finalized"))), elements(&structured(&google("finalized"))));
    let mut bare = google("deleted");
    bare["data"] = json!({});
    let [Notified::Change(change)] = &elements(&binary(&bare))[..] else { panic!("a change") };
    assert_eq!((&*change.bucket, &*change.object, &change.place), ("b", "a/é.txt", &Place::None));
}

#[test]
fn a_sequence_orders_what_has_no_order_of_its_own() {
    let place = |event: Value| match elements(&structured(&event)).remove(0) {
        Notified::Change(change) => change.place,
        other => panic!("{other:?}"),
    };
    let mut event = blob_created();
    event["sequence"] = "0000000017".into();
    assert!(matches!(place(event.clone()), Place::Hex(_)), "the storage knows better");
    event["data"].as_object_mut().unwrap().remove("sequencer");
    assert_eq!(place(event.clone()), Place::Number(17));
    event["sequence"] = 18.into();
    assert_eq!(place(event.clone()), Place::Number(18));
    event["sequence"] = "01HF".into();
    assert_eq!(place(event), Place::Text("01HF".into()));
}

#[test]
fn a_validation_within_a_batch_is_no_handshake_of_cloud_events() {
    let mut event = blob_created();
    event["type"] = "Microsoft.EventGrid.SubscriptionValidationEvent".into();
    let parsed = structured(&event).parse(Format::EventGrid).map(Parsed::into_owned);
    assert!(!matches!(parsed, Ok(Parsed::Handshake(Handshake::EventGridValidation { .. }))), "{parsed:?}");
}

fn record(name: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-11-28T22:44:51.411Z", "eventName": name,
        "s3": {"bucket": {"name": "b"}, "object": {"key": "a+b%2F%C3%A9.txt", "size": 3, "eTag": "e", "sequencer": "0A"}},
    })
}

fn of_s3(kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": "c-1", "source": "aws:s3.eu-west-1.b", "type": kind, "subject": "a+b%2F%C3%A9.txt",
        "time": "2026-11-28T22:44:51.411Z", "data": data,
    })
}

#[test]
fn records_of_s3_come_one_by_one_and_from_queues_as_they_were() {
    let in_queue = json!({"Records": [record("ObjectCreated:Put")]});
    for event in [
        of_s3("com.amazonaws.s3.ObjectCreated:Put", record("ObjectCreated:Put")),
        of_s3("com.amazonaws.s3.s3:ObjectCreated:Put", record("s3:ObjectCreated:Put")),
        of_s3("com.amazon.s3.objectcreated", record("ObjectCreated:Put")),
        of_s3("aws.sqs.message", in_queue.clone()),
        of_s3("dev.knative.eventing.aws-sqs", in_queue.to_string().into()),
    ] {
        for captured in [structured(&event), binary(&event)] {
            let [Notified::Change(change)] = &elements(&captured)[..] else { panic!("{event}") };
            let (bucket, object) = (&*change.bucket, &*change.object);
            assert_eq!((change.change, bucket, object), (Change::Set, "b", "a b/é.txt"), "{event}");
            assert_eq!((&change.place, change.facts.size), (&Place::Hex("0A".into()), Some(3)), "{event}");
            assert_eq!(change.time_ms, Some(1_795_905_891_411), "{event}");
        }
    }
    let removed = of_s3("com.amazonaws.s3.ObjectRemoved:Delete", record("ObjectRemoved:Delete"));
    assert!(
        matches!(&elements(&structured(&removed))[..], [Notified::Change(change)] if change.change == Change::Delete)
    );
}

#[test]
fn a_record_without_a_sequencer_takes_the_sequence_and_a_queue_may_hold_anything() {
    let mut bare = record("ObjectCreated:Put");
    bare["s3"]["object"].as_object_mut().unwrap().remove("sequencer");
    let mut event = of_s3("com.amazonaws.s3.ObjectCreated:Put", bare);
    event["sequence"] = "17".into();
    let [Notified::Change(change)] = &elements(&structured(&event))[..] else { panic!("{event}") };
    assert_eq!((&change.place, change.id.as_deref()), (&Place::Number(17), Some("c-1")));
    let ignored = [Notified::Ignored(Ignored::UnknownEvent)];
    assert_eq!(elements(&structured(&of_s3("aws.sqs.message", json!({"order": 1})))), ignored);
    // Knative's S3 source sends what is in an object, and not which it is.
    assert_eq!(elements(&structured(&of_s3("dev.knative.eventing.aws-s3", json!("the object's text")))), ignored);
    let broken = of_s3("com.amazonaws.s3.ObjectCreated:Put", json!({"s3": 7}));
    assert!(matches!(structured(&broken).parse(Format::CloudEvents), Err(SourceFault::Malformed(_))));
}

#[test]
fn a_malformed_event_does_not_lose_those_beside_it() {
    let batch = |events: &Value| {
        let headers = [("content-type", "application/cloudevents-batch+json")];
        Captured::new(&headers, events.to_string().as_bytes())
    };
    let mut nameless = blob_created();
    (nameless["subject"], nameless["data"]) = (Value::Null, json!({"api": "PutBlob"}));
    for bad in [json!(7), json!({"specversion": "1.0"}), nameless] {
        let found = elements(&batch(&json!([blob_created(), bad, blob_created()])));
        let [Notified::Change(_), Notified::Malformed(detail), Notified::Change(_)] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(detail.starts_with("element 1: "), "{detail}");
        assert!(matches!(batch(&json!([bad])).parse(Format::CloudEvents), Err(SourceFault::Malformed(_))));
    }
}

#[test]
fn more_elements_than_a_notification_may_have_are_not_read() {
    let plain = |body: &str| Captured::new(&[("content-type", "application/json")], body.as_bytes());
    let many = |element: &str, count: usize| vec![element; count].join(",");
    let records = |count: usize| format!("{{\"Records\":[{}]}}", many("{}", count));
    let array = format!("[{}]", many("1", 70_000));
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let envelope = format!(
        r#"{{"Type":"Notification","MessageId":"1","TopicArn":"t","Timestamp":"","Message":{}}}"#,
        quoted(&records(70_000))
    );
    let event = |records: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"aws.sqs.message","data":{}}}"#, quoted(records))
    };
    let half = event(&records(MAX_ELEMENTS / 2));
    for (body, formats) in [
        (records(70_000), &[Format::S3, Format::Sns, Format::Auto][..]),
        (array, &[Format::EventGrid, Format::CloudEvents, Format::Auto]),
        (envelope, &[Format::Sns, Format::Auto]),
        (event(&records(70_000)), &[Format::CloudEvents, Format::Auto]),
        (format!("[{half},{half},{half}]"), &[Format::CloudEvents, Format::EventGrid, Format::Auto]),
    ] {
        for format in formats {
            assert_eq!(plain(&body).parse(*format), Err(SourceFault::TooMany), "{format:?}: {}", &body[..40]);
        }
    }
    assert!(plain(&format!("[{half},{half}]")).parse(Format::CloudEvents).is_ok());
}
