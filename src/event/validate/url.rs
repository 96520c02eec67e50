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
mod tests;
