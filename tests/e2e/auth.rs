//! Bearer tokens: any of those set opens `POST /events`, nothing else does, and the other routes need none.

use std::io::Write;

use serde_json::json;

use crate::support::{Daemon, get};

fn post(daemon: &Daemon, authorization: Option<&str>) -> crate::support::Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    daemon.post_with(&headers, get(json!("k")).to_string().as_bytes())
}

#[track_caller]
fn assert_refused(daemon: &Daemon, authorization: Option<&str>) {
    let answer = post(daemon, authorization);
    answer.problem(401, "unauthorized");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{authorization:?}: {challenge:?}");
}

#[test]
fn the_line_of_a_request_names_the_token_and_the_client() {
    let tokens = "billing:0123456789abcdef,fedcba9876543210,short";
    let daemon =
        Daemon::builder().embedded().set("auth.tokens", tokens).set("http.trusted_proxies", "127.0.0.1").start();
    daemon.log_line(|line| line.contains("can be guessed") && line.contains("number 3"));
    let post = |id: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers =
            [("authorization", bearer.as_str()), ("x-request-id", id), ("x-forwarded-for", "1.1.1.1, 203.0.113.9")];
        assert_eq!(daemon.post_with(&headers, br#"{"key":"GET","value":{"data":"k"}}"#).status, 200, "{token}");
        daemon.log_line(|line| line.contains(" request method=") && line.contains(id))
    };
    let line = post("named", "0123456789abcdef");
    assert!(line.contains(" token=billing") && line.contains(" client=203.0.113.9"), "{line}");
    assert!(post("nameless", "fedcba9876543210").contains(" token=- "));
    let said = daemon.logs().join("\n");
    assert!(!said.contains("0123456789abcdef") && !said.contains("fedcba"), "{said}");
}

#[test]
fn without_tokens_everybody_may_post() {
    let daemon = Daemon::embedded();
    for authorization in [None, Some("Bearer anything"), Some("Basic eDp5")] {
        assert_eq!(post(&daemon, authorization).status, 200, "{authorization:?}");
    }
}

#[test]
fn any_of_the_tokens_is_accepted_and_nothing_else() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"from-file-1\nfrom-file-2\r\n\n").expect("it can be written");
    let by_comma = Daemon::builder().embedded().set("auth.tokens", "first,second").start();
    let by_file = Daemon::builder().embedded().set("auth.tokens_file", file.path().display()).start();
    let good = [(&by_comma, "first"), (&by_comma, "second"), (&by_file, "from-file-1"), (&by_file, "from-file-2")];
    for (daemon, token) in good {
        assert_eq!(post(daemon, Some(&format!("Bearer {token}"))).status, 200, "{token}");
        assert_eq!(post(daemon, Some(&format!("bearer {token}"))).status, 200, "the scheme's case does not matter");
    }
    let bad = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer firs"),
        Some("Bearer firstx"),
        Some("Bearer First"),
        Some("Bearer first,second"),
        Some("Bearer first second"),
        Some("Basic first"),
        Some("first"),
        Some("Bearer from-file-3"),
    ];
    for authorization in bad {
        assert_refused(&by_comma, authorization);
        assert_refused(&by_file, authorization);
    }
}

#[test]
fn the_other_routes_need_no_token() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "secret").start();
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_token_never_shows() {
    let builder = Daemon::builder().embedded().set("auth.tokens", "t0p-secret").set("log_level", "debug");
    let daemon = builder.start();
    let mut said = post(&daemon, Some("Bearer t0p-secret")).text();
    said += &post(&daemon, Some("Bearer t0p-secret-guess")).text();
    said += &daemon.get("/metrics").text();
    daemon.log_line(|line| line.contains("unauthorized") || line.contains("401"));
    assert!(!said.contains("t0p-secret"), "{said}");
    let log = daemon.logs().join("\n");
    assert!(!log.contains("t0p-secret"), "{log}");
}
