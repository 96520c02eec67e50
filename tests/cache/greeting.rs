//! What a new connection says before it is used, and that nobody else on the server notices.

use redis_cache_sync::cache::redis::RedisCache;
use redis_cache_sync::cache::{Cache, Reply, Session};
use redis_cache_sync::redis::Settings;

use crate::support::*;

/// Each of these can do nothing to others on any version; one that could must not join them.
const GREETING: [&str; 8] = [
    "PING",
    "HELLO",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT SETNAME redis-cache-sync",
    "CLIENT KILL nobody",
    "INFO server",
    "INFO memory",
];

fn through(proxy: &Proxy) -> Settings {
    Settings::new("127.0.0.1", proxy.port)
}

fn session(settings: Settings) -> Box<dyn Session> {
    RedisCache::new(settings).unwrap().session()
}

#[tokio::test]
async fn a_new_connection_says_this_and_nothing_else() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port);
    let mut session = session(through(&proxy));
    session.ping(WITHIN).await.unwrap();
    let commands = proxy.commands();
    assert_eq!(commands, [&GREETING[..], &["PING"]].concat());
}

/// Before Redis 7.0 `CLIENT KILL ID 0` closes the connections of everybody else.
#[tokio::test]
async fn other_clients_stay_connected_while_we_connect_and_reconnect() {
    let server = RedisServer::start(&[]);
    let mut other = server.client();
    let id: i64 = redis::cmd("CLIENT").arg("ID").query(&mut other).unwrap();
    let mut session = server.session();
    for n in 0..3 {
        assert_eq!(one(&mut session, set("k", "v")).await, Ok(Reply::Stored));
        assert_eq!(session.reconnects(), n);
        assert_eq!(redis::cmd("CLIENT").arg("ID").query(&mut other), Ok(id), "our connecting has cut it off");
        close_ours(&mut other);
        while session.ping(WITHIN).await.is_err() {}
    }
}

/// What was given up is taken back by its own id and address, and nobody else with it.
#[tokio::test]
async fn taking_back_a_write_closes_that_connection_alone() {
    let server = RedisServer::start(&[]);
    let mut other = server.client();
    let id: i64 = redis::cmd("CLIENT").arg("ID").query(&mut other).unwrap();
    let proxy = Proxy::start(server.port);
    let mut session = session(through(&proxy));
    session.ping(WITHIN).await.unwrap();
    proxy.hold(0);
    let old = [set("k", "old")];
    let call = session.apply(&old, WITHIN);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), call).await.is_err(), "it was not held up");
    assert_eq!(one(&mut session, set("k", "new")).await, Ok(Reply::Stored));
    let kills: Vec<String> = proxy.commands().into_iter().filter(|command| command.contains("KILL ID")).collect();
    assert!(matches!(&kills[..], [kill] if kill.contains(" ADDR 127.0.0.1:")), "{kills:?}");
    assert_eq!(redis::cmd("CLIENT").arg("ID").query(&mut other), Ok(id), "it was cut off");
    proxy.release(0);
}

/// From the side: by name, for all else is the test's own.
fn close_ours(other: &mut redis::Connection) {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(other).unwrap();
    let ours = list.lines().filter(|line| line.contains(" name=redis-cache-sync "));
    for line in ours {
        let id = line.strip_prefix("id=").unwrap().split(' ').next().unwrap();
        let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "ID", id]).query(other).unwrap();
    }
}
