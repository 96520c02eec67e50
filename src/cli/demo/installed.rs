//! Servers that are installed on this machine, started for the demo: each on free loopback ports, in a folder of its own, and
//! ended by its process id.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{self, Path};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Failure;
use super::bucket::{BUCKET, Bucket, READER, WRITER};

/// For a server to start. SeaweedFS takes some seconds.
const START_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the server printed, in its folder.
const LOG: &str = "log";
/// SeaweedFS speaks gRPC on ports so far above the others.
const GRPC_ABOVE: u16 = 10_000;

/// A process, which ends with this value, and then its folder is gone.
pub(super) struct Installed {
    name: String,
    child: Child,
    folder: TempDir,
}

impl Drop for Installed {
    fn drop(&mut self) {
        // It may have ended by itself, and nothing of it is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Installed {
    fn start(program: &Path, arguments: &[String], folder: TempDir) -> Result<Self, Failure> {
        let name = program.display().to_string();
        let log = File::create(folder.path().join(LOG))?;
        // A path is of where the demo is; a name alone is looked for in PATH.
        let is_name = program.components().count() == 1;
        let program = if is_name { program.to_owned() } else { path::absolute(program)? };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path());
        // No settings of somebody else.
        command.env("HOME", folder.path()).env("TMPDIR", folder.path());
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // ctrl-c at a terminal is for the demo alone, which then ends this.
        command.process_group(0);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        Ok(Installed { name, child, folder })
    }

    /// Waits until the server is ready.
    async fn until(&mut self, mut ready: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
        let end = Instant::now() + START_WITHIN;
        loop {
            let ended = self.child.try_wait()?;
            if ended.is_none() && ready().await {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > end {
                let said = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(format!("{} did not start; its last words: {last}", self.name).into());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// An empty redis-server that keeps nothing, and its port.
pub(super) async fn redis_server(program: &Path) -> Result<(Installed, u16), Failure> {
    let folder = new_folder()?;
    let dir = folder.path().display().to_string();
    let port = free_port()?;
    let arguments = ["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir", &dir].map(String::from);
    let mut server = Installed::start(program, &arguments, folder)?;
    server.until(async || is_redis_in(port, &dir).await.unwrap_or(false)).await?;
    Ok((server, port))
}

/// Whether the Redis on this port works in that folder: then it is the one that was started, and nobody else's.
async fn is_redis_in(port: u16, dir: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"CONFIG GET dir\r\nQUIT\r\n").await?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).await?;
    Ok(answer.contains(dir))
}

/// A SeaweedFS that is starting.
pub(super) struct Weed {
    server: Installed,
    ports: [u16; 4],
}

impl Drop for Weed {
    /// It leaves sockets behind, whatever ends it.
    fn drop(&mut self) {
        for port in self.ports {
            for part in ["master", "volume", "filer", "s3"] {
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-{port}.sock"));
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{}.sock", port + GRPC_ABOVE));
            }
        }
    }
}

impl Weed {
    /// `notified`: where its filer posts each change, with this bearer token.
    pub fn start(program: &Path, s3_port: u16, notified: &str, token: &str) -> Result<Self, Failure> {
        let folder = new_folder()?;
        let webhook =
            format!("[notification.webhook]\nenabled = true\nendpoint = \"{notified}\"\nbearer_token = \"{token}\"\n");
        fs::write(folder.path().join("notification.toml"), webhook)?;
        fs::write(folder.path().join("identities.json"), identities())?;
        let [master, volume, filer] = [free_port()?, free_port()?, free_port()?];
        let arguments = format!(
            "server -dir=. -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port={master} -volume.port={volume} -filer \
             -filer.port={filer} -s3 -s3.port={s3_port} -s3.config=identities.json -volume.max=100 -master.volumeSizeLimitMB=64"
        );
        let arguments: Vec<String> = arguments.split(' ').map(String::from).collect();
        let server = Installed::start(program, &arguments, folder)?;
        Ok(Weed { server, ports: [master, volume, filer, s3_port] })
    }

    /// Waits until its parts have found each other and the bucket is there.
    pub async fn ready(&mut self, bucket: &Bucket) -> Result<(), Failure> {
        self.server.until(async || bucket.create().await.is_ok()).await
    }
}

/// One who may do everything, and one who may only read.
fn identities() -> String {
    let identity = |(id, secret): (&str, &str), actions: &[String]| json!({"name": id, "credentials": [{"accessKey": id, "secretKey": secret}], "actions": actions});
    let reads = ["Read", "List"].map(|action| format!("{action}:{BUCKET}"));
    json!({"identities": [identity(WRITER, &["Admin".into()]), identity(READER, &reads)]}).to_string()
}

fn new_folder() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("redis-cache-sync-demo-").tempdir()
}

/// A port that is free now.
fn free_port() -> io::Result<u16> {
    Ok(reserve()?.local_addr()?.port())
}

/// A port that stays reserved until this is dropped. The one for gRPC above it is free too.
pub(super) fn reserve() -> io::Result<TcpListener> {
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let above = listener.local_addr()?.port().checked_add(GRPC_ABOVE);
        if above.is_some_and(|above| TcpListener::bind(("127.0.0.1", above)).is_ok()) {
            return Ok(listener);
        }
    }
}
