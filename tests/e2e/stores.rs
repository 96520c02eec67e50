//! Stores with credentials, as hosts see them: what is sent to whom, and what becomes of a refusal.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, Builder, Daemon, PATIENCE, eventually, problem_type, results};

const SECRET: &str = "hunter2hunter2";

fn set(store: &str, object: &str) -> Value {
    json!({"key": "SET", "value": {"data": {"key": "k", "store": store, "object": object}}})
}

/// A daemon with the embedded cache and a store of S3 at this host. Blobs of URLs may come from nowhere near.
fn s3(blobs: &BlobServer) -> Builder {
    Daemon::builder()
        .embedded()
        .set("fetch.allowed_hosts", "")
        .set("stores.main.kind", "s3")
        .set("stores.main.endpoint", format!("http://127.0.0.1:{}", blobs.port()))
        .set("stores.main.access_key_id", "AKID")
        .set("stores.main.secret_access_key", SECRET)
}

/// The problem's type and its detail.
fn refused(daemon: &Daemon, event: &Value) -> (String, String) {
    let answer = daemon.post(event);
    let entry = &results(&answer, 422, "rejected")[0];
    (problem_type(&entry["problem"]).to_owned(), entry["problem"]["detail"].as_str().unwrap_or_default().to_owned())
}

/// The first header of this name in a request.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[test]
fn an_object_is_asked_for_by_its_encoded_name_and_signed() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("the object")));
    let daemon = s3(&blobs).start();
    for (object, target) in [
        ("photos/a b+c%2F?#.txt", "/photos/a%20b%2Bc%252F%3F%23.txt"),
        ("photos//é//x", "/photos//%C3%A9//x"),
        ("photos/(1)!'*", "/photos/%281%29%21%27%2A"),
    ] {
        assert_eq!(results(&daemon.post(&set("main", object)), 200, "ok")[0]["status"], "stored");
        assert_eq!(blobs.targets().last().map(String::as_str), Some(target));
    }
    for head in blobs.heads() {
        let authorization = header(&head, "authorization").expect("a signature");
        let signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date";
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/") && authorization.contains(signed));
        assert!(authorization.contains("/us-east-1/s3/aws4_request"), "{authorization}");
    }
    let told = format!("{:?}{:?}", daemon.logs(), daemon.get("/metrics").text());
    assert!(!told.contains(SECRET) && !told.contains("AKID") && !told.contains("Signature="), "{told}");
}

#[test]
fn the_endpoint_may_be_private_and_is_for_objects_of_the_store_alone() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("x")));
    let daemon = s3(&blobs).start();
    assert_eq!(daemon.post(&set("main", "b/n")).status, 200);
    let url = json!({"key": "SET", "value": {"data": {"key": "k", "url": blobs.url("/b/n")}}});
    assert_eq!(refused(&daemon, &url).0, "blob-forbidden");
    assert_eq!(blobs.hits("/b/n"), 1);
}

#[test]
fn no_credential_follows_a_redirect_to_another_authority() {
    let (blobs, other) = (BlobServer::start(), BlobServer::start());
    other.fallback(|_| Some(Blob::bytes("elsewhere")));
    blobs.put("/b/away", Blob::redirect(&other.url("/away")));
    blobs.put("/b/near", Blob::redirect("/b/here"));
    blobs.put("/b/here", Blob::bytes("here"));
    let allowed = format!("127.0.0.1:{}", other.port());
    let daemon = s3(&blobs).set("fetch.allowed_hosts", allowed).start();
    assert_eq!(daemon.post(&set("main", "b/away")).status, 200);
    let head = &other.heads()[0];
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        assert_eq!(header(head, name), None, "{head}");
    }
    assert_eq!(daemon.post(&set("main", "b/near")).status, 200);
    let signatures: Vec<_> =
        blobs.heads().iter().map(|head| header(head, "authorization").map(str::to_owned)).collect();
    assert!(signatures.iter().all(Option::is_some) && signatures[1] != signatures[2], "{signatures:?}");
}

#[test]
fn a_refusal_says_its_cause_and_repeats_nothing_else() {
    let blobs = BlobServer::start();
    let xml = |code: &str| format!("<Error><Code>{code}</Code><AWSAccessKeyId>AKID-OF-BODY</AWSAccessKeyId></Error>");
    let daemon = s3(&blobs).start();
    for (status, code, problem, cause) in [
        (403, "SignatureDoesNotMatch", "blob-denied", "the signature is wrong"),
        (403, "InvalidAccessKeyId", "blob-denied", "does not know the access key"),
        (400, "ExpiredToken", "blob-denied", "has expired"),
        (403, "RequestTimeTooSkewed", "blob-denied", "clock"),
        (403, "AccessDenied", "blob-denied", "have the permission"),
        (404, "NoSuchBucket", "blob-denied", "the bucket does not exist"),
        (404, "NoSuchKey", "blob-not-found", "404"),
        (405, "MethodNotAllowed", "blob-not-found", "was deleted"),
    ] {
        blobs.put("/b/n", Blob::bytes(xml(code)).with_status(status));
        let (kind, detail) = refused(&daemon, &set("main", "b/n"));
        assert_eq!(kind, problem, "{code}: {detail}");
        assert!(detail.contains(cause) && !detail.contains("AKID-OF-BODY") && !detail.contains(SECRET), "{detail}");
    }
}

#[test]
fn a_secret_that_changed_in_its_file_is_used_without_a_restart_and_without_a_failure() {
    let blobs = BlobServer::start();
    let daemon = Daemon::builder()
        .embedded()
        .set("stores.files.kind", "http")
        .set("stores.files.endpoint", format!("http://127.0.0.1:{}/base/", blobs.port()))
        .set("stores.files.header_file", "header")
        .file("header", "X-Api-Key: first\n")
        .start();
    blobs.put("/base/b/n", Blob::bytes("x"));
    assert_eq!(daemon.post(&set("files", "b/n")).status, 200);
    assert_eq!(header(&blobs.heads()[0], "x-api-key"), Some("first"));
    // The host takes the new one alone from here on, and what was read is still the old one.
    fs::write(daemon.dir().join("header"), "X-Api-Key: second\n").expect("a file");
    blobs.put_sequence("/base/b/n", vec![Blob::status(403), Blob::bytes("y")]);
    assert_eq!(daemon.post(&set("files", "b/n")).status, 200);
    assert_eq!(blobs.heads().last().and_then(|head| header(head, "x-api-key")), Some("second"));
    // The file is read without a refusal too.
    let is_read = eventually(PATIENCE, || {
        fs::write(daemon.dir().join("header"), "X-Api-Key: third\n").expect("a file");
        daemon.post(&set("files", "b/n"));
        blobs.heads().last().and_then(|head| header(head, "x-api-key").map(str::to_owned)) == Some("third".to_owned())
    });
    assert!(is_read);
    assert_eq!(refused(&daemon, &set("files", "b/../../n")).0, "blob-forbidden");
}

#[test]
fn objects_of_a_source_come_from_its_store_and_one_that_is_gone_is_superseded() {
    let blobs = BlobServer::start();
    blobs.put("/photos/a%20b.txt", Blob::bytes("the object"));
    let daemon = s3(&blobs).set("sources.photos.format", "s3").set("sources.photos.store", "main").start();
    let notification = |key: &str| {
        json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z",
            "s3": {"bucket": {"name": "photos"}, "object": {"key": key, "size": 5, "sequencer": "0055AED6DCD90281E5"}}}]})
    };
    let post = |key: &str| {
        let body = notification(key).to_string();
        let answer = daemon.post_to("/sources/photos", &[("Content-Type", "application/json")], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["events"][0]["results"][0].clone()
    };
    assert_eq!(post("a+b.txt")["status"], "stored");
    let read = daemon.post(&json!({"key": "GET", "value": {"data": "a b.txt"}}));
    assert_eq!(read.json()["results"][0]["value"], "the object");
    assert_eq!(post("gone.txt")["status"], "superseded");
}
