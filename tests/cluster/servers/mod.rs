//! Real redis-servers in numbers: a cluster of primaries with replicas, and a master with replicas and sentinels. All of
//! them end with the value that started them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod cluster;
mod scripted;
mod watched;

pub use self::cluster::Cluster;
pub use self::scripted::{Scripted, Way};
pub use self::watched::{MASTER, Watched};

use redis::Value;

/// Longer than anything may take; what waits this long has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done`, and fails the test if that never comes.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that is free, with that of the cluster's bus to it, outside of the range from which the system gives ports to
/// clients.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id().wrapping_mul(53).wrapping_add(step) % 10_000) as u16;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}

/// Files for `--tls-port`: the authority, the certificate and its key, in PEM.
#[derive(Clone)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `REDIS_SERVER`, or the one of the system.
fn server() -> std::ffi::OsString {
    std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// One process: a redis-server or a sentinel.
pub struct Server {
    pub port: u16,
    pub tls_port: Option<u16>,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// One that is a part of nothing.
    pub fn alone() -> Self {
        let plain = |port: u16, _: Option<u16>, _: &Path| {
            let mut all: Vec<String> = words(PLAIN).collect();
            all.extend(["--save".into(), String::new(), "--port".into(), port.to_string()]);
            all
        };
        Server::launch(plain, false)
    }

    fn launch(arguments: impl Fn(u16, Option<u16>, &Path) -> Vec<String>, with_tls: bool) -> Self {
        for _ in 0..10 {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (port, tls_port) = (free_port(), with_tls.then(free_port));
            let arguments = arguments(port, tls_port, dir.path());
            let mut server = Server { port, tls_port, arguments, dir, child: None };
            if server.begin() {
                return server;
            }
        }
        panic!("redis-server did not start");
    }

    fn begin(&mut self) -> bool {
        let child = Command::new(server())
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let child = self.child.insert(child);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if child.try_wait().expect("a child").is_some() {
                return false;
            }
            if connect(self.port).is_some_and(|mut conn| redis::cmd("PING").exec(&mut conn).is_ok()) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// A plain connection, to look from the side.
    pub fn conn(&self) -> redis::Connection {
        let mut found = None;
        wait_for("the server's answer", || {
            found = connect(self.port);
            found.is_some()
        });
        found.expect("a connection")
    }

    pub fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let mut conn = connect(self.port)?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut conn).ok()
    }

    #[track_caller]
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.conn())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was, empty.
    pub fn restart(&mut self, more: &[&str]) {
        self.arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        assert!(self.begin(), "redis-server did not start again");
    }

    pub fn is_master(&self) -> bool {
        let role: Option<Vec<Value>> = self.try_ask(&["ROLE"]);
        let role = role.and_then(|role| redis::from_redis_value::<String>(role.into_iter().next()?).ok());
        role.as_deref() == Some("master")
    }

    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let info: String = self.try_ask(&["INFO", section])?;
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// A replica that has all, and follows.
    pub fn follows(&self) -> bool {
        self.info("replication", "master_link_status").as_deref() == Some("up")
    }

    /// Replicas that follow a master.
    pub fn followers(&self) -> usize {
        let info: String = self.try_ask(&["INFO", "replication"]).unwrap_or_default();
        info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
    }

    /// Seconds of processor time since its start.
    pub fn cpu(&self) -> f64 {
        let of = |field| self.info("cpu", field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        of("used_cpu_user") + of("used_cpu_sys")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "signal {name} could not be sent");
}

/// Kills a primary after a time in which it was cut off from its replicas, and `meanwhile` was done: what it acknowledged
/// by itself then is lost with it.
pub fn kill_cut_off(servers: &mut [Server], victim: usize, meanwhile: impl FnOnce()) {
    let replicas: Vec<u32> =
        servers.iter().filter(|server| server.is_up() && !server.is_master()).map(Server::pid).collect();
    replicas.iter().for_each(|pid| signal(*pid, "STOP"));
    let _: i64 = servers[victim].ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    meanwhile();
    servers[victim].kill();
    replicas.iter().for_each(|pid| signal(*pid, "CONT"));
}

fn connect(port: u16) -> Option<redis::Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).ok()?;
    let conn = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
    conn.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    Some(conn)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(' ').map(str::to_owned)
}

fn tls_words(tls: Option<&TlsFiles>, port: Option<u16>) -> Vec<String> {
    let (Some(tls), Some(port)) = (tls, port) else { return Vec::new() };
    let path = |path: &Path| path.display().to_string();
    let mut all = vec!["--tls-port".into(), port.to_string(), "--tls-ca-cert-file".into(), path(&tls.ca)];
    all.extend(["--tls-cert-file".into(), path(&tls.cert), "--tls-key-file".into(), path(&tls.key)]);
    all.extend(words("--tls-auth-clients no --tls-replication yes"));
    all
}

const PLAIN: &str = "--bind 127.0.0.1 --appendonly no --repl-diskless-sync-delay 0 --repl-ping-replica-period 1";

impl Server {
    pub fn info_of_cluster(&self, field: &str) -> Option<String> {
        let info: String = self.try_ask(&["CLUSTER", "INFO"])?;
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }
}
