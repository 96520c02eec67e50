//! How many keys one call deletes.

use std::time::Duration;

/// A call that holds up the cache for longer is cut shorter the next time.
pub const LONG_CALL: Duration = Duration::from_millis(5);
const FIRST_PORTION: usize = 125;
const MIN_PORTION: usize = 8;
const MAX_PORTION: usize = 1000;

/// How many keys are deleted by one call: as many as the cache gets through in a few milliseconds, for it does nothing
/// else meanwhile. Measured, because what a key holds decides.
#[derive(Debug)]
pub struct Portion {
    keys: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Portion { keys: FIRST_PORTION }
    }
}

impl Portion {
    /// At least one.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Notes how long a call has taken.
    pub fn took(&mut self, took: Duration) {
        if took > LONG_CALL {
            self.keys = (self.keys / 2).max(MIN_PORTION);
        } else if took < LONG_CALL / 2 {
            self.keys = (self.keys * 2).min(MAX_PORTION);
        }
    }
}
