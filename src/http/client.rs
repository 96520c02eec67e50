//! Who a request comes from, for the log: the other side of the connection, or, behind proxies that are trusted, the right-most
//! address they name that is none of theirs. What stands left of it, anybody may have written.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of `http.trusted_proxies`.
#[derive(Debug, Clone, Default)]
pub struct Proxies(pub Vec<IpNet>);

impl Proxies {
    /// Whether no proxy is trusted: the other side of the connection is then the client.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The client, as far as it can be believed.
    pub fn client(&self, connected: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = connected.to_canonical();
        let mut named = forwarded(headers);
        while self.0.iter().any(|network| network.contains(&client)) {
            match named.pop() {
                Some(Some(before)) => client = before,
                Some(None) | None => break,
            }
        }
        client
    }
}

/// What the proxies say, the nearest last; none where it is no address.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let (name, is_list) = match headers.contains_key(X_FORWARDED_FOR) {
        true => (X_FORWARDED_FOR, true),
        false => (FORWARDED, false),
    };
    let elements = headers.get_all(name).flat_map(|value| value.to_str().unwrap_or_default().split(','));
    elements.map(|element| address(if is_list { element } else { for_of(element) })).collect()
}

/// RFC 7239: `for` among the pairs of one hop.
fn for_of(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map_or("", |(_, value)| value)
}

/// With a port or without, in brackets and quotes or not.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let address = text.parse::<SocketAddr>().ok().map(|address| address.ip()).or_else(bare);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn client(connected: &str, headers: &[(&str, &'static str)]) -> String {
        let proxies = Proxies(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        proxies.client(connected.parse().unwrap(), &headers.collect()).to_string()
    }

    #[test]
    fn the_right_most_address_that_no_trusted_proxy_has_is_the_clients() {
        let xff = "x-forwarded-for";
        assert_eq!(client("192.0.2.1", &[(xff, "198.51.100.7")]), "192.0.2.1", "not trusted itself");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[(xff, "198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[(xff, "203.0.113.9, 198.51.100.7, 10.9.9.9")]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[(xff, "203.0.113.9"), (xff, "198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &[(xff, "198.51.100.7, unknown")]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[(xff, "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
        assert_eq!(client("::1", &[(xff, "[2001:db8::7]:4711")]), "2001:db8::7");
        assert_eq!(client("::ffff:10.0.0.1", &[(xff, "198.51.100.7:80")]), "198.51.100.7");
        let forwarded = "for=203.0.113.9;proto=http, For=\"[2001:db8::7]:4711\";by=10.0.0.1";
        assert_eq!(client("10.0.0.1", &[("forwarded", forwarded)]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &[("forwarded", "proto=https")]), "10.0.0.1");
    }
}
