//! What Azure's blob storage says, in whichever envelope.
//!
//! A blob is named twice. The subject has the name as it is. The URL has it as it is, too, not percent-encoded as in a
//! URL it should be (`#` and spaces stand in it), except where the sender has encoded it after all: the subject tells.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use super::json::read_part;
use super::scalar::{Scalar, unquoted};
use super::{Change, Facts, Ignored, Notified, ObjectChange, Place, SourceFault};
use crate::event::time::unix_millis;

/// What the types of storage begin with.
pub(super) const STORAGE: &str = "Microsoft.Storage.";
/// What stands before the container in a blob's subject, and between that and the blob's name.
const CONTAINERS: &str = "/containers/";
const BLOBS: &str = "/blobs/";
/// What has a meaning of its own, or none, in a URL's path.
const NOT_IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What an envelope says, whichever it is.
pub(super) struct AzureEnvelope<'a> {
    pub id: Option<Cow<'a, str>>,
    pub subject: Option<Cow<'a, str>>,
    pub time: Option<Cow<'a, str>>,
    /// The envelope's own order, for data that has none.
    pub place: Place<'a>,
}

/// The data of storage's events.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    url: Scalar<'a>,
    #[serde(borrow)]
    source_url: Scalar<'a>,
    #[serde(borrow)]
    destination_url: Scalar<'a>,
    #[serde(borrow)]
    content_length: Scalar<'a>,
    #[serde(borrow)]
    content_type: Scalar<'a>,
    #[serde(borrow)]
    e_tag: Scalar<'a>,
    #[serde(borrow)]
    sequencer: Scalar<'a>,
}

/// What an event of Azure's storage says, in either schema. A rename is two changes.
///
/// # Errors
/// When the data of a kind that is known names no blob.
pub(super) fn storage<'a>(
    kind: &str,
    about: AzureEnvelope<'a>,
    data: &'a str,
) -> Result<Vec<Notified<'a>>, SourceFault> {
    let ignored = |why| Ok(vec![Notified::Ignored(why)]);
    let known = match kind.strip_prefix(STORAGE) {
        Some(known @ ("BlobCreated" | "BlobDeleted" | "BlobRenamed")) => known,
        Some("DirectoryCreated" | "DirectoryDeleted" | "DirectoryRenamed") => return ignored(Ignored::Folder),
        Some("BlobTierChanged" | "BlobPropertiesUpdated" | "BlobTagsUpdated" | "AsyncOperationInitiated") => {
            return ignored(Ignored::Metadata);
        }
        _ => return ignored(Ignored::UnknownEvent),
    };
    let data: Data = read_part("`data`", data)?;
    let is_old_version = |url: &str| url.contains("?snapshot=") || url.contains("?versionid=");
    if data.url.as_str().is_some_and(is_old_version) {
        return ignored(Ignored::Metadata);
    }
    match known {
        "BlobCreated" => one(Change::Set, about, data),
        "BlobDeleted" => one(Change::Delete, about, data),
        _ => renamed(about, data),
    }
}

fn one<'a>(change: Change, about: AzureEnvelope<'a>, mut data: Data<'a>) -> Result<Vec<Notified<'a>>, SourceFault> {
    let url = std::mem::take(&mut data.url).text();
    let blob = Blob::of(about.subject.as_deref(), url).ok_or_else(|| no_blob("url"))?;
    Ok(vec![blob.notified(change, about, data)])
}

fn renamed<'a>(about: AzureEnvelope<'a>, mut data: Data<'a>) -> Result<Vec<Notified<'a>>, SourceFault> {
    let [from, to] = [&mut data.source_url, &mut data.destination_url].map(|url| std::mem::take(url).text());
    let to = Blob::of(about.subject.as_deref(), to).ok_or_else(|| no_blob("destinationUrl"))?;
    let from = from.and_then(|url| to.sibling(url)).ok_or_else(|| no_blob("sourceUrl"))?;
    let sequencer = data.sequencer.clone();
    let before =
        AzureEnvelope { id: about.id.clone(), subject: None, time: about.time.clone(), place: about.place.clone() };
    let deleted = from.notified(Change::Delete, before, Data { sequencer, ..Data::default() });
    Ok(vec![deleted, to.notified(Change::Set, about, data)])
}

fn no_blob(member: &str) -> SourceFault {
    SourceFault::Malformed(format!("neither `subject` nor `data.{member}` names a blob in a container"))
}

/// Where a blob is.
struct Blob<'a> {
    container: String,
    name: String,
    /// The URL in a form that can be called.
    url: Option<Cow<'a, str>>,
    /// What stands before the container in a URL: the origin, and an emulator's account.
    base: Option<String>,
    /// Whether names stand percent-encoded in this sender's URLs; none where this one does not show it.
    is_encoded: Option<bool>,
}

impl<'a> Blob<'a> {
    fn of(subject: Option<&str>, url: Option<Cow<'a, str>>) -> Option<Self> {
        match (subject.and_then(named), url) {
            (Some((container, name)), Some(url)) => Some(Blob::named_twice(container.to_owned(), name.to_owned(), url)),
            (Some((container, name)), None) => {
                let (container, name) = (container.to_owned(), name.to_owned());
                Some(Blob { container, name, url: None, base: None, is_encoded: None })
            }
            (None, Some(url)) => {
                let base = split(&url)?.0.len();
                Blob::named_once(url, base, None)
            }
            (None, None) => None,
        }
    }

    fn named_twice(container: String, name: String, url: Cow<'a, str>) -> Self {
        let plain = format!("{container}/{name}");
        let is_plain = url.strip_suffix(&plain).is_some_and(|base| base.ends_with('/'));
        if is_plain {
            // What is no part of a URL's path has to be encoded before the URL is called.
            let encoded = utf8_percent_encode(&plain, NOT_IN_A_PATH).to_string();
            let base = url[..url.len() - plain.len()].to_owned();
            let is_encoded = (encoded != plain).then_some(false);
            let url = if encoded == plain { url } else { Cow::Owned(format!("{base}{encoded}")) };
            return Blob { container, name, url: Some(url), base: Some(base), is_encoded };
        }
        let base = url.find(&format!("/{container}/")).map(|at| url[..=at].to_owned());
        Blob { container, name, url: Some(url), base, is_encoded: Some(true) }
    }

    /// The place from a URL alone. `base` is the number of bytes that stand before the container.
    fn named_once(url: Cow<'a, str>, base: usize, is_encoded: Option<bool>) -> Option<Self> {
        let path = url.get(base..)?;
        let decoded = match is_encoded.unwrap_or_else(|| looks_encoded(path)) {
            true => percent_decode_str(path).decode_utf8().ok()?,
            false => Cow::Borrowed(path),
        };
        let (container, name) = decoded.split_once('/')?;
        let (container, name) = (container.to_owned(), name.to_owned());
        let is_named = !container.is_empty() && !name.is_empty();
        is_named.then(|| Blob::named_twice(container, name, url))
    }

    /// Another blob of the same sender, from its URL alone.
    fn sibling<'b>(&self, url: Cow<'b, str>) -> Option<Blob<'b>> {
        let same = self.base.as_ref().filter(|base| url.starts_with(base.as_str())).map(String::len);
        let base = same.or_else(|| Some(split(&url)?.0.len()))?;
        Blob::named_once(url, base, self.is_encoded)
    }

    fn notified(self, change: Change, about: AzureEnvelope<'a>, data: Data<'a>) -> Notified<'a> {
        if self.name.ends_with('/') {
            return Notified::Ignored(Ignored::Folder);
        }
        let time_ms = about.time.as_deref().and_then(unix_millis);
        let facts = Facts {
            size: data.content_length.number(),
            etag: data.e_tag.text().map(unquoted),
            content_type: data.content_type.text(),
            time: about.time,
            version: None,
        };
        Notified::Change(ObjectChange {
            change,
            bucket: Cow::Owned(self.container),
            object: Cow::Owned(self.name),
            url: self.url,
            place: data.sequencer.text().map_or(about.place, Place::Hex),
            facts,
            id: about.id,
            time_ms,
        })
    }
}

/// Container and name of a blob's subject.
fn named(subject: &str) -> Option<(&str, &str)> {
    let (_, rest) = subject.split_once(CONTAINERS)?;
    let (container, name) = rest.split_once(BLOBS)?;
    let is_named = !container.is_empty() && !container.contains('/') && !name.is_empty();
    is_named.then_some((container, name))
}

/// A URL's origin with the slash behind it, and the rest.
fn split(url: &str) -> Option<(&str, &str)> {
    let scheme = url.find("://")? + 3;
    let slash = url.get(scheme..)?.find('/')? + scheme;
    Some((url.get(..=slash)?, url.get(slash + 1..)?))
}

/// Whether a path is percent-encoded, as far as it shows.
fn looks_encoded(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"#?\"<>[]^`{|}\\".contains(&byte);
    let escapes = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    path.bytes().all(is_plain) && path.split('%').skip(1).all(escapes)
}
