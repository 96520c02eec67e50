//! Which object a path of the filer is.

use super::entry::FilerEntry;
use crate::event::sources::Ignored;

const BUCKETS: &str = "/buckets/";
/// What the filer keeps for itself.
const OWN: [&str; 3] = ["/etc/", "/topics/", "/.system/"];
/// Where parts of uploads lie, within a bucket.
const UPLOADS: &str = ".uploads/";
const VERSIONS: &str = ".versions/v_";

pub struct ObjectPath<'a> {
    /// Empty for what lies in no bucket.
    pub bucket: &'a str,
    pub object: &'a str,
}

/// The object whose entry has this path, or why it is none.
pub fn object<'a>(path: &'a str, entry: &FilerEntry) -> Result<ObjectPath<'a>, Ignored> {
    if entry.is_directory() {
        return Err(Ignored::Folder);
    }
    let (bucket, object) = match path.strip_prefix(BUCKETS) {
        Some(rest) => rest.split_once('/').ok_or(Ignored::Folder)?,
        None if OWN.iter().any(|own| path.starts_with(own)) => return Err(Ignored::Metadata),
        None => ("", path.trim_start_matches('/')),
    };
    // No bucket has such a name: there the S3 gateway keeps who owns which.
    if bucket.starts_with('.') {
        return Err(Ignored::Metadata);
    }
    if object.starts_with(UPLOADS) {
        return Err(Ignored::Part);
    }
    let versioned = || Some(object.rsplit_once(VERSIONS)?.0).filter(|_| entry.version_id().is_some());
    Ok(ObjectPath { bucket, object: versioned().unwrap_or(object) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filer_and_its_gateway_keep_for_themselves_is_no_object() {
        for path in [
            "/etc/iam/identity.json",
            "/topics/.system/log/2026-11-29/20-13.1",
            "/.system/filer",
            "/buckets/.system/owners/.complete",
            "/buckets/.system/owners/admin-first/photos",
        ] {
            assert!(matches!(object(path, &FilerEntry::default()), Err(Ignored::Metadata)), "{path}");
        }
        let named = object("/buckets/photos/.system/mine", &FilerEntry::default()).ok();
        assert_eq!(named.map(|named| (named.bucket, named.object)), Some(("photos", ".system/mine")));
    }
}
