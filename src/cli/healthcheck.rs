//! `healthcheck`: asks the daemon on this machine for its probe, for images without a shell. Where it listens is told by
//! the same settings.
//!
//! Over TLS the server is known by its certificate itself, which must be the one that the settings name, and prove that
//! it has the key: a certificate is made out to the service's name and not to the loopback address. So nothing is
//! trusted that the operator has not put there, whatever name or authority it shows.
//!
//! The files may be in the middle of being replaced: a key that is not that of the certificate is looked at again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use awc::http::Uri;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};

use super::{client, on_stderr, refuse, wrong_usage};
use crate::config::{self, Args, ProbeAddress, TlsFiles};

/// Probes are never slow.
const WITHIN: Duration = Duration::from_secs(3);
/// How long certificate and key may not belong together; the rest is for the probe.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);
const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// `ready`: asks whether events would be carried out, and not only whether the daemon can make progress.
pub fn run(ready: bool, args: Args) -> ExitCode {
    let address = match config::probe_address(args) {
        Ok(address) => address,
        Err(faults) => return refuse(&faults),
    };
    let url = match target(&address, if ready { "/ready" } else { "/live" }) {
        Ok(url) => url,
        Err(fault) => return wrong_usage(&fault),
    };
    let answer = actix_rt::System::new().block_on(async {
        let asked = timeout(WITHIN, async { ask(tls(address.tls.as_ref()).await?, &url).await });
        asked.await.unwrap_or_else(|_| Err(format!("no answer within {} seconds", WITHIN.as_secs())))
    });
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            on_stderr(format_args!("redis-cache-sync: {url}: {reason}"));
            address.other_faults.iter().for_each(|fault| on_stderr(format_args!("redis-cache-sync: {fault}")));
            ExitCode::FAILURE
        }
    }
}

fn target(address: &ProbeAddress, path: &str) -> Result<Uri, String> {
    if address.port == 0 {
        return Err("with port 0 the daemon's port is unknown: set a port".to_owned());
    }
    let scheme = if address.tls.is_some() { "https" } else { "http" };
    let socket = SocketAddr::new(reachable(address.bind), address.port);
    format!("{scheme}://{socket}{path}").parse().map_err(|_| format!("{socket} is not an address that can be called"))
}

async fn tls(files: Option<&TlsFiles>) -> Result<ClientConfig, String> {
    let Some(files) = files else { return client::tls(None, None).map_err(|error| error.to_string()) };
    let ends = Instant::now() + REPLACED_WITHIN;
    let held = loop {
        match config::tls_in(files) {
            Ok(held) => break held,
            Err(_) if Instant::now() < ends => sleep(PAUSE).await,
            Err(reason) => return Err(format!("{} and {}: {reason}", files.cert.display(), files.key.display())),
        }
    };
    client::pinned(held.cert.expose(), held.key.expose()).map_err(|error| error.to_string())
}

/// What listens on all addresses listens on loopback, too.
fn reachable(bind: IpAddr) -> IpAddr {
    match bind {
        bind if !bind.is_unspecified() => bind,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

async fn ask(tls: ClientConfig, url: &Uri) -> Result<(), String> {
    let client = client::client(tls, 1, WITHIN);
    let mut response = client.get(url.clone()).send().await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    if status == 200 {
        return Ok(());
    }
    let body = response.body().limit(MAX_SHOWN_BYTES).await.unwrap_or_default();
    Err(format!("answered {status}: {}", String::from_utf8_lossy(&body).escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bind: &str, port: u16) -> Result<String, String> {
        let bind = bind.parse().expect("an address");
        let address = ProbeAddress { bind, port, tls: None, other_faults: Vec::new() };
        target(&address, "/ready").map(|url| url.to_string())
    }

    #[test]
    fn it_asks_where_the_daemon_listens() {
        assert_eq!(url("0.0.0.0", 8080).as_deref(), Ok("http://127.0.0.1:8080/ready"));
        assert_eq!(url("::", 81).as_deref(), Ok("http://[::1]:81/ready"));
        assert_eq!(url("127.0.0.2", 82).as_deref(), Ok("http://127.0.0.2:82/ready"));
        assert!(url("127.0.0.1", 0).is_err());
    }
}
