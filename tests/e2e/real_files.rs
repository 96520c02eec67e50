//! Two thousand real files from a real web server, in Redis byte for byte.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Daemon, Random, Redis, eventually, find_program, free_port, ndjson};

const FILES: u64 = 2000;
const TTL: i64 = 3600;

struct Nginx {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Nginx {
    /// Serves `files/` of a directory of its own; text goes out compressed to those who ask for it.
    fn start() -> Self {
        let program = find_program("nginx")
            .unwrap_or_else(|| panic!("nginx is not installed: run `make test`, which installs it"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().display();
        fs::create_dir(dir.path().join("files")).expect("a directory can be made");
        for _ in 0..5 {
            let port = free_port();
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String = temporary.map(|name| format!("{name}_temp_path {root}/{name};\n")).concat();
            let config = format!(
                "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; {temporary} default_type application/octet-stream; types {{ text/plain txt; }}\n\
                 gzip on; gzip_types text/plain; gzip_min_length 500;\n\
                 server {{ listen 127.0.0.1:{port}; root {root}/files; }} }}\n"
            );
            fs::write(dir.path().join("nginx.conf"), config).expect("a file can be written");
            let mut child = Command::new(&program)
                .args(["-e", "stderr", "-p"])
                .arg(dir.path())
                .arg("-c")
                .arg(dir.path().join("nginx.conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx can be run");
            let up = eventually(Duration::from_secs(5), || TcpStream::connect(("127.0.0.1", port)).is_ok());
            if up && child.try_wait().expect("nginx can be waited for").is_none() {
                return Nginx { child, port, dir };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("nginx did not start: {}", fs::read_to_string(dir.path().join("error.log")).unwrap_or_default());
    }

    fn files(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Mostly small, few large; the first ones the sizes at which things go wrong.
fn size(number: u64, random: &mut Random) -> usize {
    const EDGES: [usize; 8] = [0, 1, 8 << 20, 16_383, 16_384, 16_385, 65_536, 1 << 20];
    if let Some(edge) = EDGES.get(number as usize) {
        return *edge;
    }
    let up_to = match random.below(1000) {
        0..600 => 4 << 10,
        600..860 => 64 << 10,
        860..988 => 512 << 10,
        _ => 8 << 20,
    };
    random.below(up_to) as usize
}

/// A file's name and content; every third is text.
fn file(number: u64) -> (String, Vec<u8>) {
    let mut random = Random::seeded(number);
    let mut content = {
        let size = size(number, &mut random);
        random.bytes(size)
    };
    if !number.is_multiple_of(3) {
        return (format!("dir {}/é-{number}.bin", number % 10), content);
    }
    for byte in &mut content {
        *byte = b"abcdefgh ijklmnop\n"[usize::from(*byte) % 18];
    }
    (format!("dir {}/é-{number}.txt", number % 10), content)
}

#[test]
fn two_thousand_files_lie_in_redis_byte_for_byte() {
    let nginx = Nginx::start();
    let redis = Redis::start();
    let daemon = Daemon::with_redis(&redis);
    let mut total = 0;
    let mut names = Vec::new();
    for number in 0..FILES {
        let (name, content) = file(number);
        let path = nginx.files().join("files").join(&name);
        fs::create_dir_all(path.parent().expect("it has a directory")).expect("a directory can be made");
        total += content.len();
        fs::write(path, content).expect("a file can be written");
        names.push(name);
    }
    assert!(total < 300 << 20, "{total} bytes");
    for part in names.chunks(250) {
        let events: Vec<_> = part
            .iter()
            .map(|name| {
                let path = name.replace(' ', "%20").replace('é', "%C3%A9");
                let url = format!("http://127.0.0.1:{}/{path}", nginx.port);
                json!({"key": "SET", "value": {"data": {"url": url}, "ttl": TTL}})
            })
            .collect();
        let answer = daemon.post_ndjson(&ndjson(&events));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["counts"]["ok"], part.len());
    }
    assert_eq!(redis.key_count(), FILES);
    let mut conn = redis.conn();
    for number in 0..FILES {
        let (name, content) = file(number);
        let stored: Vec<u8> = redis::cmd("GET").arg(&name).query(&mut conn).expect("GET");
        assert!(stored == content, "{name}: {} bytes stored, {} served", stored.len(), content.len());
        let left: i64 = redis::cmd("TTL").arg(&name).query(&mut conn).expect("TTL");
        assert!((TTL - 300..=TTL).contains(&left), "{name}: {left} seconds to live");
    }
}
