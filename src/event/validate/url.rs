//! What a blob's URL shows by itself. Parsers disagree about odd URLs, so those on which the WHATWG standard is silently
//! forgiving are refused rather than repaired.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::event::BlobUrl;

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
    let url = Url::parse(text).map_err(|_| UrlError::Unparsable)?;
    let has_host = !authority.is_empty() && url.host_str().is_some_and(|host| !host.is_empty());
    if !has_host {
        return Err(UrlError::Unparsable);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Userinfo);
    }
    Ok(BlobUrl(Arc::new(url)))
}

/// The path without its leading slash, percent-decoded; None if that is not UTF-8.
pub(super) fn decoded_path(url: &BlobUrl) -> Option<String> {
    let path = url.0.path();
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
            ("HTTPS://Example.COM:443/A?q=1#f", "https://example.com/A?q=1#f"),
            ("http://127.1:8080", "http://127.0.0.1:8080/"),
            ("http://[::1]/a", "http://[::1]/a"),
            ("http://h/a b/é", "http://h/a%20b/%C3%A9"),
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
    fn the_length_is_bounded() {
        let of_length = |length: usize| format!("http://h/{}", "a".repeat(length - 9));
        assert!(parse(&of_length(MAX_URL_BYTES)).is_ok());
        assert_eq!(refused(&of_length(MAX_URL_BYTES + 1)), UrlError::TooLong);
    }

    #[test]
    fn the_path_is_decoded_without_its_first_slash() {
        for (text, path) in [
            ("http://h", Some("")),
            ("http://h/a/b.jpg?x=1#y", Some("a/b.jpg")),
            ("http://h//a", Some("/a")),
            ("http://h/a%2Fb%20c", Some("a/b c")),
            ("http://h/é", Some("é")),
            ("http://h/a/../b", Some("b")),
            ("http://h/%", Some("%")),
            ("http://h/%ff", None),
        ] {
            assert_eq!(decoded_path(&parse(text).unwrap()).as_deref(), path, "{text}");
        }
    }

    #[test]
    fn a_shown_url_has_no_query() {
        let url = parse("https://h:8443/a?sig=secret#f").unwrap();
        assert_eq!(url.to_string(), "https://h:8443/a");
        assert_eq!(format!("{url:?}"), "https://h:8443/a");
    }
}
