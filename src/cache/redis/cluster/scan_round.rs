//! One round of a scan: which nodes it scans, how far it is, and whether it has met every key. Pure.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::cache::{Cursor, ScanStep};
use crate::redis::Address;
use crate::redis::cluster::SlotOwnership;

/// Earlier states of a scan that are kept. What the last two steps found may not be deleted yet.
const MAX_EARLIER: usize = 2;

/// A scan in progress.
#[derive(Clone)]
pub(super) struct ClusterScan {
    /// The number of this state, in the cursor that the caller has. No two states of a session have the same.
    number: u64,
    /// The states before this one, the newest at the back. They keep none themselves.
    earlier: VecDeque<ClusterScan>,
    /// It is to begin anew.
    pub(super) is_given_up: bool,
    before: Rc<SlotOwnership>,
    /// All wanted keys are in this slot, and only its owner is scanned.
    slot: Option<u16>,
    /// The nodes are scanned one after the other, in this order; None: side by side.
    order: Option<Rc<[Address]>>,
    /// Nodes that are not scanned to the end, and where each scan goes on.
    pub(super) left: Vec<(Address, Option<Cursor>)>,
}

impl ClusterScan {
    /// The first round. `slot`: all wanted keys are there.
    pub(super) fn new(number: u64, before: SlotOwnership, slot: Option<u16>) -> Self {
        let owner = slot.and_then(|slot| before.sole_owner(slot).cloned());
        let slot = slot.filter(|_| owner.is_some());
        let nodes = owner.map_or_else(|| before.order(), |owner| vec![owner]);
        let left = nodes.into_iter().map(|address| (address, None)).collect();
        let (earlier, before) = (VecDeque::new(), Rc::new(before));
        ClusterScan { number, earlier, is_given_up: false, before, slot, order: None, left }
    }

    /// Begins a further round. The caller may go back to the one before.
    pub(super) fn begin_again(&mut self, before: SlotOwnership) {
        let order: Rc<[Address]> = before.order().into();
        self.left = order.iter().map(|address| (address.clone(), None)).collect();
        (self.before, self.slot, self.order) = (Rc::new(before), None, Some(order));
    }

    /// Where the caller goes on.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { at: self.number, server: 0 }
    }

    /// Keeps this state before a step, which leads to the one of the number `next`.
    pub(super) fn remember(&mut self, next: u64) {
        let mut earlier = std::mem::take(&mut self.earlier);
        if earlier.len() >= MAX_EARLIER {
            earlier.pop_front();
        }
        earlier.push_back(self.clone());
        (self.earlier, self.number) = (earlier, next);
    }

    /// The scan as it was at that cursor before; None: that state is not kept any more.
    pub(super) fn earlier_at(&self, cursor: Cursor) -> Option<Self> {
        self.earlier.iter().find(|earlier| earlier.cursor() == cursor).cloned()
    }

    /// Whether all nodes that are left to scan are primaries still, as far as the slot map can tell: nodes without slots are not
    /// in it.
    pub(super) fn is_on_primaries(&self, has_slots: impl Fn(&Address) -> bool) -> bool {
        self.left.iter().all(|(address, _)| has_slots(address) || self.before.is_without_slots(address))
    }

    /// Whether one of the nodes that were asked has no slots and took no step. It may be gone for good, and no slot map shows
    /// that; a new scan leaves it out.
    pub(super) fn is_held_up(&self, asked: &[(Address, Option<Cursor>)], steps: &[(Address, ScanStep)]) -> bool {
        let is_silent = |address: &Address| steps.iter().all(|(own, _)| own != address);
        asked.iter().any(|(address, _)| self.before.is_without_slots(address) && is_silent(address))
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
