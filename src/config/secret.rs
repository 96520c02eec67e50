//! Secrets as settings: the types are those of the room that logs in with them; here is how they are read.

use serde::{Deserialize, Deserializer};

pub use crate::cache::{MASK, Pem, Secret};

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}
