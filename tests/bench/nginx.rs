//! nginx: a handler in Lua as a reference, and files as blobs.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::guard::scratch;
use crate::process::Process;
use crate::support::{Redis, eventually, find_program, free_port};

pub struct Nginx {
    pub port: u16,
    pub process: Process,
    pub dir: TempDir,
}

impl Nginx {
    /// Answers `POST /events` of one SET; connections to Redis are kept in a pool.
    pub fn lua(redis: &Redis) -> Self {
        let modules = module("ngx_http_lua_module.so", "ndk_http_module.so");
        let arch = std::env::consts::ARCH;
        let http = format!(
            "lua_package_path '/usr/share/lua/5.1/?.lua;;';\n\
             lua_package_cpath '/usr/lib/{arch}-linux-gnu/lua/5.1/?.so;;';\n\
             client_body_buffer_size 64k;\n"
        );
        let location = format!(
            "set $redis_port {};\n\
             location /events {{ default_type application/json; content_by_lua_file $document_root/events.lua; }}",
            redis.port()
        );
        Self::start(&modules, &http, "", &location, |files| {
            fs::write(files.join("events.lua"), include_str!("nginx.lua")).expect("a file");
        })
    }

    /// Serves one blob a size, under the size as its name.
    pub fn blobs(sizes: &[usize]) -> Self {
        Self::host(sizes, "", "")
    }

    /// The same, sent in small parts: by default nginx gives the kernel some megabytes at once, and holds one of the few cores
    /// meanwhile, which a host elsewhere would not.
    pub fn long_blobs(sizes: &[usize]) -> Self {
        Self::host(sizes, "sendfile_max_chunk 64k;\n", " sndbuf=64k")
    }

    fn host(sizes: &[usize], more: &str, listen: &str) -> Self {
        let http = format!("sendfile on; tcp_nopush on; open_file_cache max=100; open_file_cache_valid 600s;\n{more}");
        Self::start("", &http, listen, "", |files| {
            for size in sizes {
                fs::write(files.join(size.to_string()), blob(*size)).expect("a file");
            }
        })
    }

    pub fn url(&self, size: usize) -> String {
        format!("http://127.0.0.1:{}/{size}", self.port)
    }

    fn start(modules: &str, http: &str, listen: &str, server: &str, prepare: impl Fn(&Path)) -> Self {
        let program = find_program("nginx").expect("nginx is not installed: run `make bench`, which installs it");
        let (port, dir) = (free_port(), scratch());
        let root = dir.path().display();
        let files = dir.path().join("files");
        fs::create_dir(&files).expect("a directory");
        prepare(&files);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.map(|name| format!("{name}_temp_path {root}/{name};\n")).concat();
        let user = if is_root() { "user root;\n" } else { "" };
        let config = format!(
            "{modules}{user}daemon off; worker_processes 2; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; {temporary} default_type application/octet-stream;\n\
             tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000;\n{http}\
             server {{ listen 127.0.0.1:{port}{listen}; root {root}/files; {server} }} }}\n"
        );
        let config_file = dir.path().join("nginx.conf");
        fs::write(&config_file, config).expect("a file");
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(config_file);
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null())).ending_politely();
        let up = eventually(Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(up, "nginx: {}", fs::read_to_string(dir.path().join("error.log")).unwrap_or_default());
        Nginx { port, process, dir }
    }
}

/// As bytes that no coding makes smaller.
fn blob(size: usize) -> Vec<u8> {
    crate::support::Random::seeded(size as u64).bytes(size)
}

/// Lines that load modules, each from where distributions put it.
fn module(name: &str, needed: &str) -> String {
    let dirs = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"];
    let dir = dirs.into_iter().find(|dir| Path::new(dir).join(name).is_file());
    let dir = dir.unwrap_or_else(|| panic!("nginx has no {name}: run `make bench`, which installs it"));
    format!("load_module {dir}/{needed};\nload_module {dir}/{name};\n")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
