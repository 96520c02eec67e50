//! A real redis-server of the test's own: on a free port, in a temporary directory, ended with the test.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{eventually, find_program, free_port, signal};

pub struct Redis {
    port: u16,
    dir: TempDir,
    child: Option<Child>,
    paused: bool,
    /// Whether what it acknowledged survives its death.
    durable: bool,
    /// Whether it takes itself for a node of a Cluster, alone and without slots.
    in_cluster: bool,
}

impl Redis {
    pub fn start() -> Self {
        Self::begin(false, false)
    }

    /// One that has written to its file what it acknowledges, and reads it when it is started again.
    pub fn durable() -> Self {
        Self::begin(true, false)
    }

    /// A node of a Cluster that knows no other node, and has no slots.
    pub fn in_cluster() -> Self {
        Self::begin(false, true)
    }

    fn begin(durable: bool, in_cluster: bool) -> Self {
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut redis = Redis { port: free_port(), dir, child: None, paused: false, durable, in_cluster };
            if redis.launch() {
                return redis;
            }
        }
        panic!("redis-server did not start on any of five ports");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A plain connection, to see with one's own eyes what the daemon did.
    pub fn conn(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).expect("a valid address");
        client.get_connection_with_timeout(Duration::from_secs(5)).expect("redis-server answers")
    }

    /// The stored bytes of a key.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        redis::cmd("GET").arg(key).query(&mut self.conn()).expect("GET")
    }

    /// Seconds to live; -1: does not expire, -2: is not there.
    pub fn ttl(&self, key: &str) -> i64 {
        redis::cmd("TTL").arg(key).query(&mut self.conn()).expect("TTL")
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        redis::cmd("SET").arg(key).arg(value).exec(&mut self.conn()).expect("SET");
    }

    pub fn exists(&self, key: &str) -> bool {
        redis::cmd("EXISTS").arg(key).query(&mut self.conn()).expect("EXISTS")
    }

    /// How often a command was carried out.
    pub fn calls(&self, command: &str) -> u64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut self.conn()).expect("INFO");
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().expect("a number"))
    }

    pub fn key_count(&self) -> u64 {
        redis::cmd("DBSIZE").query(&mut self.conn()).expect("DBSIZE")
    }

    /// Ends it on the spot, as a crash would; what it held is gone unless it is durable.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("redis-server can be killed");
            child.wait().expect("redis-server can be waited for");
        }
        self.paused = false;
    }

    /// A new server on the same port: empty, or with what a durable one had acknowledged.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server did not come back on port {}", self.port);
    }

    /// Removes the file of a durable one that was killed: the next begins empty.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "redis-server is still running");
        let (folder, file) = (self.dir.path().join("appendonlydir"), self.dir.path().join("appendonly.aof"));
        if folder.exists() {
            std::fs::remove_dir_all(folder).expect("the append-only files can be removed");
        }
        // Before Redis 7.0 it is one file.
        if file.exists() {
            std::fs::remove_file(file).expect("the append-only file can be removed");
        }
    }

    /// Stops it from running without closing its sockets: a black hole.
    pub fn pause(&mut self) {
        signal(self.pid(), "STOP");
        self.paused = true;
    }

    pub fn resume(&mut self) {
        signal(self.pid(), "CONT");
        self.paused = false;
    }

    /// The peers' ports of all connections to the server, and the bytes that it has not read from each (proc(5),
    /// `/proc/net/tcp`): what a paused server has in store.
    pub fn unread(&self) -> HashMap<u16, u64> {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let row = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, peer, queues) = (fields.get(1)?, fields.get(2)?, fields.get(4)?);
            let unread = u64::from_str_radix(queues.rsplit(':').next()?, 16).ok()?;
            (port(local) == Some(self.port)).then_some((port(peer)?, unread))
        };
        // A busy machine has many thousands of rows, and what is looked for lasts parts of a second.
        let mark = format!(":{:04X} ", self.port);
        table.lines().filter(|line| line.contains(&mark)).filter_map(row).filter(|(peer, _)| *peer != 0).collect()
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("redis-server runs").id()
    }

    /// Starts the process; false if it did not come to answer, or another one has the port.
    fn launch(&mut self) -> bool {
        let chosen = std::env::var_os("REDIS_SERVER").map(PathBuf::from);
        let program = chosen
            .or_else(|| find_program("redis-server"))
            .unwrap_or_else(|| panic!("redis-server is not installed: run `make test`, which installs it"));
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", if self.durable { "yes" } else { "no" }])
            .args(["--cluster-enabled", if self.in_cluster { "yes" } else { "no" }])
            .args(["--appendfsync", "always", "--daemonize", "no", "--dir"])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server can be run");
        let pid = child.id();
        self.child = Some(child);
        eventually(Duration::from_secs(10), || self.answers_as(pid))
    }

    fn answers_as(&self, pid: u32) -> bool {
        let Ok(client) = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)) else {
            return false;
        };
        let Ok(mut conn) = client.get_connection_with_timeout(Duration::from_millis(500)) else {
            return false;
        };
        let info: String = redis::cmd("INFO").arg("server").query(&mut conn).unwrap_or_default();
        info.contains(&format!("process_id:{pid}\r\n"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
