//! What one request is signed with, wherever it came from. `Debug` shows nothing of it.

use std::fmt;

/// What one request is signed with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    AccessKey { id: String, secret: String, session_token: Option<String> },
    AccountKey(String),
    Sas(String),
    Bearer(String),
    Header { name: String, value: String },
    Anonymous,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
