//! Where an object is: host and path as each kind of store has them.
//!
//! Names are encoded byte by byte, and nothing in them is mended: a name may hold spaces, `+`, `%2F`, `?`, `#`, two slashes in
//! a row, or begin with one.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::{Host, Url};

use super::{Store, StoreKind};
use crate::blob::{FetchError, FetchErrorKind};
use crate::event::StoreObject;

/// All but the unreserved characters of RFC 3986: what S3 signs is encoded so.
const NAME: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same within a path.
const PATH: AsciiSet = NAME.remove(b'/');
/// Bytes of a bucket that can be a part of a host's name, at most.
const MAX_LABEL: usize = 63;

/// A place in a store.
#[derive(Debug, Clone)]
pub struct StorePlace {
    /// Scheme, host and port; its path says nothing.
    pub url: Url,
    /// The path and query as they are sent.
    pub target: String,
}

impl Store {
    /// Where the object is.
    ///
    /// # Errors
    ///
    /// `Forbidden` if the name would lead out of its bucket on the way.
    pub fn place(&self, object: &StoreObject) -> Result<StorePlace, FetchError> {
        let (bucket, name) = (object.bucket(), object.name());
        if matches!(bucket, "." | "..") {
            return Err(FetchError::new(FetchErrorKind::Forbidden, "the bucket name is not valid"));
        }
        Ok(match self.kind {
            StoreKind::S3 => {
                let StorePlace { url, target } = self.s3_bucket(bucket);
                StorePlace { url, target: format!("{}/{}", target.trim_end_matches('/'), path(name)) }
            }
            StoreKind::Azure => self.below(&format!("/{}/{}", encoded(bucket), path(name))),
            StoreKind::Gcs => self.below(&format!("/storage/v1/b/{}/o/{}?alt=media", encoded(bucket), encoded(name))),
            StoreKind::Http if name.split('/').any(|part| matches!(part, "." | "..")) => {
                let detail = "the object name has `.` or `..` between slashes, which would lead out of the store";
                return Err(FetchError::new(FetchErrorKind::Forbidden, detail));
            }
            StoreKind::Http => self.below(&format!("/{}/{}", encoded(bucket), path(name))),
        })
    }

    /// A bucket of S3, by its name in the host or in the path.
    pub(super) fn s3_bucket(&self, bucket: &str) -> StorePlace {
        if let Some(url) = self.with_bucket_in_host(bucket) {
            let target = format!("{}/", self.endpoint.path().trim_end_matches('/'));
            return StorePlace { url, target };
        }
        self.below(&format!("/{}", encoded(bucket)))
    }

    /// None where the bucket has to stand in the path: the host is an address, or the name is no label of a host's name. A dot
    /// in it would be one too many for the certificate of an https endpoint.
    fn with_bucket_in_host(&self, bucket: &str) -> Option<Url> {
        let Some(Host::Domain(host)) = self.endpoint.host() else { return None };
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let may_hold_dots = self.endpoint.scheme() == "http";
        let is_good = (1..=MAX_LABEL).contains(&bucket.len())
            && bucket.bytes().all(|byte| is_label(byte) || may_hold_dots && byte == b'.');
        if self.path_style || !is_good {
            return None;
        }
        let mut url = self.endpoint.clone();
        url.set_host(Some(&format!("{bucket}.{host}"))).ok()?;
        Some(url)
    }

    /// A target below the endpoint.
    pub(super) fn below(&self, target: &str) -> StorePlace {
        let base = self.endpoint.path().trim_end_matches('/');
        StorePlace { url: self.endpoint.clone(), target: [base, target].concat() }
    }
}

/// Text as a part of a path or query that holds no slash.
pub(super) fn encoded(text: &str) -> String {
    percent_encode(text.as_bytes(), &NAME).to_string()
}

fn path(name: &str) -> String {
    percent_encode(name.as_bytes(), &PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{CredentialSource, StoreSettings};
    use super::*;

    const ODD: &str = "a b+c%2Fd/é//e?f#g";

    fn store(kind: StoreKind, endpoint: &str, path_style: bool) -> Store {
        let (endpoint, credential) = (Url::parse(endpoint).unwrap(), CredentialSource::Anonymous);
        let account = Some("acct".to_owned());
        Store::new("s", StoreSettings { kind, endpoint, region: String::new(), path_style, account, credential })
    }

    fn place(store: &Store, bucket: &str, name: &str) -> String {
        let object = StoreObject::parse("s", &format!("{bucket}/{name}")).unwrap();
        let StorePlace { url, target } = store.place(&object).unwrap();
        format!("{}{target}", &url[..url::Position::BeforePath])
    }

    #[test]
    fn names_are_encoded_byte_by_byte() {
        let encoded = "a%20b%2Bc%252Fd/%C3%A9//e%3Ff%23g";
        let s3 = store(StoreKind::S3, "http://127.0.0.1:9000", true);
        assert_eq!(place(&s3, "my.bucket_1", ODD), format!("http://127.0.0.1:9000/my.bucket_1/{encoded}"));
        assert_eq!(place(&s3, "b", "/a/../b"), "http://127.0.0.1:9000/b//a/../b");
        let azure = store(StoreKind::Azure, "http://127.0.0.1:10000/acct/", false);
        assert_eq!(place(&azure, "$root", ODD), format!("http://127.0.0.1:10000/acct/%24root/{encoded}"));
        let gcs = store(StoreKind::Gcs, "https://storage.googleapis.com", false);
        assert_eq!(
            place(&gcs, "b", ODD),
            "https://storage.googleapis.com/storage/v1/b/b/o/a%20b%2Bc%252Fd%2F%C3%A9%2F%2Fe%3Ff%23g?alt=media"
        );
        let http = store(StoreKind::Http, "https://h.test/files", false);
        assert_eq!(place(&http, "b", ODD), format!("https://h.test/files/b/{encoded}"));
    }

    #[test]
    fn a_bucket_stands_in_the_host_where_it_can() {
        let aws = store(StoreKind::S3, "https://s3.eu-central-1.amazonaws.com", false);
        assert_eq!(place(&aws, "photos", "/a"), "https://photos.s3.eu-central-1.amazonaws.com//a");
        assert_eq!(place(&aws, "my.photos", "a"), "https://s3.eu-central-1.amazonaws.com/my.photos/a");
        assert_eq!(place(&aws, "Photos", "a"), "https://s3.eu-central-1.amazonaws.com/Photos/a");
        let local = store(StoreKind::S3, "http://localhost:9000", false);
        assert_eq!(place(&local, "my.photos", "a"), "http://my.photos.localhost:9000/a");
        let address = store(StoreKind::S3, "http://127.0.0.1:9000", false);
        assert_eq!(place(&address, "photos", "a"), "http://127.0.0.1:9000/photos/a");
    }

    #[test]
    fn no_name_leads_out_of_a_store() {
        let http = store(StoreKind::Http, "https://h.test/files", false);
        for name in ["b/../c", "b/.", "b/a/./c", "../a", "./a"] {
            let object = StoreObject::parse("s", name).unwrap();
            assert_eq!(http.place(&object).unwrap_err().kind, FetchErrorKind::Forbidden, "{name}");
        }
        assert_eq!(place(&http, "b", "..a/.b/c.."), "https://h.test/files/b/..a/.b/c..");
    }
}
