//! What a store holds: pages of a listing, in the store's own form.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::place::encoded;
use super::xml::elements;
use super::{Store, StoreKind, StorePlace};
use crate::event::EntityTag;

/// Objects of a page that are asked for; stores give fewer if they like.
const PAGE: usize = 1000;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The object's name within its bucket, decoded.
    pub name: String,
    /// What the store calls its present state, if the listing says.
    pub etag: Option<EntityTag>,
    /// The object's place in the store's own order (the generation of Google's), if it has one.
    pub generation: Option<u128>,
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedPage {
    /// In the store's order.
    pub objects: Vec<Listed>,
    /// The marker of the next page; None: this was the last.
    pub next: Option<String>,
}

impl Store {
    /// Where a page of a bucket's listing is. None for a kind that cannot be listed.
    pub(in crate::blob) fn listing(&self, bucket: &str, prefix: &str, from: Option<&str>) -> Option<StorePlace> {
        let mut place = match self.kind {
            StoreKind::S3 => self.s3_bucket(bucket),
            StoreKind::Azure => self.below(&format!("/{}", encoded(bucket))),
            StoreKind::Gcs => self.below(&format!("/storage/v1/b/{}/o", encoded(bucket))),
            StoreKind::Http => return None,
        };
        let (fixed, marker) = match self.kind {
            StoreKind::S3 => (format!("list-type=2&max-keys={PAGE}"), "continuation-token"),
            StoreKind::Azure => (format!("restype=container&comp=list&maxresults={PAGE}"), "marker"),
            _ => (format!("fields=items(name,etag,generation),nextPageToken&maxResults={PAGE}"), "pageToken"),
        };
        place.target = format!("{}?{fixed}", place.target);
        let given = [("prefix", Some(prefix).filter(|prefix| !prefix.is_empty())), (marker, from)];
        for (name, value) in given {
            if let Some(value) = value {
                place.target.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        Some(place)
    }

    /// Something small to ask for: a page of the bucket, or else what needs no bucket.
    pub(in crate::blob) fn probe(&self, bucket: Option<&str>) -> StorePlace {
        let listing = bucket.and_then(|bucket| self.listing(bucket, "", None));
        listing.unwrap_or_else(|| match self.kind {
            StoreKind::S3 | StoreKind::Http => self.below("/"),
            StoreKind::Azure => self.below("/?comp=list&maxresults=1"),
            StoreKind::Gcs => self.below("/storage/v1/b/redis-cache-sync?fields=name"),
        })
    }

    /// Reads a page. None for what is no listing.
    pub(in crate::blob) fn page(&self, body: &[u8]) -> Option<ListedPage> {
        match self.kind {
            StoreKind::Gcs => of_json(body),
            _ => of_xml(body),
        }
    }
}

/// Reads a page of S3 (`Contents` with `Key` and `ETag`) and Azure (`Blob` with `Name` and `Etag`).
fn of_xml(body: &[u8]) -> Option<ListedPage> {
    let (mut page, mut is_listing) = (ListedPage::default(), false);
    let (mut name, mut etag) = (None, None);
    elements(body, |path, is_encoded, text| match path {
        ["ListBucketResult"] | ["EnumerationResults"] => is_listing = true,
        [.., "Contents", "Key"] | [.., "Blob", "Name"] if is_encoded => {
            name = percent_decode_str(text).decode_utf8().ok().map(|name| name.into_owned());
        }
        [.., "Contents", "Key"] | [.., "Blob", "Name"] => name = Some(text.to_owned()),
        [.., "Contents", "ETag"] | [.., "Blob", "Properties", "Etag"] => etag = EntityTag::parse(text),
        [.., "Contents"] | [.., "Blobs", "Blob"] => {
            let etag = etag.take();
            page.objects.extend(name.take().map(|name| Listed { name, etag, generation: None }));
        }
        [_, "NextContinuationToken" | "NextMarker"] if !text.is_empty() => page.next = Some(text.to_owned()),
        _ => {}
    })?;
    is_listing.then_some(page)
}

fn of_json(body: &[u8]) -> Option<ListedPage> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let body = body.as_object()?;
    let object = |item: &Value| {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let (etag, generation) = (text("etag").and_then(EntityTag::parse), text("generation"));
        let generation = generation.and_then(|generation| generation.parse().ok());
        Some(Listed { name: text("name")?.to_owned(), etag, generation })
    };
    let items = body.get("items").and_then(Value::as_array);
    let objects = items.into_iter().flatten().filter_map(object).collect();
    let next = body.get("nextPageToken").and_then(Value::as_str).filter(|next| !next.is_empty()).map(str::to_owned);
    Some(ListedPage { objects, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(page: &ListedPage) -> Vec<(&str, Option<&str>)> {
        page.objects.iter().map(|object| (object.name.as_str(), object.etag.as_ref().map(EntityTag::opaque))).collect()
    }

    #[test]
    fn a_page_of_s3_is_read_with_all_that_a_name_may_hold() {
        let body =
            br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
            <NextContinuationToken>a&amp;b=</NextContinuationToken>
            <Contents><Key>a &amp; b/&#233;+%2F</Key><ETag>&quot;d41d-2&quot;</ETag><Size>0</Size></Contents>
            <Contents><Key> x </Key><Owner><ID>o</ID></Owner></Contents></ListBucketResult>"#;
        let page = of_xml(body).unwrap();
        assert_eq!(named(&page), [("a & b/\u{e9}+%2F", Some("d41d-2")), (" x ", None)]);
        assert_eq!(page.next.as_deref(), Some("a&b="));
        let last = of_xml(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>").unwrap();
        assert_eq!(last, ListedPage::default());
    }

    #[test]
    fn a_page_of_azure_and_one_of_google_are_read() {
        let body = br#"<EnumerationResults ContainerName="c"><Blobs><Blob><Name Encoded="true">a%EF%BF%BFb</Name>
            <Properties><Etag>0x8D</Etag></Properties></Blob><Blob><Name>c d</Name><Properties><Etag>0x8E</Etag></Properties>
            </Blob></Blobs><NextMarker>2!x</NextMarker></EnumerationResults>"#;
        let page = of_xml(body).unwrap();
        assert_eq!(named(&page), [("a\u{ffff}b", Some("0x8D")), ("c d", Some("0x8E"))]);
        assert_eq!(page.next.as_deref(), Some("2!x"));
        let body = br#"{"items":[{"name":"a/b","etag":"CIj=","generation":"17"}],"nextPageToken":"t"}"#;
        let page = of_json(body).unwrap();
        assert_eq!((named(&page), page.objects[0].generation), (vec![("a/b", Some("CIj="))], Some(17)));
        assert_eq!(of_json(b"{}").unwrap(), ListedPage::default());
    }

    #[test]
    fn what_is_no_listing_is_none() {
        for body in [
            &b""[..],
            b"<html></html>",
            b"<ListBucketResult>",
            b"<ListBucketResult>&x;</ListBucketResult>",
            b"\xff",
            b"{}",
        ] {
            assert_eq!(of_xml(body), None, "{}", String::from_utf8_lossy(body));
        }
        let deep = "<a>".repeat(100_000);
        assert_eq!(of_xml(deep.as_bytes()), None);
        assert_eq!(of_json(b"[]"), None);
    }
}
