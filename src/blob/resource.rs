//! The identity of a resource, whatever signature its URL carries.

use sha1::{Digest, Sha1};
use url::Url;

/// What signs a request and says nothing of what is asked for: of AWS and its kin, of Google, of CloudFront, of Azure.
const AWS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];
const GOOGLE: [&str; 6] = [
    "x-goog-algorithm",
    "x-goog-credential",
    "x-goog-date",
    "x-goog-expires",
    "x-goog-signature",
    "x-goog-signedheaders",
];
const OLDER: [&str; 6] = ["awsaccesskeyid", "expires", "googleaccessid", "key-pair-id", "policy", "signature"];
const AZURE: [&str; 15] =
    ["se", "sig", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv", "saoid"];
/// Each with the parameter that makes it a signature: elsewhere the same names may mean anything.
const SIGNATURES: [(&str, &[&str]); 4] =
    [("x-amz-signature", &AWS), ("x-goog-signature", &GOOGLE), ("signature", &OLDER), ("sig", &AZURE)];

/// A hash of what a URL names; `target` is its path and query as they are sent. Two signatures for one thing make no
/// difference. It may be stored, for nothing can be learned from it.
pub(super) fn resource(url: &Url, target: &str) -> u64 {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut hash = Sha1::new();
    hash.update(url.scheme());
    hash.update([0]);
    hash.update(url.host_str().unwrap_or_default());
    hash.update(url.port_or_known_default().unwrap_or_default().to_be_bytes());
    hash.update(path);
    let signing = signing(query);
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !has_name(pair, signing)) {
        hash.update([0]);
        hash.update(pair);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// The parameters of the query that sign it.
fn signing(query: &str) -> &'static [&'static str] {
    let is_there = |name: &str| query.split('&').any(|pair| has_name(pair, &[name]));
    SIGNATURES.iter().find(|(name, _)| is_there(name)).map(|(_, names)| *names).unwrap_or_default()
}

fn has_name(pair: &str, names: &[&str]) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> u64 {
        let url = Url::parse(text).expect(text);
        resource(&url, &url[url::Position::BeforePath..url::Position::AfterQuery])
    }

    #[test]
    fn signatures_make_no_difference_and_everything_else_does() {
        let plain = "https://b.s3.test/a%20b.jpg";
        let all = [
            "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261129T090000Z&X-Amz-Expires=60&X-Amz-Signature=ab",
            "?AWSAccessKeyId=a&Expires=1&Signature=x",
            "?X-Goog-Signature=ab&X-Goog-Date=1",
            "?sv=2022-11-02&se=2026&sr=b&sp=r&sig=ab%3D",
        ];
        for signed in all {
            assert_eq!(of(&format!("{plain}{signed}")), of(plain), "{signed}");
            let version = format!("{plain}{signed}&versionId=7");
            assert_eq!(of(&version), of(&format!("{plain}?versionId=7")), "{signed}");
        }
        let others = [
            "https://b.s3.test/a%20c.jpg",
            "https://c.s3.test/a%20b.jpg",
            "http://b.s3.test/a%20b.jpg",
            "https://b.s3.test:8443/a%20b.jpg",
        ];
        for other in others
            .into_iter()
            .map(str::to_owned)
            .chain(["?sr=1", "?Expires=1", "?id=1"].map(|query| format!("{plain}{query}")))
        {
            assert_ne!(of(&other), of(plain), "{other}");
        }
    }
}
