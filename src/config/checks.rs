//! Checks of single texts. A reason never quotes the text, which may be a secret.

use std::net::IpAddr;

use ipnet::IpNet;

use super::secret::WebhookSecret;
use crate::blob::Proxy;
use crate::blob::guard::AllowedHosts;
use crate::blob::store;
use crate::event::pattern::Pattern;
use crate::event::rights::TokenLine;
use crate::event::sources::KeyTemplate;

/// Bytes of a key template, at most.
const MAX_TEMPLATE_BYTES: usize = 1024;

pub fn address(text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(drop).map_err(|_| "not an IP address".to_owned())
}

pub fn label(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err("too long".to_owned());
    }
    no_control(text)
}

pub fn path(text: &str) -> Result<(), String> {
    if text.len() > 4096 {
        return Err("too long".to_owned());
    }
    no_control(text)
}

pub fn password(text: &str) -> Result<(), String> {
    if text.len() > 4096 { Err("too long".to_owned()) } else { Ok(()) }
}

pub fn prefix(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("empty".to_owned()),
        1..=64 if text.contains(['{', '}']) => Err("braces would change a key's Cluster slot".to_owned()),
        1..=64 => no_control(text),
        _ => Err("too long".to_owned()),
    }
}

pub fn token(text: &str) -> Result<(), String> {
    TokenLine::parse(text).map(drop).map_err(str::to_owned)
}

pub fn webhook_secret(text: &str) -> Result<(), String> {
    text.parse::<WebhookSecret>().map(drop).map_err(str::to_owned)
}

pub fn host(text: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_host =
        text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.len() <= 253 && text.chars().all(is_name));
    if is_host { Ok(()) } else { Err("not a host".to_owned()) }
}

/// An address is a network of one.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| "neither an IP address nor a network".to_owned())
}

pub fn network(text: &str) -> Result<(), String> {
    parse_network(text).map(drop)
}

pub fn node(text: &str) -> Result<(), String> {
    host_and_port(text).map(drop)
}

/// The host without the brackets of an IPv6 address.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.rsplit_once(':').ok_or("no port")?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    host(name)?;
    match port.parse() {
        Ok(port @ 1..) => Ok((name.to_owned(), port)),
        _ => Err("not a port".to_owned()),
    }
}

pub fn allowed_host(text: &str) -> Result<(), String> {
    text.parse::<AllowedHosts>().map(drop).map_err(|_| "not a host".to_owned())
}

pub fn proxy(text: &str) -> Result<(), String> {
    text.parse::<Proxy>().map(drop)
}

/// The key of a source's objects.
pub fn key_template(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err("too long".to_owned());
    }
    text.parse::<KeyTemplate>().map(drop).map_err(|error| error.to_string())
}

/// A glob on `bucket/object`; it may be of nothing but wildcards.
pub fn glob(text: &str) -> Result<(), String> {
    Pattern::parse(text, true).map(drop).map_err(|error| error.to_string())
}

pub fn topic(text: &str) -> Result<(), String> {
    let is_arn = text.starts_with("arn:") && text.split(':').count() >= 6 && text.len() <= 512;
    if is_arn { no_control(text) } else { Err("not an ARN".to_owned()) }
}

pub fn issuer(text: &str) -> Result<(), String> {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    let is_url = text.len() <= 2048 && is_web && url::Url::parse(text).is_ok_and(|url| url.has_host());
    if is_url && !text.contains(['?', '#', '@']) { Ok(()) } else { Err("not such a URL".to_owned()) }
}

/// Where a store is called.
pub fn endpoint(text: &str) -> Result<(), String> {
    issuer(text)
}

pub fn region(text: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_good);
    if fits { Ok(()) } else { Err("not a region".to_owned()) }
}

pub fn account(text: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (3..=24).contains(&text.len()) && text.bytes().all(is_good);
    if fits { Ok(()) } else { Err("not a storage account".to_owned()) }
}

/// What stands in a header as it is.
pub fn visible(text: &str) -> Result<(), String> {
    store::visible(text).map_err(str::to_owned)
}

/// What is only computed with.
pub fn one_line(text: &str) -> Result<(), String> {
    store::one_line(text).map_err(str::to_owned)
}

pub fn account_key(text: &str) -> Result<(), String> {
    text.parse::<store::AccountKey>().map(drop).map_err(str::to_owned)
}

pub fn sas_token(text: &str) -> Result<(), String> {
    text.parse::<store::SasToken>().map(drop).map_err(str::to_owned)
}

pub fn header(text: &str) -> Result<(), String> {
    text.parse::<store::RequestHeader>().map(drop).map_err(str::to_owned)
}

fn no_control(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) { Err("a control character".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_nodes_and_tokens_are_checked() {
        for good in ["localhost", "redis-0.redis.svc", "10.0.0.1", "::1", "my_redis"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "redis://x", "x:6379", "x/1", "user@x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert!(node("a:1").is_ok() && node("[::1]:6379").is_ok());
        assert!(node("a").is_err() && node("a:0").is_err() && node("a:70000").is_err() && node(":1").is_err());
        assert!(token("abc-._~+/=").is_ok());
        let of = |bytes: usize| webhook_secret(&format!("whsec_{}", "AAAA".repeat(bytes / 3)));
        assert!(of(24).is_ok() && of(63).is_ok() && of(21).is_err() && of(66).is_err());
        assert!(webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA").is_ok(), "padding may be left out");
        assert!(webhook_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_err());
        assert!(webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_-").is_err());
        assert!(token("a b").is_err() && token("ä").is_err() && token("a\u{7f}").is_err());
    }
}
