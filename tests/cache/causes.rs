//! Why a server cannot be spoken to: the real thing in that state, and what is told of it.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis_cache_sync::cache::redis::{ClusterCache, RedisCache, SentinelCache};
use redis_cache_sync::cache::{Cache, CacheError, Reply, Session};
use redis_cache_sync::redis::{Address, PasswordReader, Settings, TlsSettings};
use redis_cache_sync::secret::{Pem, Secret};

use crate::middlebox::Middlebox;
use crate::servers::{Cluster, MASTER, Server, Watched};
use crate::support::*;

/// What connecting fails with.
async fn cause(settings: Settings) -> String {
    told(&RedisCache::new(settings).unwrap()).await
}

async fn told(cache: &dyn Cache) -> String {
    match cache.session().ping(WITHIN).await {
        Err(CacheError::Unavailable(cause)) => cause.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn with_login(port: u16, username: Option<&str>, password: Option<&str>) -> Settings {
    let (username, password) = (username.map(str::to_owned), password.map(Secret::new));
    Settings { username, password, ..Settings::new("127.0.0.1", port) }
}

fn assert_says(cause: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| cause.contains(part)), "{parts:?} in: {cause}");
}

#[tokio::test]
async fn a_refused_login_names_the_server_and_the_fault() {
    let open = RedisServer::start(&[]);
    let shut = RedisServer::start(&["--requirepass", "hunter2"]);
    let at = format!("127.0.0.1:{}", shut.port);
    for (username, password) in [(None, "hunter3"), (Some("nobody"), "hunter2")] {
        let cause = cause(with_login(shut.port, username, Some(password))).await;
        assert_says(&cause, &[&at, "refused the login", "WRONGPASS"]);
        assert!(!cause.contains(password), "{cause}");
    }
    assert_says(&cause(with_login(shut.port, None, None)).await, &[&at, "asks for a password (NOAUTH)"]);
    let needless = cause(with_login(open.port, None, Some("hunter2"))).await;
    assert_says(&needless, &[&format!("127.0.0.1:{}", open.port), "it has no password", "redis.password"]);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let server = RedisServer::start(&["--databases", "2"]);
    let cause = cause(Settings { db: 2, ..server.settings() }).await;
    assert_says(&cause, &["no such database", "redis.db"]);
}

#[tokio::test]
async fn a_server_that_is_full_says_so() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut full = None;
    wait_until("the connection that the start was seen by to be gone", || {
        full = client.get_connection().ok();
        full.is_some()
    });
    assert_says(&cause(server.settings()).await, &["reached its limit of clients", "maxclients"]);
}

#[tokio::test]
async fn what_does_not_speak_the_protocol_is_told_apart() {
    use std::io::Write;
    let speaks = |greeting: &'static [u8]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let held: Vec<_> =
                listener.incoming().flatten().map(|mut stream| stream.write_all(greeting).map(|()| stream)).collect();
            drop(held);
        });
        Settings::new("127.0.0.1", port)
    };
    assert_says(&cause(speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await, &["speaks HTTP", "Redis port?"]);
    assert_says(&cause(speaks(b"SSH-2.0-OpenSSH_9.2\r\n")).await, &["not the Redis protocol", "Redis port?"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_says(&cause(Settings::new("127.0.0.1", nobody)).await, &[&nobody.to_string(), "connection refused"]);
    assert_says(
        &cause(Settings::new("no-such-name.invalid", 1)).await,
        &["no-such-name.invalid", "cannot be resolved"],
    );
}

#[tokio::test]
async fn what_hangs_is_told_with_the_step_and_the_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let quick = Settings { connect_timeout: Duration::from_millis(300), ..Settings::new("127.0.0.1", port) };
    let begun = Instant::now();
    assert_says(&cause(quick.clone()).await, &["logging in took longer than 300 ms"]);
    let tls = Some(TlsSettings::default());
    assert_says(&cause(Settings { tls, ..quick }).await, &["the TLS handshake took longer than 300 ms"]);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// An authority, and a server with a certificate of its for this name, which ends at that time.
struct Secured {
    server: RedisServer,
    port: u16,
    ca: Pem,
    _dir: tempfile::TempDir,
}

fn secured(name: &str, until: Option<(i32, u8, u8)>, clients: &str) -> Secured {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if let Some((year, month, day)) = until {
        params.not_before = rcgen::date_time_ymd(year - 1, month, day);
        params.not_after = rcgen::date_time_ymd(year, month, day);
    }
    let own = params.signed_by(&key, &issuer).unwrap();
    let put = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, cert) = (pem("CERTIFICATE", authority.der()), put("cert.pem", pem("CERTIFICATE", own.der())));
    let key = put("key.pem", pem("PRIVATE KEY", key.serialized_der()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = RedisServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-ca-cert-file",
        &put("ca.pem", ca.clone()),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        clients,
    ]);
    Secured { server, port, ca: Pem::new(ca.into_bytes()), _dir: dir }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_told_why() {
    let trusting = |of: &Secured, host: &str| {
        let tls = Some(TlsSettings { ca: Some(of.ca.clone()), ..TlsSettings::default() });
        Settings { tls, ..Settings::new(host, of.port) }
    };
    let good = secured("127.0.0.1", None, "no");
    let mut session = RedisCache::new(trusting(&good, "127.0.0.1")).unwrap().session();
    assert_eq!(session.ping(WITHIN).await, Ok(()));
    let strange = Settings { tls: Some(TlsSettings::default()), ..Settings::new("127.0.0.1", good.port) };
    assert_says(&cause(strange).await, &["no trusted authority signed", "redis.tls_ca"]);
    let other = secured("redis.example", None, "no");
    assert_says(&cause(trusting(&other, "127.0.0.1")).await, &["for another name than 127.0.0.1", "redis.example"]);
    let old = secured("127.0.0.1", Some((2020, 1, 1)), "no");
    assert_says(&cause(trusting(&old, "127.0.0.1")).await, &["has expired"]);
    let early = secured("127.0.0.1", Some((2099, 1, 1)), "no");
    assert_says(&cause(trusting(&early, "127.0.0.1")).await, &["not valid yet", "clock"]);
    let asks = secured("127.0.0.1", None, "yes");
    assert_says(&cause(trusting(&asks, "127.0.0.1")).await, &["asks for a client certificate", "redis.tls_cert"]);
}

#[tokio::test]
async fn tls_to_a_plain_port_and_the_other_way_around_are_recognised() {
    let both = secured("127.0.0.1", None, "no");
    let tls = Some(TlsSettings { ca: Some(both.ca.clone()), ..TlsSettings::default() });
    let cause_of_tls = cause(Settings { tls, ..both.server.settings() }).await;
    assert_says(&cause_of_tls, &["TLS", "is this a port", "redis.tls"]);
    assert_says(&cause(Settings::new("127.0.0.1", both.port)).await, &["port", "TLS", "redis.tls"]);
}

#[tokio::test]
async fn a_mode_that_does_not_fit_is_named() {
    let alone = RedisServer::start(&[]);
    let cluster = Cluster::start(3, 0);
    let watched = Watched::start(None, None);
    let (node, sentinel) = (&cluster.servers[0], &watched.sentinels[0]);
    let of_node = cause(Settings::new("127.0.0.1", node.port)).await;
    assert_says(&of_node, &["one of several nodes of a cluster", "redis.mode = cluster"]);
    let as_cluster = ClusterCache::new(alone.settings(), Vec::new()).unwrap();
    assert_says(&told(&as_cluster).await, &["not a node of a cluster", "standalone"]);
    let of_sentinel = cause(Settings::new("127.0.0.1", sentinel.port)).await;
    assert_says(&of_sentinel, &["it is a sentinel", "redis.mode = sentinel"]);
    let address = Address::new("127.0.0.1", alone.port);
    let watching = |address| SentinelCache::new(Settings::new("unused", 1), vec![address], MASTER.to_owned()).unwrap();
    assert_says(
        &told(&watching(address.clone())).await,
        &[&address.to_string(), "it is not a sentinel", "redis.nodes"],
    );
    let good = watching(Address::new("127.0.0.1", sentinel.port));
    assert_eq!(good.session().ping(WITHIN).await, Ok(()));
    // One node that has every slot is as good as a server of its own.
    let single = Cluster::start(1, 0);
    let mut session = RedisCache::new(Settings::new("127.0.0.1", single.servers[0].port)).unwrap().session();
    assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_with_who_gave_its_address() {
    let mut watched = Watched::start(None, None);
    let sentinels = watched.sentinels.iter().map(|sentinel| Address::new("127.0.0.1", sentinel.port)).collect();
    let cache = SentinelCache::new(Settings::new("unused", 1), sentinels, MASTER.to_owned()).unwrap();
    let at = watched.master().unwrap().port;
    watched.servers.iter_mut().for_each(|server| server.kill());
    assert_says(&told(&cache).await, &[&format!("127.0.0.1:{at}"), "as the sentinels say", "connection refused"]);
    let mut cluster = Cluster::start(3, 0);
    let seed = Settings::new("127.0.0.1", cluster.servers[0].port);
    let mut session = ClusterCache::new(seed, Vec::new()).unwrap().session();
    assert_eq!(session.ping(WITHIN).await, Ok(()));
    let of_its_own = |server: &Server| {
        let slot = |key: &String| server.ask::<u16>(&["CLUSTER", "KEYSLOT", key]);
        (0..).map(|n| format!("k{n}")).find(|key| server.owns(slot(key))).unwrap()
    };
    let [first, second] = [0, 1].map(|node: usize| of_its_own(&cluster.servers[node]));
    cluster.servers[1].kill();
    let at = format!("127.0.0.1:{}", cluster.servers[1].port);
    // It is one of several, and the others go on. How it is found out that it is gone, is a matter of time.
    let said = |node: u16| format!("(as the node at 127.0.0.1:{node} says)");
    let told = [0, 2].map(|other: usize| said(cluster.servers[other].port));
    for _ in 0..3 {
        let Err(CacheError::RefusedForNow(cause)) = session.ping(WITHIN).await else { panic!("it answered") };
        assert_says(&cause, &["the node of the cluster at ", &at]);
        assert!(told.iter().any(|told| cause.contains(told)), "{cause}");
    }
    // A key of its own fails with the same, and the first node is the one that the settings name.
    let Err(CacheError::RefusedForNow(cause)) = one(&mut session, set(&second, "v")).await else { panic!("it did") };
    assert_says(&cause, &["the node of the cluster at ", &at, "(as the node at 127.0.0.1:"]);
    cluster.servers[0].kill();
    let at = format!("the node of the cluster at 127.0.0.1:{} (as the settings say)", cluster.servers[0].port);
    let mut causes = Vec::new();
    for _ in 0..20 {
        causes.extend(one(&mut session, set(&first, "v")).await.err().map(|error| format!("{error:?}")));
    }
    assert!(causes.iter().any(|cause| cause.contains(&at)), "{causes:?}");
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_not_written_to() {
    let server = RedisServer::start(&[]);
    let old = Middlebox::before_an_old_redis(server.port);
    let mut session = RedisCache::new(Settings::new("127.0.0.1", old.port)).unwrap().session();
    for _ in 0..2 {
        let Err(CacheError::Unsupported(cause)) = one(&mut session, set("k", "v")).await else { panic!("it took it") };
        assert_says(&cause, &[&old.port.to_string(), "it is redis 5.", "the service needs 6.2 or later"]);
    }
    assert_eq!(redis::cmd("EXISTS").arg("k").query(&mut server.client()), Ok(0));
}

/// As twemproxy does. What it does not close over works.
#[tokio::test]
async fn a_proxy_that_closes_over_client_or_info_is_connected_without_them() {
    let server = RedisServer::start(&[]);
    for words in [&["CLIENT", "INFO", "HELLO", "MSET", "SCRIPT"][..], &["INFO"], &["CLIENT"], &["HELLO"]] {
        let proxy = Middlebox::without(server.port, words);
        let mut session = RedisCache::new(Settings::new("127.0.0.1", proxy.port)).unwrap().session();
        assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored), "{words:?}");
        let batch = [set("a", "v"), set("b", "v"), get("k")];
        assert_eq!(session.apply(&batch, WITHIN).await, [Ok(Reply::Stored), Ok(Reply::Stored), hit("v")]);
        assert_eq!((proxy.closed(), session.reconnects()), (1, 0), "{words:?}");
    }
}

async fn comes_back(session: &mut dyn Session) {
    let until_it_answers = async { while session.ping(WITHIN).await.is_err() {} };
    tokio::time::timeout(PATIENCE, until_it_answers).await.expect("the session is connected again");
}

#[tokio::test]
async fn the_password_is_read_anew_at_each_login() {
    let server = RedisServer::start(&["--requirepass", "first"]);
    let current = Arc::new(Mutex::new(Ok(Secret::new("first"))));
    let file = current.clone();
    let reread = Some(PasswordReader::new(move || file.lock().unwrap().clone()));
    let settings = Settings { password: Some(Secret::new("first")), reread, ..server.settings() };
    let mut session = RedisCache::new(settings).unwrap().session();
    assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored));
    let mut side = redis::Client::open(format!("redis://:first@127.0.0.1:{}", server.port)).unwrap();
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "second"]).query(&mut side).unwrap();
    *current.lock().unwrap() = Ok(Secret::new("second"));
    let mut side = redis::Client::open(format!("redis://:second@127.0.0.1:{}", server.port)).unwrap();
    let kill = |side: &mut redis::Client| {
        let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query(side).unwrap();
    };
    kill(&mut side);
    comes_back(&mut *session).await;
    assert_eq!((one(&mut session, get("k")).await, session.reconnects()), (hit("v"), 1));
    // A file that is of no use for a moment is no reason to stop: the password of the start may still do.
    *current.lock().unwrap() = Err("there is no such file".to_owned());
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "first"]).query(&mut side).unwrap();
    let mut side = redis::Client::open(format!("redis://:first@127.0.0.1:{}", server.port)).unwrap();
    kill(&mut side);
    comes_back(&mut *session).await;
    assert_eq!(one(&mut session, get("k")).await, hit("v"));
}
