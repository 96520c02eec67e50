//! Memory follows admission: whatever is sent, the service's resident memory stays below twice
//! `intake.max_in_flight_bytes` and 64 MiB. Each row sends one kind of thing of which little is sent and much is held, more of
//! it than fits, and looks at the peak; what is held is told by the metrics all the time, and given back afterwards.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;

use super::machine::{peak_mib, reset_peak, resident_mib};
use super::site::{Plot, SECOND, Site, rests};
use super::support::http::request;
use super::support::{
    Blob, Builder, Redis, Wire, delete, delete_pattern, eventually, free_port, get, gzip, ndjson, set, set_blob,
};
use super::tally::Row;

const MIB: usize = 1 << 20;
const BUDGET: usize = 48 * MIB;
const BOUND_MIB: f64 = (2 * BUDGET / MIB + 64) as f64;
/// What was freed is back with the kernel so soon, but for as much.
const GIVEN_BACK: Duration = Duration::from_secs(12);
const KEPT_MIB: f64 = 40.0;
const SENDERS: usize = 12;
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

/// Sends one kind of thing; what it returns is kept until the peak has been read.
pub type Send = fn(&Site) -> Vec<TcpStream>;

pub fn row(name: &str, send: Send) -> Row {
    measure(name, &site(|daemon| daemon), send)
}

fn site(more: impl FnOnce(Builder) -> Builder) -> Site {
    Plot::on(Redis::start()).start(|daemon| {
        let daemon = daemon
            .set("intake.max_in_flight_bytes", BUDGET)
            .set("intake.max_in_flight", 1_000_000)
            .set("http.max_body_bytes", 16 * MIB)
            .set("fetch.max_blob_bytes", 16 * MIB)
            .set("fetch.per_host", 64)
            .set("event.deadline_ms", 6_000)
            .set("redis.retry_ms", 6_000)
            .set("http.head_timeout_ms", 8_000)
            .set("http.body_timeout_ms", 8_000)
            .set("log_level", "error");
        more(daemon)
    })
}

fn measure(name: &str, site: &Site, send: impl FnOnce(&Site) -> Vec<TcpStream>) -> Row {
    site.blobs.fallback(|_| Some(Blob::hang()));
    let pid = site.daemon.pid();
    let _ = site.daemon.try_get("/ready");
    reset_peak(pid);
    let idle = resident_mib(pid);
    let mut row = Row { name: name.to_owned(), rounds: 1, ..Row::default() };
    let kept = send(site);
    thread::sleep(SECOND);
    let held = site.daemon.metric("cache_sync_admission_bytes", &[]) / MIB as f64;
    thread::sleep(4 * SECOND);
    drop(kept);
    rests_later(site, &mut row);
    let peak = peak_mib(pid);
    row.note(format!(
        "{peak:.0} MiB at the peak, idle {idle:.0}, allowed {BOUND_MIB:.0}: {:.2} of it; {held:.1} MiB counted of {}",
        peak / BOUND_MIB,
        BUDGET / MIB
    ));
    row.expect(peak < BOUND_MIB, || format!("{peak:.0} MiB are resident"));
    let given_back = eventually(GIVEN_BACK, || resident_mib(pid) < idle + KEPT_MIB);
    row.note(format!("{:.0} MiB resident afterwards", resident_mib(pid)));
    row.expect(given_back, || format!("{:.0} MiB stay resident", resident_mib(pid)));
    row
}

/// What has to wait for its deadline may still be there.
fn rests_later(site: &Site, row: &mut Row) {
    eventually(15 * SECOND, || site.daemon.metric("cache_sync_admission_bytes", &[]) == 0.0);
    rests(&site.daemon, row);
}

/// Sends each on a connection of its own; what the service does not take is left.
fn post_all(site: &Site, headers: &[(&str, &str)], bodies: impl Iterator<Item = Vec<u8>>) -> Vec<TcpStream> {
    bodies
        .map(|body| {
            let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
            let _ = stream.set_write_timeout(Some(SECOND));
            let _ = stream.write_all(&request("POST", "/events", headers, &body));
            stream
        })
        .collect()
}

/// Entries that wait for their blobs, as small as can be.
pub fn blobs_waiting(site: &Site) -> Vec<TcpStream> {
    let url = site.blobs.url("");
    let body = |sender: usize| {
        let event = |number| set(json!((0..1000).map(|n| format!("{url}/{sender}.{number}.{n}")).collect::<Vec<_>>()));
        ndjson(&(0..3).map(event).collect::<Vec<_>>()).into_bytes()
    };
    post_all(site, &[NDJSON], (0..8 * SENDERS).map(body))
}

/// Small values while Redis does not answer.
pub fn sets_waiting(site: &Site) -> Vec<TcpStream> {
    stop(site);
    let body = |sender: usize| {
        let entry = |number, n| json!({"key": format!("{sender}.{number}.{n}"), "value": "v"});
        let event = |number| set((0..1000).map(|n| entry(number, n)).collect());
        ndjson(&(0..20).map(event).collect::<Vec<_>>()).into_bytes()
    };
    post_all(site, &[NDJSON], (0..SENDERS).map(body))
}

/// Keys to be deleted, and read, while Redis does not answer.
pub fn keys_waiting(site: &Site) -> Vec<TcpStream> {
    stop(site);
    let body = |sender: usize| {
        let ask = if sender.is_multiple_of(2) { get } else { delete };
        let event = |number| ask((0..1000).map(|n| json!(format!("{sender}.{number}.{n}"))).collect());
        ndjson(&(0..20).map(event).collect::<Vec<_>>()).into_bytes()
    };
    post_all(site, &[NDJSON], (0..SENDERS).map(body))
}

/// Events of one key each while Redis does not answer.
pub fn events_waiting(site: &Site) -> Vec<TcpStream> {
    stop(site);
    let body = |sender: usize| {
        let event = |number| delete(json!(format!("{sender}.{number}")));
        ndjson(&(0..10_000).map(event).collect::<Vec<_>>()).into_bytes()
    };
    post_all(site, &[NDJSON], (0..SENDERS).map(body))
}

/// Patterns of nothing but classes, behind a blob that does not come.
pub fn patterns(site: &Site) -> Vec<TcpStream> {
    let mut kept = post_all(site, &[], [set_blob("a", &site.blobs.url("/a")).to_string().into_bytes()].into_iter());
    let pattern = |n: usize| format!("a{n:03}{}", "[^a]".repeat(255));
    let body = |sender: usize| {
        let event = |number| delete_pattern((0..64).map(|n| json!(pattern(sender + number + n))).collect());
        ndjson(&(0..8).map(event).collect::<Vec<_>>()).into_bytes()
    };
    kept.extend(post_all(site, &[NDJSON], (0..SENDERS).map(body)));
    kept
}

/// One large value, read many times over by senders that do not read their answers.
pub fn answers_unread(site: &Site) -> Vec<TcpStream> {
    site.redis.put("large", &vec![b'x'; MIB]);
    let body = get(json!(vec!["large"; 63])).to_string().into_bytes();
    post_all(site, &[], (0..2 * SENDERS).map(|_| body.clone()))
}

/// Values of which each byte is six in the answer, likewise unread.
pub fn answers_escaped(site: &Site) -> Vec<TcpStream> {
    site.redis.put("control", &vec![1; 4 * MIB]);
    let body = get(json!(vec!["control"; 4])).to_string().into_bytes();
    post_all(site, &[], (0..2 * SENDERS).map(|_| body.clone()))
}

/// Many requests a connection for a value that is not large, and nobody reads the answers.
pub fn answers_pipelined(site: &Site) -> Vec<TcpStream> {
    site.redis.put("middle", &vec![b'x'; 60 * 1024]);
    let one = request("POST", "/events", &[], get("middle".into()).to_string().as_bytes());
    let streams = (0..400).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let _ = stream.set_write_timeout(Some(SECOND / 10));
        let _ = stream.write_all(&one.repeat(200));
        stream
    });
    streams.collect()
}

/// The same, and all of them read it slowly.
pub fn values_arriving(site: &Site) -> Vec<TcpStream> {
    site.redis.put("large", &vec![0xff; MIB]);
    let body = get(json!(vec!["large"; 63])).to_string().into_bytes();
    let streams = post_all(site, &[], (0..2 * SENDERS).map(|_| body.clone()));
    for stream in &streams {
        let mut stream = stream.try_clone().expect("a socket can be cloned");
        thread::spawn(move || {
            let mut space = vec![0; 64 * 1024];
            while stream.read(&mut space).is_ok_and(|read| read > 0) {
                thread::sleep(Duration::from_millis(20));
            }
        });
    }
    streams
}

/// Keys that came in large bodies, which are done, and on which something small waits.
pub fn hot_keys(site: &Site) -> Vec<TcpStream> {
    let mut kept = Vec::new();
    for key in 0..16 {
        site.blobs.put(&format!("/quick/{key}"), Blob::bytes("v").delay(SECOND / 5));
        let key = format!("hot:{key}");
        let quick = set_blob(&key, &site.blobs.url(&format!("/quick/{}", &key[4..]))).to_string();
        let padded = format!("{quick}{}\n", " ".repeat(12 * MIB));
        let mut first = post_all(site, &[NDJSON], [padded.into_bytes()].into_iter());
        let small = set_blob(&key, &site.blobs.url(&format!("/hung/{key}"))).to_string();
        site.blobs.wait_hits(&format!("/quick/{}", &key[4..]), 1);
        kept.extend(post_all(site, &[], [small.into_bytes()].into_iter()));
        first.iter_mut().for_each(|first| drop(first.read(&mut [0; 12])));
    }
    kept
}

/// Heads that are never whole.
pub fn heads(site: &Site) -> Vec<TcpStream> {
    unfinished_heads(site, 100 * 1024)
}

/// Heads that are never whole either, and no larger than may be.
pub fn heads_permitted(site: &Site) -> Vec<TcpStream> {
    unfinished_heads(site, 30 * 1024)
}

fn unfinished_heads(site: &Site, bytes: usize) -> Vec<TcpStream> {
    let head = format!("POST /events HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(bytes));
    let streams = (0..3000).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let _ = stream.set_write_timeout(Some(SECOND / 10));
        let _ = stream.write_all(head.as_bytes());
        stream
    });
    streams.collect()
}

/// Previews of many patterns over many long keys.
pub fn previews(site: &Site) -> Vec<TcpStream> {
    let mut connection = site.redis.conn();
    for part in 0..10 {
        let fill = "for i = 1, 20000 do redis.call('SET', 'p:' .. ARGV[1] .. ':' .. i .. string.rep('x', 500), 1) end";
        let _: () = redis::cmd("EVAL").arg(fill).arg(0).arg(part).query(&mut connection).expect("keys are set");
    }
    let patterns =
        |sender: usize| (0..64).map(|n| format!("p:*{}*{}*", sender % 10, "x".repeat(n))).collect::<Vec<_>>();
    let body = |sender: usize| {
        let data = json!({"patterns": patterns(sender), "dry_run": true});
        json!({"key": "DELETE_PATTERN", "value": {"data": data}}).to_string().into_bytes()
    };
    post_all(site, &[], (0..SENDERS).map(body))
}

/// Requests behind one that waits, as many as are taken.
pub fn pipelined(site: &Site) -> Vec<TcpStream> {
    let all = waiting_and_large(site);
    let streams = (0..400).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let _ = stream.set_write_timeout(Some(SECOND / 20));
        let _ = stream.write_all(&all);
        stream
    });
    streams.collect()
}

fn waiting_and_large(site: &Site) -> Vec<u8> {
    let first = request("POST", "/events", &[], set_blob("k", &site.blobs.url("/k")).to_string().as_bytes());
    let more = request("POST", "/events", &[], &vec![b' '; MIB]).repeat(2);
    [first, more].concat()
}

/// The same over TLS, which has buffers of its own.
pub fn tls() -> Row {
    let (key, probes) = (KeyPair::generate().expect("a key"), free_port());
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    let pem =
        |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let mut site = site(|daemon| {
        let daemon = daemon.unready().file("tls.crt", &pem("CERTIFICATE", certificate.der()));
        let daemon = daemon.file("tls.key", &pem("PRIVATE KEY", &key.serialize_der()));
        daemon.set("http.tls_cert", "tls.crt").set("http.tls_key", "tls.key").set("admin_port", probes)
    });
    site.daemon.ask_at(SocketAddr::from((Ipv4Addr::LOCALHOST, probes)));
    measure("memory-tls", &site, |site| pipelined_over_tls(site, certificate.der().clone()))
}

fn pipelined_over_tls(site: &Site, certificate: CertificateDer<'static>) -> Vec<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = Arc::new(client.expect("versions").with_root_certificates(roots).with_no_client_auth());
    let all = waiting_and_large(site);
    let streams = (0..400).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let name = ServerName::from(site.daemon.address().ip());
        let mut session = ClientConnection::new(client.clone(), name).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut stream).expect("a handshake");
        }
        let _ = stream.set_write_timeout(Some(SECOND / 20));
        let _ = rustls::Stream::new(&mut session, &mut stream).write_all(&all);
        stream
    });
    streams.collect()
}

/// Requests as small as can be behind one that waits.
pub fn pipelined_small(site: &Site) -> Vec<TcpStream> {
    let first = request("POST", "/events", &[], set_blob("k", &site.blobs.url("/k")).to_string().as_bytes());
    let all = [first, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(6_000)].concat();
    let streams = (0..50).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let _ = stream.set_write_timeout(Some(SECOND / 20));
        let _ = stream.write_all(&all);
        stream
    });
    streams.collect()
}

/// Events with as many faults as can be, and with names that their faults repeat.
pub fn invalid(site: &Site) -> Vec<TcpStream> {
    let names: Vec<String> = (0..10_000).map(|n| format!("\"{}{n}\":0", "~".repeat(300))).collect();
    let long = format!("{{\"key\":\"GET\",\"value\":{{{}}}}}", names.join(","));
    let lines = format!("{{\"id\":\"{}\"}}\n", "i".repeat(200)).repeat(10_000);
    let mut kept = post_all(site, &[], (0..2 * SENDERS).map(|_| long.clone().into_bytes()));
    kept.extend(post_all(site, &[NDJSON], (0..2 * SENDERS).map(|_| lines.clone().into_bytes())));
    kept
}

/// Bodies that are small until they are decompressed.
pub fn gzipped(site: &Site) -> Vec<TcpStream> {
    let body = gzip(format!("{}[]", " ".repeat(15 * MIB)).as_bytes());
    let half = &body[..body.len() - 20];
    let streams = (0..4 * SENDERS).map(|_| {
        let mut stream = TcpStream::connect(site.daemon.address()).expect("a connection");
        let head = format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), half].concat());
        stream
    });
    streams.collect()
}

/// Redis takes what is sent and does not answer.
fn stop(site: &Site) {
    let mut connection = site.redis.conn();
    let _: Result<(), _> = redis::cmd("CLIENT").arg("PAUSE").arg(5_000).arg("ALL").query(&mut connection);
    let _ = Wire::open(site.daemon.address());
}
