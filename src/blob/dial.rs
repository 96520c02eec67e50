//! From a host to a TCP connection: names to addresses, addresses to the first that answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Host;

use super::{FetchError, lookups};

/// How we name ourselves to hosts and proxies.
pub(super) const USER_AGENT: &str = concat!("redis-cache-sync/", env!("CARGO_PKG_VERSION"));

/// The addresses of a name and port.
pub(super) type NameResolver = Rc<dyn Fn(String, u16) -> LocalBoxFuture<'static, io::Result<Vec<SocketAddr>>>>;

/// A resolver that asks the system.
pub(super) fn by_the_system() -> NameResolver {
    Rc::new(|name, port| {
        Box::pin(async move {
            let found = lookups::addresses(&name).await?;
            Ok(found.iter().map(|address| SocketAddr::new(*address, port)).collect())
        })
    })
}

pub(super) async fn resolve(resolver: &NameResolver, host: &Host, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
    let name = match host {
        Host::Domain(name) => name.clone(),
        Host::Ipv4(ip) => return Ok(vec![SocketAddr::new(IpAddr::V4(*ip), port)]),
        Host::Ipv6(ip) => return Ok(vec![SocketAddr::new(IpAddr::V6(*ip), port)]),
    };
    let addresses = resolver(name, port).await;
    let addresses = addresses.map_err(|_| FetchError::unavailable("the host name cannot be resolved"))?;
    if addresses.is_empty() {
        return Err(FetchError::unavailable("the host name has no address"));
    }
    Ok(addresses)
}

/// Tries the addresses in turn, with `connect`. Each gets an equal share of what is left, so that a dead one does not use
/// up the time of a live one behind it.
pub(super) async fn connect_to_one(
    addresses: &[SocketAddr],
    until: Instant,
    connect: impl AsyncFn(SocketAddr, Instant) -> Result<TcpStream, FetchError>,
) -> Result<TcpStream, FetchError> {
    let mut last = timed_out();
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(now + share, connect(*address, now + share)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = timed_out(),
        }
    }
    Err(last)
}

pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, FetchError> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => timed_out(),
        kind => FetchError::unavailable(fault(kind)),
    })
}

pub(super) fn timed_out() -> FetchError {
    FetchError { silent: true, ..FetchError::unavailable("connecting took too long") }
}

/// An I/O failure in our own words.
pub(super) fn fault(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::*;
    match kind {
        ConnectionRefused => "the connection was refused",
        ConnectionReset | ConnectionAborted | BrokenPipe => "the connection was reset",
        HostUnreachable | NetworkUnreachable => "the host cannot be reached",
        UnexpectedEof => "the connection was closed early",
        TimedOut => "the connection timed out",
        InvalidData => "the answer is malformed",
        _ => "the connection failed",
    }
}
