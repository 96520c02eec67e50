//! Room in memory for values that are read. Who lends it (admission) is beyond this module; a cache asks for it before it
//! brings over a large value, and the value carries what was lent until nobody holds it any more.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::CacheError;
use crate::event::outcome::COUNTED_FROM_BYTES;

/// What is given back by its drop.
pub type Loan = Box<dyn Send + Sync>;

/// Who has room to lend.
pub trait Lender: Send + Sync + 'static {
    /// Room for this number of bytes, or none.
    fn lend(&self, bytes: usize) -> Option<Loan>;

    /// Bytes that could be lent at this moment, about.
    fn free_bytes(&self) -> usize;
}

/// A cache's way to room. Clones share it. Without a lender there is room for everything.
#[derive(Clone, Default)]
pub struct Room(Arc<OnceLock<Box<dyn Lender>>>);

/// A value and the room that it takes.
struct Counted {
    value: Bytes,
    _loan: Loan,
}

impl Room {
    /// Names the lender, once and for good.
    pub fn borrow_from(&self, lender: impl Lender) {
        let _ = self.0.set(Box::new(lender));
    }

    /// Room for a value of this length in bytes.
    ///
    /// # Errors
    ///
    /// [`CacheError::RefusedForNow`], where there is none at this moment.
    pub fn take(&self, bytes: usize) -> Result<Loan, CacheError> {
        match self.0.get() {
            Some(lender) => lender.lend(bytes).ok_or(CacheError::RefusedForNow(NO_ROOM.into())),
            None => Ok(Box::new(())),
        }
    }

    /// The value with what was lent for it.
    pub fn fill(loan: Loan, value: Bytes) -> Bytes {
        Bytes::from_owner(Counted { value, _loan: loan })
    }

    /// A value that has been read. A small one needs no room.
    ///
    /// # Errors
    ///
    /// As [`Room::take`].
    pub fn hold(&self, value: Bytes) -> Result<Bytes, CacheError> {
        if value.len() <= COUNTED_FROM_BYTES {
            return Ok(value);
        }
        Ok(Self::fill(self.take(value.len())?, value))
    }

    /// Bytes for which there is room at this moment, about.
    pub fn free_bytes(&self) -> usize {
        self.0.get().map_or(usize::MAX, |lender| lender.free_bytes())
    }
}

/// Why a value was not read for now.
pub const NO_ROOM: &str =
    "intake.max_in_flight_bytes has no room for the value: bodies, blobs and unread answers use it";

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

/// What a cache in this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of keys and values, with an overhead for each.
    pub bytes: u64,
    /// Keys, those of versions included.
    pub entries: u64,
    /// Keys that had to go for want of room since the start.
    pub evictions: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    struct Purse(Arc<AtomicUsize>);
    struct Lent(Arc<AtomicUsize>, usize);

    impl Lender for Purse {
        fn lend(&self, bytes: usize) -> Option<Loan> {
            self.0.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(bytes)).ok()?;
            Some(Box::new(Lent(self.0.clone(), bytes)))
        }

        fn free_bytes(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    impl Drop for Lent {
        fn drop(&mut self) {
            self.0.fetch_add(self.1, SeqCst);
        }
    }

    #[test]
    fn a_value_gives_its_room_back_when_the_last_part_of_it_is_gone() {
        let (free, room) = (Arc::new(AtomicUsize::new(10_000)), Room::default());
        room.borrow_from(Purse(free.clone()));
        let value = room.hold(vec![b'v'; 6_000].into()).expect("room");
        assert_eq!((free.load(SeqCst), value.len()), (4_000, 6_000));
        assert!(room.hold(vec![b'v'; 6_000].into()).is_err_and(|error| error.is_worth_retrying()));
        assert!(room.hold(vec![b'v'; COUNTED_FROM_BYTES].into()).is_ok(), "a small one needs none");
        let part = value.slice(1..2);
        drop(value);
        assert_eq!(free.load(SeqCst), 4_000);
        drop(part);
        assert_eq!(free.load(SeqCst), 10_000);
    }
}
