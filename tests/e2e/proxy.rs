//! `fetch.proxy`: blobs through a real proxy (tinyproxy), which is asked for what was judged here and nothing else.

use std::fs;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use crate::blobs::assert_fetch;
use crate::support::{Blob, BlobServer, Builder, Daemon, PATIENCE, Stage, eventually, find_program, free_port};
use crate::support::{closed_port, problem_type, set_blob};
use crate::tls::{Authority, Files};

const PASSWORD: &str = "hunter2";

struct Proxy {
    port: u16,
    dir: TempDir,
    child: Child,
}

impl Proxy {
    /// With these lines in its configuration besides.
    fn start(lines: &str) -> Self {
        let program = find_program("tinyproxy").expect("tinyproxy is installed: `make test` sees to it");
        for _ in 0..5 {
            let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary directory"));
            let log = dir.path().join("log");
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nMaxClients 200\nLogLevel Info\n\
                 LogFile \"{}\"\n{lines}\n",
                log.display()
            );
            fs::write(dir.path().join("conf"), text).expect("it can be written");
            let mut command = Command::new(&program);
            command.arg("-d").arg("-c").arg(dir.path().join("conf")).current_dir(dir.path());
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut proxy = Proxy { port, dir, child: child.expect("tinyproxy can be run") };
            let is_up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            if eventually(PATIENCE, || is_up() || proxy.has_ended()) && !proxy.has_ended() {
                return proxy;
            }
        }
        panic!("tinyproxy did not start on any of five ports");
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests that it was asked, in their order, once there are so many.
    fn asked(&self, count: usize) -> Vec<String> {
        let lines = || {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let asked = log.lines().filter_map(|line| line.split_once("): ").filter(|_| line.contains("Request (")));
            asked.map(|(_, request)| request.to_owned()).collect::<Vec<_>>()
        };
        eventually(PATIENCE, || lines().len() >= count);
        lines()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn through(proxy: &Proxy) -> impl FnOnce(Builder) -> Builder {
    let url = proxy.url();
    move |daemon| {
        daemon.set("fetch.proxy", url).set("fetch.attempts", 1).set("fetch.allowed_hosts", "127.0.0.1,localhost")
    }
}

/// What became of a blob: its problem's type, and the detail.
fn problem(daemon: &Daemon, url: &str) -> (String, String) {
    let json = daemon.post(&set_blob("k", url)).json();
    let problem: &Value = &json["results"][0]["problem"];
    (problem_type(problem).to_owned(), problem["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn blobs_come_through_the_proxy_from_the_address_that_was_judged() {
    let proxy = Proxy::start("");
    let stage = Stage::with(through(&proxy));
    let (port, elsewhere) = (stage.blobs.port(), BlobServer::start());
    stage.blobs.put("/a", Blob::bytes("through"));
    elsewhere.put("/b", Blob::redirect(&format!("http://localhost:{port}/a?sig=x")));
    let url = elsewhere.url("/b").replace("127.0.0.1", "localhost");
    let stored = stage.daemon.post(&set_blob("k", &url)).json();
    assert_eq!(stored["results"][0]["status"], "stored", "{stored}");
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"through".as_slice()));
    // By the name the proxy would look for the address itself.
    let tunnel = |port: u16| format!("CONNECT 127.0.0.1:{port} HTTP/1.1");
    assert_eq!(proxy.asked(2), [tunnel(elsewhere.port()), tunnel(port)]);
    assert!(stage.blobs.heads()[0].to_lowercase().contains(&format!("host: localhost:{port}\r\n")));
    // A connection through it is kept like any other.
    assert_fetch(&stage, "/a", "stored");
    assert_fetch(&stage, "/a", "stored");
    assert_eq!(proxy.asked(3).len(), 3);
}

#[test]
fn a_host_of_tls_is_reached_through_it_and_proves_its_own_name() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let host = files.builder().start();
    let proxy = Proxy::start("");
    let ca_file = files.authority(&authority);
    let stage = Stage::with(|daemon| through(&proxy)(daemon).set("fetch.ca_file", ca_file));
    let url = |name: &str| format!("https://{name}:{}/openapi.json", host.address().port());
    stage.ok(&set_blob("k", &url("127.0.0.1")));
    assert!(stage.redis.value("k").is_some_and(|value| value.starts_with(b"{")));
    let (kind, detail) = problem(&stage.daemon, &url("localhost"));
    assert!(kind == "blob-unavailable" && detail.contains("is for another name"), "{kind}: {detail}");
}

#[test]
fn what_is_forbidden_is_never_asked_of_the_proxy() {
    let proxy = Proxy::start("");
    let stage = Stage::with(|daemon| through(&proxy)(daemon).set("fetch.allowed_hosts", "127.0.0.1"));
    let port = stage.blobs.port();
    let places = [format!("http://localhost:{port}/x"), "http://169.254.169.254/latest/meta-data".to_owned()];
    for (number, place) in places.iter().enumerate() {
        assert_eq!(problem(&stage.daemon, place).0, "blob-forbidden", "{place}");
        stage.blobs.put("/away", Blob::redirect(place));
        assert_eq!(problem(&stage.daemon, &stage.blobs.url("/away")).0, "blob-forbidden", "a redirect to {place}");
        assert_eq!(stage.blobs.hits("/away"), 1, "{number}");
    }
    assert!(proxy.asked(1).iter().all(|asked| asked.starts_with(&format!("CONNECT 127.0.0.1:{port} "))));
    let open = Stage::with(|daemon| through(&proxy)(daemon).set("fetch.allowed_hosts", ""));
    assert_eq!(problem(&open.daemon, "http://127.0.0.1/x").0, "blob-forbidden");
}

#[test]
fn a_proxy_that_refuses_is_told_of_in_words_and_its_password_in_none() {
    let (proxy, filtering) = (Proxy::start(&format!("BasicAuth us {PASSWORD}")), Proxy::start("ConnectPort 443"));
    let with = |login: &str, proxy: &Proxy| {
        let url = proxy.url().replace("//", &format!("//{login}"));
        Stage::with(|daemon| daemon.set("fetch.proxy", url).set("fetch.attempts", 1).set("log_level", "debug"))
    };
    let right = with(&format!("us:{PASSWORD}@"), &proxy);
    right.blobs.put("/a", Blob::bytes("x"));
    assert_fetch(&right, "/a", "stored");

    let wrong = with(&format!("us:{PASSWORD}x@"), &proxy);
    let (kind, detail) = problem(&wrong.daemon, &wrong.blobs.url("/a"));
    assert!(kind == "blob-unavailable" && detail.contains("the proxy (fetch.proxy)"), "{kind}: {detail}");
    assert!(detail.contains("rejected the user and password of fetch.proxy: it answered 40"), "{detail}");

    let filtered = with("", &filtering);
    let (kind, detail) = problem(&filtered.daemon, &filtered.blobs.url("/a"));
    let refused = format!("refused to connect to 127.0.0.1:{}: it answered 403", filtered.blobs.port());
    assert!(kind == "blob-denied" && detail.contains(&refused), "{kind}: {detail}");

    let (kind, detail) = problem(&filtered.daemon, &format!("http://127.0.0.1:{}/a", closed_port()));
    assert!(kind == "blob-denied" || detail.contains("could not connect"), "{kind}: {detail}");
    let (kind, detail) = problem(&right.daemon, &format!("http://127.0.0.1:{}/a", closed_port()));
    assert!(kind == "blob-unavailable" && detail.contains("could not connect to 127.0.0.1:"), "{kind}: {detail}");

    for secret in [PASSWORD.to_owned(), STANDARD.encode(format!("us:{PASSWORD}")), STANDARD.encode("us:hunter2x")] {
        for stage in [&right, &wrong, &filtered] {
            assert!(!stage.daemon.logs().join("\n").contains(&secret), "{secret} is in the log");
        }
    }
    let shown = Daemon::builder().set("fetch.proxy", format!("http://us:{PASSWORD}@p.example:3128")).check_config();
    assert!(shown.contains("http://us:***@p.example:3128") && !shown.contains(PASSWORD), "{shown}");
}

#[test]
fn a_proxy_that_is_not_there_is_named_and_the_host_is_not_blamed() {
    let port = closed_port();
    let stage =
        Stage::with(|daemon| daemon.set("fetch.proxy", format!("http://127.0.0.1:{port}")).set("fetch.attempts", 1));
    let (kind, detail) = problem(&stage.daemon, &stage.blobs.url("/a"));
    assert!(kind == "blob-unavailable", "{kind}");
    assert!(detail.contains("the proxy (fetch.proxy): the connection was refused"), "{detail}");
}

#[test]
fn proxies_of_the_environment_are_not_obeyed_and_warned_of_once() {
    let dead = format!("http://us:{PASSWORD}@127.0.0.1:{}", closed_port());
    let start = |variables: &[&str], proxy: &str| {
        let daemon = Daemon::builder().embedded().set("fetch.proxy", proxy);
        variables.iter().fold(daemon, |daemon, name| daemon.env(name, &dead)).start()
    };
    let blobs = BlobServer::start();
    blobs.put("/a", Blob::bytes("x"));
    let daemon = start(&["http_proxy", "HTTPS_PROXY", "ALL_PROXY"], "");
    let stored = daemon.post(&set_blob("k", &blobs.url("/a"))).json();
    assert_eq!(stored["results"][0]["status"], "stored", "{stored}");
    let about = |daemon: &Daemon| {
        let logs = daemon.logs();
        assert!(!logs.join("\n").contains(PASSWORD), "{}", logs.join("\n"));
        logs.into_iter().filter(|line| line.to_lowercase().contains("_proxy")).collect::<Vec<_>>()
    };
    let warnings = about(&daemon);
    assert!(warnings.len() == 1 && warnings[0].contains("WARN"), "{warnings:?}");
    assert!(warnings[0].contains("HTTPS_PROXY, http_proxy, ALL_PROXY: ignored"), "{warnings:?}");
    assert_eq!(about(&start(&["HTTPS_PROXY"], &dead)), Vec::<String>::new(), "there is a proxy");
    assert_eq!(about(&start(&["NO_PROXY"], "")), Vec::<String>::new());
}
