//! Probes and metrics on a port of their own.

use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Blob, Daemon, Gate, Stage, Wire, eventually, get, set_blob, set_inline};
use crate::tls::{Authority, Files};

fn ask(daemon: &Daemon, method: &str, path: &str) -> Answer {
    let mut wire = Wire::open(daemon.admin_address());
    wire.send_request(method, path, &[], b"");
    if method == "HEAD" { wire.answer_to_head() } else { wire.answer() }
}

#[test]
fn with_a_port_of_their_own_probes_and_metrics_are_there_and_nowhere_else() {
    for format in ["text", "json"] {
        let builder = Daemon::builder().embedded().unready().set("log_format", format).set("log_level", "error");
        let daemon = builder.set("admin_port", 0).start();
        assert_ne!(daemon.admin_address(), daemon.address());
        assert!(eventually(Duration::from_secs(5), || ask(&daemon, "GET", "/ready").status == 200));
        assert_eq!(daemon.post(&set_inline("k", "v")).status, 200);
        for path in ["/live", "/ready", "/metrics"] {
            assert_eq!(ask(&daemon, "GET", path).status, 200, "{path}");
            assert_eq!(ask(&daemon, "HEAD", path).status, 200, "{path}");
            ask(&daemon, "POST", path).problem(405, "method-not-allowed");
            daemon.get(path).problem(404, "not-found");
        }
        let metrics = ask(&daemon, "GET", "/metrics").text();
        assert!(metrics.contains("cache_sync_events_total{outcome=\"ok\",type=\"SET\"} 1"), "{metrics}");
        ask(&daemon, "POST", "/events").problem(404, "not-found");
        ask(&daemon, "GET", "/nope").problem(404, "not-found");
    }
}

#[test]
fn the_state_is_not_shown_on_it_where_certificates_are_the_only_lock() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let builder = files.builder().set("http.tls_client_ca", files.authority(&authority)).set("admin_port", 0);
    let daemon = builder.start();
    ask(&daemon, "GET", "/status.json").problem(401, "unauthorized");
    assert_eq!(ask(&daemon, "GET", "/live").status, 200);
}

#[test]
fn without_one_they_are_on_the_main_port() {
    let daemon = Daemon::embedded();
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    assert!(!daemon.logs().iter().any(|line| line.contains("listening for probes")), "{:?}", daemon.logs());
}

#[test]
fn the_port_of_their_own_answers_through_the_drain_and_ends_with_it() {
    let mut stage = Stage::with(|builder| builder.set("admin_port", 0).unready());
    assert!(eventually(Duration::from_secs(5), || ask(&stage.daemon, "GET", "/ready").status == 200));
    let admin = stage.daemon.admin_address();
    let gate = Gate::closed();
    stage.blobs.put("/slow", Blob::bytes("v").gate(&gate));
    let mut held = stage.daemon.wire();
    held.send_request("POST", "/events", &[], set_blob("k", &stage.blobs.url("/slow")).to_string().as_bytes());
    stage.blobs.wait_hits("/slow", 1);
    stage.daemon.sigterm();
    assert!(eventually(Duration::from_secs(5), || ask(&stage.daemon, "GET", "/ready").text().contains("draining")));
    assert_eq!(ask(&stage.daemon, "GET", "/live").status, 200);
    stage.daemon.post(&get(json!("k"))).problem(503, "shutting-down");
    gate.open();
    assert_eq!(held.answer().status, 200);
    assert!(stage.daemon.wait_exit(Duration::from_secs(10)).success());
    assert!(Wire::try_open(admin).is_err());
}
