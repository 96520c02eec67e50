//! Any number of hosts that accept connections and never answer: addresses of 127.1.0.0/16 with some ports each.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::{ndjson, set_blob};

/// As many as a list of allowed hosts holds, less the one of the other servers.
const ADDRESSES: usize = 1000;

pub struct HungHosts {
    count: usize,
    ports: Vec<u16>,
    /// Kept open, so that nobody is told anything.
    accepted: Arc<Mutex<Vec<TcpStream>>>,
}

impl HungHosts {
    pub fn start(count: usize) -> Self {
        let accepted = Arc::<Mutex<Vec<TcpStream>>>::default();
        let ports = (0..count.div_ceil(ADDRESSES)).map(|_| listen(accepted.clone())).collect();
        HungHosts { count, ports, accepted }
    }

    /// What `fetch.allowed_hosts` has to be: these, and the loopback address of the other servers.
    pub fn allowed(&self) -> String {
        let names = (0..self.count.min(ADDRESSES)).map(name);
        std::iter::once("127.0.0.1".to_owned()).chain(names).collect::<Vec<_>>().join(",")
    }

    /// One event for each host, from the first of these on.
    pub fn events(&self, hosts: std::ops::Range<usize>) -> String {
        let event = |number: usize| set_blob(&format!("hung:{number}"), &self.url(number));
        ndjson(&hosts.map(event).collect::<Vec<Value>>())
    }

    pub fn url(&self, number: usize) -> String {
        format!("http://{}:{}/h", name(number % ADDRESSES), self.ports[number / ADDRESSES])
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.accepted.lock().expect("no panic").len()
    }
}

fn listen(accepted: Arc<Mutex<Vec<TcpStream>>>) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accepted.lock().expect("no panic").push(stream);
        }
    });
    port
}

fn name(number: usize) -> String {
    format!("127.1.{}.{}", number / 256, number % 256)
}
