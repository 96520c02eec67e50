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
    if object.starts_with(UPLOADS) {
        return Err(Ignored::Part);
    }
    let versioned = || Some(object.rsplit_once(VERSIONS)?.0).filter(|_| entry.version_id().is_some());
    Ok(ObjectPath { bucket, object: versioned().unwrap_or(object) })
}
