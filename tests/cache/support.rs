//! Real servers for the tests: redis-server on a free port, and a proxy that can hold bytes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis_cache_sync::cache::redis::RedisCache;
use redis_cache_sync::cache::{Cache, CacheError, Command, DeleteGroup, Progress, Reply, Session};
use redis_cache_sync::event::version::Version;
use redis_cache_sync::event::{CacheKey, Ttl};
use redis_cache_sync::redis::Settings;

pub const WITHIN: Duration = Duration::from_secs(5);
/// For everything that is waited for in a test; never used up when the promise holds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done`, and fails the test if that never comes.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn key(name: impl Into<String>) -> CacheKey {
    CacheKey::new_unchecked(name.into())
}

pub fn set(name: &str, value: impl Into<Bytes>) -> Command {
    Command::Set { key: key(name), value: value.into(), ttl: None, version: None, remembered: None }
}

pub fn set_for(name: &str, value: impl Into<Bytes>, seconds: u32) -> Command {
    Command::Set {
        key: key(name),
        value: value.into(),
        ttl: Ttl::from_seconds(seconds),
        version: None,
        remembered: None,
    }
}

pub fn get(name: &str) -> Command {
    Command::Get { key: key(name), max_bytes: 64 << 20 }
}

pub fn delete(name: &str) -> Command {
    Command::Delete { key: key(name), version: None }
}

/// The same write with a version.
pub fn at(version: u64, command: Command) -> Command {
    let version = Version::from_number(version);
    match command {
        Command::Set { key, value, ttl, remembered, .. } => Command::Set { key, value, ttl, version, remembered },
        Command::Delete { key, .. } => Command::Delete { key, version },
        Command::Get { .. } | Command::Look { .. } | Command::Refresh { .. } | Command::Expiry { .. } => command,
    }
}

pub fn delete_group<N: Into<Bytes>>(names: impl IntoIterator<Item = N>) -> DeleteGroup {
    DeleteGroup { keys: names.into_iter().map(Into::into).collect(), version: None }
}

/// How many keys of each group were deleted.
pub fn deleted(progress: &Progress) -> Vec<u64> {
    progress.unlinked.iter().map(|unlinked| unlinked.deleted).collect()
}

pub fn hit(value: impl Into<Bytes>) -> Result<Reply, CacheError> {
    Ok(Reply::Hit(value.into()))
}

/// Applies one command.
pub async fn one(session: &mut Box<dyn Session>, command: Command) -> Result<Reply, CacheError> {
    session.apply(&[command], WITHIN).await.remove(0)
}

pub fn is_unavailable(result: &Result<Reply, CacheError>) -> bool {
    matches!(result, Err(CacheError::Unavailable(_)))
}

/// A redis-server of the test's own, stopped with it.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    pub fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = launch(port, &arguments, &directory);
            let mut server = RedisServer { child, port, arguments: arguments.clone(), directory };
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server did not start");
    }

    pub fn settings(&self) -> Settings {
        Settings::new("127.0.0.1", self.port)
    }

    pub fn cache(&self) -> RedisCache {
        RedisCache::new(self.settings()).unwrap()
    }

    pub fn session(&self) -> Box<dyn Session> {
        self.cache().session()
    }

    /// A plain client, to look from the side.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap().get_connection().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.child = launch(self.port, &self.arguments, &self.directory);
        assert!(self.comes_up(), "redis-server did not start again");
    }

    /// Stops the process, its sockets left open, until the guard is dropped.
    pub fn freeze(&self) -> Frozen {
        signal("-STOP", self.child.id());
        Frozen(self.child.id())
    }

    fn comes_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut answer = [0; 1];
                if stream.write_all(b"PING\r\n").is_ok() && stream.read(&mut answer).is_ok_and(|n| n == 1) {
                    return true;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Frozen(u32);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Process::new("kill").arg(name).arg(pid.to_string()).status().unwrap().success());
}

/// `REDIS_SERVER`, or the one of the system.
fn server() -> std::ffi::OsString {
    std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

fn launch(port: u16, arguments: &[String], directory: &tempfile::TempDir) -> Child {
    Process::new(server())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory.path())
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// A network in between that can hold back what a client has sent, even after the client has gone: what a stopped
/// server or a slow path does, made repeatable.
pub struct Proxy {
    pub port: u16,
    held: Arc<(Mutex<Vec<bool>>, Condvar)>,
    sent: Arc<Mutex<Vec<u8>>>,
    pumps: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Proxy {
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let held: Arc<(Mutex<Vec<bool>>, Condvar)> = Arc::default();
        let pumps: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (holds, joins, log) = (held.clone(), pumps.clone(), sent.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let address: SocketAddr = ([127, 0, 0, 1], upstream).into();
                let Ok(server) = TcpStream::connect(address) else {
                    continue;
                };
                let index = {
                    let mut holds = holds.0.lock().unwrap();
                    holds.push(false);
                    holds.len() - 1
                };
                joins.lock().unwrap().push(pump(client, server, index, holds.clone(), log.clone()));
            }
        });
        Proxy { port, held, sent, pumps }
    }

    /// The commands that clients have sent so far, each as its words.
    pub fn commands(&self) -> Vec<String> {
        let sent = String::from_utf8(self.sent.lock().unwrap().clone()).unwrap();
        let commands = sent.split("*").skip(1);
        commands.map(|command| command.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Holds back what the client of connection `index` (in order of connecting) sends from now on.
    pub fn hold(&self, index: usize) {
        self.held.0.lock().unwrap()[index] = true;
    }

    /// Lets what was held back go, and waits until the server has dealt with it and closed the connection.
    pub fn release(&self, index: usize) {
        self.held.0.lock().unwrap()[index] = false;
        self.held.1.notify_all();
        let pump = self.pumps.lock().unwrap().remove(index);
        pump.join().unwrap();
    }
}

/// Ends when the server has closed the connection.
fn pump(
    client: TcpStream,
    server: TcpStream,
    index: usize,
    held: Arc<(Mutex<Vec<bool>>, Condvar)>,
    sent: Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<()> {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read) = from_client.read(&mut buffer) {
            if read == 0 {
                break;
            }
            sent.lock().unwrap().extend_from_slice(&buffer[..read]);
            let holds = held.0.lock().unwrap();
            drop(held.1.wait_while(holds, |holds| holds[index]).unwrap());
            if to_server.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let (mut from_server, mut to_client) = (server, client);
        let mut buffer = [0; 4096];
        while let Ok(read) = from_server.read(&mut buffer) {
            if read == 0 {
                break;
            }
            // The client may have gone; the server's last word is still worth waiting for.
            let _ = to_client.write_all(&buffer[..read]);
        }
        let _ = to_client.shutdown(Shutdown::Both);
    })
}
