//! Looking at a key, for a person. It changes nothing and goes past the pipeline, over a line to the cache of its own: it sees the
//! cache as it is at that moment, and holds up no event.

use std::time::Duration;

use super::Pipeline;
use crate::cache::{Command, Reply};
use crate::event::CacheKey;
use crate::event::version::Version;

/// What a key is beside its value.
#[derive(Debug, Default)]
pub struct KeyFacts {
    /// Whether it has a value; None: that is not known.
    pub holds: Option<bool>,
    /// After so long it expires; None: it does not, or has no value.
    pub expires_in: Option<Duration>,
    /// The version that was applied last; None: there is none, or it is not kept any more.
    pub version: Option<Version>,
    /// Why some of it is not known; empty: all of it is.
    pub trouble: String,
}

impl Pipeline {
    /// What the cache tells of the key `within` that time.
    pub async fn look_at(&self, key: CacheKey, within: Duration) -> KeyFacts {
        let mut facts = KeyFacts::default();
        let commands = [Command::Look { key: key.clone(), version: None }, Command::Expiry { key }];
        for reply in self.placement.session().apply(&commands, within).await {
            match reply {
                Ok(Reply::Seen(seen)) => (facts.version, facts.holds) = (seen.version, Some(seen.holds)),
                Ok(Reply::Expires(after)) => facts.expires_in = after,
                Ok(_) => {}
                Err(error) => facts.trouble = error.cause().into_owned(),
            }
        }
        facts
    }
}
