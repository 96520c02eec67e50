//! TLS on the daemon's own listener: all that holds without it holds with it, and who must show a certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use serde_json::json;
use tempfile::TempDir;

use crate::support::http::request;
use crate::support::{Answer, Builder, Daemon, PATIENCE, Wire, eventually, set_inline};

/// An authority of the test's own.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn vouch_for(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        Identity { certificate: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    /// The same, valid until that year begins.
    pub fn vouch_until(&self, year: i32, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        Identity { certificate: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    /// A client that trusts this authority, and shows that certificate.
    pub fn client(
        &self,
        shown: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        })
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Where the daemon's certificate lies.
pub struct Files(TempDir);

impl Files {
    pub fn of(identity: &Identity) -> Self {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.put(identity);
        files
    }

    /// Where the certificate of this authority lies.
    pub fn authority(&self, authority: &Authority) -> String {
        fs::write(self.path("ca.crt"), pem("CERTIFICATE", authority.certificate.der())).expect("it can be written");
        self.path("ca.crt").display().to_string()
    }

    pub fn put(&self, identity: &Identity) {
        fs::write(self.path("tls.crt"), pem("CERTIFICATE", identity.certificate.der())).expect("it can be written");
        fs::write(self.path("tls.key"), pem("PRIVATE KEY", &identity.key.serialize_der())).expect("it can be written");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn builder(&self) -> Builder {
        let builder = Daemon::builder().embedded().unready().set("http.tls_cert", self.path("tls.crt").display());
        builder.set("http.tls_key", self.path("tls.key").display())
    }
}

pub fn default_client(authority: &Authority) -> Arc<ClientConfig> {
    authority.client(None, rustls::ALL_VERSIONS)
}

fn open(daemon: &Daemon, client: &Arc<ClientConfig>) -> Wire {
    Wire::try_tls(daemon.address(), client.clone()).expect("a handshake")
}

fn post(wire: &mut Wire) -> Answer {
    wire.send_request("POST", "/events", &[], set_inline("k", "v").to_string().as_bytes());
    wire.answer()
}

/// Whether an event gets through; a refusal may come with the first answer only.
fn is_let_in(daemon: &Daemon, client: &Arc<ClientConfig>) -> bool {
    let Ok(mut wire) = Wire::try_tls(daemon.address(), client.clone()) else { return false };
    wire.send_request("POST", "/events", &[], set_inline("k", "v").to_string().as_bytes());
    wire.try_answer(false).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn events_and_probes_are_answered_over_tls_and_nothing_without_it() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().start();
    for version in [&version::TLS12, &version::TLS13] {
        let mut wire = open(&daemon, &authority.client(None, &[version]));
        for _ in 0..3 {
            assert_eq!(post(&mut wire).json()["status"], "ok");
        }
        wire.send_request("GET", "/ready", &[], b"");
        assert_eq!(wire.answer().status, 200);
        let large = set_inline("large", &"x".repeat(1 << 20)).to_string();
        wire.send_request("POST", "/events", &[], large.as_bytes());
        assert_eq!(wire.answer().status, 200);
        wire.send_request(
            "POST",
            "/events",
            &[],
            json!({"key": "GET", "value": {"data": "large"}}).to_string().as_bytes(),
        );
        assert_eq!(wire.answer().json()["results"][0]["value"].as_str().map(str::len), Some(1 << 20));
    }
    let mut plain = daemon.wire();
    plain.send_request("GET", "/live", &[], b"");
    assert!(plain.try_answer(false).is_err());
    daemon.log_line(|line| line.contains("WARN") && line.contains("TLS handshake failed"));
    let other = Authority::new();
    assert!(Wire::try_tls(daemon.address(), default_client(&other)).is_err(), "trusted by a stranger");
}

#[test]
fn send_trusts_the_authority_it_is_given_and_healthcheck_the_very_certificate() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    fs::write(files.path("ca.crt"), pem("CERTIFICATE", authority.certificate.der())).expect("it can be written");
    fs::write(files.path("in"), set_inline("k", "v").to_string()).expect("it can be written");
    let daemon = files.builder().start();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
        let output = command.args(args).current_dir(files.0.path()).env_clear().output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let to = format!("https://{}", daemon.address());
    let sent = run(&["send", "in", "--to", &to, "--ca-file", "ca.crt"]);
    assert!(sent.0 == Some(0) && sent.1.starts_with("sent 1, ok 1"), "{sent:?}");
    let sent = run(&["send", "in", "--to", &to, "--retry-for", "0"]);
    assert!(sent.0 == Some(1) && sent.1.contains("sent 1, ok 0"), "the usual authorities know it: {sent:?}");

    let port = daemon.address().port().to_string();
    let check =
        |port: &str| run(&["healthcheck", "--port", port, "--http-tls-cert", "tls.crt", "--http-tls-key", "tls.key"]);
    assert_eq!(check(&port), (Some(0), String::new()));
    assert_eq!(run(&["healthcheck", "--port", &port]).0, Some(1), "without TLS");
    files.put(&authority.vouch_for("127.0.0.1"));
    assert!(eventually(Duration::from_secs(5), || check(&port).0 == Some(0)), "the new certificate is shown");
    let stranger = Files::of(&Authority::new().vouch_for("127.0.0.1")).builder().start();
    let (code, said) = check(&stranger.address().port().to_string());
    assert_eq!(code, Some(1), "another certificate: {said}");
}

#[test]
fn a_handshake_has_a_heads_time_and_holds_nobody_up() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().set("http.workers", 1).set("http.head_timeout_ms", 700).start();
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut io = TcpStream::connect(daemon.address()).expect("it listens");
            io.set_read_timeout(Some(PATIENCE)).expect("a limit");
            io.write_all(&[22, 3, 1]).expect("it takes bytes");
            io
        })
        .collect();
    assert_eq!(post(&mut open(&daemon, &default_client(&authority))).status, 200);
    assert!(begun.elapsed() < Duration::from_millis(600), "held up for {:?}", begun.elapsed());
    for io in &mut slow {
        assert!(io.read(&mut [0; 1]).map_or(true, |count| count == 0), "an answer without a handshake");
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(690)..Duration::from_secs(5)).contains(&took), "ended after {took:?}");
}

#[test]
fn a_connection_on_which_nothing_was_sent_is_closed_without_a_warning_over_tls_too() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().set("http.workers", 1).set("http.head_timeout_ms", 300).start();
    let mut silent = daemon.wire();
    assert!(silent.is_closed());
    // One that is warned of, so that a warning before it would be there.
    let mut slow = TcpStream::connect(daemon.address()).expect("it listens");
    slow.write_all(&[22, 3, 1]).expect("it takes bytes");
    let peer = slow.local_addr().expect("an address").to_string();
    daemon.log_line(|line| line.contains("WARN") && line.contains(&peer));
    let warned = daemon.logs().into_iter().filter(|line| line.contains("WARN") && line.contains("handshake")).count();
    assert_eq!(warned, 1, "{:?}", daemon.logs());
}

#[test]
fn what_ends_before_a_request_is_known_is_a_problem_document_over_tls_too() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().set("http.head_timeout_ms", 400).start();
    let client = default_client(&authority);
    let mut wire = open(&daemon, &client);
    wire.send(b"POST /events HTTP/1.1\r\nHost: te");
    wire.answer().problem(408, "request-timeout");
    assert!(wire.is_closed());

    // The second head of a connection has no more time than the first.
    let mut wire = open(&daemon, &client);
    assert_eq!(post(&mut wire).status, 200);
    wire.send(b"GET /live");
    wire.answer().problem(408, "request-timeout");

    let mut wire = open(&daemon, &client);
    wire.send(b"junk\r\n\r\n");
    wire.answer().problem(400, "malformed-request");
    assert!(wire.is_closed());
    let mut wire = open(&daemon, &client);
    wire.send(&request("GET", "/live", &[("x", &"x".repeat(200_000))], b""));
    wire.answer().problem(431, "head-too-large");
}

#[test]
fn a_refusal_reaches_a_sender_that_is_still_sending_over_tls_too() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().set("http.max_body_bytes", "1 KiB").start();
    let client = default_client(&authority);
    for _ in 0..10 {
        let mut wire = open(&daemon, &client);
        wire.send_request("POST", "/events", &[("connection", "close")], &vec![b'x'; 4 << 20]);
        wire.answer().problem(413, "payload-too-large");
    }
}

#[test]
fn with_an_authority_for_clients_only_those_it_signed_are_let_in() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let daemon = files.builder().set("http.tls_client_ca", files.authority(&clients)).start();
    let (ours, stranger) = (clients.vouch_for("a-client"), authority.vouch_for("a-client"));
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let client = |shown| authority.client(shown, versions);
        assert!(is_let_in(&daemon, &client(Some(&ours))));
        assert!(!is_let_in(&daemon, &client(None)), "without a certificate");
        assert!(!is_let_in(&daemon, &client(Some(&stranger))), "with another authority's");
    }

    // Another authority takes its place: a session from before opens nothing any more.
    let before = authority.client(Some(&ours), rustls::ALL_VERSIONS);
    assert!(is_let_in(&daemon, &before));
    fs::write(files.path("ca.crt"), pem("CERTIFICATE", authority.certificate.der())).expect("it can be written");
    let stranger = authority.client(Some(&stranger), rustls::ALL_VERSIONS);
    assert!(eventually(Duration::from_secs(3), || is_let_in(&daemon, &stranger)));
    assert!(!is_let_in(&daemon, &before));
}

#[test]
fn healthcheck_gets_in_where_clients_must_show_a_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    fs::write(files.path("ca.crt"), pem("CERTIFICATE", clients.certificate.der())).expect("it can be written");
    let daemon = files.builder().set("http.tls_client_ca", files.path("ca.crt").display()).start();
    let asks = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
        let port = daemon.address().port().to_string();
        command.args(["healthcheck", "--port", &port, "--http-tls-cert", "tls.crt", "--http-tls-key", key]);
        let output = command.current_dir(files.0.path()).env_clear().output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(asks("tls.key"), (Some(0), String::new()));
    fs::write(files.path("other.key"), pem("PRIVATE KEY", &KeyPair::generate().expect("a key").serialize_der()))
        .expect("it can be written");
    assert_ne!(asks("other.key").0, Some(0), "whoever has not the key is not let in");
    let (code, said) = asks("other.key");
    assert!(code == Some(1) && said.contains("other.key: it is not the key"), "{said}");
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::of(&old.vouch_for("127.0.0.1"));
    let daemon = files.builder().start();
    let mut open_before = open(&daemon, &default_client(&old));
    fs::write(files.path("tls.key"), pem("PRIVATE KEY", &KeyPair::generate().expect("a key").serialize_der()))
        .expect("it can be written");
    daemon.log_line(|line| line.contains("WARN") && line.contains("http.tls_cert") && line.contains("not the key"));
    assert!(is_let_in(&daemon, &default_client(&old)));
    files.put(&new.vouch_for("127.0.0.1"));
    assert!(eventually(Duration::from_secs(3), || is_let_in(&daemon, &default_client(&new))));
    assert!(!is_let_in(&daemon, &default_client(&old)));
    assert_eq!(post(&mut open_before).status, 200, "what is open goes on");
    assert!(!daemon.logs().iter().any(|line| line.contains("BEGIN")), "{:?}", daemon.logs());
}

#[test]
fn a_handshake_that_never_ends_does_not_hold_up_the_end() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let mut daemon = files.builder().set("http.head_timeout_ms", 20_000).start();
    let mut slow = TcpStream::connect(daemon.address()).expect("it listens");
    slow.write_all(&[22, 3, 1]).expect("it takes bytes");
    let mut idle = open(&daemon, &default_client(&authority));
    assert_eq!(post(&mut idle).status, 200, "the slow one, which came first, is taken on");
    daemon.sigterm();
    assert!(daemon.wait_exit(Duration::from_secs(5)).success());
}
