//! What a blob's URL shows by itself. Parsers disagree about odd URLs, so those on which the WHATWG standard is silently
//! forgiving are refused rather than repaired: what is fetched is what was named, byte for byte in path and query.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::event::{BlobUrl, NamedUrl};

/// Bytes of a URL, at most.
pub const MAX_URL_BYTES: usize = 8192;

/// Why a text is no blob's URL. Says nothing of the text itself: its query may carry a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::event) enum UrlError {
    #[error("must be at most {MAX_URL_BYTES} bytes long")]
    TooLong,
    #[error("must be an absolute http or https URL")]
    NotHttp,
    #[error("must not hold control characters, backslashes, or spaces around it")]
    Forgiven,
    #[error("must not hold a user name or password")]
    Userinfo,
    #[error("must not have a fragment: write `%23` for a `#` that belongs to the name")]
    Fragment,
    #[error(
        "must be written as it is sent: without `.` and `..` between slashes, and with spaces, quotes, brackets and \
             whatever is not ASCII percent-encoded in path and query"
    )]
    Mended,
    #[error("must be a URL with a valid host, and a port below 65536 if any")]
    Unparsable,
}

pub(in crate::event) fn parse(text: &str) -> Result<BlobUrl, UrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError::TooLong);
    }
    if text.chars().any(|char| char.is_ascii_control() || char == '\\') || text.starts_with(' ') || text.ends_with(' ')
    {
        return Err(UrlError::Forgiven);
    }
    let authority = authority(text).ok_or(UrlError::NotHttp)?;
    if authority.contains('@') {
        return Err(UrlError::Userinfo);
    }
    if text.contains('#') {
        return Err(UrlError::Fragment);
    }
    let url = Url::parse(text).map_err(|_| UrlError::Unparsable)?;
    let has_host = !authority.is_empty() && url.host_str().is_some_and(|host| !host.is_empty());
    if !has_host {
        return Err(UrlError::Unparsable);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Userinfo);
    }
    let target = text.get("://".len() + url.scheme().len() + authority.len()..).unwrap_or_default();
    let as_written = as_written(&url, target)?;
    Ok(BlobUrl(Arc::new(NamedUrl { url, as_written })))
}

/// Path and query as they were written, where the parser has them in another form that says the same.
fn as_written(url: &Url, target: &str) -> Result<Option<Box<str>>, UrlError> {
    let parsed = &url[url::Position::BeforePath..url::Position::AfterQuery];
    // A request has a path in any case.
    let slash = if target.starts_with('/') { "" } else { "/" };
    if parsed.strip_prefix(slash) == Some(target) {
        return Ok(None);
    }
    // In a query it may stand, and the parser encodes it: a signature may be over the one and not the other.
    let (path, query) = target.split_once('?').ok_or(UrlError::Mended)?;
    let encoded = [slash, path, "?", &query.replace('\'', "%27")].concat();
    let written = || [slash, target].concat().into_boxed_str();
    if encoded == parsed { Ok(Some(written())) } else { Err(UrlError::Mended) }
}

/// The path without its leading slash, percent-decoded; None if that is not UTF-8.
pub(super) fn decoded_path(url: &BlobUrl) -> Option<String> {
    let path = url.0.url.path();
    let decoded = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8();
    decoded.ok().map(|path| path.into_owned())
}

/// What stands between the scheme, if it is one of ours, and the path.
fn authority(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then(|| rest.split(['/', '?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> UrlError {
        parse(text).expect_err(text)
    }

    #[test]
    fn http_and_https_are_parsed_as_whatwg_does() {
        for (text, parsed) in [
            ("http://h/a", "http://h/a"),
            ("HTTPS://Example.COM:443/A?q=1", "https://example.com/A?q=1"),
            ("http://127.1:8080", "http://127.0.0.1:8080/"),
            ("http://[::1]/a", "http://[::1]/a"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://h/a@b", "http://h/a@b"),
            ("http://h?u=a@b", "http://h/?u=a@b"),
        ] {
            assert_eq!(parse(text).unwrap().expose().as_str(), parsed);
        }
    }

    #[test]
    fn other_schemes_and_relative_urls_are_refused() {
        for text in
            ["", "a", "/a", "//h/a", "ftp://h/a", "file:///etc/passwd", "httpx://h", "http:h/a", "http:/h", "data:,a"]
        {
            assert_eq!(refused(text), UrlError::NotHttp, "{text}");
        }
    }

    #[test]
    fn urls_without_a_usable_host_are_refused() {
        for text in [
            "http://",
            "http:///a",
            "http://:80/",
            "http://h:65536/",
            "http://h:x/",
            "http://a b/",
            "http://[::1/",
            "http://%00/",
        ] {
            assert_eq!(refused(text), UrlError::Unparsable, "{text}");
        }
    }

    #[test]
    fn userinfo_is_refused_even_if_empty() {
        for text in ["http://u@h/", "http://u:p@h/", "http://@h/", "http://:@h/", "http://:p@h/", "https://a@b@h/"] {
            assert_eq!(refused(text), UrlError::Userinfo, "{text}");
        }
    }

    #[test]
    fn what_the_parser_would_strip_or_turn_is_refused() {
        for text in [
            " http://h/",
            "http://h/ ",
            "http://h/a\r\nX: y",
            "ht\ttp://h/",
            "http://h\\@evil/",
            "http://h/\u{7f}",
            "http:\\\\h",
        ] {
            assert_eq!(refused(text), UrlError::Forgiven, "{text}");
        }
    }

    #[test]
    fn path_and_query_are_sent_as_they_were_written() {
        for (text, target) in [
            ("http://h", "/"),
            ("http://h?a=1", "/?a=1"),
            ("http://h/a?", "/a?"),
            ("http://h//a//b", "//a//b"),
            ("http://h/a%2Fb%2e%C3%A9/%2525", "/a%2Fb%2e%C3%A9/%2525"),
            ("http://h/a%23b.json", "/a%23b.json"),
            ("http://h/A.B/..c/d../...?x=..", "/A.B/..c/d../...?x=.."),
            ("http://h/~!$&'()*+,;=:@-._|[]?~!$&'()*+,;=:@/?[]{}|`^", "/~!$&'()*+,;=:@-._|[]?~!$&'()*+,;=:@/?[]{}|`^"),
            ("https://h:443/a?name='x'&y=%27", "/a?name='x'&y=%27"),
            ("http://h?it's", "/?it's"),
            ("http://h/%", "/%"),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).target(), target, "{text}");
        }
    }

    #[test]
    fn a_fragment_is_refused_even_if_empty() {
        for text in ["http://h/a#b.json", "http://h/a#", "http://h#", "http://h/a?b#c", "http://h/a?'#"] {
            assert_eq!(refused(text), UrlError::Fragment, "{text}");
        }
    }

    #[test]
    fn what_the_parser_would_mend_in_path_and_query_is_refused() {
        for text in [
            "http://h/a b",
            "http://h/é",
            "http://h/a?b=é",
            "http://h/a?b c",
            "http://h/a/../b",
            "http://h/a/./b",
            "http://h/..",
            "http://h/a/.",
            "http://h/a/%2e%2E/b",
            "http://h/a/.%2e/b",
            "http://h/%2e/b",
            "http://h/\"a\"",
            "http://h/<a>",
            "http://h/{a}",
            "http://h/a`b",
            "http://h/a?\"b\"",
            "http://h/a?<b>",
            "http://h/a/..?it's",
            "http://h/a?it's é",
        ] {
            assert_eq!(refused(text), UrlError::Mended, "{text}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let of_length = |length: usize| format!("http://h/{}", "a".repeat(length - 9));
        assert!(parse(&of_length(MAX_URL_BYTES)).is_ok());
        assert_eq!(refused(&of_length(MAX_URL_BYTES + 1)), UrlError::TooLong);
    }

    #[test]
    fn the_path_is_decoded_without_its_first_slash() {
        for (text, path) in [
            ("http://h", Some("")),
            ("http://h/a/b.jpg?x=1", Some("a/b.jpg")),
            ("http://h/a%23b.json?it's", Some("a#b.json")),
            ("http://h//a", Some("/a")),
            ("http://h/a%2Fb%20c", Some("a/b c")),
            ("http://h/%C3%A9", Some("é")),
            ("http://h/a%2F..%2Fb", Some("a/../b")),
            ("http://h/%", Some("%")),
            ("http://h/%ff", None),
        ] {
            assert_eq!(decoded_path(&parse(text).unwrap()).as_deref(), path, "{text}");
        }
    }

    #[test]
    fn a_shown_url_has_no_query() {
        let url = parse("https://h:8443/a?sig=secret").unwrap();
        assert_eq!(url.to_string(), "https://h:8443/a");
        assert_eq!(format!("{url:?}"), "https://h:8443/a");
    }
}
