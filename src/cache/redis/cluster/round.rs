//! One round of a scan: over which nodes it goes, how far it is, and whether it has met every key. Pure.

use crate::cache::Cursor;
use crate::redis::Address;
use crate::redis::cluster::Census;
use crate::redis::slot::slot;

/// A scan that is under way.
pub(super) struct Walk {
    /// What the caller knows it by.
    pub(super) id: u64,
    before: Census,
    /// All that is looked for is in this slot, and its owner alone is scanned.
    slot: Option<u16>,
    /// One after the other, in this order; otherwise side by side.
    order: Option<Vec<Address>>,
    /// Not yet scanned to the end, and how far.
    pub(super) left: Vec<(Address, Option<Cursor>)>,
}

impl Walk {
    /// The first round; `slot`: all that is looked for is there.
    pub(super) fn new(id: u64, before: Census, slot: Option<u16>) -> Self {
        let owner = slot.and_then(|slot| before.sole_owner(slot).cloned());
        let slot = slot.filter(|_| owner.is_some());
        let nodes = owner.map_or_else(|| before.order(), |owner| vec![owner]);
        let left = nodes.into_iter().map(|address| (address, None)).collect();
        Walk { id, before, slot, order: None, left }
    }

    /// A further round.
    pub(super) fn again(id: u64, before: Census) -> Self {
        let order = before.order();
        let left = order.iter().map(|address| (address.clone(), None)).collect();
        Walk { id, before, slot: None, order: Some(order), left }
    }

    pub(super) fn was_complete(&self, after: &Census) -> bool {
        match self.slot {
            Some(slot) => self.before.was_complete_in(slot, after),
            None => self.before.was_complete(after, self.order.as_deref()),
        }
    }

    /// Where to take the next step.
    pub(super) fn next(&self) -> &[(Address, Option<Cursor>)] {
        let at_once = if self.order.is_some() { 1 } else { self.left.len() };
        self.left.get(..at_once).unwrap_or_default()
    }
}

/// In which slot all keys are that begin so: they have a whole hash tag in common.
pub(super) fn slot_of_all(prefix: &[u8]) -> Option<u16> {
    let open = prefix.iter().position(|byte| *byte == b'{')?;
    let tag = prefix.get(open + 1..)?.iter().position(|byte| *byte == b'}')?;
    (tag > 0).then(|| slot(prefix))
}
