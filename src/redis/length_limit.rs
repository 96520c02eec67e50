//! The longest value that a server accepts, as far as it has shown.
//!
//! A server refuses a value that is too long (`proto-max-bulk-len`) when it has read the length, and closes the connection
//! while the value is still being sent. Its answer may be lost on the way; that looks like a lost connection. The next time,
//! such a value is sent with care: its length first, and the value itself if the server does not refuse.

use std::time::{Duration, Instant};

/// Every server accepts this much: it is the smallest limit that can be set, in bytes.
pub(crate) const MAX_SURE_BYTES: usize = 1024 * 1024;
/// How long a refused length is not tried again, since each try costs a connection.
const BELIEVED: Duration = Duration::from_secs(60);

/// What is known of one server.
#[derive(Debug, Default)]
pub(crate) struct LengthLimit {
    /// The shortest value with which a connection was lost, and none of that length has been taken since.
    lost: Option<usize>,
    /// The shortest that was refused lately, and when.
    refused: Option<(usize, Instant)>,
}

impl LengthLimit {
    /// Whether a value of this length in bytes is refused without being sent.
    pub(crate) fn refuses(&self, bytes: usize, now: Instant) -> bool {
        self.refused.is_some_and(|(least, when)| bytes >= least && now.saturating_duration_since(when) < BELIEVED)
    }

    /// Whether to ask before a value of this length in bytes is sent.
    pub(crate) fn is_doubtful(&self, bytes: usize) -> bool {
        self.lost.is_some_and(|least| bytes >= least)
    }

    pub(crate) fn lost(&mut self, bytes: usize) {
        self.lost = Some(self.lost.map_or(bytes, |least| least.min(bytes)));
    }

    pub(crate) fn refused(&mut self, bytes: usize, now: Instant) {
        let least = self.refused.filter(|_| self.refuses(bytes, now)).map_or(bytes, |(least, _)| least);
        self.refused = Some((least.min(bytes), now));
    }

    pub(crate) fn taken(&mut self, bytes: usize) {
        self.lost = self.lost.filter(|least| *least > bytes);
        self.refused = self.refused.filter(|(least, _)| *least > bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_not_sent_for_a_while_and_what_was_taken_clears_a_doubt() {
        let (mut length_limit, now) = (LengthLimit::default(), Instant::now());
        assert!(!length_limit.refuses(usize::MAX, now) && !length_limit.is_doubtful(usize::MAX));
        length_limit.refused(5_000_000, now);
        assert!(length_limit.refuses(5_000_000, now) && !length_limit.refuses(4_999_999, now));
        assert!(!length_limit.refuses(5_000_000, now + BELIEVED));
        length_limit.lost(3_000_000);
        length_limit.lost(4_000_000);
        assert!(length_limit.is_doubtful(3_000_000) && !length_limit.is_doubtful(2_999_999));
        length_limit.taken(3_500_000);
        assert!(!length_limit.is_doubtful(9_000_000) && length_limit.refuses(5_000_000, now));
        length_limit.taken(6_000_000);
        assert!(!length_limit.refuses(7_000_000, now));
    }
}
