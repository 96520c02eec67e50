//! `redis.url`: `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS. User, password and database are
//! percent-decoded. No message ever holds a part of the URL.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::secret::{MASK, Secret};

pub const ALLOWED: &str =
    "redis://[[user]:password@]host[:port][/db], or rediss:// for TLS, without query and fragment";

/// What the URL says; none: what it leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether it is a `rediss://` URL.
    pub tls: bool,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port, 1 to 65535.
    pub port: Option<u16>,
    /// The user to log in as.
    pub username: Option<String>,
    /// The password to log in with.
    pub password: Option<Secret>,
    /// The number of the database.
    pub db: Option<u32>,
}

pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

pub fn parse(text: &str) -> Result<RedisUrl, String> {
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("another scheme than redis or rediss".to_owned()),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query or fragment".to_owned());
    }
    if url.port() == Some(0) {
        return Err("port 0".to_owned());
    }
    Ok(RedisUrl {
        tls,
        host: host(&url)?,
        port: url.port(),
        username: decoded(url.username())?,
        password: url.password().map(decoded).transpose()?.flatten().map(Secret::new),
        db: database(url.path())?,
    })
}

/// The URL of a server with its password as `***`; a user without a password is taken for one.
pub fn masked(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    let is_masked = match (url.password(), url.username()) {
        (Some(_), _) => url.set_password(Some(MASK)),
        (None, "") => Ok(()),
        (None, _) => url.set_username(MASK),
    };
    is_masked.map_or(MASK.to_owned(), |()| url.to_string())
}

/// Whether the URL holds a password.
pub fn has_password(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.password().is_some())
}

/// Without the brackets of an IPv6 address: they are the URL's, not the host's.
fn host(url: &Url) -> Result<String, String> {
    match url.host() {
        Some(Host::Domain("")) | None => Err("no host".to_owned()),
        Some(Host::Domain(name)) => decoded(name)?.ok_or_else(|| "no host".to_owned()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
    }
}

fn database(path: &str) -> Result<Option<u32>, String> {
    match path.trim_matches('/') {
        "" => Ok(None),
        number if number.len() <= 5 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().map(Some).map_err(|_| "not a database number".to_owned())
        }
        _ => Err("not a database number".to_owned()),
    }
}

fn decoded(part: &str) -> Result<Option<String>, String> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| "percent-encoding that is not UTF-8")?;
    Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_taken_out_and_decoded() {
        let url = parse("rediss://us%40er:p%2Fw%3A@cache.example:6380/3").expect("a good URL");
        let want = RedisUrl {
            tls: true,
            host: "cache.example".to_owned(),
            port: Some(6380),
            username: Some("us@er".to_owned()),
            password: Some(Secret::new("p/w:")),
            db: Some(3),
        };
        assert_eq!(url, want);
    }

    #[test]
    fn what_is_left_out_is_none() {
        let url = parse("redis://[::1]").expect("a good URL");
        let want =
            RedisUrl { tls: false, host: "::1".to_owned(), port: None, username: None, password: None, db: None };
        assert_eq!(url, want);
        assert_eq!(parse("redis://:pw@h/").expect("a good URL").password, Some(Secret::new("pw")));
    }

    #[test]
    fn a_bad_url_is_refused_without_being_quoted() {
        for bad in [
            "localhost:6379",
            "http://hunter2@h",
            "redis://",
            "redis:///1",
            "redis://:hunter2@",
            "redis://h/x",
            "redis://h:0",
            "redis://h/1/2",
            "redis://h?hunter2",
            "redis://h#insecure",
            "redis://:%ff@h",
            "redis://h/999999",
            "redis:h",
        ] {
            let reason = parse(bad).expect_err(bad);
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn the_password_is_masked_and_the_rest_is_shown() {
        assert_eq!(masked("redis://u:hunter2@h:1/2"), "redis://u:***@h:1/2");
        assert_eq!(masked("redis://:hunter2@h"), "redis://:***@h");
        assert_eq!(masked("redis://hunter2@h"), "redis://***@h");
        assert_eq!(masked("redis://h:1"), "redis://h:1");
        assert_eq!(masked("hunter2"), "***");
    }
}
