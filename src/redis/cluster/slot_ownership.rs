//! Which primary has which slots, and which slots are on their way, as each primary reports of itself. It decides whether a
//! scan between two such reports can have missed a key. Pure.
//!
//! # When a scan is complete
//!
//! A scan of a node returns every key that was on that node all the time. A key that changes nodes meanwhile may be on none
//! of them all the time. So the primaries report before and after the scan:
//!
//! - Nothing changed and nothing was on its way: no key has moved. If a slot had gone and come back, an epoch would be
//!   greater: a node that gets a slot raises its epoch, unless that is the greatest already; and in that case the node
//!   that had the slot in between raised its own.
//! - Otherwise the nodes are scanned again, one after the other, sources before targets. A key that moves in that order is
//!   met on the node where it was or on the one where it went. This holds if all visible changes go in that order and no
//!   epoch changed: then only the node with the greatest epoch can have got slots unseen, and it was scanned last.
//!
//! If all wanted keys are in one slot, only its owner is scanned at first. That is complete if this slot has not moved; other
//! slots may have. If the slot had gone and come back, an epoch would be greater, as above.
//!
//! A node that does not answer is left out if others own all slots and none of them says that this node has any. If it gets
//! slots meanwhile, they are missing in the second report. If it gives them back, an epoch was raised.
//!
//! No report shows this one case: a move is cancelled after keys have gone, and somebody brings those keys back by hand.

use std::collections::{BTreeMap, HashMap};

use crate::redis::address::Address;
use crate::redis::slot::SLOTS;

/// What a primary reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    epoch: u64,
    /// First and last.
    slots: Vec<(u16, u16)>,
    /// Slots on their way.
    moving: Vec<SlotMove>,
}

/// A slot on its way: whether it leaves, and the id of the node on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlotMove {
    slot: u16,
    leaves: bool,
    other: String,
}

/// The answer of a node to `CLUSTER NODES`.
pub(crate) struct NodeReport {
    /// None: it is a replica.
    pub(crate) own: Option<Member>,
    /// All primaries that it knows and that have an address, except those that have failed and have no slots.
    pub(crate) primaries: Vec<KnownPrimary>,
}

/// What a node reports of another primary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KnownPrimary {
    pub(crate) id: String,
    pub(crate) address: Address,
    pub(crate) has_slots: bool,
}

impl NodeReport {
    /// None: it cannot be parsed.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut told = NodeReport { own: None, primaries: Vec::new() };
        let mut knows_itself = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [id, address, flags, _, _, _, epoch, _, slots @ ..] = &words[..] else { return None };
            let has = |flag: &str| flags.split(',').any(|own| own == flag);
            let is_own = has("myself");
            knows_itself |= is_own;
            if !has("master") || has("noaddr") || has("handshake") || has("fail") && slots.is_empty() {
                continue;
            }
            // `ip:port@bus,name`
            let (host, port) = address.split(['@', ',']).next()?.rsplit_once(':')?;
            let host = Address::read_host(host.as_bytes())?.unwrap_or_default();
            let address = Address::new(&host, port.parse().ok()?);
            let has_slots = slots.iter().any(|word| !word.is_empty());
            told.primaries.push(KnownPrimary { id: (*id).to_owned(), address, has_slots });
            if is_own {
                told.own = Some(Member::read(id, epoch.parse().ok()?, slots)?);
            }
        }
        knows_itself.then_some(told)
    }
}

impl Member {
    fn read(id: &str, epoch: u64, words: &[&str]) -> Option<Self> {
        let (mut slots, mut moving) = (Vec::new(), Vec::new());
        for word in words.iter().filter(|word| !word.is_empty()) {
            match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
                Some(mark) => {
                    let (slot, rest) = mark.split_once('-')?;
                    let (leaves, other) = match (rest.strip_prefix(">-"), rest.strip_prefix("<-")) {
                        (Some(target), _) => (true, target),
                        (_, Some(source)) => (false, source),
                        _ => return None,
                    };
                    moving.push(SlotMove { slot: slot.parse().ok()?, leaves, other: other.to_owned() });
                }
                None => {
                    let (first, last) = word.split_once('-').unwrap_or((word, word));
                    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
                    if first > last || last >= SLOTS {
                        return None;
                    }
                    slots.push((first, last));
                }
            }
        }
        Some(Member { id: id.to_owned(), epoch, slots, moving })
    }
}

/// All primaries, each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SlotOwnership {
    pub(crate) members: BTreeMap<Address, Member>,
}

impl SlotOwnership {
    /// For each slot, the id of the primary that says it owns it.
    fn owners(&self) -> Vec<Option<&str>> {
        let mut owners = vec![None; SLOTS.into()];
        for member in self.members.values() {
            for (first, last) in &member.slots {
                if let Some(range) = owners.get_mut(usize::from(*first)..=usize::from(*last)) {
                    range.fill(Some(member.id.as_str()));
                }
            }
        }
        owners
    }

    /// Whether the node is a primary that has no slots.
    pub(crate) fn is_without_slots(&self, address: &Address) -> bool {
        self.members.get(address).is_some_and(|member| member.slots.is_empty())
    }

    pub(crate) fn is_covered(&self) -> bool {
        !self.owners().contains(&None)
    }

    /// Whether a primary gives slots to the node or gets slots from it.
    pub(crate) fn exchanges_slots_with(&self, id: &str) -> bool {
        self.members.values().any(|member| member.moving.iter().any(|mark| mark.other == id))
    }

    /// Sources and targets of slots on their way.
    fn moves(&self) -> Vec<(&str, &str)> {
        let marks = self.members.values().flat_map(|member| member.moving.iter().map(move |mark| (member, mark)));
        marks
            .map(|(member, SlotMove { leaves, other, .. })| match leaves {
                true => (member.id.as_str(), other.as_str()),
                false => (other.as_str(), member.id.as_str()),
            })
            .collect()
    }

    /// The node with the greatest epoch, if no other has the same.
    fn newest(&self) -> Option<&str> {
        let greatest = self.members.values().map(|member| member.epoch).max()?;
        let mut newest = self.members.values().filter(|member| member.epoch == greatest);
        newest.next().filter(|_| newest.next().is_none()).map(|member| member.id.as_str())
    }

    /// The primaries in an order in which keys may move meanwhile, as far as such an order exists.
    pub(crate) fn order(&self) -> Vec<Address> {
        let mut order: Vec<(&Address, &Member)> = self.members.iter().collect();
        order.sort_by_key(|(_, member)| member.epoch);
        // Each moves behind the nodes that give slots to it. More rounds than nodes change nothing.
        for _ in 0..order.len() {
            for (source, target) in self.moves() {
                let place = |id: &str| order.iter().position(|(_, member)| member.id == id);
                if let (Some(source), Some(target)) = (place(source), place(target))
                    && target < source
                {
                    let moved = order.remove(target);
                    order.insert(source, moved);
                }
            }
        }
        order.into_iter().map(|(address, _)| address.clone()).collect()
    }

    /// The node that has all keys of a slot; None: the slot is on its way, or has no owner or several.
    pub(crate) fn sole_owner(&self, slot: u16) -> Option<&Address> {
        let is_marked = |member: &Member| member.moving.iter().any(|mark| mark.slot == slot);
        let has = |member: &Member| member.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        let mut owners = self.members.iter().filter(|(_, member)| has(member));
        let is_moving = self.members.values().any(is_marked);
        owners.next().filter(|_| !is_moving && owners.next().is_none()).map(|(address, _)| address)
    }

    /// Whether a scan of one node, between this report and the one `after` it, has met every key of a slot that existed all
    /// the time. Other slots may move.
    pub(crate) fn was_complete_in(&self, slot: u16, after: &SlotOwnership) -> bool {
        let owner = self.sole_owner(slot);
        owner.is_some() && owner == after.sole_owner(slot) && self.identities() == after.identities()
    }

    /// Addresses, ids and epochs of the primaries.
    fn identities(&self) -> Vec<(&Address, &str, u64)> {
        self.members.iter().map(|(address, member)| (address, member.id.as_str(), member.epoch)).collect()
    }

    /// Whether a scan between this report and the one `after` it has met every key that existed all the time. `order`: the
    /// nodes were scanned one after the other in this order; None: side by side.
    pub(crate) fn was_complete(&self, after: &SlotOwnership, order: Option<&[Address]>) -> bool {
        if self.identities() != after.identities() {
            return false;
        }
        let (was, is) = (self.owners(), after.owners());
        let changed = was.iter().zip(&is).filter(|(was, is)| was != is);
        let mut moves: Vec<(Option<&str>, Option<&str>)> = changed.map(|(was, is)| (*was, *is)).collect();
        moves.extend(self.moves().iter().chain(&after.moves()).map(|(source, target)| (Some(*source), Some(*target))));
        if moves.is_empty() {
            return true;
        }
        let Some(order) = order else { return false };
        let ids = order.iter().filter_map(|address| self.members.get(address));
        let places: HashMap<&str, usize> = ids.enumerate().map(|(place, member)| (member.id.as_str(), place)).collect();
        let place = |id: Option<&str>| id.and_then(|id| places.get(id));
        let youngest_is_last = place(self.newest()).is_some_and(|place| place + 1 == places.len());
        let is_in_order = |(source, target): &(Option<&str>, Option<&str>)| match (place(*source), place(*target)) {
            (Some(source), Some(target)) => source < target,
            _ => false,
        };
        youngest_is_last && moves.iter().all(is_in_order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name epoch slots…`
    fn slot_ownership(members: &[&str]) -> SlotOwnership {
        let members = members.iter().map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            let member = Member::read(words[0], words[1].parse().unwrap(), &words[2..]).unwrap();
            (Address::new(words[0], 1), member)
        });
        SlotOwnership { members: members.collect() }
    }

    fn names(order: &[Address]) -> String {
        order.iter().map(|address| address.host.as_ref()).collect()
    }

    #[test]
    fn a_node_tells_of_itself_and_of_the_other_primaries() {
        let text =
            b"aa 10.0.0.1:6379@16379,a.example myself,master - 0 0 7 connected 0-5460 9000 [5461->-bb] [77-<-cc]\n\
            bb ::1:6380@16380 master - 0 1 2 connected 5461-8999\n\
            cc 10.0.0.3:6379@16379 master,fail - 0 1 3 disconnected\n\
            dd 10.0.0.4:6379@16379 slave aa 0 1 7 connected\n\
            ee :0@0 master,noaddr - 0 1 3 disconnected\n";
        let told = NodeReport::read(text).unwrap();
        let own = told.own.unwrap();
        assert_eq!((own.id.as_str(), own.epoch, &own.slots[..]), ("aa", 7, &[(0, 5460), (9000, 9000)][..]));
        let mark = |slot, leaves, other: &str| SlotMove { slot, leaves, other: other.to_owned() };
        assert_eq!(own.moving, [mark(5461, true, "bb"), mark(77, false, "cc")]);
        let other = |id: &str, host, port| KnownPrimary {
            id: id.to_owned(),
            address: Address::new(host, port),
            has_slots: true,
        };
        assert_eq!(told.primaries, [other("aa", "10.0.0.1", 6379), other("bb", "::1", 6380)]);
        assert!(NodeReport::read(b"aa 1.1.1.1:1@2 myself,slave bb 0 0 7 connected\n").unwrap().own.is_none());
        for bad in
            ["", "x", "aa 1.1.1.1:1@2 myself,master - 0 0 7 connected 9-3", "aa 1.1.1.1:1@2 master - 0 0 7 connected 1"]
        {
            assert!(NodeReport::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_scan_side_by_side_is_complete_if_nothing_moved() {
        let quiet = slot_ownership(&["a 1 0-5", "b 2 6-9"]);
        assert!(quiet.was_complete(&quiet, None));
        for other in [
            slot_ownership(&["a 1 0-4", "b 2 5-9"]),
            slot_ownership(&["a 1 0-5", "b 3 6-9"]),
            slot_ownership(&["a 1 0-5", "c 2 6-9"]),
            slot_ownership(&["a 1 0-5 [5->-b]", "b 2 6-9"]),
            slot_ownership(&["a 1 0-5", "b 2 6-9 [5-<-a]"]),
        ] {
            assert!(!quiet.was_complete(&other, None) && !other.was_complete(&quiet, None), "{other:?}");
        }
        let open = slot_ownership(&["a 1 0-5 [5->-b]", "b 2 6-9"]);
        assert!(!open.was_complete(&open, None));
    }

    #[test]
    fn a_scan_of_one_slot_is_complete_if_that_slot_did_not_move() {
        let before = slot_ownership(&["a 1 0-5", "b 2 6-9"]);
        assert_eq!(before.sole_owner(3), Some(&Address::new("a", 1)));
        assert!(before.was_complete_in(3, &before) && !before.was_complete_in(10, &before));
        assert!(before.was_complete_in(3, &slot_ownership(&["a 1 0-4 [4->-b]", "b 2 5-9 [4-<-a]"])), "others did");
        for other in [
            slot_ownership(&["a 1 0-2", "b 2 3-9"]),
            slot_ownership(&["a 3 0-5", "b 2 6-9"]),
            slot_ownership(&["a 1 0-5", "b 3 6-9"]),
            slot_ownership(&["a 1 0-5 [3->-b]", "b 2 6-9"]),
            slot_ownership(&["a 1 0-5", "b 2 6-9 [3-<-a]"]),
            slot_ownership(&["a 1 0-5", "b 2 3-9"]),
        ] {
            assert!(!before.was_complete_in(3, &other) && !other.was_complete_in(3, &before), "{other:?}");
        }
    }

    #[test]
    fn a_scan_in_order_is_complete_if_keys_moved_that_way_alone() {
        let before = slot_ownership(&["a 1 0-4 [3->-b]", "b 3 6-9", "c 2 5-5"]);
        assert_eq!(names(&before.order()), "acb");
        let order = before.order();
        assert!(before.was_complete(&slot_ownership(&["a 1 0-2", "b 3 3-4 6-9", "c 2 5-5"]), Some(&order)));
        assert!(before.was_complete(&before, Some(&order)));
        // To a node that is not the newest, against the order, or with an epoch raised: not for sure.
        assert!(!before.was_complete(&slot_ownership(&["a 1 0-4 6-6", "b 3 7-9", "c 2 5-5"]), Some(&order)));
        assert!(!before.was_complete(&slot_ownership(&["a 1 0-4", "b 4 6-9", "c 2 5-5"]), Some(&order)));
        let youngest_first: Vec<Address> = order.iter().rev().cloned().collect();
        assert!(!before.was_complete(&before, Some(&youngest_first)));
        // Slots leave the newest: the one that gets them must come after it, so no order is safe.
        let leaving = slot_ownership(&["a 1 0-4", "b 3 6-9 [6->-a]"]);
        assert_eq!(names(&leaving.order()), "ba");
        assert!(!leaving.was_complete(&leaving, Some(&leaving.order())));
        // Two that are equally young: either may have been given slots unseen.
        let even = slot_ownership(&["a 3 0-5 [5->-b]", "b 3 6-9"]);
        assert!(!even.was_complete(&even, Some(&even.order())));
    }
}
