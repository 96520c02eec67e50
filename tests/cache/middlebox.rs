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
        Self::start(upstream, words, |_, _| true)
    }

    /// Loses an error that comes while a value is on its way, and closes both ends.
    pub fn without_last_words(upstream: u16) -> Self {
        // More than any question, or than the length of a value.
        Self::start(upstream, &[], |bytes, sent| sent < 10_000 || find(bytes, b"-ERR").is_none())
    }

    /// Before a server that calls itself Redis 5.
    pub fn before_an_old_redis(upstream: u16) -> Self {
        Self::start(upstream, &[], |bytes, _| {
            replace(bytes, b"valkey_version:", b"no_such_field_:");
            if let Some(at) = find(bytes, b"redis_version:") {
                bytes[at + b"redis_version:".len()] = b'5';
            }
            true
        })
    }

    /// How many connections were closed over a word.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    /// `rewrite` has what the server says, and how much its client has sent; whether it is passed on.
    fn start(upstream: u16, words: &'static [&'static str], rewrite: Rewrite) -> Self {
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

type Rewrite = fn(&mut [u8], usize) -> bool;

fn relay(
    client: TcpStream,
    server: TcpStream,
    words: &'static [&'static str],
    rewrite: Rewrite,
    closed: Arc<AtomicUsize>,
) {
    let sent = Arc::new(AtomicUsize::new(0));
    let passed = sent.clone();
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            let said = &buffer[..read];
            sent.fetch_add(read, Ordering::SeqCst);
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
            let is_passed = rewrite(&mut buffer[..read], passed.load(Ordering::SeqCst));
            if !is_passed || to_client.write_all(&buffer[..read]).is_err() {
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
