//! Secrets as settings: how they are read. Their types belong to the modules that log in with them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub use crate::secret::{MASK, Pem, Secret};

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What senders of webhooks sign with. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebhookSecret(Box<[u8]>);

impl WebhookSecret {
    /// The key itself: for a signature, never for a message.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for WebhookSecret {
    /// A reason, which does not quote the text.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix("whsec_").ok_or("a secret that does not begin with whsec_")?;
        let key = BASE64.decode(encoded).map_err(|_| "a secret that is not base64")?;
        match key.len() {
            24..=64 => Ok(WebhookSecret(key.into())),
            _ => Err("a secret of fewer than 24 or more than 64 bytes"),
        }
    }
}

impl<'de> Deserialize<'de> for WebhookSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
