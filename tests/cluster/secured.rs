//! TLS and an ACL user with the documented rights, in both modes, through the real daemon.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Builder, Daemon, delete_pattern, get, ndjson, results, set_inline};
use crate::servers::*;

const USER: &str = "sync";
const PASSWORD: &str = "p:w/d@";

/// A certificate for 127.0.0.1, by an authority of the test's own.
fn certificate(dir: &Path) -> TlsFiles {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A name that is not the default one of the certificate below: OpenSSL takes the two for the same otherwise.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let own = params.signed_by(&key, &issuer).expect("a certificate");
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    TlsFiles {
        ca: put("ca.pem", pem("CERTIFICATE", authority.der())),
        cert: put("cert.pem", pem("CERTIFICATE", own.der())),
        key: put("key.pem", pem("PRIVATE KEY", key.serialized_der())),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A user that may do what docs/redis.md says, and nothing else.
fn add_user(server: &Server) {
    let documented = include_str!("../../docs/redis.md");
    let listed = documented.split_once("ACL SETUSER sync").expect("the list").1.split_once("```").expect("its end").0;
    let mut words = vec!["ACL".to_owned(), "SETUSER".into(), USER.into(), "on".into(), format!(">{PASSWORD}")];
    words.extend(["~*".into(), "-@all".into()]);
    let commands = listed.split_whitespace().map(|word| word.trim_matches('\'')).filter(|word| word.starts_with('+'));
    words.extend(commands.map(str::to_owned));
    let _: () = server.ask(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn with_tls(tls: &TlsFiles, builder: Builder) -> Builder {
    let builder = builder.set("redis.tls", true).set("redis.tls_ca", tls.ca.display());
    builder.set("redis.username", USER).set("redis.password", PASSWORD)
}

fn does_all_there_is_to_do(daemon: &Daemon) {
    let large = "x".repeat(200_000);
    let mut events: Vec<_> = (0..50).map(|n| set_inline(&format!("k:{n}"), "v")).collect();
    events.push(set_inline("large", &large));
    events.extend((0..50).map(|n| get(json!([format!("k:{n}"), format!("none:{n}")]))));
    let answer = daemon.post_ndjson(&ndjson(&events));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(results(&daemon.post(&get(json!("large"))), 200, "ok")[0]["value"] == large);
    let swept = results(&daemon.post(&delete_pattern(json!("k:*"))), 200, "ok").remove(0);
    assert_eq!(swept["deleted"], 50, "{swept}");
    assert_eq!(daemon.post(&set_inline("{tag}:k", "v")).status, 200);
    let swept = results(&daemon.post(&delete_pattern(json!("{tag}:*"))), 200, "ok").remove(0);
    assert_eq!(swept["deleted"], 1, "{swept}");
}

fn nothing_was_denied(servers: &[Server]) {
    for server in servers {
        let denied: Vec<redis::Value> = server.ask(&["ACL", "LOG"]);
        assert!(denied.is_empty(), "{denied:?}");
    }
}

#[test]
fn a_cluster_is_spoken_to_over_tls_with_the_rights_that_are_documented() {
    let dir = TempDir::new().expect("a directory");
    let tls = certificate(dir.path());
    let cluster = Cluster::start_with(3, 1, Some(&tls));
    cluster.servers.iter().for_each(add_user);
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = with_tls(&tls, builder.set("redis.wait_replicas", 1)).start();
    does_all_there_is_to_do(&daemon);
    // Slots that are on their way need ASKING.
    let [a, b, ..] = &cluster.servers[..] else { panic!("six") };
    let mut keys = (0..).map(|n| format!("on:{n}"));
    let key = keys.find(|key| a.try_ask::<Option<String>>(&["GET", key]).is_some()).expect("a key");
    let slot = a.ask::<u16>(&["CLUSTER", "KEYSLOT", &key]).to_string();
    let (a_id, b_id): (String, String) = (a.ask(&["CLUSTER", "MYID"]), b.ask(&["CLUSTER", "MYID"]));
    let _: () = b.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &a_id]);
    let _: () = a.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &b_id]);
    assert_eq!(daemon.post(&set_inline(&key, "v")).status, 200);
    assert!(b.ask::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).contains(&key));
    nothing_was_denied(&cluster.servers);
    let log = daemon.logs().join("\n");
    assert!(log.contains("redis cluster with TLS at 127.0.0.1:") && !log.contains(PASSWORD), "{log}");
}

#[test]
fn a_master_is_spoken_to_over_tls_with_the_rights_that_are_documented() {
    let dir = TempDir::new().expect("a directory");
    let tls = certificate(dir.path());
    // Once with sentinels that ask for the password, once with such that would not understand one.
    for asks in [None, Some(PASSWORD)] {
        let watched = Watched::start(Some(&tls), asks);
        watched.servers.iter().for_each(add_user);
        let builder = Daemon::builder().set("redis.mode", "sentinel").set("redis.nodes", watched.nodes());
        let builder = builder.set("redis.sentinel_master", MASTER).set("redis.wait_replicas", 2);
        let daemon = with_tls(&tls, builder).start();
        does_all_there_is_to_do(&daemon);
        nothing_was_denied(&watched.servers);
        let log = daemon.logs().join("\n");
        assert!(log.contains("redis master mymaster with TLS by sentinels at 127.0.0.1:") && !log.contains(PASSWORD));
    }
}

/// The sentinels have a user, a password and a port without TLS, none of which is the master's.
#[test]
fn sentinels_are_logged_in_to_with_credentials_of_their_own() {
    let dir = TempDir::new().expect("a directory");
    let tls = certificate(dir.path());
    let watched = Watched::start(Some(&tls), Some("only-sentinels"));
    watched.servers.iter().for_each(add_user);
    let file = dir.path().join("password");
    let plain: Vec<String> = watched.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
    let builder = || {
        let builder = Daemon::builder().set("redis.mode", "sentinel").set("redis.sentinel_master", MASTER);
        let builder = with_tls(&tls, builder).set("redis.nodes", plain.join(",")).set("redis.sentinel_tls", false);
        builder.set("redis.sentinel_username", USER)
    };
    fs::write(&file, "only-sentinels\n").expect("a file");
    let daemon = builder().set("redis.sentinel_password_file", file.display()).start();
    does_all_there_is_to_do(&daemon);
    nothing_was_denied(&watched.servers);
    // The password of the sentinels changes, and with it the file.
    fs::write(&file, "changed\n").expect("a file");
    for sentinel in &watched.sentinels {
        let mut conn = sentinel.conn();
        let _: () = redis::cmd("AUTH").arg(&[USER, "only-sentinels"]).query(&mut conn).expect("a login");
        let set = redis::cmd("ACL").arg(&["SETUSER", USER, "resetpass", ">changed"]).query::<()>(&mut conn);
        set.expect("a new password");
        let _ = redis::cmd("CLIENT").arg(&["KILL", "USER", USER]).exec(&mut conn);
    }
    wait_for("the sentinels to be logged in to again", || {
        assert_eq!(daemon.post(&set_inline("after", "v")).status, 200);
        watched.sentinels.iter().all(|sentinel| {
            let mut conn = sentinel.conn();
            let _: () = redis::cmd("AUTH").arg(&[USER, "changed"]).query(&mut conn).expect("a login");
            let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut conn).expect("a list");
            list.lines().any(|line| line.contains(" name=redis-cache-sync") && line.contains(" user=sync "))
        })
    });
    let wrong = builder().set("redis.sentinel_password", PASSWORD).unready().start();
    wait_for("the refused login to be told", || {
        let log = wrong.logs().join("\n");
        assert!(!log.contains(PASSWORD), "{log}");
        plain.iter().any(|at| log.contains(&format!("the sentinel at {at} (of redis.nodes): it refused the login")))
    });
}
