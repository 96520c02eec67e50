//! By which name an open service may be called. A page of any site can have its own name resolve to a private address (DNS
//! rebinding), and a browser then takes the service for a part of that site; what it sends as `Host` gives it away.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HOST;

use super::progress::ConnectionProgress;

/// Whether all that the request says about whom it calls is an IP address, `localhost` or one of `names`. A request of
/// HTTP/1.0 need not say; no browser sends one.
pub fn is_ours(request: &ServiceRequest, connection: Option<&ConnectionProgress>, names: &[String]) -> bool {
    let host = request.headers().get(HOST);
    let judge = || host.is_none_or(|host| is_known(host.to_str().unwrap_or_default(), names));
    let is_host_ours = match (host, connection) {
        (Some(host), Some(connection)) => connection.is_known_host(host.as_bytes(), judge),
        _ => judge(),
    };
    is_host_ours && request.uri().authority().is_none_or(|target| is_known(target.as_str(), names))
}

fn is_known(called: &str, names: &[String]) -> bool {
    let name = without_port(called.trim());
    if let Some(bracketed) = name.strip_prefix('[') {
        return bracketed.strip_suffix(']').is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.strip_suffix('.').unwrap_or(known).eq_ignore_ascii_case(name))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_the_names_that_are_set_are_ours() {
        let names = ["cache-sync".to_owned(), "cache.example.com".to_owned()];
        for ours in [
            "127.0.0.1",
            "10.0.0.7:8080",
            "[::1]",
            "[fd00::7]:80",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "cache-sync:8080",
            "Cache.Example.com",
            "cache.example.com.",
        ] {
            assert!(is_known(ours, &names), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "cache-sync.evil",
            "[::1",
            "[x]",
            "user@localhost",
            "localhost:80x",
            "2130706433",
            "127.1",
            "::1:x",
        ] {
            assert!(!is_known(foreign, &names), "{foreign}");
        }
        assert!(!is_known("cache-sync", &[]));
    }
}
