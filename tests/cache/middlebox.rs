//! What may stand before a Redis: passes bytes on, closes a connection over commands that it does not know, or has the server
//! say something else about itself. Used by other suites too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub struct Middlebox {
    pub port: u16,
    closed: Arc<AtomicUsize>,
}

impl Middlebox {
    /// Closes a connection that says one of these words.
    pub fn without(upstream: u16, words: &'static [&'static str]) -> Self {
        Self::start(upstream, words, |_| {})
    }

    /// Before a server that calls itself Redis 5.
    pub fn before_an_old_redis(upstream: u16) -> Self {
        Self::start(upstream, &[], |bytes| {
            replace(bytes, b"valkey_version:", b"no_such_field_:");
            if let Some(at) = find(bytes, b"redis_version:") {
                bytes[at + b"redis_version:".len()] = b'5';
            }
        })
    }

    /// How many connections were closed over a word.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    fn start(upstream: u16, words: &'static [&'static str], rewrite: fn(&mut [u8])) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let closed = Arc::new(AtomicUsize::new(0));
        let count = closed.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", upstream))) else { continue };
                relay(client, server, words, rewrite, count.clone());
            }
        });
        Middlebox { port, closed }
    }
}

fn relay(
    client: TcpStream,
    server: TcpStream,
    words: &'static [&'static str],
    rewrite: fn(&mut [u8]),
    closed: Arc<AtomicUsize>,
) {
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            let said = &buffer[..read];
            if words.iter().any(|word| find(said, format!("\r\n{word}\r\n").as_bytes()).is_some()) {
                closed.fetch_add(1, Ordering::SeqCst);
                let _ = from_client.shutdown(Shutdown::Both);
                break;
            }
            if to_server.write_all(said).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = from_server.read(&mut buffer) {
            rewrite(&mut buffer[..read]);
            if to_client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    if let Some(at) = find(bytes, old) {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
}
