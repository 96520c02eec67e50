//! A blob's host that does what no server should: a script of bytes, waits and ends for every connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// What one connection gets; the number counts the requests of the host. The connection is closed behind it.
type Script = Box<dyn Fn(&mut TcpStream, usize) + Send + Sync>;

pub struct Host {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Host {
    /// Reads a request's head, then runs the script.
    pub fn answering(script: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::start(Ipv4Addr::LOCALHOST, true, Box::new(script))
    }

    /// Runs the script before a byte is read.
    pub fn accepting(script: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::start(Ipv4Addr::LOCALHOST, false, Box::new(script))
    }

    /// These bytes, and the end.
    pub fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::answering(move |stream, _| say(stream, &bytes))
    }

    /// At an address that is not among those the service may call.
    pub fn private(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(Ipv4Addr::new(127, 0, 0, 2), true, Box::new(move |stream, _| say(stream, &bytes)))
    }

    /// Speaks TLS and shows a certificate that nobody vouches for.
    pub fn unknown() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(vec![certificate], key).expect("an identity"));
        Self::accepting(move |stream, _| {
            let mut connection = ServerConnection::new(config.clone()).expect("a configuration");
            while connection.is_handshaking() && connection.complete_io(stream).is_ok() {}
        })
    }

    fn start(ip: Ipv4Addr, reads: bool, script: Script) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (requests, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, ended, script) = (requests.clone(), stopped.clone(), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (counter, script) = (counter.clone(), script.clone());
                thread::spawn(move || serve(stream, reads, &counter, &script));
            }
        });
        Host { address, requests, stopped }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/blob", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, reads: bool, counter: &AtomicUsize, script: &Script) {
    let _ = stream.set_nodelay(true);
    if reads && !has_read_head(&stream) {
        return;
    }
    script(&mut stream, counter.fetch_add(1, Ordering::Relaxed));
}

fn has_read_head(stream: &TcpStream) -> bool {
    let mut lines = BufReader::new(stream).lines();
    // Nothing follows the head of a GET, so nothing is lost in the buffer.
    lines.by_ref().any(|line| line.is_ok_and(|line| line.is_empty()))
}

pub fn say(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Until the other side gives up.
pub fn hang(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
}

/// The same again and again, until the other side has enough.
pub fn repeat(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    while stream.write_all(bytes).is_ok() {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

/// The end comes as a reset.
pub fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A whole answer with a body.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status} Answer\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}
