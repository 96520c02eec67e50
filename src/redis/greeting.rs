//! How a connection begins: login, and what the server says of itself. No command here can affect other clients, on any
//! release of Redis.
//!
//! Some proxies close a connection over a command that they do not know. If the connection is closed before everything is
//! answered, it is made once more without the questions.

use std::cell::Cell;
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use log::warn;
use tokio::time::timeout;

use super::MAX_OWN_BYTES;
use super::cause::{self, TransportError};
use super::connection::{Connection, HANDSHAKE};
use super::encode::Encoder;
use super::error::{Error, unavailable};
use super::reply::Frame;
use super::server::{Role, Server};
use super::server_info::{ConnectionId, MIN_RELEASE, Product, ServerInfo};
use super::settings::Settings;
use crate::secret::Secret;

/// Whom `CLIENT KILL` is asked for, to see whether we may: an address always has a port, so no client has this one, and no
/// version of Redis does anything about it. (`CLIENT KILL ID 0` closes all other connections before Redis 7.0.)
const NOBODY: &str = "nobody";
/// A Redis that waits for the end of a line never answers to TLS.
const PLAIN_PORT: &str = ": is this a port without TLS? (redis.tls, or rediss:// in redis.url)";
/// The longest name or number that a server may give of itself, in bytes.
const MAX_WORD_BYTES: usize = 64;

enum GreetingError {
    /// Closed before everything was answered.
    Closed,
    TimedOut,
    Failed(String),
    Unsupported(String),
}

/// Connects and logs in. What the server's kernel does takes `connect_timeout` at most, whatever `within` says.
pub(crate) async fn open(server: &Server, within: Duration) -> Result<Connection, Error> {
    let step = Cell::new("connecting");
    let name = || server.name();
    match timeout(within, connect_with_or_without_questions(server, within, &step)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(GreetingError::Closed)) => {
            let hint =
                if server.tls.is_some() { "" } else { " (is this a TLS port? redis.tls, or rediss:// in redis.url)" };
            Err(unavailable(format!("{}: it closed the connection before it answered{hint}", name())))
        }
        Ok(Err(GreetingError::Failed(cause))) => Err(unavailable(format!("{}: {cause}", name()))),
        Ok(Err(GreetingError::Unsupported(cause))) => Err(Error::Unsupported(format!("{}: {cause}", name()).into())),
        Ok(Err(GreetingError::TimedOut)) | Err(_) => {
            let hint = if step.get() == HANDSHAKE { PLAIN_PORT } else { "" };
            let (step, millis) = (step.get(), within.as_millis());
            Err(unavailable(format!("{}: {step} took longer than {millis} ms{hint}", name())))
        }
    }
}

async fn connect_with_or_without_questions(
    server: &Server,
    within: Duration,
    step: &Cell<&'static str>,
) -> Result<Connection, GreetingError> {
    match attempt(server, within, step, false).await {
        Err(GreetingError::Closed) => attempt(server, within, step, true).await,
        ended => ended,
    }
}

async fn attempt(
    server: &Server,
    within: Duration,
    step: &Cell<&'static str>,
    is_minimal: bool,
) -> Result<Connection, GreetingError> {
    let settings = &server.settings;
    let mut connection =
        Connection::connect(settings, server.tls.as_ref(), step).await.map_err(GreetingError::Failed)?;
    step.set("logging in");
    let (encoder, has_login) = login(settings, is_minimal).await;
    let mut frames = Vec::new();
    let ended = connection.exchange_raw(encoder, MAX_OWN_BYTES, within, &mut frames).await;
    let mut replies = Replies(frames.into_iter());
    let first = read_login(&mut replies, has_login, settings.db != 0);
    if let Err(broken) = ended {
        return Err(broken_off(broken, first.err(), &connection));
    }
    first.map_err(GreetingError::Failed)?;
    connection.info =
        if is_minimal { ServerInfo { is_minimal, ..ServerInfo::default() } } else { read_info(&mut replies) };
    check_role(server, &mut connection).await?;
    Ok(connection)
}

/// Everything that is sent first, in one pipeline, and whether an `AUTH` is part of it.
async fn login(settings: &Settings, is_minimal: bool) -> (Encoder, bool) {
    let password = password(settings).await;
    let has_login = settings.username.is_some() || password.is_some();
    let mut encoder = Encoder::new();
    if has_login {
        let password = password.as_ref().map_or("", Secret::expose);
        encoder.command(|cmd| cmd.arg("AUTH").arg(settings.username.as_deref()).arg(password));
    }
    if settings.db != 0 {
        encoder.command(|cmd| cmd.arg("SELECT").arg(settings.db));
    }
    encoder.pack(&[b"PING"]);
    if !is_minimal {
        ask(&mut encoder, &settings.client_name);
    }
    (encoder, has_login)
}

/// Why the login did not end. `first` is what the server said before.
fn broken_off(broken: TransportError, first: Option<String>, connection: &Connection) -> GreetingError {
    match (broken, first) {
        // A server that is full or in protected mode says so and closes.
        (_, Some(error)) => GreetingError::Failed(error),
        (TransportError::Malformed, None) => GreetingError::Failed(cause::of_no_redis(connection.unread()).to_owned()),
        (TransportError::TimedOut, None) => GreetingError::TimedOut,
        (broken, None) if broken.is_closed() => GreetingError::Closed,
        (TransportError::Io(error), None) => GreetingError::Failed(cause::of_io(&error)),
        (TransportError::Closed, None) => GreetingError::Closed,
    }
}

/// The questions.
fn ask(encoder: &mut Encoder, client_name: &str) {
    encoder.pack(&[b"HELLO"]);
    encoder.pack(&[b"CLIENT", b"ID"]);
    encoder.pack(&[b"CLIENT", b"INFO"]);
    encoder.pack(&[b"CLIENT", b"SETNAME", client_name.as_bytes()]);
    encoder.pack(&[b"CLIENT", b"KILL", NOBODY.as_bytes()]);
    encoder.pack(&[b"INFO", b"server"]);
    encoder.pack(&[b"INFO", b"memory"]);
}

/// The password as it is now.
async fn password(settings: &Settings) -> Option<Secret> {
    let Some(reread) = settings.reread.clone() else { return settings.password.clone() };
    match tokio::task::spawn_blocking(move || reread.read()).await {
        Ok(Ok(secret)) => Some(secret),
        Ok(Err(reason)) => {
            warn!(cause = reason.as_str(); "password file cannot be used, trying the password from the start");
            settings.password.clone()
        }
        Err(_) => settings.password.clone(),
    }
}

/// Reads the answers to AUTH, SELECT and PING. A user may lack the permission for PING and do the work all the same.
fn read_login(replies: &mut Replies, has_login: bool, has_db: bool) -> Result<(), String> {
    if has_login {
        check_accepted(replies.next(), "login")?;
    }
    if has_db {
        check_accepted(replies.next(), "SELECT")?;
    }
    match replies.next() {
        Some((Frame::Error(code), _)) if code.as_str() == "NOPERM" => Ok(()),
        reply => check_accepted(reply, "PING"),
    }
}

fn check_accepted(reply: Option<(Frame, Vec<Frame>)>, asked: &str) -> Result<(), String> {
    match reply {
        Some((Frame::Error(code), _)) if code.as_str() == "NOPERM" => {
            Err(format!("the user may not use {asked} (NOPERM)"))
        }
        Some((Frame::Error(code), _)) => Err(cause::of_refusal(&code)),
        // Nothing at all is told by why nothing came.
        Some((Frame::Status, _)) | None => Ok(()),
        Some(_) => Err(format!("its answer to {asked} does not fit")),
    }
}

fn read_info(replies: &mut Replies) -> ServerInfo {
    let hello = replies.next().map(|(_, elements)| elements).unwrap_or_default();
    let identity = identity(replies.next(), replies.next());
    replies.next();
    let may_kill = !matches!(replies.next(), Some((Frame::Error(code), _)) if code.as_str() == "NOPERM");
    let (server, memory) = (text(replies.next()), text(replies.next()));
    let of_server = |name: &str| server.as_deref().and_then(|info| field(info, name));
    let said = |name: &str| in_hello(&hello, name);
    let make = |name: &str, version| Product { name: name.to_owned(), version };
    ServerInfo {
        identity,
        may_kill,
        eviction_policy: memory
            .as_deref()
            .and_then(|info| field(info, "maxmemory_policy"))
            .filter(|is| is != "noeviction"),
        make: of_server("valkey_version")
            .map(|version| make("valkey", version))
            .or_else(|| of_server("redis_version").map(|version| make("redis", version)))
            .or_else(|| Some(make(&said("server")?, said("version")?))),
        mode: of_server("redis_mode").or_else(|| of_server("server_mode")).or_else(|| said("mode")),
        is_minimal: false,
    }
}

/// Fails unless the server can play its role.
async fn check_role(server: &Server, connection: &mut Connection) -> Result<(), GreetingError> {
    let told = |text: &str| Err(GreetingError::Failed(text.to_owned()));
    let ServerInfo { make, mode, .. } = connection.info.clone();
    if let Some(Product { name, version }) = make.as_ref().filter(|make| make.is_too_old())
        && server.role != Role::Sentinel
    {
        let (major, minor) = MIN_RELEASE;
        return Err(GreetingError::Unsupported(format!(
            "it is {name} {version}; the service needs {major}.{minor} or later"
        )));
    }
    match (server.role, mode.as_deref()) {
        (Role::Sentinel, Some("standalone" | "cluster")) => {
            told("it is not a sentinel: redis.nodes must name sentinels, which name the master")
        }
        (Role::Standalone | Role::ClusterNode | Role::Master, Some("sentinel")) => {
            told("it is a sentinel and holds no data: set redis.mode = sentinel, and redis.nodes to its address")
        }
        (Role::ClusterNode, Some("standalone")) => told("it is not a node of a cluster: set redis.mode = standalone"),
        // One that has every slot works as it is.
        (Role::Standalone, Some("cluster")) if !has_every_slot(server, connection).await => {
            told("it is one of several nodes of a cluster: set redis.mode = cluster")
        }
        _ => Ok(()),
    }
}

async fn has_every_slot(server: &Server, connection: &mut Connection) -> bool {
    let mut encoder = Encoder::new();
    encoder.pack(&[b"CLUSTER", b"INFO"]);
    let mut frames = Vec::new();
    let asked = connection.exchange_raw(encoder, MAX_OWN_BYTES, server.settings.connect_timeout, &mut frames).await;
    let info = asked.ok().and_then(|()| text(Replies(frames.into_iter()).next()));
    info.and_then(|info| field(&info, "cluster_size")).as_deref() == Some("1")
}

/// Replies one by one, each with its elements.
struct Replies(vec::IntoIter<Frame>);

impl Iterator for Replies {
    type Item = (Frame, Vec<Frame>);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.0.next()?;
        let elements = |frame: &Frame| if let Frame::Array(elements) = frame { *elements } else { 0 };
        let (mut due, mut inside) = (elements(&first), Vec::new());
        while due > 0
            && let Some(frame) = self.0.next()
        {
            due = due - 1 + elements(&frame);
            inside.push(frame);
        }
        Some((first, inside))
    }
}

fn text(reply: Option<(Frame, Vec<Frame>)>) -> Option<Bytes> {
    match reply {
        Some((Frame::Text(text), _)) => Some(text),
        _ => None,
    }
}

/// From the answers to CLIENT ID and CLIENT INFO. Both are needed: `CLIENT KILL` by the id alone may meet a stranger once the
/// server has been restarted, and before Redis 7.0 the id 0 stands for everybody.
fn identity(id: Option<(Frame, Vec<Frame>)>, info: Option<(Frame, Vec<Frame>)>) -> Option<ConnectionId> {
    match (id, text(info)) {
        (Some((Frame::Number(id @ 1..), _)), Some(info)) => Some(ConnectionId { id, address: address_in(&info)? }),
        _ => None,
    }
}

fn address_in(info: &Bytes) -> Option<Bytes> {
    let field = info.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(b"addr="))?;
    let usable = !field.is_empty() && field.len() <= 128 && field.iter().all(u8::is_ascii_graphic);
    usable.then(|| Bytes::copy_from_slice(field))
}

/// A field of an answer to INFO.
fn field(info: &[u8], name: &str) -> Option<String> {
    let value =
        info.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"));
    word(value?.trim_ascii())
}

/// A member of the answer to HELLO, which is flat: names and values by turns, the modules last.
fn in_hello(hello: &[Frame], name: &str) -> Option<String> {
    hello.chunks(2).find_map(|pair| match pair {
        [Frame::Text(is), Frame::Text(value)] if is[..] == *name.as_bytes() => word(value),
        _ => None,
    })
}

fn word(bytes: &[u8]) -> Option<String> {
    let is_good = !bytes.is_empty() && bytes.len() <= MAX_WORD_BYTES && bytes.iter().all(u8::is_ascii_graphic);
    is_good.then(|| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(name: &str, version: &str) -> Product {
        Product { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_redis_before_the_oldest_is_told_apart_from_servers_with_versions_of_their_own() {
        for old in ["5.0.14", "6.0.16", "2.8"] {
            assert!(make("redis", old).is_too_old(), "{old}");
        }
        for good in ["6.2.0", "6.2.14", "7.0.15", "8.10.2", "10.0", "255.255.255", "unknown", ""] {
            assert!(!make("redis", good).is_too_old(), "{good}");
        }
        assert!(!make("valkey", "1.0.0").is_too_old() && !make("dragonfly", "1.2.3").is_too_old());
    }

    #[test]
    fn a_server_tells_who_it_is_by_info_and_otherwise_by_hello() {
        let text = |text: &str| Frame::Text(Bytes::copy_from_slice(text.as_bytes()));
        let hello = |server, version| {
            let words = ["server", server, "version", version, "mode", "cluster"].map(text);
            [vec![Frame::Array(8)], words.to_vec(), vec![text("modules"), Frame::Array(1), Frame::Array(0)]].concat()
        };
        let no = || Frame::Error(super::super::error_code::Code::from_line(b"NOPERM"));
        let read = |hello: Vec<Frame>, server: Frame| {
            let rest = vec![Frame::Number(0), text("addr=a:1"), Frame::Status, no(), server, no()];
            read_info(&mut Replies([hello, rest].concat().into_iter()))
        };
        let info = text("# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.1.8\r\nserver_mode:standalone\r\n");
        let of_valkey = read(hello("redis", "7.2.4"), info);
        assert_eq!((of_valkey.make, of_valkey.mode.as_deref()), (Some(make("valkey", "8.1.8")), Some("standalone")));
        assert_eq!((of_valkey.identity, of_valkey.may_kill), (None, false), "no client has the id 0");
        let of_hello = read(hello("redis", "6.2.14"), no());
        assert_eq!((of_hello.make, of_hello.mode.as_deref()), (Some(make("redis", "6.2.14")), Some("cluster")));
        assert_eq!(read(vec![no()], no()).make, None);
    }
}
