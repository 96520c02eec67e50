//! A real HTTP/1.1 server on a free port whose every path misbehaves the way the test ordered.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::{PATIENCE, eventually, gzip};

/// What a path answers. Begin with [`Blob::bytes`], [`Blob::status`], [`Blob::redirect`] or [`Blob::hang`].
#[derive(Clone)]
pub struct Blob {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<[u8]>,
    delay: Duration,
    drip: Option<(usize, Duration)>,
    cut_after: Option<usize>,
    declared: Option<usize>,
    chunked: bool,
    hangs: bool,
    gate: Option<Gate>,
    /// Answers 304 to who names it.
    etag: Option<String>,
}

impl Blob {
    pub fn bytes(body: impl AsRef<[u8]>) -> Self {
        Blob {
            status: 200,
            headers: Vec::new(),
            body: body.as_ref().into(),
            delay: Duration::ZERO,
            drip: None,
            cut_after: None,
            declared: None,
            chunked: false,
            hangs: false,
            gate: None,
            etag: None,
        }
    }

    /// A status with a short body, where it may have one, that must never be stored.
    pub fn status(status: u16) -> Self {
        let body = if matches!(status, 204 | 304) { String::new() } else { format!("the body of a {status}") };
        Blob { status, ..Blob::bytes(body) }
    }

    /// The same with another status.
    pub fn with_status(self, status: u16) -> Self {
        Blob { status, ..self }
    }

    pub fn redirect(to: &str) -> Self {
        Blob::status(302).header("Location", to)
    }

    /// Takes the request and never answers.
    pub fn hang() -> Self {
        Blob { hangs: true, ..Blob::bytes("") }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says this entity tag, and 304 to who has it already.
    pub fn etag(self, etag: &str) -> Self {
        Blob { etag: Some(etag.to_owned()), ..self }.header("ETag", etag)
    }

    /// Waits before the head of the answer.
    pub fn delay(self, delay: Duration) -> Self {
        Blob { delay, ..self }
    }

    /// Answers the head at once and the body in pieces of `size`, with a wait before each.
    pub fn drip(self, size: usize, pause: Duration) -> Self {
        Blob { drip: Some((size, pause)), ..self }
    }

    /// Closes the connection after this many bytes of the body.
    pub fn cut_after(self, bytes: usize) -> Self {
        Blob { cut_after: Some(bytes), ..self }
    }

    /// Says this length, whatever the body's is.
    pub fn content_length(self, length: usize) -> Self {
        Blob { declared: Some(length), ..self }
    }

    /// With `Transfer-Encoding: chunked`: no length is declared.
    pub fn chunked(self) -> Self {
        Blob { chunked: true, ..self }
    }

    /// The body compressed, with `Content-Encoding: gzip`.
    pub fn gzip(self) -> Self {
        let body = gzip(&self.body).into();
        Blob { body, ..self }.header("Content-Encoding", "gzip")
    }

    /// What is answered to a request with this head.
    fn unless_named(&self, head: &str) -> Blob {
        let named = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("if-none-match").then_some(value.trim())
        });
        match &self.etag {
            Some(etag) if named == Some(etag) => Blob { status: 304, body: [].into(), ..self.clone() },
            _ => self.clone(),
        }
    }

    /// Answers only once the gate is open.
    pub fn gate(self, gate: &Gate) -> Self {
        Blob { gate: Some(gate.clone()), ..self }
    }
}

/// Holds answers back until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn closed() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn pass(&self, stopped: &AtomicBool) {
        let mut open = lock(&self.0.0);
        while !*open && !stopped.load(Ordering::Relaxed) {
            open = self.0.1.wait_timeout(open, Duration::from_millis(100)).unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

type Handler = Box<dyn Fn(&str) -> Option<Blob> + Send + Sync>;

#[derive(Default)]
struct Shared {
    paths: Mutex<HashMap<String, Vec<Blob>>>,
    /// Answers for paths that nobody registered.
    fallback: Mutex<Option<Handler>>,
    targets: Mutex<Vec<String>>,
    heads: Mutex<Vec<String>>,
    bodies: Mutex<Vec<Vec<u8>>>,
    hits: Mutex<HashMap<String, usize>>,
    answered: Mutex<HashMap<String, usize>>,
    running: AtomicUsize,
    high_water: AtomicUsize,
    stopped: AtomicBool,
}

pub struct BlobServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl BlobServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&serving);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        BlobServer { address, shared }
    }

    /// What `path` answers from now on.
    pub fn put(&self, path: &str, blob: Blob) {
        self.put_sequence(path, vec![blob]);
    }

    /// The first request gets the first blob, and so on; the last one stays.
    pub fn put_sequence(&self, path: &str, blobs: Vec<Blob>) {
        lock(&self.shared.paths).insert(path.to_owned(), blobs);
        lock(&self.shared.hits).remove(path);
    }

    /// Answers every path that nobody registered.
    pub fn fallback(&self, handler: impl Fn(&str) -> Option<Blob> + Send + Sync + 'static) {
        *lock(&self.shared.fallback) = Some(Box::new(handler));
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Requests for a path (without its query) up to now.
    pub fn hits(&self, path: &str) -> usize {
        lock(&self.shared.hits).get(path).copied().unwrap_or(0)
    }

    /// Answers to a path that were written whole.
    pub fn answered(&self, path: &str) -> usize {
        lock(&self.shared.answered).get(path).copied().unwrap_or(0)
    }

    /// Waits until a path was asked for `count` times.
    #[track_caller]
    pub fn wait_hits(&self, path: &str, count: usize) {
        let seen = eventually(PATIENCE, || self.hits(path) >= count);
        assert!(seen, "{path} was asked for {} times, not {count}", self.hits(path));
    }

    /// Every target asked for, queries included, in the order of arrival.
    pub fn targets(&self) -> Vec<String> {
        lock(&self.shared.targets).clone()
    }

    /// Every request head, in the order of arrival.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.shared.heads).clone()
    }

    /// Every request's body, mostly empty, in the order of arrival.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.bodies).clone()
    }

    /// Requests in work at this moment.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// The most requests that were ever in work at once.
    pub fn high_water(&self) -> usize {
        self.shared.high_water.load(Ordering::SeqCst)
    }
}

impl Drop for BlobServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(60)));
    let mut reader = BufReader::new(stream);
    while let Ok(Some(head)) = read_head(&mut reader) {
        let Some(target) = head.split(' ').nth(1).map(str::to_owned) else {
            return;
        };
        let Ok(body) = read_body(&mut reader, &head) else { return };
        lock(&shared.bodies).push(body);
        let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        shared.high_water.fetch_max(running, Ordering::SeqCst);
        let outcome = respond(reader.get_mut(), &target, head, shared);
        shared.running.fetch_sub(1, Ordering::SeqCst);
        if !matches!(outcome, Ok(true)) {
            return;
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head[before..].trim_end().is_empty() {
            return Ok(Some(head));
        }
    }
}

fn read_body(reader: &mut BufReader<TcpStream>, head: &str) -> io::Result<Vec<u8>> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(body)
}

/// Answers one request; false if the connection must be closed afterwards.
fn respond(stream: &mut TcpStream, target: &str, head: String, shared: &Shared) -> io::Result<bool> {
    let path = target.split('?').next().unwrap_or_default();
    let registered = lock(&shared.paths).get(path).cloned();
    let nth = {
        let mut hits = lock(&shared.hits);
        let hits = hits.entry(path.to_owned()).or_default();
        *hits += 1;
        *hits - 1
    };
    lock(&shared.targets).push(target.to_owned());
    lock(&shared.heads).push(head.clone());
    let blob = match registered {
        Some(blobs) => blobs.get(nth).or(blobs.last()).cloned(),
        None => lock(&shared.fallback).as_ref().and_then(|handler| handler(target)),
    };
    let blob = blob.unwrap_or_else(|| Blob::status(404));
    let keep = write_blob(stream, &blob.unless_named(&head), shared)?;
    *lock(&shared.answered).entry(path.to_owned()).or_default() += 1;
    Ok(keep)
}

fn write_blob(stream: &mut TcpStream, blob: &Blob, shared: &Shared) -> io::Result<bool> {
    if let Some(gate) = &blob.gate {
        gate.pass(&shared.stopped);
    }
    if blob.hangs {
        while !shared.stopped.load(Ordering::Relaxed) && !peer_is_gone(stream) {
            thread::sleep(Duration::from_millis(20));
        }
        return Ok(false);
    }
    thread::sleep(blob.delay);
    let mut head = format!("HTTP/1.1 {} Answer\r\n", blob.status);
    for (name, value) in &blob.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if blob.chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if !matches!(blob.status, 204 | 304) {
        head.push_str(&format!("Content-Length: {}\r\n", blob.declared.unwrap_or(blob.body.len())));
    }
    head.push_str("\r\n");
    let body = &blob.body[..blob.cut_after.unwrap_or(blob.body.len()).min(blob.body.len())];
    let piece = blob.drip.map_or(64 * 1024, |(size, _)| size.max(1));
    let mut out = head.into_bytes();
    for chunk in body.chunks(piece) {
        if let Some((_, pause)) = blob.drip {
            stream.write_all(&out)?;
            out.clear();
            thread::sleep(pause);
        }
        if blob.chunked {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        }
        out.extend_from_slice(chunk);
        if blob.chunked {
            out.extend_from_slice(b"\r\n");
        }
        stream.write_all(&out)?;
        out.clear();
    }
    if blob.cut_after.is_some() {
        stream.write_all(&out)?;
        return Ok(false);
    }
    if blob.chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    stream.write_all(&out)?;
    Ok(blob.declared.is_none_or(|length| length == blob.body.len()))
}

/// Whether the other side has closed its connection, without taking anything from it.
fn peer_is_gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let peeked = stream.peek(&mut [0; 1]);
    let _ = stream.set_nonblocking(false);
    match peeked {
        Ok(count) => count == 0,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
