//! A connection that is lost between the look at a version and the write: nothing is written on another one, where the server
//! watches nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use futures::stream;
use redis_cache_sync::cache::redis::RedisCache;
use redis_cache_sync::cache::{Cache, Command, Fingerprint, Incoming, Remembered, Reply};
use redis_cache_sync::event::EntityTag;
use redis_cache_sync::event::version::Version;
use redis_cache_sync::redis::Settings;

use crate::support::*;

/// For Linux.
const MSG_MORE: i32 = 0x8000;

type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A way to a server. It closes the first connection that says WATCH as soon as that is answered, and calls `meanwhile` just
/// before.
fn closing_behind_watch(server: u16, meanwhile: impl FnOnce() + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let meanwhile: Once = Arc::new(Mutex::new(Some(Box::new(meanwhile))));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
            relay(client, server, meanwhile.clone());
        }
    });
    port
}

fn relay(mut client: TcpStream, mut server: TcpStream, meanwhile: Once) {
    let (mut from_client, mut to_server) = (client.try_clone().expect("it"), server.try_clone().expect("it"));
    let is_watched = Arc::new(AtomicBool::new(false));
    let watches = is_watched.clone();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            let said = &buffer[..read];
            if said.windows(9).any(|window| window == b"\r\nWATCH\r\n") {
                watches.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(said).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = server.read(&mut buffer) {
            let meanwhile = if is_watched.load(Ordering::SeqCst) { meanwhile.lock().unwrap().take() } else { None };
            let is_last = meanwhile.is_some();
            meanwhile.into_iter().for_each(|meanwhile| meanwhile());
            if is_last {
                // In one packet with the close, so that the client knows of that when it reads the answer.
                let _ = socket2::SockRef::from(&client).send_with_flags(&buffer[..read], MSG_MORE);
                break;
            }
            if client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Writes version 9, as another process would.
fn write_version_9(settings: Settings, value: impl Into<Bytes>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = RedisCache::new(settings).unwrap().session();
    assert_eq!(runtime.block_on(one(&mut other, at(9, set("k", value)))), Ok(Reply::Stored));
}

#[tokio::test]
async fn a_value_that_comes_in_is_not_stored_on_another_connection_than_the_watched_one() {
    let server = RedisServer::start(&[]);
    let settings = server.settings();
    let port = closing_behind_watch(server.port, move || write_version_9(settings, "theirs"));
    let mut session = RedisCache::new(Settings::new("127.0.0.1", port)).unwrap().session();
    let (key, version) = (key("k"), Version::from_number(2));
    for is_first in [true, false] {
        let pieces = pin!(stream::iter([Some(Bytes::from_static(b"ours"))]));
        let incoming =
            Incoming { key: &key, bytes: 4, ttl: None, version: version.as_ref(), remembered: &|| None, pieces };
        let reply = session.store_incoming(incoming, WITHIN).await;
        assert!(if is_first { reply.is_err() } else { reply == Ok(Reply::Superseded) }, "{reply:?}");
        assert_eq!(one(&mut server.session(), get("k")).await, hit("theirs"));
    }
}

#[tokio::test]
async fn a_long_value_is_not_let_stand_on_another_connection_than_the_watched_one() {
    let server = RedisServer::start(&[]);
    let whole = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(one(&mut server.session(), set("k", whole.clone())).await, Ok(Reply::Stored));
    let settings = server.settings();
    let port = closing_behind_watch(server.port, move || {
        // The value stays what it is; its version alone is newer.
        write_version_9(settings, vec![7; 3 << 20]);
    });
    let mut session = RedisCache::new(Settings::new("127.0.0.1", port)).unwrap().session();
    let remembered = Remembered { etag: EntityTag::parse("v1").unwrap(), resource: 7, print: Fingerprint::of(&whole) };
    let refresh = Command::Refresh {
        key: key("k"),
        ttl: None,
        version: Version::from_number(2).unwrap(),
        remembered: Box::new(remembered),
    };
    let reply = session.refresh_long(&refresh, WITHIN).await;
    assert!(reply.is_err(), "{reply:?}");
    assert_eq!(session.refresh_long(&refresh, WITHIN).await, Ok(Reply::Superseded));
    // Version 9 is still the one that counts.
    assert_eq!(one(&mut session, at(8, set("k", "late"))).await, Ok(Reply::Superseded));
}
