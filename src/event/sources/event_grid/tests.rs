use serde_json::{Value, json};

use crate::event::sources::captured::Captured;
use crate::event::sources::{Change, Format, Handshake, Ignored, Notified, ObjectChange, Parsed, Place, SourceFault};

fn event(kind: &str, subject: Option<&str>, data: Value) -> Value {
    let mut event = json!({
        "topic": "/subscriptions/s/storageAccounts/acct", "id": "e-1", "eventType": kind,
        "eventTime": "2026-11-28T22:44:51.411Z", "data": data, "dataVersion": "", "metadataVersion": "1",
    });
    if let Some(subject) = subject {
        event["subject"] = subject.into();
    }
    event
}

fn created(subject: Option<&str>, url: &str) -> Value {
    event("Microsoft.Storage.BlobCreated", subject, json!({"api": "FlushWithClose", "url": url, "sequencer": "0A"}))
}

fn parsed(body: &Value) -> Result<Parsed<'static>, SourceFault> {
    let captured = Captured::new(&[("content-type", "application/json; charset=utf-8")], body.to_string().as_bytes());
    captured.parse(Format::EventGrid).map(Parsed::into_owned)
}

fn elements(body: &Value) -> Vec<Notified<'static>> {
    match parsed(body) {
        Ok(Parsed::Elements(elements)) => elements,
        other => panic!("{other:?}"),
    }
}

fn change(event: Value) -> ObjectChange<'static> {
    match elements(&json!([event])).as_slice() {
        [Notified::Change(change)] => change.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_toolkits_send_is_read_and_of_no_storage() {
    for (file, count) in
        [("eventgrid-js-event.http", 1), ("eventgrid-python-event.http", 1), ("eventgrid-python-events.http", 2)]
    {
        let captured = Captured::named(file);
        for format in [Format::EventGrid, Format::Auto] {
            let parsed = captured.parse(format);
            let ignored = vec![Notified::Ignored(Ignored::UnknownEvent); count];
            assert_eq!(parsed, Ok(Parsed::Elements(ignored)), "{file} as {}", format.as_str());
        }
    }
}

#[test]
fn a_blob_is_named_by_its_subject_and_called_by_its_url() {
    let before = "/blobServices/default/containers/c/blobs/";
    for (name, written, called) in [
        ("a.txt", "https://acct.blob.core.windows.net/c/a.txt", "https://acct.blob.core.windows.net/c/a.txt"),
        (
            "d/a b.txt",
            "https://acct.blob.core.windows.net/c/d/a b.txt",
            "https://acct.blob.core.windows.net/c/d/a%20b.txt",
        ),
        (
            "d/a b.txt",
            "https://acct.blob.core.windows.net/c/d/a%20b.txt",
            "https://acct.blob.core.windows.net/c/d/a%20b.txt",
        ),
        (
            "é#?.txt",
            "https://acct.dfs.core.windows.net/c/é#?.txt",
            "https://acct.dfs.core.windows.net/c/%C3%A9%23%3F.txt",
        ),
        ("100%25", "https://acct.blob.core.windows.net/c/100%25", "https://acct.blob.core.windows.net/c/100%2525"),
        ("100%", "https://acct.blob.core.windows.net/c/100%25", "https://acct.blob.core.windows.net/c/100%25"),
        ("a+b", "http://127.0.0.1:10000/devstoreaccount1/c/a+b", "http://127.0.0.1:10000/devstoreaccount1/c/a+b"),
        (
            "x/blobs/y",
            "https://acct.blob.core.windows.net/c/x/blobs/y",
            "https://acct.blob.core.windows.net/c/x/blobs/y",
        ),
    ] {
        let change = change(created(Some(&format!("{before}{name}")), written));
        assert_eq!((&*change.bucket, &*change.object), ("c", name), "{written}");
        assert_eq!(change.url.as_deref(), Some(called), "{written}");
        assert_eq!((change.change, change.place), (Change::Set, Place::Hex("0A".into())));
    }
}

#[test]
fn without_a_subject_the_url_has_to_do() {
    for (url, name) in [
        ("https://h/c/d/a%20b.txt", "d/a b.txt"),
        ("https://h/c/d/a b.txt", "d/a b.txt"),
        ("https://h/c/100% #é", "100% #é"),
        ("https://h/c/a%2", "a%2"),
    ] {
        let change = change(created(None, url));
        assert_eq!((&*change.bucket, &*change.object), ("c", name), "{url}");
    }
    for url in ["https://h/c/", "https://h/c", "https://h", "c/a.txt", ""] {
        assert!(matches!(parsed(&json!([created(None, url)])), Err(SourceFault::Malformed(_))), "{url}");
    }
}

#[test]
fn a_rename_is_a_delete_and_a_set() {
    let subject = "/blobServices/default/containers/c/blobs/new b.txt";
    for (from, to, old) in [
        ("https://h/c/old a.txt", "https://h/c/new b.txt", "old a.txt"),
        ("https://h/c/old%20a.txt", "https://h/c/new%20b.txt", "old a.txt"),
        ("https://h/acct/c/old.txt", "https://h/acct/c/new b.txt", "old.txt"),
    ] {
        let data = json!({"api": "RenameFile", "sourceUrl": from, "destinationUrl": to, "sequencer": "0B"});
        let both = elements(&json!([event("Microsoft.Storage.BlobRenamed", Some(subject), data)]));
        let [Notified::Change(gone), Notified::Change(there)] = both.as_slice() else { panic!("{both:?}") };
        assert_eq!((gone.change, &*gone.bucket, &*gone.object), (Change::Delete, "c", old), "{from}");
        assert_eq!((there.change, &*there.bucket, &*there.object), (Change::Set, "c", "new b.txt"), "{to}");
        assert_eq!((&gone.place, &there.place), (&Place::Hex("0B".into()), &Place::Hex("0B".into())));
    }
    let data = json!({"destinationUrl": "https://h/c/new b.txt"});
    let broken = parsed(&json!([event("Microsoft.Storage.BlobRenamed", Some(subject), data)]));
    let detail = "element 0: neither `subject` nor `data.sourceUrl` names a blob in a container";
    assert_eq!(broken, Err(SourceFault::Malformed(detail.to_owned())));
}

#[test]
fn what_changes_no_blob_is_ignored() {
    let kinds = [
        ("Microsoft.Storage.DirectoryCreated", Ignored::Folder),
        ("Microsoft.Storage.DirectoryDeleted", Ignored::Folder),
        ("Microsoft.Storage.DirectoryRenamed", Ignored::Folder),
        ("Microsoft.Storage.BlobTierChanged", Ignored::Metadata),
        ("Microsoft.Storage.BlobInventoryPolicyCompleted", Ignored::UnknownEvent),
        ("Microsoft.Storage.blobcreated", Ignored::UnknownEvent),
        ("Microsoft.EventGrid.SubscriptionDeletedEvent", Ignored::Test),
        ("Contoso.Items.ItemReceived", Ignored::UnknownEvent),
    ];
    for (kind, why) in kinds {
        let body = json!([event(kind, None, json!({"url": "https://h/c/a"}))]);
        assert_eq!(elements(&body), [Notified::Ignored(why)], "{kind}");
    }
    let old = json!({"url": "https://h/c/a.txt?snapshot=2026-01-01T00:00:00Z"});
    assert_eq!(
        elements(&json!([event("Microsoft.Storage.BlobDeleted", None, old)])),
        [Notified::Ignored(Ignored::Metadata)]
    );
    let folder = created(Some("/blobServices/default/containers/c/blobs/d/"), "https://h/c/d/");
    assert_eq!(elements(&json!([folder])), [Notified::Ignored(Ignored::Folder)]);
}

#[test]
fn batches_keep_their_order_and_one_event_may_come_alone() {
    let set = created(Some("/blobServices/default/containers/c/blobs/a"), "https://h/c/a");
    let deleted = event(
        "Microsoft.Storage.BlobDeleted",
        Some("/blobServices/default/containers/c/blobs/b"),
        json!({"url": "https://h/c/b"}),
    );
    let batch = elements(&json!([set, deleted, event("t", None, json!(null))]));
    let changes: Vec<_> = batch
        .iter()
        .map(|element| match element {
            Notified::Change(change) => Some((change.change, change.object.to_string())),
            Notified::Ignored(_) | Notified::Malformed(_) => None,
        })
        .collect();
    assert_eq!(changes, [Some((Change::Set, "a".to_owned())), Some((Change::Delete, "b".to_owned())), None]);
    assert_eq!(elements(&set).len(), 1);
    assert_eq!(elements(&json!([])), []);
}

#[test]
fn the_validation_s_code_is_handed_on() {
    let validation = |data| json!([event("Microsoft.EventGrid.SubscriptionValidationEvent", Some(""), data)]);
    let handshake = parsed(&validation(json!({"validationCode": "512d38b6", "validationUrl": "https://rp/x"})));
    assert_eq!(handshake, Ok(Parsed::Handshake(Handshake::EventGridValidation { code: "512d38b6".into() })));
    let detail = "element 0: `data.validationCode` is missing";
    assert_eq!(parsed(&validation(json!({}))), Err(SourceFault::Malformed(detail.to_owned())));
}

#[test]
fn what_is_no_notification_is_refused() {
    for body in ["", "{", "[1]", "{\"a\":1}", "[{\"a\":1}]", "7"] {
        let captured = Captured::new(&[("content-type", "application/json")], body.as_bytes());
        assert!(matches!(captured.parse(Format::EventGrid), Err(SourceFault::Malformed(_))), "{body}");
    }
    let captured = Captured::new(&[("content-type", "text/plain")], b"[]");
    assert!(matches!(captured.parse(Format::EventGrid), Err(SourceFault::MediaType(_))));
}

#[test]
fn a_malformed_event_does_not_lose_those_beside_it() {
    let good = || created(Some("/blobServices/default/containers/c/blobs/k"), "https://h/c/k");
    let bad = [
        json!(7),
        json!({"id": "no type"}),
        created(None, "nowhere"),
        event("Microsoft.Storage.BlobCreated", None, json!(7)),
    ];
    for bad in bad {
        let batch = elements(&json!([good(), bad, good()]));
        let [Notified::Change(_), Notified::Malformed(detail), Notified::Change(_)] = &batch[..] else {
            panic!("{batch:?}")
        };
        assert!(detail.starts_with("element 1: ") && !detail.contains("nowhere"), "{detail}");
        assert!(matches!(parsed(&json!([bad])), Err(SourceFault::Malformed(_))), "alone it is no notification");
    }
}
