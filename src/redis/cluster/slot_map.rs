//! Which primary has which slots, as one node of the cluster reports. Pure; the report is believed within bounds.

use std::collections::HashSet;
use std::vec;

use crate::redis::address::Address;
use crate::redis::error::{Error, unexpected};
use crate::redis::reply::Frame;
use crate::redis::slot::SLOTS;

/// Nodes of a cluster, at most; Redis advises against more.
const MAX_NODES: usize = 1024;
const NOBODY: u16 = u16::MAX;
/// The step from slot to slot that visits all of them once, in a scattered order: it has no factor in common with their number.
const STRIDE: usize = 5003;

/// A primary, with its id if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) address: Address,
    pub(crate) id: String,
}

#[derive(Debug, Clone)]
pub(crate) struct SlotMap {
    primaries: Vec<Primary>,
    /// For each slot, the index of its primary.
    owners: Box<[u16]>,
    /// Replicas, which can be asked for the topology too.
    pub(crate) replicas: Vec<Address>,
    /// The current epoch of the cluster: it grows with each election, and with a slot that moves to another node than the last one.
    pub(crate) epoch: u64,
    /// The node that reported sees a majority, and all slots are served.
    pub(crate) is_ok: bool,
}

impl SlotMap {
    /// Nothing is known yet.
    pub(crate) fn empty() -> Self {
        let owners = vec![NOBODY; SLOTS.into()].into_boxed_slice();
        SlotMap { primaries: Vec::new(), owners, replicas: Vec::new(), epoch: 0, is_ok: false }
    }

    /// From the answers to `CLUSTER INFO` and `CLUSTER SLOTS` of the node at `here`.
    pub(crate) fn read(frames: Vec<Frame>, here: &Address) -> Result<Self, Error> {
        let mut frames = frames.into_iter();
        let mut slots = SlotMap::empty();
        match frames.next() {
            Some(Frame::Text(info)) => {
                let info = String::from_utf8_lossy(&info);
                let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                slots.is_ok = field("cluster_state").is_some_and(|state| state.trim() == "ok");
                slots.epoch = field("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0);
            }
            // Perhaps the user lacks the permission: the slots alone must do.
            Some(Frame::Error(_)) => slots.is_ok = true,
            _ => return Err(unexpected()),
        }
        match frames.next() {
            Some(Frame::Array(ranges)) => {
                for _ in 0..ranges {
                    slots.read_range(&mut frames, here)?;
                }
                Ok(slots)
            }
            Some(Frame::Error(code)) => Err(code.to_error("CLUSTER SLOTS")),
            _ => Err(unexpected()),
        }
    }

    /// `[first, last, primary, replica…]`
    fn read_range(&mut self, frames: &mut vec::IntoIter<Frame>, here: &Address) -> Result<(), Error> {
        let Some(Frame::Array(elements @ 2..)) = frames.next() else { return Err(unexpected()) };
        let (first, last) = (read_slot(frames.next())?, read_slot(frames.next())?);
        if first > last {
            return Err(unexpected());
        }
        for place in 2..elements {
            let Some(node) = read_node(frames, here)? else { continue };
            if place > 2 {
                if self.replicas.len() < MAX_NODES && !self.replicas.contains(&node.address) {
                    self.replicas.push(node.address);
                }
                continue;
            }
            let owner = self.place_of(node)?;
            self.owners.get_mut(first..=last).ok_or_else(unexpected)?.fill(owner);
        }
        Ok(())
    }

    fn place_of(&mut self, node: Primary) -> Result<u16, Error> {
        let place = match self.primaries.iter().position(|known| known.address == node.address) {
            Some(place) => place,
            None if self.primaries.len() < MAX_NODES => {
                self.primaries.push(node);
                self.primaries.len() - 1
            }
            None => return Err(unexpected()),
        };
        u16::try_from(place).map_err(|_| unexpected())
    }

    /// The same with other owners of single slots.
    pub(crate) fn with_moved(&self, moved: &[(u16, Address)]) -> Self {
        let mut slots = self.clone();
        for (slot, address) in moved {
            let node = Primary { address: address.clone(), id: String::new() };
            if let (Ok(place), Some(owner)) = (slots.place_of(node), slots.owners.get_mut(usize::from(*slot))) {
                *owner = place;
            }
        }
        slots
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        let place = self.owners.get(usize::from(slot))?;
        self.primaries.get(usize::from(*place)).map(|primary| &primary.address)
    }

    pub(crate) fn primaries(&self) -> &[Primary] {
        &self.primaries
    }

    /// The primaries that have slots.
    pub(crate) fn owners(&self) -> Vec<&Address> {
        let used: HashSet<u16> = self.owners.iter().copied().collect();
        let places = (0u16..).zip(&self.primaries);
        places.filter(|(place, _)| used.contains(place)).map(|(_, primary)| &primary.address).collect()
    }

    pub(crate) fn is_covered(&self) -> bool {
        !self.owners.contains(&NOBODY)
    }

    pub(crate) fn covered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner != NOBODY).count()
    }

    /// A slot of the node: another one for another `turn`.
    pub(crate) fn slot_of(&self, address: &Address, turn: usize) -> Option<u16> {
        let place = self.primaries.iter().position(|primary| primary.address == *address)?;
        let slots = usize::from(SLOTS);
        let scattered = (0..slots).map(|step| (turn % slots + step) * STRIDE % slots);
        let mut own = scattered.filter(|slot| self.owners.get(*slot).is_some_and(|owner| usize::from(*owner) == place));
        own.next().and_then(|slot| u16::try_from(slot).ok())
    }
}

fn read_slot(frame: Option<Frame>) -> Result<usize, Error> {
    match frame {
        Some(Frame::Number(slot @ 0..)) if slot < i64::from(SLOTS) => usize::try_from(slot).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    }
}

/// `[host, port, id, …]`; None: the node has no port.
fn read_node(frames: &mut vec::IntoIter<Frame>, here: &Address) -> Result<Option<Primary>, Error> {
    let Some(Frame::Array(elements @ 2..)) = frames.next() else { return Err(unexpected()) };
    let host = match frames.next() {
        Some(Frame::Text(host)) => Address::read_host(&host).ok_or_else(unexpected)?,
        Some(Frame::Nil) => None,
        _ => return Err(unexpected()),
    };
    let Some(Frame::Number(port)) = frames.next() else { return Err(unexpected()) };
    let id = match elements {
        2 => String::new(),
        _ => match frames.next() {
            Some(Frame::Text(id)) if id.len() <= 64 => String::from_utf8_lossy(&id).into_owned(),
            _ => return Err(unexpected()),
        },
    };
    (3..elements).try_for_each(|_| skip(frames))?;
    let port = u16::try_from(port).map_err(|_| unexpected())?;
    let address = Address::new(host.as_deref().unwrap_or(&here.host), port);
    Ok((port != 0).then_some(Primary { address, id }))
}

/// Skips one reply, with all of its elements.
fn skip(frames: &mut vec::IntoIter<Frame>) -> Result<(), Error> {
    let mut due = 1usize;
    while due > 0 {
        due -= 1;
        match frames.next() {
            Some(Frame::Array(elements)) => due += elements,
            Some(_) => {}
            None => return Err(unexpected()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(text: &'static str) -> Frame {
        Frame::Text(Bytes::from_static(text.as_bytes()))
    }

    fn read(frames: &[Frame]) -> Result<SlotMap, Error> {
        let info = text("cluster_state:ok\r\ncluster_current_epoch:7\r\n");
        SlotMap::read([&[info], frames].concat(), &Address::new("asked", 1))
    }

    fn range(first: i64, last: i64, nodes: &[&[Frame]]) -> Vec<Frame> {
        let head = [Frame::Array(2 + nodes.len()), Frame::Number(first), Frame::Number(last)];
        [&head[..], &nodes.concat()].concat()
    }

    fn node(host: Frame, port: i64, id: &'static str) -> Vec<Frame> {
        vec![Frame::Array(3), host, Frame::Number(port), text(id)]
    }

    #[test]
    fn slots_are_found_by_their_ranges_and_a_node_without_a_host_is_the_one_that_was_asked() {
        let (a, b, c) = (node(text("a"), 1, "x"), node(Frame::Nil, 2, "y"), node(text("?"), 3, "z"));
        let named = [&[Frame::Array(4)][..], &a[1..], &[Frame::Array(2), text("hostname"), text("h")]].concat();
        let ranges = [range(0, 99, &[&named, &b]), range(100, 100, &[&c]), range(200, 16383, &[&a])].concat();
        let slots = read(&[&[Frame::Array(3)], &ranges[..]].concat()).unwrap();
        let owner = |slot| slots.owner(slot).map(ToString::to_string);
        assert_eq!(
            [0, 99, 100, 150, 16383].map(owner).map(Option::unwrap_or_default),
            ["a:1", "a:1", "asked:3", "", "a:1"]
        );
        assert_eq!(slots.replicas, [Address::new("asked", 2)]);
        assert_eq!((slots.epoch, slots.is_ok, slots.is_covered(), slots.covered()), (7, true, false, 16285));
        assert_eq!(slots.slot_of(&Address::new("asked", 3), 4), Some(100));
        let moved = slots.with_moved(&[(150, Address::new("new", 9)), (0, Address::new("asked", 3))]);
        assert_eq!(moved.owner(150), Some(&Address::new("new", 9)));
        assert_eq!(moved.owner(0), Some(&Address::new("asked", 3)));
        assert_eq!(moved.owners().len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = node(text("a"), 1, "x");
        let one = |range: Vec<Frame>| read(&[&[Frame::Array(1)], &range[..]].concat());
        assert!(one(range(0, 16383, &[&good])).is_ok());
        for bad in [
            range(0, 16384, &[&good]),
            range(-1, 5, &[&good]),
            range(6, 5, &[&good]),
            range(0, 5, &[&good[..3]]),
            range(0, 5, &[&node(text("a b"), 1, "x")]),
            range(0, 5, &[&node(text("a"), 65536, "x")]),
            range(0, 5, &[&[Frame::Array(1), text("a")]]),
            vec![Frame::Status],
            vec![],
        ] {
            assert!(one(bad.clone()).is_err(), "{bad:?}");
        }
        let many: Vec<Frame> = (1..=1025).flat_map(|port| range(0, 0, &[&node(text("a"), port, "x")])).collect();
        assert!(read(&[&[Frame::Array(1025)], &many[..]].concat()).is_err());
    }
}
