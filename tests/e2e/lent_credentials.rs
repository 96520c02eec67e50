//! Credentials of stores that somebody lends for a time: by every way there is, renewed while the daemon runs, told to nobody.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, Builder, Daemon, PATIENCE, eventually, ndjson, set_blob};

/// What shows who the daemon is to those who lend.
const IDENTITY: &str = "who-the-daemon-is";

/// A way by which a credential is lent.
struct Way {
    name: &'static str,
    kind: &'static str,
    /// Settings of the store, and variables of the platform.
    set_up: fn(Builder, &BlobServer) -> Builder,
    /// Where the last question goes.
    path: &'static str,
    answer: fn(u32) -> String,
    /// What the lender must have seen.
    shows: &'static str,
}

fn secret(number: u32) -> String {
    format!("SECRET{number}")
}

/// RFC 3339, a minute from now: renewed long before its end.
fn soon() -> String {
    let date = Command::new("date").args(["-u", "-d", "+60 seconds", "+%FT%TZ"]).output().expect("date");
    String::from_utf8(date.stdout).expect("a date").trim().to_owned()
}

fn of_container(number: u32) -> String {
    let (id, token) = (format!("AKID{number}"), format!("SESSION{number}"));
    json!({"Code": "Success", "AccessKeyId": id, "SecretAccessKey": secret(number), "Token": token, "Expiration": soon()})
        .to_string()
}

fn of_token_service(number: u32) -> String {
    let (secret, soon) = (secret(number), soon());
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKID{number}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>SESSION{number}</SessionToken><Expiration>{soon}</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

fn bearer(number: u32) -> String {
    json!({"access_token": secret(number), "expires_in": 60, "token_type": "Bearer"}).to_string()
}

const WAYS: [Way; 8] = [
    Way {
        name: "web identity",
        kind: "s3",
        set_up: |daemon, lender| {
            let daemon = daemon.env("AWS_ROLE_ARN", "arn:aws:iam::1:role/r").file("identity", IDENTITY);
            daemon.env("AWS_WEB_IDENTITY_TOKEN_FILE", "identity").env("AWS_ENDPOINT_URL_STS", &lender.url(""))
        },
        path: "/",
        answer: of_token_service,
        shows: "WebIdentityToken=who-the-daemon-is",
    },
    Way {
        name: "container",
        kind: "s3",
        set_up: |daemon, lender| {
            let daemon = daemon.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &lender.url("/container"));
            daemon.file("identity", IDENTITY).env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "identity")
        },
        path: "/container",
        answer: of_container,
        shows: "authorization: who-the-daemon-is",
    },
    Way {
        name: "instance of AWS",
        kind: "s3",
        set_up: |daemon, lender| {
            lender.put("/latest/api/token", Blob::bytes(IDENTITY));
            lender.put("/latest/meta-data/iam/security-credentials/", Blob::bytes("role"));
            daemon.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &lender.url(""))
        },
        path: "/latest/meta-data/iam/security-credentials/role",
        answer: of_container,
        shows: "x-aws-ec2-metadata-token: who-the-daemon-is",
    },
    Way {
        name: "App Service",
        kind: "azure",
        set_up: |daemon, lender| {
            daemon.env("IDENTITY_ENDPOINT", &lender.url("/identity")).env("IDENTITY_HEADER", IDENTITY)
        },
        path: "/identity",
        answer: bearer,
        shows: "x-identity-header: who-the-daemon-is",
    },
    Way {
        name: "workload identity",
        kind: "azure",
        set_up: |daemon, lender| {
            let daemon = daemon.env("AZURE_AUTHORITY_HOST", &lender.url("")).env("AZURE_CLIENT_ID", "client");
            let daemon = daemon.env("AZURE_TENANT_ID", "tenant").file("identity", IDENTITY);
            daemon.env("AZURE_FEDERATED_TOKEN_FILE", "identity")
        },
        path: "/tenant/oauth2/v2.0/token",
        answer: bearer,
        shows: "client_assertion=who-the-daemon-is",
    },
    Way {
        name: "client secret",
        kind: "azure",
        set_up: |daemon, lender| {
            let daemon = daemon.env("AZURE_AUTHORITY_HOST", &lender.url("")).env("AZURE_CLIENT_ID", "client");
            daemon.env("AZURE_TENANT_ID", "tenant").env("AZURE_CLIENT_SECRET", IDENTITY)
        },
        path: "/tenant/oauth2/v2.0/token",
        answer: bearer,
        shows: "client_secret=who-the-daemon-is",
    },
    Way {
        name: "instance of Google",
        kind: "gcs",
        set_up: |daemon, lender| daemon.env("GCE_METADATA_HOST", &format!("127.0.0.1:{}", lender.port())),
        path: "/computeMetadata/v1/instance/service-accounts/default/token",
        answer: bearer,
        shows: "metadata-flavor: Google",
    },
    Way {
        name: "service account",
        kind: "gcs",
        set_up: |daemon, lender| {
            let key = json!({"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com",
                "private_key": include_str!("../keys/rsa.pem"), "token_uri": lender.url("/token")});
            daemon.file("key.json", &key.to_string()).set("stores.main.service_account_file", "key.json")
        },
        path: "/token",
        answer: bearer,
        shows: "assertion=",
    },
];

fn start(way: &Way, lender: &BlobServer, store: &BlobServer) -> Daemon {
    let daemon = Daemon::builder().embedded().set("log_level", "debug").set("fetch.attempts", 1);
    let daemon = daemon.set("stores.main.kind", way.kind).set("stores.main.endpoint", store.url(""));
    let daemon = if way.kind == "azure" { daemon.set("stores.main.account", "acct") } else { daemon };
    // No way leads past the lender.
    let is_instance = way.name == "instance of AWS";
    let daemon = daemon.env("AWS_EC2_METADATA_DISABLED", if is_instance { "false" } else { "true" });
    (way.set_up)(daemon, lender).start()
}

fn set() -> Value {
    json!({"key": "SET", "value": {"data": {"key": "k", "store": "main", "object": "b/n"}}})
}

/// Whether the last request to the store was made with this credential.
fn is_signed(way: &Way, store: &BlobServer, number: u32) -> bool {
    let head = store.heads().pop().unwrap_or_default();
    match way.kind {
        "s3" => {
            head.contains(&format!("Credential=AKID{number}/"))
                && head.to_ascii_lowercase().contains(&format!("x-amz-security-token: session{number}"))
        }
        _ => head.contains(&format!("Bearer {}", secret(number))),
    }
}

#[track_caller]
fn assert_nothing_told(way: &Way, daemon: &Daemon, answers: &str) {
    let told = format!("{answers}{}{}", daemon.logs().join("\n"), daemon.get("/metrics").text());
    for secret in [IDENTITY, "SECRET", "SESSION", "AKID", "PRIVATE KEY", "Bearer", "assertion="] {
        assert!(!told.contains(secret), "{}: {secret} in {told}", way.name);
    }
}

#[test]
fn what_is_lent_signs_and_is_renewed_without_a_restart_and_told_to_nobody() {
    for way in &WAYS {
        let (lender, store) = (BlobServer::start(), BlobServer::start());
        lender.put(way.path, Blob::bytes((way.answer)(1)));
        store.fallback(|_| Some(Blob::bytes("the object")));
        let daemon = start(way, &lender, &store);
        let mut answers = daemon.post(&set()).text();
        assert!(answers.contains("stored") && is_signed(way, &store, 1), "{}: {answers}", way.name);
        let asked = format!("{:?}{}", lender.heads(), String::from_utf8_lossy(&lender.bodies().concat()));
        let shows = asked.to_ascii_lowercase().contains(&way.shows.to_ascii_lowercase());
        assert!(shows, "{}: {asked}", way.name);
        lender.put(way.path, Blob::bytes((way.answer)(2)));
        let is_renewed = eventually(PATIENCE, || {
            answers.push_str(&daemon.post(&set()).text());
            is_signed(way, &store, 2)
        });
        assert!(is_renewed && !answers.contains("problem"), "{}: {answers}", way.name);
        assert_nothing_told(way, &daemon, &answers);
    }
}

#[test]
fn who_lends_nothing_is_named_and_what_it_says_is_not() {
    for way in &WAYS {
        let (lender, store) = (BlobServer::start(), BlobServer::start());
        let daemon = start(way, &lender, &store);
        let mut answers = String::new();
        for refusal in [Blob::bytes((way.answer)(1)).with_status(403), Blob::bytes("SECRET is no form of answer")] {
            lender.put(way.path, refusal);
            let answer = daemon.post(&set());
            assert_eq!(answer.status, 503, "{}: {}", way.name, answer.text());
            assert!(
                answer.text().contains("the store's credential is not available"),
                "{}: {}",
                way.name,
                answer.text()
            );
            answers.push_str(&answer.text());
        }
        assert!(store.heads().is_empty(), "{}: nothing goes out unsigned", way.name);
        assert_nothing_told(way, &daemon, &answers);
    }
}

/// A secret in a file, before and after it is replaced.
struct Kept {
    kind: &'static str,
    settings: &'static [(&'static str, &'static str)],
    file: &'static str,
    secrets: [&'static str; 2],
}

const KEPT: [Kept; 4] = [
    Kept {
        kind: "s3",
        settings: &[("access_key_id", "ID"), ("secret_access_key_file", "secret")],
        file: "secret",
        secrets: ["SECRET-one", "SECRET-two"],
    },
    Kept {
        kind: "s3",
        settings: &[("access_key_id", "ID"), ("secret_access_key", "SECRET"), ("session_token_file", "secret")],
        file: "secret",
        secrets: ["SESSION-one", "SESSION-two"],
    },
    Kept {
        kind: "azure",
        settings: &[("account", "acct"), ("account_key_file", "secret")],
        file: "secret",
        secrets: ["U0VDUkVULW9uZQ==", "U0VDUkVULXR3bw=="],
    },
    Kept {
        kind: "azure",
        settings: &[("account", "acct"), ("sas_token_file", "secret")],
        file: "secret",
        secrets: ["?sv=2022-11-02&sp=r&sig=SECRETone", "sv=2022-11-02&sp=r&sig=SECRETtwo"],
    },
];

#[test]
fn a_secret_in_a_file_is_replaced_without_a_restart_whatever_its_kind() {
    for kept in &KEPT {
        let store = BlobServer::start();
        let daemon = Daemon::builder().embedded().set("log_level", "debug").set("fetch.attempts", 1);
        let daemon = daemon.set("stores.main.kind", kept.kind).set("stores.main.endpoint", store.url(""));
        let set_up = |daemon: Builder, (name, value): &(&str, &str)| daemon.set(&format!("stores.main.{name}"), value);
        let daemon = kept.settings.iter().fold(daemon, set_up).file(kept.file, kept.secrets[0]).start();
        store.fallback(|_| Some(Blob::bytes("x")));
        let mut answers = daemon.post(&set()).text();
        assert!(answers.contains("stored"), "{answers}");
        let path = store.targets()[0].split('?').next().unwrap_or_default().to_owned();
        // The store takes the new one alone from here on: only a second one, other than the first, gets anything.
        store.put_sequence(&path, vec![Blob::status(403), Blob::bytes("y")]);
        fs::write(daemon.dir().join(kept.file), kept.secrets[1]).expect("a file");
        let answer = daemon.post(&set());
        answers.push_str(&answer.text());
        assert!(answer.status == 200 && store.hits(&path) == 2, "{:?}: {answers}", kept.settings);
        // One that is the same is not asked with twice.
        store.put(&path, Blob::status(403));
        let answer = daemon.post(&set());
        answers.push_str(&answer.text());
        assert_eq!((answer.status, store.hits(&path)), (422, 1), "{:?}", kept.settings);
        let told = format!("{answers}{}{}", daemon.logs().join("\n"), daemon.get("/metrics").text());
        for secret in ["SECRET", "SESSION", "U0VDUkVU", "sig=", "Signature="] {
            assert!(!told.contains(secret), "{:?}: {secret} in {told}", kept.settings);
        }
    }
}

/// A token for an hour.
fn hourly(number: u32) -> Blob {
    Blob::bytes(json!({"access_token": secret(number), "expires_in": 3600, "token_type": "Bearer"}).to_string())
}

#[test]
fn the_token_service_is_asked_for_a_refused_object_only_if_the_file_of_the_service_account_has_changed() {
    let way = WAYS.iter().find(|way| way.name == "service account").expect("a way");
    let (lender, store) = (BlobServer::start(), BlobServer::start());
    lender.put_sequence(way.path, (1..=9).map(hourly).collect());
    store.fallback(|_| Some(Blob::bytes("x")));
    let daemon = start(way, &lender, &store);
    assert_eq!(daemon.post(&set()).status, 200);
    let path = store.targets()[0].split('?').next().unwrap_or_default().to_owned();
    store.put(&path, Blob::status(403));
    for number in 1..=3 {
        assert_eq!(daemon.post(&set()).status, 422);
        assert_eq!((store.hits(&path), lender.hits(way.path)), (number, 1));
    }
    let file = daemon.dir().join("key.json");
    let mut key: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    key["client_email"] = json!("b@p.iam.gserviceaccount.com");
    fs::write(&file, key.to_string()).expect("a file");
    // It is read for what is refused once a second at most, and followed besides.
    let is_renewed = || {
        store.put_sequence(&path, vec![Blob::status(403), Blob::bytes("y")]);
        daemon.post(&set()).status == 200
    };
    assert!(eventually(PATIENCE, is_renewed), "{}", lender.hits(way.path));
    assert!(is_signed(way, &store, 2));
}

#[test]
fn who_lends_and_hangs_holds_up_its_own_stores_only() {
    let (lender, blobs) = (BlobServer::start(), BlobServer::start());
    let way = WAYS.iter().find(|way| way.name == "instance of Google").expect("a way");
    lender.put(way.path, Blob::hang());
    blobs.put("/b", Blob::bytes("b"));
    let daemon = Daemon::builder().embedded().set("fetch.attempts", 1).set("fetch.timeout_ms", 2500);
    let set_up = |daemon: Builder, name: &str| {
        let daemon = daemon.set(&format!("stores.{name}.kind"), "gcs");
        daemon.set(&format!("stores.{name}.endpoint"), blobs.url(""))
    };
    let daemon = (way.set_up)(["main", "other"].into_iter().fold(daemon, set_up), &lender).start();
    let of_stores = |number: u32| {
        let store = if number.is_multiple_of(2) { "main" } else { "other" };
        json!({"key": "SET", "value": {"data": {"key": format!("k{number}"), "store": store, "object": "b/n"}}})
    };
    let events: Vec<Value> = (0..200).map(of_stores).collect();
    let mut sender = daemon.wire();
    sender.send_request("POST", "/events", &[("content-type", "application/x-ndjson")], ndjson(&events).as_bytes());
    // As many as have places while their hosts give no sign of life.
    let ended = || daemon.metric("cache_sync_fetch_duration_seconds_count", &[]);
    assert!(eventually(PATIENCE, || ended() >= 16.0), "{}", ended());
    let begun = Instant::now();
    assert_eq!(daemon.post(&set_blob("k", &blobs.url("/b"))).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
