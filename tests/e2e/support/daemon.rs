//! The real daemon as a process of its own: its own working directory, a cleared environment, a port it was given.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Wire};
use super::{PATIENCE, Redis, eventually, signal};

pub struct Builder {
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    files: Vec<(String, String)>,
    wait_ready: bool,
}

impl Builder {
    /// This Redis as the cache.
    pub fn redis(self, redis: &Redis) -> Self {
        self.set("redis.host", "127.0.0.1").set("redis.port", redis.port())
    }

    /// The cache in the daemon's own process.
    pub fn embedded(self) -> Self {
        self.set("cache.backend", "embedded")
    }

    /// A setting by its path in the file; goes to the daemon as an environment variable. The last one wins.
    pub fn set(mut self, path: &str, value: impl ToString) -> Self {
        let name = path.to_uppercase().replace('.', "_");
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_string()));
        self
    }

    /// Leaves a setting to the files.
    pub fn unset(mut self, path: &str) -> Self {
        let name = path.to_uppercase().replace('.', "_");
        self.settings.retain(|(known, _)| *known != name);
        self
    }

    /// A file in the daemon's working directory.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| arg.to_string()).collect();
        self
    }

    /// Does not wait for `/ready`: for a daemon that cannot become so.
    pub fn unready(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// What `check-config` prints with these settings, on both streams.
    pub fn check_config(&self) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
        command.arg("check-config").current_dir(dir.path()).env_clear();
        command.envs(self.settings.iter().cloned()).envs(self.env.iter().cloned());
        let output = command.output().expect("the daemon's binary can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub fn start(self) -> Daemon {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in &self.files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
            std::fs::write(path, text).expect("it can be written");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
            .args(self.args)
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon's binary can be run");
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("piped"), &log);
        collect(child.stderr.take().expect("piped"), &log);
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .max_idle_age(Duration::from_secs(2))
            .max_idle_connections(200)
            .max_idle_connections_per_host(200)
            .proxy(None)
            .build()
            .into();
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut daemon = Daemon { child, status: None, address: unknown, probes: None, log, agent, dir };
        daemon.wait_listening();
        if self.wait_ready {
            let ready = eventually(PATIENCE, || daemon.get("/ready").status == 200);
            assert!(ready, "the daemon did not become ready:\n{}", daemon.logs().join("\n"));
        }
        daemon
    }
}

pub struct Daemon {
    child: Child,
    status: Option<ExitStatus>,
    address: SocketAddr,
    /// Where probes and metrics are asked for, if not at `address`.
    probes: Option<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
    agent: ureq::Agent,
    /// Removed when it is dropped.
    dir: TempDir,
}

impl Daemon {
    pub fn builder() -> Builder {
        let builder =
            Builder { settings: Vec::new(), env: Vec::new(), args: Vec::new(), files: Vec::new(), wait_ready: true };
        builder.set("port", 0).set("bind", "127.0.0.1").set("fetch.allowed_hosts", "127.0.0.1")
    }

    /// A daemon over its embedded cache with nothing else set.
    pub fn embedded() -> Self {
        Self::builder().embedded().start()
    }

    pub fn with_redis(redis: &Redis) -> Self {
        Self::builder().redis(redis).start()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes and metrics are, with `admin_port`.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        let line = self.log_line(|line| line.contains("listening for probes"));
        listening_address(&line).expect("an address")
    }

    /// Has probes and metrics asked for there.
    pub fn ask_at(&mut self, probes: SocketAddr) {
        self.probes = Some(probes);
    }

    /// Its working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn post(&self, body: &Value) -> Answer {
        self.post_with(&[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub fn post_text(&self, body: &str) -> Answer {
        self.post_with(&[("content-type", "application/json")], body.as_bytes())
    }

    pub fn post_ndjson(&self, body: &str) -> Answer {
        self.post_with(&[("content-type", "application/x-ndjson")], body.as_bytes())
    }

    pub fn post_with(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_post(headers, body).unwrap_or_else(|e| panic!("no answer: {e}\n{}", self.logs().join("\n")))
    }

    pub fn try_post(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
        self.try_post_to("/events", headers, body)
    }

    /// Posts to another route than that of events.
    pub fn post_to(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_post_to(path, headers, body).unwrap_or_else(|e| panic!("no answer: {e}\n{}", self.logs().join("\n")))
    }

    fn try_post_to(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body)?)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|e| panic!("no answer: {e}\n{}", self.logs().join("\n")))
    }

    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let address = self.probes.unwrap_or(self.address);
        answer(self.agent.get(format!("http://{address}{path}")).call()?)
    }

    /// A new connection to speak HTTP on by hand.
    pub fn wire(&self) -> Wire {
        Wire::open(self.address)
    }

    /// Sends these bytes on a connection of their own; the answer to them.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut wire = self.wire();
        wire.send(bytes);
        wire.answer()
    }

    /// Every sample of `/metrics`, by name with its labels as printed.
    pub fn metrics(&self) -> HashMap<String, f64> {
        let text = self.get("/metrics").text();
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("metric line {line:?}"));
                (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("metric line {line:?}")))
            })
            .collect()
    }

    /// The sum of a metric's samples whose labels include all of these (`type="SET"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name =
            |sample: &str| sample == name || sample.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let metrics = self.metrics();
        metrics
            .iter()
            .filter(|(sample, _)| of_name(sample) && labels.iter().all(|l| sample.contains(l)))
            .map(|(_, v)| v)
            .sum()
    }

    /// Every line logged up to now.
    pub fn logs(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Waits for a log line that fits, and returns it.
    #[track_caller]
    pub fn log_line(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        eventually(PATIENCE, || {
            found = self.logs().into_iter().find(|line| fits(line));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no such line in the log:\n{}", self.logs().join("\n")))
    }

    pub fn sigterm(&self) {
        signal(self.pid(), "TERM");
    }

    /// How it ended; panics if it did not within `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        while self.status.is_none() {
            self.status = self.child.try_wait().expect("the daemon can be waited for");
            assert!(begin.elapsed() < limit, "the daemon did not end within {limit:?}:\n{}", self.logs().join("\n"));
            thread::sleep(Duration::from_millis(5));
        }
        self.status.expect("set by the loop")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn wait_listening(&mut self) {
        let begin = Instant::now();
        loop {
            if let Some(address) = self.logs().iter().find_map(|line| listening_address(line)) {
                self.address = address;
                return;
            }
            let ended = self.child.try_wait().expect("the daemon can be waited for");
            self.status = ended;
            let log = || self.logs().join("\n");
            assert!(ended.is_none(), "the daemon ended ({ended:?}) before it listened:\n{}", log());
            assert!(begin.elapsed() < PATIENCE, "the daemon did not say where it listens:\n{}", log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let log = self.logs();
            let shown = &log[log.len().saturating_sub(40)..];
            eprintln!("--- the daemon's last lines ---\n{}\n---", shown.join("\n"));
        }
    }
}

/// The address in a line such as `listening address=127.0.0.1:4711`, text or JSON.
fn listening_address(line: &str) -> Option<SocketAddr> {
    if !line.to_lowercase().contains("listening") {
        return None;
    }
    if let Ok(json) = serde_json::from_str::<Value>(line) {
        let port = json["server.port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let (_, after) = line.split_once("127.0.0.1:").or_else(|| line.split_once("0.0.0.0:"))?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    let port = digits.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn collect(pipe: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            log.lock().unwrap_or_else(|e| e.into_inner()).push(line);
        }
    });
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let (head, mut body) = response.into_parts();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Ok(Answer {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body: body.with_config().limit(u64::MAX).read_to_vec()?,
    })
}
