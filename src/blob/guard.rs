//! Which hosts, ports and addresses may be called. Pure: it resolves nothing and connects to nothing; the connector asks
//! it about the host and then about every address that the host resolved to.
//!
//! Two rules. Without a list, any host whose every address is public, on ports 80 and 443. With a list, the listed
//! hosts alone, private addresses included, since the operator named them; but link-local and metadata addresses only
//! where the list has that very literal. Hosts are compared as the WHATWG URL standard parses them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

use super::address::is_link_local_or_metadata;
pub use super::address::is_public;

/// Why a place must not be called: a lower-case sentence without a query string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(String);

/// What a host that may be called may resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Public addresses alone.
    Public,
    /// Any address but link-local and metadata: the operator named the host.
    Named,
    /// Any address: the operator named the very literal.
    NamedLiteral,
}

/// `fetch.allowed_hosts`. Empty: any public host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    entries: Vec<AllowedHost>,
    /// Whether hosts that are not listed may be asked as they are without a list.
    others: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    name: Name,
    /// None: any port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Exactly(Host),
    /// Any host that ends in this, which begins with a dot.
    Below(String),
}

impl AllowedHosts {
    /// Whether the URL's scheme, form, host and port may be asked. Its addresses are judged by [`Self::judge_address`].
    pub fn judge(&self, url: &Url) -> Result<Judgement, Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden("the scheme must be http or https".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden("the URL must not hold user information".into()));
        }
        match (url.host(), url.port_or_known_default()) {
            (Some(host), Some(port)) => self.judge_host(&host, port),
            _ => Err(Forbidden("the URL has no host".into())),
        }
    }

    /// The hosts that are listed by their own name, as `host:port`; on the usual ports if on any, and those first that are
    /// asked most.
    pub fn by_name(&self) -> Vec<String> {
        let literal = |entry: &AllowedHost, port: u16| match &entry.name {
            Name::Exactly(host) if entry.port.is_none_or(|own| own == port) => Some(format!("{host}:{port}")),
            Name::Exactly(_) | Name::Below(_) => None,
        };
        let first = self.entries.iter().filter_map(|entry| literal(entry, entry.port.unwrap_or(443)));
        let second = self.entries.iter().filter(|entry| entry.port.is_none()).filter_map(|entry| literal(entry, 80));
        first.chain(second).collect()
    }

    /// These, the host and port of each of the URLs, and any public host: for what the operator named, and what that
    /// names.
    #[must_use]
    pub fn and_public<'a>(&self, urls: impl IntoIterator<Item = &'a Url>) -> Self {
        let named = urls.into_iter().filter_map(|url| {
            let name = Name::Exactly(without_trailing_dot(&url.host()?).to_owned());
            Some(AllowedHost { name, port: url.port_or_known_default() })
        });
        AllowedHosts { entries: self.entries.iter().cloned().chain(named).collect(), others: true }
    }

    /// The host of a store alone, on its port; and what is below it, if buckets stand in the host's name.
    pub(super) fn of_store(endpoint: &Url, with_buckets: bool) -> Self {
        let port = endpoint.port_or_known_default();
        let host = endpoint.host().map(|host| without_trailing_dot(&host).to_owned());
        let below = match &host {
            Some(Host::Domain(host)) if with_buckets => Some(Name::Below(format!(".{host}"))),
            _ => None,
        };
        let names = host.map(Name::Exactly).into_iter().chain(below);
        let entries = names.map(|name| AllowedHost { name, port }).collect();
        // An endpoint without a host is none, and none may be called.
        AllowedHosts { entries, others: false }
    }

    /// Whether this host may be asked on this port.
    pub fn judge_host<S: AsRef<str>>(&self, host: &Host<S>, port: u16) -> Result<Judgement, Forbidden> {
        let host = without_trailing_dot(host);
        let is_listed = self.entries.iter().any(|entry| entry.matches(&host, port));
        if self.entries.is_empty() || self.others && !is_listed {
            return match port {
                80 | 443 => Ok(Judgement::Public),
                _ => Err(Forbidden(format!("port {port} is not allowed: only 80 and 443 are"))),
            };
        }
        if !is_listed {
            return Err(Forbidden(format!("{} on port {port} is not in fetch.allowed_hosts", shown(&host))));
        }
        Ok(match host {
            Host::Domain(_) => Judgement::Named,
            Host::Ipv4(_) | Host::Ipv6(_) => Judgement::NamedLiteral,
        })
    }

    /// Whether a host that was judged so may be called at this address.
    pub fn judge_address<S: AsRef<str>>(judged: Judgement, host: &Host<S>, ip: IpAddr) -> Result<(), Forbidden> {
        let fault = match judged {
            Judgement::Public if !is_public(ip) => "which is not a public address",
            Judgement::Named if is_link_local_or_metadata(ip) => "a link-local or metadata address",
            _ => return Ok(()),
        };
        Err(Forbidden(match host {
            Host::Domain(_) => format!("{} resolves to {ip}, {fault}", shown(host)),
            Host::Ipv4(_) | Host::Ipv6(_) => {
                format!("{ip} is not allowed: it is {}", fault.trim_start_matches("which is "))
            }
        }))
    }
}

impl AllowedHost {
    fn matches(&self, host: &Host<&str>, port: u16) -> bool {
        let named = match (&self.name, host) {
            (Name::Exactly(own), host) => own == host,
            (Name::Below(suffix), Host::Domain(host)) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            (Name::Below(_), _) => false,
        };
        named && self.port.is_none_or(|own| own == port)
    }
}

/// Hosts separated by commas; blank text is the empty list. The error names the element at fault.
impl FromStr for AllowedHosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(AllowedHosts::default());
        }
        let entries = text.split(',').map(|element| element.trim().parse()).collect::<Result<_, _>>()?;
        Ok(AllowedHosts { entries, others: false })
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(element: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{element}` is not a host: allowed are `host`, `host:port`, `*.suffix`, an IPv4 address, `[IPv6]` and `[IPv6]:port`"
            )
        };
        let (below, rest) = match element.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, element),
        };
        let (host, port) = split_port(rest).ok_or_else(bad)?;
        // The URL parser would undo percent-encoding and let a star stand in a name: both are slips in a setting.
        if host.contains(['*', '%']) {
            return Err(bad());
        }
        let host = Host::parse(host).map_err(|_| bad())?;
        let name = match (below, without_trailing_dot(&host)) {
            // With a dot left it is no name, though without it may be an address.
            (_, Host::Domain(name)) if name.is_empty() || name.ends_with('.') => return Err(bad()),
            (true, Host::Domain(suffix)) => Name::Below(format!(".{suffix}")),
            (true, _) => return Err(bad()),
            (false, host) => Name::Exactly(host.to_owned()),
        };
        Ok(AllowedHost { name, port })
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match &entry.name {
                Name::Exactly(host) => write!(f, "{host}")?,
                Name::Below(suffix) => write!(f, "*{suffix}")?,
            }
            if let Some(port) = entry.port {
                write!(f, ":{port}")?;
            }
        }
        Ok(())
    }
}

/// Host and port of an element; None if the port is no number from 1 to 65535, or an IPv6 address stands bare.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let at = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (_, tail) = text.split_at(at);
    let Some(colon) = tail.find(':') else {
        return Some((text, None)).filter(|_| at == 0 || tail.is_empty());
    };
    let (host, port) = (&text[..at + colon], &tail[colon + 1..]);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0)?;
    (at == 0 || colon == 0).then_some((host, Some(port)))
}

fn without_trailing_dot<S: AsRef<str>>(host: &Host<S>) -> Host<&str> {
    match host {
        Host::Domain(name) => {
            let name = name.as_ref();
            Host::Domain(name.strip_suffix('.').unwrap_or(name))
        }
        Host::Ipv4(ip) => Host::Ipv4(*ip),
        Host::Ipv6(ip) => Host::Ipv6(*ip),
    }
}

/// A host as it may stand in a message: a redirect's may be of any length.
fn shown<S: AsRef<str>>(host: &Host<S>) -> String {
    const LONGEST_NAME: usize = 253;
    match host {
        Host::Domain(name) => name.as_ref().chars().take(LONGEST_NAME).collect(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => format!("[{ip}]"),
    }
}
