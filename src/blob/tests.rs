//! The client against real servers, which misbehave on order.

mod bodies;
mod connections;
mod guard;
mod heads;
mod proxy;
mod rebinding;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use url::Url;

use super::guard::AllowedHosts;
use super::store::Stores;
use super::{BlobClient, BlobSettings, Download, FetchError, FetchErrorKind};

const MAX_BLOB_BYTES: usize = 200_000;

/// What a script leaves of the connection.
enum After {
    Keep,
    Close,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A server on a free loopback port that answers each request as its script says, with whatever bytes.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(script: impl Fn(&str, &mut dyn Stream) -> After + Send + Sync + 'static) -> Server {
        Server::on(loopback(), script, |stream| Some(Box::new(stream)))
    }

    /// Answers everything with these bytes, and closes.
    fn answering(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            After::Close
        })
    }

    fn on(
        listener: TcpListener,
        script: impl Fn(&str, &mut dyn Stream) -> After + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Server {
        let port = listener.local_addr().unwrap().port();
        let (heads, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (script, wrap) = (Arc::new(script), Arc::new(wrap));
        let server = Server { port, heads: Arc::clone(&heads), connections: Arc::clone(&connections) };
        // The threads end with the test's process; each waits for a peer and nothing else.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, wrap, heads) = (Arc::clone(&script), Arc::clone(&wrap), Arc::clone(&heads));
                std::thread::spawn(move || {
                    let Some(mut stream) = wrap(stream) else { return };
                    while let Some(head) = read_head(&mut stream) {
                        heads.lock().unwrap().push(head.clone());
                        let path = head.split(' ').nth(1).unwrap_or_default();
                        if let After::Close = script(path, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn read_head(stream: &mut dyn Stream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Waits until the client gives the connection up.
fn hang(stream: &mut dyn Stream) {
    while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
}

fn response(head: &str, body: &[u8]) -> Vec<u8> {
    [head.replace('\n', "\r\n").as_bytes(), format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Vec<u8> {
    response("HTTP/1.1 200 OK\n", body)
}

fn settings() -> BlobSettings {
    BlobSettings {
        allowed_hosts: "127.0.0.1, localhost, [::1]".parse::<AllowedHosts>().unwrap(),
        extra_roots: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(10),
        max_blob_bytes: MAX_BLOB_BYTES,
        max_connections: 4,
        proxy: None,
        stores: Stores::default(),
        propagate_trace: true,
    }
}

fn client() -> BlobClient {
    BlobClient::new(settings()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn open(client: &BlobClient, url: &Url) -> Result<Download, FetchError> {
    client.open_url(url, None, soon()).await
}

async fn fetch(client: &BlobClient, url: &Url) -> Result<Bytes, FetchError> {
    open(client, url).await?.read().await
}

/// The failure that a server with this answer ends in.
async fn failure(answer: impl Into<Vec<u8>>) -> FetchError {
    let server = Server::answering(answer);
    fetch(&client(), &server.url("/")).await.expect_err("a failure")
}
