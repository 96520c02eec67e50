//! `healthcheck`: asks the daemon on this machine for its probe, for images without a shell. Where it listens is told by
//! the same settings.
//!
//! Over TLS the server is known by its certificate itself, which must be the one that the settings name, and prove that
//! it has the key: a certificate is made out to the service's name and not to the loopback address. So nothing is
//! trusted that the operator has not put there, whatever name or authority it shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use awc::http::Uri;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{client, on_stderr, wrong_usage};
use crate::config::Config;

/// Probes are never slow.
const WITHIN: Duration = Duration::from_secs(3);
const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// `ready`: asks whether events would be carried out, and not only whether the daemon can make progress.
pub fn run(ready: bool, config: &Config) -> ExitCode {
    let path = if ready { "/ready" } else { "/live" };
    let (url, tls) = match target(config, path) {
        Ok(target) => target,
        Err(fault) => return wrong_usage(&fault),
    };
    let answer = actix_rt::System::new().block_on(async {
        let asked = timeout(WITHIN, ask(tls, &url));
        asked.await.unwrap_or_else(|_| Err(format!("no answer within {} seconds", WITHIN.as_secs())))
    });
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            on_stderr(format_args!("redis-cache-sync: {url}: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn target(config: &Config, path: &str) -> Result<(Uri, ClientConfig), String> {
    let port = config.admin_port.unwrap_or(config.port);
    if port == 0 {
        return Err("with port 0 the daemon's port is unknown: set a port".to_owned());
    }
    let address = SocketAddr::new(reachable(config.bind), port);
    // What is beside the main port is plain HTTP, always.
    let listener = config.http.tls.as_ref().filter(|_| config.admin_port.is_none());
    let (scheme, tls) = match listener {
        None => ("http", client::tls(None, None)),
        Some(listener) => ("https", client::pinned(listener.held.cert.expose(), listener.held.key.expose())),
    };
    let uri = format!("{scheme}://{address}{path}")
        .parse()
        .map_err(|_| format!("{address} is not an address that can be called"))?;
    Ok((uri, tls.map_err(|error| error.to_string())?))
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

    fn url(pairs: &[(&str, &str)]) -> Result<String, String> {
        let config = Config::from_pairs(pairs).expect("good settings");
        target(&config, "/ready").map(|(url, _)| url.to_string())
    }

    #[test]
    fn it_asks_where_the_daemon_listens() {
        assert_eq!(url(&[]).as_deref(), Ok("http://127.0.0.1:8080/ready"));
        assert_eq!(url(&[("bind", "::"), ("port", "81")]).as_deref(), Ok("http://[::1]:81/ready"));
        assert_eq!(url(&[("bind", "127.0.0.2"), ("admin_port", "82")]).as_deref(), Ok("http://127.0.0.2:82/ready"));
        assert!(url(&[("port", "0")]).is_err());
    }
}
