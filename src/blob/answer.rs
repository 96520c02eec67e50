//! What a response's head means: a body, another URL to ask, or a failure.

use std::time::{Duration, SystemTime};

use awc::ClientResponse;
use awc::http::header;
use url::Url;

use super::{FetchError, FetchErrorKind};

/// A `Retry-After` beyond this is taken for this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a response's head means.
pub(super) enum HeadMeaning {
    Body,
    /// To a request under a condition: what is asked for has not changed.
    NotModified,
    Redirect(Url),
}

/// Only 200 is success, and 304 if that was asked for.
pub(super) fn judge(response: &ClientResponse, url: &Url, is_conditional: bool) -> Result<HeadMeaning, FetchError> {
    let status = response.status().as_u16();
    let kind = match status {
        200 => return Ok(HeadMeaning::Body),
        304 if is_conditional => return Ok(HeadMeaning::NotModified),
        301 | 302 | 303 | 307 | 308 => return redirect(response, url).map(HeadMeaning::Redirect),
        404 | 410 => FetchErrorKind::NotFound,
        409 | 412 => FetchErrorKind::Changed,
        408 | 425 | 429 | 500..=599 => FetchErrorKind::Unavailable,
        _ => FetchErrorKind::Denied,
    };
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Err(FetchError {
        retry_after: retry_after
            .filter(|_| kind == FetchErrorKind::Unavailable)
            .and_then(|value| wait_asked(value, SystemTime::now())),
        ..FetchError::new(kind, format!("the server answered {status}"))
    })
}

fn redirect(response: &ClientResponse, url: &Url) -> Result<Url, FetchError> {
    let location =
        response.headers().get(header::LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let clean = location.filter(|location| !location.chars().any(char::is_control));
    let next = clean.and_then(|location| url.join(location).ok());
    next.ok_or_else(|| FetchError::new(FetchErrorKind::Denied, "the redirect has no usable Location header"))
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn wait_asked(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number beyond 64 bits fails here.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_may_be_asked_for_in_seconds_or_by_date() {
        let now = httpdate::parse_http_date("Mon, 02 Jan 2023 03:04:05 GMT").unwrap();
        let asked = |value| wait_asked(value, now);
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(asked("Mon, 02 Jan 2023 03:05:05 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Mon, 02 Jan 2023 03:00:00 GMT"), Some(Duration::ZERO));
        for endless in ["18446744073709551615", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(asked(endless), Some(MAX_RETRY_AFTER), "{endless}");
        }
        for nothing in ["", "soon", "-1", "1.5", "+1"] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
    }
}
