//! `--delete`: whose a key is that has no object in the bucket at hand. Buckets of one source may share its keys, and so may
//! sources.

use super::Run;
use crate::cache::Seen;
use crate::config::Config;
use crate::event::{CacheKey, StoreObject};

/// Whose a key is.
pub enum Owner {
    /// It was stored for the object that is asked about.
    Own,
    /// It was stored for an object of another bucket, of this source or of another.
    Other,
    /// Nothing shows whose it is.
    Unclear,
}

/// The keys of one bucket by the template of a source.
struct Claim {
    /// Whether the source is the one that is reconciled.
    is_own: bool,
    store: String,
    bucket: String,
    /// What stands around the object's name.
    around: (String, String),
}

/// The keys of all buckets that the settings name.
pub struct Claims(Vec<Claim>);

impl Claims {
    /// `own`: the source that is reconciled.
    pub fn of(config: &Config, own: &str) -> Self {
        let claims = config.sources.iter().flat_map(|(name, source)| {
            source.buckets().into_iter().filter_map(move |bucket| {
                let around = source.key.around_object(name, &bucket)?;
                Some(Claim { is_own: name == own, store: source.store.clone()?, bucket, around })
            })
        });
        Claims(claims.collect())
    }

    /// The objects that have this key, and whether they are of the source that is reconciled.
    fn objects(&self, key: &CacheKey) -> impl Iterator<Item = (bool, StoreObject)> {
        self.0.iter().filter_map(|Claim { is_own, store, bucket, around: (before, behind) }| {
            let name = key.as_str().strip_prefix(before.as_str())?.strip_suffix(behind.as_str())?;
            Some((*is_own, StoreObject::parse(store, &format!("{bucket}/{name}")).ok()?))
        })
    }
}

impl Run {
    /// Whose the key of an object is that the listing does not have. `is_named`: the template says more than the object's name.
    pub(super) fn owner(&self, key: &CacheKey, seen: &Seen, object: &StoreObject, is_named: bool) -> Owner {
        if let Some(remembered) = &seen.remembered {
            let is_it = |object: &StoreObject| self.lister.client.resource_of(object) == Some(remembered.resource);
            let is_of_another = || self.claims.objects(key).any(|(_, object)| is_it(&object));
            return match is_it(object) {
                true => Owner::Own,
                false if is_of_another() => Owner::Other,
                false => Owner::Unclear,
            };
        }
        let is_anothers = self.others.iter().any(|prefix| key.as_str().starts_with(prefix.as_str()));
        let has_place = seen.version.as_ref().is_some_and(|version| version.is_place());
        if !is_anothers && (is_named || has_place) { Owner::Own } else { Owner::Unclear }
    }

    /// The objects that must all be gone before the key of this one is deleted.
    pub(super) fn objects_of(&self, key: &CacheKey, seen: &Seen, object: StoreObject) -> Vec<StoreObject> {
        let mut objects = vec![object];
        if seen.remembered.is_none() {
            let own = self.claims.objects(key).filter_map(|(is_own, object)| is_own.then_some(object));
            objects.extend(own.filter(|other| *other != objects[0]).collect::<Vec<_>>());
        }
        objects
    }
}
