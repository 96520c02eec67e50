//! How dead letters are named.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The ID of a letter: of an entry of its stream. No other text is sent to Redis for one: it would mean a range, or be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LetterId {
    millis: u64,
    sequence: u64,
}

impl FromStr for LetterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let parts = text.split_once('-').and_then(|(millis, sequence)| number(millis).zip(number(sequence)));
        let (millis, sequence) = parts.ok_or("the ID of a dead letter has the form 1795903463933-0")?;
        Ok(LetterId { millis, sequence })
    }
}

impl TryFrom<String> for LetterId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_not_asked_for() {
        let whole = "18446744073709551615-0";
        assert_eq!(whole.parse::<LetterId>().map(|id| id.to_string()).as_deref(), Ok(whole));
        for bad in ["", "-", "+", "(1-0", "1", "1-", "-1", "+1-0", "1-0 ", "1-0-0", "$", "18446744073709551616-0"] {
            assert!(bad.parse::<LetterId>().is_err(), "{bad}");
        }
    }
}
