//! Answers, and HTTP spoken byte by byte for what a well-behaved client cannot say.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, problem_type};

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {} {}", self.status, self.text()))
    }

    /// Asserts a problem document that is whole and fits the status, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{slug} expected: {}", self.text());
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "content type {kind:?}: {}", self.text());
        let problem = self.json();
        assert_eq!(problem_type(&problem), slug, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].as_str().is_some_and(|text| !text.is_empty()), "no title: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "no detail: {problem}");
        problem
    }

    /// Asserts that `Retry-After` is there and a whole number of seconds, at least one.
    #[track_caller]
    pub fn retry_after(&self) -> u64 {
        let text = self.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {self:?}"));
        let seconds = text.parse().unwrap_or_else(|_| panic!("Retry-After {text:?}"));
        assert!(seconds >= 1, "Retry-After {seconds}");
        seconds
    }
}

/// One connection, kept open.
pub struct Wire {
    reader: BufReader<Channel>,
}

enum Channel {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Channel {
    fn socket(&self) -> &TcpStream {
        match self {
            Channel::Plain(io) => io,
            Channel::Tls(io) => io.get_ref(),
        }
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(io) => io.read(buffer),
            Channel::Tls(io) => io.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(io) => io.write(bytes),
            Channel::Tls(io) => io.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(io) => io.flush(),
            Channel::Tls(io) => io.flush(),
        }
    }
}

impl Wire {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the daemon accepts connections")
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        Ok(Wire { reader: BufReader::new(Channel::Plain(connect(address)?)) })
    }

    /// Segments and buffers are so small that what the other side sends leaves in many pieces.
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = narrow_socket(address).expect("the daemon accepts connections");
        Wire { reader: BufReader::new(Channel::Plain(socket)) }
    }

    /// [`narrow`](Wire::narrow), over TLS.
    pub fn narrow_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let socket = narrow_socket(address).expect("the daemon accepts connections");
        Self::handshake(address, socket, config).expect("a handshake")
    }

    /// Over TLS; the handshake is done.
    pub fn try_tls(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::handshake(address, connect(address)?, config)
    }

    fn handshake(address: SocketAddr, mut socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::from(address.ip());
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let channel = Channel::Tls(Box::new(StreamOwned::new(connection, socket)));
        Ok(Wire { reader: BufReader::new(channel) })
    }

    /// Sends bytes as they are. That the other side has already answered and closed is no failure.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    pub fn send_request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> bool {
        self.send(&request(method, path, headers, body))
    }

    /// Another handle to write on while an answer is awaited.
    pub fn writer(&self) -> TcpStream {
        self.reader.get_ref().socket().try_clone().expect("a socket can be cloned")
    }

    /// Hangs up at once, as one does who gave up: the other side learns of it while it works.
    pub fn reset(self) {
        let socket = self.reader.get_ref().socket();
        SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("a socket can be told to linger");
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("an answer")
    }

    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).expect("an answer")
    }

    pub fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("status line {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("header {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !to_head && status != 204 {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    /// Whether the other side closes the connection within `PATIENCE`, without another byte.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(|_| io::Error::other("chunk size"))?;
                let mut chunk = vec![0; size];
                self.reader.read_exact(&mut chunk)?;
                body.extend_from_slice(&chunk);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match answer.header("content-length").and_then(|value| value.parse().ok()) {
            Some(length) => {
                body.resize(length, 0);
                self.reader.read_exact(&mut body)?;
            }
            None => {
                self.reader.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    configured(TcpStream::connect_timeout(&address, Duration::from_secs(5))?)
}

fn narrow_socket(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.set_tcp_mss(536)?;
    socket.connect(&address.into())?;
    configured(socket.into())
}

fn configured(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request as bytes; `Content-Length` is added if the headers name no length of their own.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let names_length = |(name, _): &(&str, &str)| {
        name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
    };
    if !headers.iter().any(names_length) && (method == "POST" || !body.is_empty()) {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
