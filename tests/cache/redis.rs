//! What only Redis can show: lost connections, time limits, permissions, replicas.

use std::time::{Duration, Instant};

use futures::stream;
use redis_cache_sync::cache::redis::{CacheSettings, RedisCache};
use redis_cache_sync::cache::{
    Cache, CacheError, Command, Cursor, Fingerprint, Incoming, Remembered, Reply, Scan, Session, StreamError,
};
use redis_cache_sync::event::EntityTag;
use redis_cache_sync::event::version::Version;
use redis_cache_sync::redis::{Settings, TlsSettings};
use redis_cache_sync::secret::{Pem, Secret};

use crate::support::*;

fn quick(mut settings: Settings) -> Settings {
    settings.connect_timeout = Duration::from_millis(400);
    settings.response_timeout = Duration::from_millis(200);
    settings
}

fn session(settings: Settings) -> Box<dyn Session> {
    RedisCache::new(settings).unwrap().session()
}

/// A SET goes out and is held up on its way until the session has given up, another takes effect, and then the first
/// arrives. What the key holds in the end.
async fn late_write(settings: impl FnOnce(&Proxy) -> Settings, server: &RedisServer, drop_the_call: bool) -> String {
    let proxy = Proxy::start(server.port);
    let cache = RedisCache::new(settings(&proxy)).unwrap();
    let mut session = cache.session();
    session.ping(WITHIN).await.unwrap();
    proxy.hold(0);
    let old = [set("k", "old")];
    if drop_the_call {
        let call = session.apply(&old, WITHIN);
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err(), "it was not held up");
        // And the one who made it is gone too: another session of the same cache must do.
        session = cache.session();
    } else {
        assert!(is_unavailable(&session.apply(&old, WITHIN).await[0]));
    }
    assert_eq!(one(&mut session, set("k", "new")).await, Ok(Reply::Stored));
    proxy.release(0);
    redis::cmd("GET").arg("k").query(&mut server.client()).unwrap()
}

fn through(proxy: &Proxy) -> Settings {
    quick(Settings::new("127.0.0.1", proxy.port))
}

#[tokio::test]
async fn a_write_that_was_given_up_never_lands_on_a_newer_one() {
    let server = RedisServer::start(&[]);
    assert_eq!(late_write(through, &server, false).await, "new");
}

#[tokio::test]
async fn a_write_of_a_dropped_call_and_a_dropped_session_never_lands_on_a_newer_one() {
    let server = RedisServer::start(&[]);
    assert_eq!(late_write(through, &server, true).await, "new");
}

/// Shows that it is the killing that keeps ghosts away, and what a user without the permission has to expect.
#[tokio::test]
async fn without_the_permission_to_kill_a_late_write_does_land() {
    let server = RedisServer::start(&[]);
    let _: () = redis::cmd("ACL")
        // Redis 6 cannot take one subcommand away, only give the others.
        .arg(&["SETUSER", "limited", "on", ">pw", "~*", "+@all", "-client", "+client|id", "+client|setname"])
        .query(&mut server.client())
        .unwrap();
    let limited = |proxy: &Proxy| {
        let mut settings = through(proxy);
        settings.username = Some("limited".into());
        settings.password = Some(Secret::new("pw"));
        settings
    };
    assert_eq!(late_write(limited, &server, false).await, "old");
}

/// docs/redis.md lists them.
#[tokio::test]
async fn the_rights_that_are_documented_are_enough() {
    let documented = include_str!("../../docs/redis.md");
    let listed = documented.split_once("ACL SETUSER sync").unwrap().1.split_once("```").unwrap().0;
    let commands = listed.split_whitespace().map(|word| word.trim_matches('\'')).filter(|word| word.starts_with('+'));
    let server = RedisServer::start(&[]);
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "least", "on", ">pw", "~*", "-@all"]);
    user.arg(commands.collect::<Vec<_>>());
    let _: () = user.query(&mut server.client()).unwrap();
    let mut settings = server.settings();
    (settings.username, settings.password, settings.db) = (Some("least".into()), Some(Secret::new("pw")), 1);
    let mut session = session(settings);
    session.ping(WITHIN).await.unwrap();
    let large = vec![7; 100_000];
    let batch = [set("k", "v"), set("large", large.clone()), get("k"), get("none"), get("large"), delete("k")];
    let stored = || Ok(Reply::Stored);
    let expected = [stored(), stored(), hit("v"), Ok(Reply::Miss), hit(large), Ok(Reply::Deleted)];
    assert_eq!(session.apply(&batch, WITHIN).await, expected);
    assert_eq!(one(&mut session, at(1, set("versioned", "v"))).await, stored());
    let mut groups = [delete_group(["large"]), delete_group(["versioned"])];
    groups[1].version = Version::from_number(2);
    let progress = session.unlink_and_scan(&groups, Some(Scan::default()), WITHIN).await;
    assert_eq!((deleted(&progress), progress.failure.as_ref()), (vec![1, 1], None));
    let denied: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(&mut server.client()).unwrap();
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn a_frozen_server_holds_a_call_no_longer_than_it_has() {
    let server = RedisServer::start(&[]);
    let mut session = session(quick(server.settings()));
    assert_eq!(one(&mut session, set("k", "before")).await, Ok(Reply::Stored));
    let frozen = server.freeze();

    let start = Instant::now();
    assert!(is_unavailable(&session.apply(&[set("k", "old")], WITHIN).await[0]));
    assert!(start.elapsed() < Duration::from_millis(1500), "took {:?} to answer", start.elapsed());
    // The kernel still accepts connections; the old one cannot be taken back now, so nothing may be sent.
    let start = Instant::now();
    assert!(is_unavailable(&session.apply(&[set("k", "newer")], WITHIN).await[0]));
    assert!(start.elapsed() < Duration::from_millis(1500), "took {:?} to connect", start.elapsed());
    let start = Instant::now();
    assert!(is_unavailable(&session.apply(&[set("k", "newer")], Duration::from_millis(50)).await[0]));
    assert!(start.elapsed() < Duration::from_millis(350), "took {:?} instead of what it had", start.elapsed());

    drop(frozen);
    assert_eq!(one(&mut session, set("k", "new")).await, Ok(Reply::Stored));
    assert_eq!(one(&mut session, get("k")).await, hit("new"));
    assert_eq!(session.reconnects(), 1);
}

#[tokio::test]
async fn a_paused_server_times_a_call_out_and_the_next_one_is_served() {
    let server = RedisServer::start(&[]);
    let mut session = session(quick(server.settings()));
    session.ping(WITHIN).await.unwrap();
    let _: () = redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query(&mut server.client()).unwrap();
    let results = session.apply(&[get("k"), set("k", "v"), get("other")], WITHIN).await;
    assert_eq!(results[0], Ok(Reply::Miss), "what was answered before the break counts");
    assert!(is_unavailable(&results[1]), "{results:?}");
    assert_eq!(results[2], Ok(Reply::Miss), "a read of another key does not wait for the write");
    let _: () = redis::cmd("CLIENT").arg("UNPAUSE").query(&mut server.client()).unwrap();
    assert_eq!(one(&mut session, set("k", "w")).await, Ok(Reply::Stored));
}

#[tokio::test]
async fn a_session_finds_a_restarted_server_again() {
    let mut server = RedisServer::start(&[]);
    let mut session = server.session();
    assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored));
    server.kill();
    assert!(is_unavailable(&one(&mut session, get("k")).await));
    assert!(session.ping(WITHIN).await.is_err());
    assert_eq!(session.reconnects(), 0, "nothing was there to connect to");
    server.restart();
    assert_eq!(one(&mut session, get("k")).await, Ok(Reply::Miss));
    assert_eq!(session.reconnects(), 1);
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_call() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    session.ping(WITHIN).await.unwrap();
    let mut side = server.client();
    let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut side).unwrap();
    tokio::task::yield_now().await;
    tokio::time::timeout(WITHIN, async {
        // The news travels through the kernel and the runtime; a call may come before it.
        while one(&mut session, set("k", "v")).await != Ok(Reply::Stored) {
            assert_eq!(session.reconnects(), 0);
        }
    })
    .await
    .unwrap();
    assert_eq!(session.reconnects(), 1);
}

#[tokio::test]
async fn a_key_of_another_type_is_told_apart() {
    let server = RedisServer::start(&[]);
    let _: () = redis::cmd("LPUSH").arg("list").arg("x").query(&mut server.client()).unwrap();
    let mut session = server.session();
    let results = session.apply(&[get("list"), set("k", "v"), delete("list")], WITHIN).await;
    assert_eq!(results, [Err(CacheError::WrongType), Ok(Reply::Stored), Ok(Reply::Deleted)]);
}

#[tokio::test]
async fn what_the_user_may_not_do_is_refused_and_names_no_key() {
    let server = RedisServer::start(&[]);
    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "limited", "on", ">pw", "~open:*", "+@all"])
        .query(&mut server.client())
        .unwrap();
    let mut settings = server.settings();
    settings.username = Some("limited".into());
    settings.password = Some(Secret::new("pw"));
    let mut session = session(settings);
    // Redis cuts a long argument off, here in the middle of a character.
    let closed = format!("closed:{}", "ü".repeat(300));
    let batch = [set("open:k", "v"), set(&closed, "v"), get(&closed), get("open:k")];
    let shared = session.apply(&batch, WITHIN).await;
    assert_eq!(shared[..2], [Err(CacheError::RefusedTogether), Err(CacheError::RefusedTogether)]);
    let results = session.apply(&batch, WITHIN).await;
    assert_eq!(results[0], Ok(Reply::Stored));
    assert_eq!(results[3], hit("v"));
    for result in &results[1..3] {
        assert!(matches!(result, Err(CacheError::Refused(_))), "{result:?}");
    }
    assert_eq!(results[1], Err(CacheError::Refused("redis refused SET: NOPERM".into())));
    assert_eq!(session.reconnects(), 0);
}

#[tokio::test]
async fn credentials_and_database_are_used_and_their_faults_are_unavailable() {
    let server = RedisServer::start(&["--requirepass", "s3cret/"]);
    let login = |username: Option<&str>, password: Option<&str>, db| {
        let (username, password) = (username.map(str::to_owned), password.map(Secret::new));
        session(Settings { username, password, db, ..Settings::new("127.0.0.1", server.port) })
    };
    let mut good = login(None, Some("s3cret/"), 3);
    assert_eq!(one(&mut good, set("k", "v")).await, Ok(Reply::Stored));
    let mut side = redis::Client::open(format!("redis://:s3cret%2F@127.0.0.1:{}/3", server.port)).unwrap();
    let value: String = redis::cmd("GET").arg("k").query(&mut side).unwrap();
    assert_eq!(value, "v");

    for (username, password, db, code) in [
        (None, None, 0, "NOAUTH"),
        (None, Some("other"), 0, "WRONGPASS"),
        (Some("nobody"), Some("s3cret/"), 0, "WRONGPASS"),
        (None, Some("s3cret/"), 9999, "no such database"),
    ] {
        let mut wrong = login(username, password, db);
        let Err(CacheError::Unavailable(detail)) = one(&mut wrong, get("k")).await else { panic!("{code}") };
        assert!(detail.contains(code) && !detail.contains("s3cret"), "{code}: {detail}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_take_writes_now_is_unavailable() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let mut session = server.session();
    assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored));
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut server.client()).unwrap();
    let oom = CacheError::RefusedForNow("redis answered OOM".into());
    assert_eq!(one(&mut session, set("l", "v")).await, Err(oom));
    assert_eq!(one(&mut session, delete("k")).await, Ok(Reply::Deleted));
    assert_eq!(session.reconnects(), 0);
}

#[tokio::test]
async fn a_read_only_replica_is_unavailable_and_looked_up_anew() {
    let master = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let mut session = replica.session();
    for reconnects in 0..2 {
        let result = one(&mut session, set("k", "v")).await;
        assert_eq!(result, Err(CacheError::Unavailable("redis answered READONLY".into())));
        assert_eq!(session.reconnects(), reconnects);
    }
}

/// A server with a replica that follows it, and a cache that waits for that.
fn with_replica() -> (RedisServer, RedisServer, RedisCache) {
    let master = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let mut side = master.client();
    wait_until("the replica to follow", || {
        let acknowledged: i64 = redis::pipe()
            .cmd("SET")
            .arg("probe")
            .arg(1)
            .ignore()
            .cmd("WAIT")
            .arg(1)
            .arg(100)
            .query::<(i64,)>(&mut side)
            .unwrap()
            .0;
        acknowledged == 1
    });
    let mut settings = quick(master.settings());
    // Half of it is for the replicas, and Redis ends that up to a tenth of a second late.
    settings.response_timeout = Duration::from_secs(1);
    let settings = CacheSettings { wait_replicas: 1, ..settings.into() };
    let cache = RedisCache::new(settings).unwrap();
    (master, replica, cache)
}

/// Until the replica has what was written.
fn catch_up(master: &RedisServer) {
    let mut side = master.client();
    wait_until("the replica to catch up", || redis::cmd("WAIT").arg(1).arg(100).query::<i64>(&mut side).unwrap() == 1);
}

#[tokio::test]
async fn a_write_counts_only_when_enough_replicas_have_it() {
    let (master, replica, cache) = with_replica();
    let mut first = cache.session();
    let batch = [set("k", "v"), set("l", "v"), get("k")];
    assert_eq!(first.apply(&batch, WITHIN).await, [Ok(Reply::Stored), Ok(Reply::Stored), hit("v")]);

    let frozen = replica.freeze();
    let results = first.apply(&[set("k", "w"), get("k"), delete("l")], WITHIN).await;
    assert!(is_unavailable(&results[0]) && is_unavailable(&results[2]));
    assert_eq!(results[1], hit("w"));
    let progress = first.unlink_and_scan(&[delete_group(["k"])], Some(Scan::default()), WITHIN).await;
    assert!(matches!(progress.failure, Some(CacheError::Unavailable(_))), "{progress:?}");
    assert_eq!(deleted(&progress), [1], "it is gone, whoever has acknowledged that");
    assert!(progress.step.is_some(), "a scan has no need of replicas");
    assert_eq!(first.reconnects(), 0, "too few replicas are no lost connection");
    // It is gone on the master, and on a new connection there is nothing to delete: that must not pass for done.
    let mut second = cache.session();
    assert!(is_unavailable(&one(&mut second, delete("l")).await));

    drop(frozen);
    catch_up(&master);
    assert_eq!(one(&mut second, delete("l")).await, Ok(Reply::Absent));
    assert_eq!(crate::suite::scan(&mut second, None).await, ["probe"], "the key to wait for stays hidden");
}

#[tokio::test]
async fn what_is_superseded_counts_only_when_enough_replicas_have_what_supersedes_it() {
    let (master, replica, cache) = with_replica();
    let (key, number, value) = (key("k"), Version::from_number, vec![7; (1 << 20) + 1]);
    let store = async |session: &mut Box<dyn Session>| {
        let (pieces, version) = (std::pin::pin!(stream::iter([Some(value.clone().into())])), number(5));
        let (bytes, version) = (value.len(), version.as_ref());
        let incoming = Incoming { key: &key, bytes, ttl: None, version, remembered: &|| None, pieces };
        session.store_incoming(incoming, WITHIN).await
    };
    let remembered = Remembered { etag: EntityTag::parse("v1").unwrap(), resource: 7, print: Fingerprint::of(&value) };
    let refresh =
        Command::Refresh { key: key.clone(), ttl: None, version: number(5).unwrap(), remembered: Box::new(remembered) };
    let look = |version| Command::Look { key: key.clone(), version };
    let looks = [look(number(4)), look(number(5)), look(number(6)), look(None)];
    let is_lacking =
        |error: &CacheError| matches!(error, CacheError::Unavailable(cause) if cause.starts_with("too few"));

    let (frozen, mut session) = (replica.freeze(), cache.session());
    for attempt in ["the first", "the second, which finds what the first has written"] {
        let stored = store(&mut session).await;
        assert!(matches!(&stored, Err(StreamError::Cache(error)) if is_lacking(error)), "{attempt}: {stored:?}");
    }
    let refreshed = session.refresh_long(&refresh, WITHIN).await;
    assert!(refreshed.as_ref().is_err_and(is_lacking), "{refreshed:?}");
    let seen = session.apply(&looks, WITHIN).await;
    let lacking: Vec<bool> = seen.iter().map(|seen| seen.as_ref().is_err_and(is_lacking)).collect();
    assert_eq!(lacking, [true, true, false, false], "{seen:?}");
    let seen = session.apply(&looks[2..], WITHIN).await;
    assert!(seen.iter().all(Result::is_ok), "what is open says nothing of replicas: {seen:?}");

    drop(frozen);
    catch_up(&master);
    assert_eq!(store(&mut session).await, Ok(Reply::Superseded));
    assert_eq!(session.refresh_long(&refresh, WITHIN).await, Ok(Reply::Superseded));
    assert!(session.apply(&looks, WITHIN).await.iter().all(Result::is_ok));
    assert_eq!(session.reconnects(), 0, "too few replicas are no lost connection");
}

#[tokio::test]
async fn a_cursor_is_good_on_another_connection_to_the_same_server_and_on_no_other() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    let keys: Vec<_> = (0..5000).map(|n| set(&format!("k{n}"), "v")).collect();
    session.apply(&keys, WITHIN).await;
    let start = session.unlink_and_scan(&[], Some(Scan::default()), WITHIN).await;
    let from = start.step.unwrap().next;
    assert!(matches!(from, Some(Cursor { at: 1.., .. })), "that was all of it: {from:?}");
    let step = session.unlink_and_scan(&[], Some(Scan { from, ..Scan::default() }), WITHIN).await;
    assert!(step.step.is_some() && step.failure.is_none());

    let mut side = server.client();
    let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut side).unwrap();
    while session.ping(WITHIN).await.is_err() {}
    let after = session.unlink_and_scan(&[], Some(Scan { from, ..Scan::default() }), WITHIN).await;
    // How far a step goes depends on the time that others took.
    assert!(after.failure.is_none() && !after.is_lost && after.step.is_some(), "it goes on from there");

    let from = from.map(|cursor| Cursor { server: cursor.server ^ 1, ..cursor });
    let lost = session.unlink_and_scan(&[delete_group(["k1"])], Some(Scan { from, ..Scan::default() }), WITHIN).await;
    assert!(lost.step.is_none() && lost.failure.is_some() && lost.is_lost, "{lost:?}");
    assert_eq!(deleted(&lost), [0]);
    let anew = session.unlink_and_scan(&[delete_group(["k1"])], Some(Scan::default()), WITHIN).await;
    assert_eq!((deleted(&anew), anew.failure.as_ref()), (vec![1], None));
    assert!(anew.step.is_some());
}

#[tokio::test]
async fn an_address_that_is_no_redis_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"$999999999999\r\nHTTP/1.1 400 Bad Request\r\n").unwrap();
        stream
    });
    let mut session = session(Settings::new("127.0.0.1", port));
    let result = session.ping(WITHIN).await;
    let Err(CacheError::Unavailable(cause)) = result else { panic!("{result:?}") };
    assert!(cause.ends_with("the reply is not the Redis protocol: is this a Redis port?"), "{cause}");
    drop(peer.join().unwrap());
}

#[tokio::test]
async fn one_call_does_not_hold_more_values_than_it_may() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    let value = bytes::Bytes::from(vec![1; 50 << 20]);
    for name in ["a", "b", "c"] {
        assert_eq!(one(&mut session, set(name, value.clone())).await, Ok(Reply::Stored));
    }
    let results = session.apply(&[get("a"), get("b"), get("c"), set("c", "newer")], WITHIN).await;
    assert!(results[0].is_ok());
    // Nothing is wrong with Redis, so this is told apart.
    assert_eq!(results[1..], [Err(CacheError::Postponed), Err(CacheError::Postponed), Err(CacheError::Postponed)]);
    drop(results);
    assert!(one(&mut session, get("c")).await == hit(value), "the write behind it must not have gone ahead");
    let limit = |max_bytes| redis_cache_sync::cache::Command::Get { key: key("c"), max_bytes };
    let batch = [limit(1 << 20), set("other", "v"), get("a"), get("other")];
    let mut results = session.apply(&batch, WITHIN).await;
    assert!(results.remove(2).is_ok());
    let too_large = CacheError::ValueTooLarge { bytes: 50 << 20, max_bytes: 1 << 20 };
    assert_eq!(results, [Err(too_large), Ok(Reply::Stored), hit("v")], "what is too large holds up nothing");
}

/// `redis-server` with TLS and client certificates, from `tests/cache/tls` (made for these tests, valid for a century).
fn pem(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/tls").join(name)
}

#[tokio::test]
async fn tls_carries_everything_and_checks_who_answers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let files = ["ca.pem", "server.pem", "server.key"].map(|name| pem(name).display().to_string());
    let [ca, cert, key] = &files;
    let server = RedisServer::start(&[
        "--tls-port",
        &free.to_string(),
        "--tls-ca-cert-file",
        ca,
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
    ]);
    let read = |name: &str| Pem::new(std::fs::read(pem(name)).unwrap());
    let own = TlsSettings { ca: Some(read("ca.pem")), cert: Some(read("client.pem")), key: Some(read("client.key")) };
    let with = |tls: TlsSettings| {
        let mut settings = Settings::new("localhost", free);
        settings.tls = Some(tls);
        session(settings)
    };
    let mut trusted = with(own.clone());
    let value = bytes::Bytes::from((0..8usize << 20).map(|n| (n / 3) as u8).collect::<Vec<u8>>());
    let results = trusted.apply(&[set("k", value.clone()), set("l", "v"), get("k"), get("l")], WITHIN).await;
    assert!(results == [Ok(Reply::Stored), Ok(Reply::Stored), hit(value), hit("v")]);
    assert_eq!(trusted.reconnects(), 0);

    assert!(with(TlsSettings { ca: None, ..own.clone() }).ping(WITHIN).await.is_err(), "it trusts nobody we do not");
    assert!(
        with(TlsSettings { cert: None, key: None, ..own.clone() }).ping(WITHIN).await.is_err(),
        "it must ask who we are"
    );
    assert!(RedisCache::new(Settings { tls: Some(TlsSettings { key: None, ..own }), ..server.settings() }).is_err());
}
