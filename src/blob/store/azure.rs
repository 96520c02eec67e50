//! Azure's Shared Key: the string that is signed, and the signature.
//!
//! Written here, on `ring`, because the signer of the reqsign family brings a second implementation of RSA along, which an
//! advisory without a fix is open against (RUSTSEC-2023-0071).

use std::collections::BTreeMap;
use std::time::SystemTime;

use awc::http::Method;
use awc::http::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use percent_encoding::percent_decode_str;

use super::secret::AccountKey;

const VERSION: (HeaderName, &str) = (HeaderName::from_static("x-ms-version"), "2021-12-02");

/// The version of the protocol that requests speak.
pub fn add_version(headers: &mut HeaderMap) {
    headers.insert(VERSION.0, HeaderValue::from_static(VERSION.1));
}

/// Signs a request without a body by the key of an account.
///
/// # Errors
///
/// Why nothing can be signed with it.
pub fn sign(
    method: &Method,
    target: &str,
    (account, key): (&str, &AccountKey),
    now: SystemTime,
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let date =
        HeaderValue::try_from(httpdate::fmt_http_date(now)).map_err(|_| "this machine's clock has no valid time")?;
    // Every request of awc has a `Date`, and Azurite signs that though there be an `x-ms-date`.
    headers.insert(DATE, date);
    let text = string_to_sign(method, target, account, headers);
    let value = format!("SharedKey {account}:{}", key.sign(&text));
    let mut value = HeaderValue::try_from(value).map_err(|_| "the account name is not valid in a header")?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// The text to sign for a request without a body. Of the headers that have a line of their own only these two are ever sent.
fn string_to_sign(method: &Method, target: &str, account: &str, headers: &HeaderMap) -> String {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (date, unless) = (text(&DATE), text(&IF_NONE_MATCH));
    let own: BTreeMap<&str, &str> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-ms-"))
        .map(|name| (name.as_str(), text(name).trim()))
        .collect();
    let own: String = own.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    format!("{method}\n\n\n\n\n\n{date}\n\n\n{unless}\n\n\n{own}{}", resource(target, account))
}

fn resource(target: &str, account: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.entry(decoded(name).to_ascii_lowercase()).or_default().push(decoded(value));
    }
    let mut resource = format!("/{account}{path}");
    for (name, mut values) in parameters {
        values.sort_unstable();
        resource.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    resource
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The form of "Authorize with Shared Key" in Azure's documentation, with its account, container and date.
    #[test]
    fn the_string_to_sign_is_that_of_the_documentation() {
        let mut headers = HeaderMap::new();
        let date = HeaderName::from_static("x-ms-date");
        headers.insert(date, HeaderValue::from_static("Fri, 26 Jun 2015 23:39:12 GMT"));
        headers.insert(VERSION.0, HeaderValue::from_static("2015-02-21"));
        let target = "/mycontainer?comp=metadata&restype=container&timeout=20";
        assert_eq!(
            string_to_sign(&Method::GET, target, "myaccount", &headers),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_condition_is_signed_and_parameters_are_decoded_and_sorted() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"0x8D\""));
        headers.insert(DATE, HeaderValue::from_static("now"));
        let text = string_to_sign(&Method::GET, "/acct/b/a%20b?prefix=a%2Fb&Comp=list&comp=also", "acct", &headers);
        assert_eq!(text, "GET\n\n\n\n\n\nnow\n\n\n\"0x8D\"\n\n\n/acct/acct/b/a%20b\ncomp:also,list\nprefix:a/b");
    }

    #[test]
    fn a_request_is_signed_by_the_key() {
        let mut headers = HeaderMap::new();
        add_version(&mut headers);
        let now = UNIX_EPOCH + Duration::from_secs(1_435_361_952);
        let key = "a2V5".parse().unwrap();
        sign(&Method::GET, "/c/b", ("acct", &key), now, &mut headers).unwrap();
        let value = headers.get(AUTHORIZATION).unwrap();
        assert!(value.is_sensitive() && value.to_str().unwrap().starts_with("SharedKey acct:"));
        assert_eq!(headers.get(DATE).unwrap(), "Fri, 26 Jun 2015 23:39:12 GMT");
    }
}
