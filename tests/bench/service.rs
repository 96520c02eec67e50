//! What load is put on: the service itself, or a reference that answers the same.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::guard::scratch;
use crate::nginx::Nginx;
use crate::process::{Process, children};
use crate::requests::Bodies;
use crate::support::{Answer, PATIENCE, Redis, Wire, eventually, free_port};

pub struct Service {
    pub name: &'static str,
    pub port: u16,
    process: Process,
    /// Holds the log of ours, and nginx's files.
    dir: TempDir,
    log: Option<File>,
}

impl Service {
    /// What `make bench` has built (SERVICE), or the plain release build, with the defaults of `config/default.toml`; its log
    /// at `info` in a file.
    pub fn ours(redis: &Redis) -> Self {
        Self::with(&[("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()))])
    }

    /// Ours, with a journal on a Redis of its own, large enough for any load.
    pub fn journaled(redis: &Redis, journal: &Redis) -> Self {
        let url = |redis: &Redis| format!("redis://127.0.0.1:{}/0", redis.port());
        let most = ("JOURNAL_MAX_EVENTS", "1000000000".to_owned());
        Self::with(&[("REDIS_URL", url(redis)), ("JOURNAL_URL", url(journal)), most])
    }

    /// Ours, which may fetch from these hosts.
    pub fn allowed(redis: &Redis, hosts: String) -> Self {
        let url = ("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()));
        Self::with(&[url, ("FETCH_ALLOWED_HOSTS", hosts)])
    }

    /// Ours, with a source that stores what notifications of S3 say.
    pub fn with_source(redis: &Redis) -> Self {
        let url = ("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()));
        Self::with(&[url, ("SOURCES_PHOTOS_FORMAT", "s3".to_owned()), ("SOURCES_PHOTOS_VALUE", "facts".to_owned())])
    }

    /// Ours, with a source whose objects come from this store.
    pub fn with_store(redis: &Redis, endpoint: String) -> Self {
        let url = ("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()));
        let source = [("SOURCES_PHOTOS_FORMAT", "s3".to_owned()), ("SOURCES_PHOTOS_STORE", "main".to_owned())];
        let store = [("STORES_MAIN_KIND", "http".to_owned()), ("STORES_MAIN_ENDPOINT", endpoint)];
        Self::with(&[&[url][..], &source, &store].concat())
    }

    /// Ours, for blobs as long as Redis takes them.
    pub fn streaming(redis: &Redis) -> Self {
        let url = ("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()));
        let longest = (512 << 20).to_string();
        let limits = [("FETCH_MAX_BLOB_BYTES", longest.clone()), ("INTAKE_MAX_IN_FLIGHT_BYTES", longest)];
        Self::with(&[&[url, ("FETCH_TIMEOUT_MS", "25000".to_owned())][..], &limits].concat())
    }

    /// Ours, before these nodes of a cluster.
    pub fn of_cluster(nodes: String) -> Self {
        Self::with(&[("REDIS_MODE", "cluster".to_owned()), ("REDIS_NODES", nodes)])
    }

    fn with(redis: &[(&str, String)]) -> Self {
        let (port, dir) = (free_port(), scratch());
        let log = dir.path().join("log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a file");
        let also = || Stdio::from(log.try_clone().expect("an open file"));
        let mut command =
            Command::new(std::env::var_os("SERVICE").unwrap_or_else(|| env!("CARGO_BIN_EXE_redis-cache-sync").into()));
        command
            .arg("--config")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/default.toml"))
            .current_dir(dir.path())
            .env_clear()
            .env("PORT", port.to_string())
            .env("BIND", "127.0.0.1")
            .env("FETCH_ALLOWED_HOSTS", "127.0.0.1")
            .envs(redis.iter().cloned())
            .stdin(Stdio::null())
            .stdout(also())
            .stderr(also());
        let process = Process::start(&mut command);
        let service = Service { name: "ours", port, process, dir, log: Some(log) };
        let ready = || service.try_get("/ready").is_some_and(|answer| answer.status == 200);
        assert!(eventually(PATIENCE, ready), "the service did not become ready");
        service
    }

    /// One of `reference.rs`.
    pub fn reference(name: &'static str, redis: &Redis) -> Self {
        let (port, dir) = (free_port(), scratch());
        let mut command = Command::new(std::env::current_exe().expect("the bench's own file"));
        command.args(["reference", name, &port.to_string(), &redis.port().to_string()]).stdin(Stdio::null());
        let process = Process::start(&mut command);
        let service = Service { name, port, process, dir, log: None };
        service.wait_listening();
        service
    }

    /// nginx with a handler in Lua.
    pub fn nginx_lua(redis: &Redis) -> Self {
        let Nginx { port, process, dir } = Nginx::lua(redis);
        Service { name: "nginx-lua", port, process, dir, log: None }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Of all processes that do its work.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = children(self.pid());
        pids.push(self.pid());
        pids
    }

    pub fn wire(&self) -> Wire {
        Wire::open(self.address())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn post(&self, content_type: &str, body: &[u8]) -> Answer {
        self.post_to("/events", content_type, body)
    }

    pub fn post_to(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut wire = self.wire();
        wire.send_request("POST", path, &[("content-type", content_type)], body);
        wire.answer()
    }

    /// A log of millions of lines is of no use to anybody.
    pub fn forget_log(&self) {
        if let Some(log) = &self.log {
            log.set_len(0).expect("a file of our own");
        }
    }

    /// The first warnings in the log of ours since it was emptied.
    pub fn warnings(&self) -> String {
        let log = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines = text.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        lines.take(5).collect::<Vec<_>>().join("\n")
    }

    /// A load generator does not see events that failed in a batch; the service's own counters do.
    pub fn check(&self) {
        if self.log.is_some() {
            let failed = self.events("rejected") + self.events("unavailable");
            assert_eq!(failed, 0.0, "events were not carried out");
        }
    }

    /// How many events ended so, by the service's own counters.
    pub fn events(&self, outcome: &str) -> f64 {
        let text = self.try_get("/metrics").expect("an answer").text();
        let of_outcome = format!("outcome=\"{outcome}\"");
        let lines = text.lines().filter(|line| line.starts_with("cache_sync_events_total{"));
        let lines = lines.filter(|line| line.contains(&of_outcome));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        let mut wire = Wire::try_open(self.address()).ok()?;
        wire.send_request("GET", path, &[], b"").then(|| wire.answer())
    }

    fn wait_listening(&self) {
        let listens = || TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok();
        assert!(eventually(PATIENCE, listens), "{} does not listen", self.name);
    }
}

/// Asserts that all answer the first body with the same bytes; `before` is called for each.
pub fn assert_alike(services: &[Service], bodies: &Bodies, before: impl Fn()) {
    let ask = |service: &Service| {
        before();
        service.post(bodies.content_type, bodies.first().as_bytes())
    };
    let answers: Vec<Answer> = services.iter().map(ask).collect();
    for (service, answer) in services.iter().zip(&answers) {
        assert_eq!(answer.status, 200, "{}: {}", service.name, answer.text());
        assert_eq!(answer.text(), answers[0].text(), "{} answers otherwise", service.name);
    }
}
