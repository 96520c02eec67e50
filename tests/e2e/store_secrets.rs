//! Secrets of stores: what is of no use is found at the start and at each reload, what is lent is renewed beside the fetches, and
//! `check-config --connect` tells a credential that is refused from one that may not do everything.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, Builder, Daemon, PATIENCE, eventually, results};

fn set(store: &str, object: &str) -> Value {
    json!({"key": "SET", "value": {"data": {"key": "k", "store": store, "object": object}}})
}

/// A key file that is exchanged for tokens at this host's `/token`.
fn key_file(blobs: &BlobServer) -> String {
    let url = blobs.url("/token");
    json!({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": url})
        .to_string()
}

fn token(text: &str, seconds: u64) -> Blob {
    Blob::bytes(json!({"access_token": text, "expires_in": seconds}).to_string())
}

/// A daemon with a store of Google's at this host.
fn gcs(blobs: &BlobServer) -> Builder {
    Daemon::builder()
        .embedded()
        .set("stores.main.kind", "gcs")
        .set("stores.main.endpoint", format!("http://127.0.0.1:{}", blobs.port()))
        .set("stores.main.service_account_file", "account.json")
        .file("account.json", &key_file(blobs))
}

/// The values of a header in all requests, in their order.
fn sent(blobs: &BlobServer, name: &str) -> Vec<String> {
    let value = |head: &String| {
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    blobs.heads().iter().filter_map(value).collect()
}

/// Exit code and both streams of `check-config`.
fn check_config(settings: &[(&str, &str)], files: &[(&str, &str)], connect: bool) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).expect("a file"));
    let output = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .current_dir(dir.path())
        .env_clear()
        .envs(settings.iter().map(|(path, value)| (path.replace('.', "_").to_uppercase(), *value)))
        .args(["check-config", "--embedded"])
        .args(connect.then_some("--connect"))
        .output()
        .expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_file_whose_secret_would_be_refused_as_a_setting_is_refused_at_the_start() {
    for (kind, leaf, text, reason) in [
        ("http", "header", "no colon hunter2", "not of the form Name: value"),
        ("http", "header", "Host: hunter2", "requests have already"),
        ("http", "header", "X-Key: hunter2\u{1}", "not of the form Name: value"),
        ("azure", "account_key", "hunter2!", "not base64"),
        ("azure", "sas_token", "hunter2", "not the query of a shared access signature"),
        ("s3", "secret_access_key", "hunter2\u{7}", "a control character"),
        ("s3", "access_key_id", "hunter2 é", "not visible ASCII"),
        ("s3", "session_token", "hunter2\t", "not visible ASCII"),
        ("gcs", "service_account", "{\"type\":\"hunter2\"}", "neither a service account"),
    ] {
        let (kind_path, file_path) = ("stores.main.kind", format!("stores.main.{leaf}_file"));
        let settings = [
            (kind_path, kind),
            ("stores.main.endpoint", "http://127.0.0.1:9"),
            ("stores.main.account", "acct"),
            ("stores.main.access_key_id", "AKID"),
            ("stores.main.secret_access_key", "s"),
            (file_path.as_str(), "secret"),
        ];
        let is_of_kind = |path: &str| match path.trim_start_matches("stores.main.") {
            "account" => kind == "azure",
            own @ ("access_key_id" | "secret_access_key") => kind == "s3" && own != leaf,
            _ => true,
        };
        let settings: Vec<_> = settings.into_iter().filter(|(path, _)| is_of_kind(path)).collect();
        let (code, said) = check_config(&settings, &[("secret", text)], false);
        assert_eq!(code, Some(64), "{leaf}: {said}");
        assert!(said.contains(&file_path) && said.contains(reason) && !said.contains("hunter2"), "{leaf}: {said}");
    }
}

#[test]
fn a_new_secret_that_is_of_no_use_keeps_the_old_one_and_is_told_of_once() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("x")));
    let daemon = Daemon::builder()
        .embedded()
        .set("stores.files.kind", "http")
        .set("stores.files.endpoint", format!("http://127.0.0.1:{}", blobs.port()))
        .set("stores.files.header_file", "header")
        .file("header", "X-Api-Key: first\n")
        .start();
    let write = |text: &str| fs::write(daemon.dir().join("header"), text).expect("a file");
    let unusable = || daemon.logs().iter().filter(|line| line.contains("file cannot be used")).count();
    write("no colon hunter2");
    let line = daemon.log_line(|line| line.contains("file cannot be used") && line.contains("Name: value"));
    assert!(line.contains("WARN") && line.contains("stores.files") && !line.contains("hunter2"), "{line}");
    for _ in 0..3 {
        assert_eq!(daemon.post(&set("files", "b/n")).status, 200);
    }
    write("X-Api-Key: second\n");
    daemon.log_line(|line| line.contains("file reloaded") && line.contains("stores.files"));
    assert_eq!(daemon.post(&set("files", "b/n")).status, 200);
    assert_eq!(sent(&blobs, "x-api-key"), ["first", "first", "first", "second"]);
    fs::remove_file(daemon.dir().join("header")).expect("it was there");
    daemon.log_line(|line| line.contains("file cannot be used") && line.contains("there is no such file"));
    assert_eq!(daemon.post(&set("files", "b/n")).status, 200);
    assert_eq!((sent(&blobs, "x-api-key").last().map(String::as_str), unusable()), (Some("second"), 2));
}

#[test]
fn a_credential_service_that_hangs_holds_up_nobody_whose_credential_is_good() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("x")));
    // Ten minutes before its end nothing is renewed; this one is due from the first moment.
    blobs.put_sequence("/token", vec![token("first", 240), Blob::hang()]);
    let daemon = gcs(&blobs).start();
    let mut slowest = Duration::ZERO;
    let asks_again = eventually(PATIENCE, || {
        let begun = Instant::now();
        assert_eq!(daemon.post(&set("main", "b/n")).status, 200);
        slowest = slowest.max(begun.elapsed());
        blobs.hits("/token") == 2
    });
    assert!(asks_again, "it is not renewed before its end");
    for _ in 0..20 {
        let begun = Instant::now();
        results(&daemon.post(&set("main", "b/n")), 200, "ok");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(3), "a fetch waited {slowest:?} for a renewal that hung");
    assert_eq!(blobs.hits("/token"), 2, "one renewal at a time");
}

#[test]
fn whoever_has_no_credential_yet_waits_for_the_one_renewal_and_all_use_what_it_brings() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("x")));
    blobs.put("/token", token("first", 3600).delay(Duration::from_millis(300)));
    let daemon = gcs(&blobs).start();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(daemon.post(&set("main", "b/n")).status, 200));
        }
    });
    assert_eq!(blobs.hits("/token"), 1);
    let authorizations = sent(&blobs, "authorization");
    assert!(authorizations.len() == 16 && authorizations.iter().all(|sent| sent == "Bearer first"));
}

#[test]
fn a_token_service_that_refuses_is_told_of_and_asked_again_later() {
    let blobs = BlobServer::start();
    blobs.fallback(|_| Some(Blob::bytes("x")));
    blobs.put_sequence("/token", vec![Blob::status(500), token("late", 3600)]);
    let daemon = gcs(&blobs).set("fetch.attempts", 1).start();
    let first = daemon.post(&set("main", "b/n"));
    let detail = results(&first, 503, "unavailable")[0]["problem"]["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("Google's token service answered with status 500"), "{detail}");
    assert!(eventually(PATIENCE, || daemon.post(&set("main", "b/n")).status == 200));
    assert_eq!(blobs.hits("/token"), 2);
}

#[test]
fn check_config_tells_a_credential_that_is_refused_from_one_that_may_not_do_everything() {
    let blobs = BlobServer::start();
    let endpoint = format!("http://127.0.0.1:{}", blobs.port());
    let google =
        |reason: &str| json!({"error": {"code": 1, "message": "m", "errors": [{"reason": reason}]}}).to_string();
    let xml = |code: &str| format!("<Error><Code>{code}</Code></Error>");
    blobs.put("/token", token("t", 3600));
    let missing =
        json!({"error": {"message": "The specified bucket does not exist.", "errors": [{"reason": "notFound"}]}});
    for (kind, status, body, is_good) in [
        ("gcs", 403, google("forbidden"), true),
        ("gcs", 404, missing.to_string(), true),
        ("gcs", 401, google("authError"), false),
        ("azure", 403, xml("AuthorizationFailure"), true),
        ("azure", 403, xml("AuthorizationPermissionMismatch"), true),
        ("azure", 403, xml("AuthorizationResourceTypeMismatch"), true),
        ("azure", 403, xml("AuthenticationFailed"), false),
        ("s3", 403, xml("AccessDenied"), true),
        ("s3", 403, xml("SignatureDoesNotMatch"), false),
        ("s3", 403, xml("RequestTimeTooSkewed"), false),
        ("http", 401, String::new(), false),
        ("http", 404, String::new(), true),
    ] {
        let answer = Blob::bytes(&body).with_status(status);
        blobs.fallback(move |_| Some(answer.clone()));
        let own: &[(&str, &str)] = match kind {
            "gcs" => &[("stores.main.service_account_file", "account.json")],
            "azure" => &[("stores.main.account", "acct"), ("stores.main.account_key", "a2V5")],
            "s3" => &[("stores.main.access_key_id", "AKID"), ("stores.main.secret_access_key", "s")],
            _ => &[("stores.main.header", "X-Key: k")],
        };
        let settings = [&[("stores.main.kind", kind), ("stores.main.endpoint", endpoint.as_str())], own].concat();
        let (code, said) = check_config(&settings, &[("account.json", &key_file(&blobs))], true);
        let line = said.lines().find(|line| line.contains("store main:")).unwrap_or_default();
        assert_eq!(
            (code, line.starts_with("ok")),
            (Some(if is_good { 0 } else { 1 }), is_good),
            "{kind} {body}: {said}"
        );
    }
    // A bucket that is named must be there, and be for this credential.
    let named = [
        ("stores.main.kind", "s3"),
        ("stores.main.endpoint", endpoint.as_str()),
        ("stores.main.access_key_id", "AKID"),
        ("stores.main.secret_access_key", "s"),
        ("sources.pics.store", "main"),
        ("sources.pics.include", "photos/*"),
    ];
    for code in ["AccessDenied", "NoSuchBucket"] {
        let answer = Blob::bytes(xml(code)).with_status(if code == "AccessDenied" { 403 } else { 404 });
        blobs.fallback(move |_| Some(answer.clone()));
        let (status, said) = check_config(&named, &[], true);
        assert!(status == Some(1) && said.contains("bucket photos") && said.contains(code), "{said}");
    }
}

#[test]
fn an_archived_or_private_object_of_azure_is_not_one_that_changed() {
    let blobs = BlobServer::start();
    let daemon = Daemon::builder()
        .embedded()
        .set("stores.main.kind", "azure")
        .set("stores.main.endpoint", format!("http://127.0.0.1:{}", blobs.port()))
        .set("stores.main.account", "acct")
        .set("stores.main.anonymous", true)
        .start();
    for (code, cause) in [("BlobArchived", "archived"), ("PublicAccessNotPermitted", "not public")] {
        let answer = Blob::status(409).header("x-ms-error-code", code);
        blobs.fallback(move |_| Some(answer.clone()));
        let answer = daemon.post(&set("main", "b/n"));
        let problem = &results(&answer, 422, "rejected")[0]["problem"];
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(cause)), "{problem}");
        assert_eq!(problem["type"], "urn:redis-cache-sync:blob-denied");
    }
}
