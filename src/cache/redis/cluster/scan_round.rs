//! One round of a scan: which nodes it scans, how far it is, and whether it has met every key. Pure.

use crate::cache::{Cursor, ScanStep};
use crate::redis::Address;
use crate::redis::cluster::SlotOwnership;

/// A scan in progress.
pub(super) struct ClusterScan {
    /// The number in the cursor that the caller has.
    pub(super) id: u64,
    before: SlotOwnership,
    /// All wanted keys are in this slot, and only its owner is scanned.
    slot: Option<u16>,
    /// The nodes are scanned one after the other, in this order; None: side by side.
    order: Option<Vec<Address>>,
    /// Nodes that are not scanned to the end, and where each scan goes on.
    pub(super) left: Vec<(Address, Option<Cursor>)>,
}

impl ClusterScan {
    /// The first round. `slot`: all wanted keys are there.
    pub(super) fn new(id: u64, before: SlotOwnership, slot: Option<u16>) -> Self {
        let owner = slot.and_then(|slot| before.sole_owner(slot).cloned());
        let slot = slot.filter(|_| owner.is_some());
        let nodes = owner.map_or_else(|| before.order(), |owner| vec![owner]);
        let left = nodes.into_iter().map(|address| (address, None)).collect();
        ClusterScan { id, before, slot, order: None, left }
    }

    /// A further round.
    pub(super) fn again(id: u64, before: SlotOwnership) -> Self {
        let order = before.order();
        let left = order.iter().map(|address| (address.clone(), None)).collect();
        ClusterScan { id, before, slot: None, order: Some(order), left }
    }

    pub(super) fn was_complete(&self, after: &SlotOwnership) -> bool {
        match self.slot {
            Some(slot) => self.before.was_complete_in(slot, after),
            None => self.before.was_complete(after, self.order.as_deref()),
        }
    }

    /// Moves on after a step on some nodes. Nodes that lost their cursor begin again.
    pub(super) fn advance(&mut self, steps: &[(Address, ScanStep)], lost: &[Address]) {
        self.left.retain_mut(|(address, cursor)| match steps.iter().find(|(own, _)| own == address) {
            Some((_, step)) => {
                *cursor = step.next;
                step.next.is_some()
            }
            None => {
                *cursor = cursor.filter(|_| !lost.contains(address));
                true
            }
        });
    }

    /// Where to take the next step.
    pub(super) fn next(&self) -> &[(Address, Option<Cursor>)] {
        let at_once = if self.order.is_some() { 1 } else { self.left.len() };
        self.left.get(..at_once).unwrap_or_default()
    }
}
