//! `reconcile`: Redis in step with what a store lists. The store is a host of the test that lists in pages of two.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::{Blob, BlobServer, Redis};

/// What the bucket `photos` holds: names with their bytes.
type Objects = Arc<Mutex<BTreeMap<String, String>>>;

struct Store {
    host: BlobServer,
    objects: Objects,
}

impl Store {
    fn with(objects: &[(&str, &str)]) -> Store {
        let (host, held) = (BlobServer::start(), Objects::default());
        let answering = held.clone();
        host.fallback(move |target| answer(target, &answering.lock().expect("objects")));
        let store = Store { host, objects: held };
        objects.iter().for_each(|(name, body)| store.put(name, body));
        store
    }

    fn put(&self, name: &str, body: &str) {
        self.objects.lock().expect("objects").insert(name.to_owned(), body.to_owned());
    }

    fn remove(&self, name: &str) {
        self.objects.lock().expect("objects").remove(name);
    }

    /// How often bytes of objects were asked for.
    fn fetches(&self) -> usize {
        self.host.targets().iter().filter(|target| !target.contains("list-type")).count()
    }
}

fn etag(body: &str) -> String {
    format!("\"{body}-tag\"")
}

fn answer(target: &str, objects: &BTreeMap<String, String>) -> Option<Blob> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != "/photos" {
        let name = path.strip_prefix("/photos/")?;
        let body = objects.get(name)?;
        let delay = Duration::from_millis(if name.starts_with("slow") { 300 } else { 0 });
        return Some(Blob::bytes(body).etag(&etag(body)).delay(delay));
    }
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (prefix, from) = (parameter("prefix").unwrap_or_default(), parameter("continuation-token").unwrap_or_default());
    let names: Vec<&String> = objects.keys().filter(|name| name.starts_with(prefix) && name.as_str() >= from).collect();
    let listed = |name: &&String| {
        format!("<Contents><Key>{name}</Key><ETag>{}</ETag></Contents>", etag(&objects[*name]).replace('"', "&quot;"))
    };
    let page: String = names.iter().take(2).map(listed).collect();
    let next = names.get(2).map(|name| format!("<NextContinuationToken>{name}</NextContinuationToken>"));
    Some(Blob::bytes(format!("<ListBucketResult>{page}{}</ListBucketResult>", next.unwrap_or_default())))
}

/// Exit code and both streams.
fn reconcile(redis: &Redis, store: &Store, key: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, endpoint) = (redis.port().to_string(), format!("http://127.0.0.1:{}", store.host.port()));
    let output = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .arg("reconcile")
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .envs([("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port), ("STORES_MAIN_ENDPOINT", &endpoint)])
        .envs([("STORES_MAIN_KIND", "s3"), ("STORES_MAIN_ACCESS_KEY_ID", "id"), ("STORES_MAIN_SECRET_ACCESS_KEY", "s")])
        .envs([("SOURCES_PICS_FORMAT", "s3"), ("SOURCES_PICS_STORE", "main"), ("SOURCES_PICS_KEY", key)])
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const PHOTOS: [&str; 3] = ["pics", "--bucket", "photos"];

fn with_yes<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PHOTOS[..], &["--yes"], more].concat()
}

#[test]
fn without_yes_it_only_tells() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1"), ("b", "2"), ("c", "3")]));
    let (code, out, err) = reconcile(&redis, &store, "{object}", &PHOTOS);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "pics: 3 objects, 0 in step, 3 to set, 0 to delete, 0 cannot be keys");
    assert_eq!(
        &lines[1..],
        ["  set a", "  set b", "  set c", "nothing was changed; run it again with --yes to change it"]
    );
    assert_eq!((redis.key_count(), store.fetches()), (0, 0));
}

#[test]
fn what_is_missing_or_differs_is_set_and_the_rest_is_only_looked_at() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]));
    let (code, out, err) = reconcile(&redis, &store, "p:{object}", &with_yes(&[]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(out, "pics: 5 objects, 0 in step, 5 set, 0 deleted, 0 already newer, 0 not done\n");
    assert_eq!(redis.value("p:e").as_deref(), Some(&b"5"[..]));
    store.put("b", "22");
    redis::cmd("DEL").arg("p:d").exec(&mut redis.conn()).expect("DEL");
    let before = store.fetches();
    let (code, out, _) = reconcile(&redis, &store, "p:{object}", &with_yes(&[]));
    assert_eq!((code, store.fetches() - before), (Some(0), 2), "{out}");
    assert!(out.starts_with("pics: 5 objects, 3 in step, 2 set"), "{out}");
    assert_eq!(redis.value("p:b").as_deref(), Some(&b"22"[..]));
    assert_eq!(redis.value("p:d").as_deref(), Some(&b"4"[..]));
    let (_, out, _) = reconcile(&redis, &store, "p:{object}", &with_yes(&["--prefix", "c"]));
    assert!(out.starts_with("pics: 1 objects, 1 in step"), "{out}");
}

#[test]
fn more_objects_than_may_be_fetched_at_once_are_all_set() {
    let names: Vec<String> = (0..1500).map(|number| format!("slow-{number:04}")).collect();
    let objects: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let (redis, store) = (Redis::start(), Store::with(&objects));
    let (code, out, err) = reconcile(&redis, &store, "{object}", &with_yes(&[]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with("pics: 1500 objects, 0 in step, 1500 set"), "{out}");
}

#[test]
fn keys_whose_object_is_gone_are_deleted_and_those_of_others_never() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1"), ("b", "2"), ("c", "3")]));
    for (key, own) in [("{object}", "a"), ("p:{object}", "p:a")] {
        reconcile(&redis, &store, key, &with_yes(&[]));
        redis::cmd("SET").arg("session").arg("of somebody").exec(&mut redis.conn()).expect("SET");
        store.remove("a");
        let before = redis.value(own);
        let (_, out, _) = reconcile(&redis, &store, key, &with_yes(&[]));
        assert!(before.is_some() && redis.value(own) == before, "without --delete nothing is deleted: {out}");
        let (_, out, _) = reconcile(&redis, &store, key, &[&PHOTOS[..], &["--delete"]].concat());
        assert!(out.contains(&format!("delete {own}\n")) && redis.value(own).is_some(), "{out}");
        let (code, out, err) = reconcile(&redis, &store, key, &with_yes(&["--delete"]));
        // Of a template of nothing but the name, each key of Redis may be.
        let left = u64::from(key == "{object}");
        assert_eq!(code, Some(if left == 0 { 0 } else { 1 }), "{out}{err}");
        assert!(out.contains(&format!("1 deleted, 0 already newer, {left} not done")), "{out}");
        assert_eq!(err.contains("left as it is: session: "), left > 0, "{err}");
        assert!(redis.value(own).is_none(), "{out}");
        assert_eq!(redis.value("session").as_deref(), Some(&b"of somebody"[..]));
        store.put("a", "1");
    }
}

#[test]
fn a_key_whose_object_is_in_another_bucket_of_the_source_is_not_deleted() {
    for (key, include) in
        [("{object}", ""), ("p:{object}", ""), ("{object}", "photos/*,films/*"), ("p:{object}", "photos/*,films/*")]
    {
        let (redis, store) = (Redis::start(), Store::with(&[("a", "1"), ("b", "2")]));
        let listing = "<Contents><Key>f</Key><ETag>&quot;f-tag&quot;</ETag></Contents>";
        store.host.put("/films", Blob::bytes(format!("<ListBucketResult>{listing}</ListBucketResult>")));
        store.host.put("/films/f", Blob::bytes("f").etag("\"f-tag\""));
        let own = |name: &str| key.replace("{object}", name);
        let only = ["--sources-pics-include", include];
        let run = |bucket: &str, more: &[&str]| {
            reconcile(&redis, &store, key, &[&["pics", "--bucket", bucket, "--yes"], more, &only].concat())
        };
        assert_eq!((run("photos", &[]).0, run("films", &[]).0), (Some(0), Some(0)));
        store.remove("a");
        let (code, out, err) = run("photos", &["--delete"]);
        assert!(out.contains("1 deleted"), "{key} {include}: {out}{err}");
        // Of a bucket that the settings do not name, nothing is known.
        assert_eq!(code, Some(i32::from(include.is_empty())), "{key} {include}: {out}{err}");
        assert!(redis.value(&own("a")).is_none() && redis.value(&own("b")).is_some(), "{key} {include}: {out}");
        assert!(redis.value(&own("f")).is_some(), "{key} {include}: {out}");
        if !include.is_empty() {
            // As after `redis.version_window_seconds`: nothing is remembered any more.
            let companions: Vec<String> = redis::cmd("KEYS").arg("rcs:v:*").query(&mut redis.conn()).expect("KEYS");
            redis::cmd("DEL").arg(companions).exec(&mut redis.conn()).expect("DEL");
            let (_, out, err) = run("photos", &["--delete"]);
            assert!(redis.value(&own("f")).is_some(), "{key} {include}: {out}{err}");
        }
    }
}

#[test]
fn a_key_that_another_source_may_have_stored_is_left() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1")]));
    let thumbs = ["--sources-thumbs-key", "thumbs:{object}", "--sources-thumbs-value", "facts"];
    reconcile(&redis, &store, "{object}", &with_yes(&thumbs));
    let daemon = crate::support::Daemon::builder()
        .redis(&redis)
        .set("sources.thumbs.key", "thumbs:{object}")
        .set("sources.thumbs.value", "facts")
        .start();
    let notification = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {"bucket": {"name": "t"}, "object": {"key": "x", "size": 5, "sequencer": "0A"}}}]});
    let body = notification.to_string();
    daemon.post_to("/sources/thumbs", &[("Content-Type", "application/json")], body.as_bytes());
    assert!(redis.value("thumbs:x").is_some());
    store.remove("a");
    let (code, out, _) = reconcile(&redis, &store, "{object}", &with_yes(&[&thumbs[..], &["--delete"]].concat()));
    assert!(code == Some(1) && out.contains("1 deleted, 0 already newer, 1 not done"), "{out}");
    let last = out.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("1 keys of the template have no object") && last.ends_with("they are not deleted"),
        "{out}"
    );
    assert!(redis.value("thumbs:x").is_some() && redis.value("a").is_none());
}

#[test]
fn nothing_newer_is_overwritten_and_a_later_notification_still_wins() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1")]));
    reconcile(&redis, &store, "{object}", &with_yes(&[]));
    let daemon = crate::support::Daemon::with_redis(&redis);
    let set = json!({"key": "SET", "version": 9, "value": {"data": {"key": "a", "value": "older than any storage's"}}});
    assert_eq!(daemon.post(&set).json()["results"][0]["status"], "superseded");
    let set = json!({"key": "SET", "version": "z", "value": {"data": {"key": "a", "value": "a sender's own"}}});
    assert_eq!(daemon.post(&set).json()["results"][0]["status"], "stored");
    let (code, out, _) = reconcile(&redis, &store, "{object}", &with_yes(&[]));
    assert!(code == Some(0) && out.contains("0 set, 0 deleted, 1 already newer"), "{out}");
    assert_eq!(redis.value("a").as_deref(), Some(&b"a sender's own"[..]));
}

#[test]
fn what_is_left_undone_is_told_and_ends_with_1() {
    let (redis, store) = (Redis::start(), Store::with(&[("a", "1"), ("b", "2")]));
    store.host.put("/photos/b", Blob::status(403));
    let (code, out, err) = reconcile(&redis, &store, "{object}", &with_yes(&[]));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("1 set, 0 deleted, 0 already newer, 1 not done"), "{out}");
    assert!(err.contains("left as it is: b: ") && err.contains("403"), "{err}");
    store.host.put("/photos", Blob::bytes("<html></html>"));
    let (code, _, err) = reconcile(&redis, &store, "{object}", &with_yes(&[]));
    assert!(code == Some(1) && err.contains("not a listing"), "{err}");
}

#[test]
fn what_cannot_be_asked_for_ends_with_64() {
    let (redis, store) = (Redis::start(), Store::with(&[]));
    for (key, args, why) in [
        ("{object}", &["nosuch", "--bucket", "b"][..], "there is no source nosuch; configured are: pics"),
        ("{object}", &["pics"], "--bucket is missing"),
        ("{dir}:{stem}", &["pics", "--bucket", "b", "--delete"], "do not show the name of their object"),
        ("{object}", &["pics", "--bucket", "b", "--cache-backend", "embedded"], "reconcile needs Redis"),
        ("{object}", &["pics", "--bucket", "b", "--sources-pics-value", "none"], "is not object"),
    ] {
        let (code, _, err) = reconcile(&redis, &store, key, args);
        assert!(code == Some(64) && err.contains(why), "{args:?}: {err}");
    }
}
