//! Which slots each primary says that it has, asked of all of them: what a scan compares before and after.

use std::time::Duration;

use futures::future::join_all;

use super::{ClusterSession, MAX_PING};
use crate::cache::CacheError;
use crate::cache::redis::{RedisSession, unavailable};
use crate::redis::cluster::{
    KnownPrimary, MAX_REPORT_BYTES, NodeLink, NodeReport, NodeTimeouts, Primary, SlotOwnership,
};
use crate::redis::{Address, Deadline, Encoder, Frame};

/// How long to wait for a primary that has no slots, as others say: it may be unreachable for us alone.
const MAX_EMPTY: Duration = Duration::from_millis(300);

impl ClusterSession {
    /// Asks every primary for its own slots. Primaries without slots are asked too: they may be about to get some.
    pub(super) async fn ask_slot_ownership(&mut self, deadline: &Deadline) -> Result<SlotOwnership, CacheError> {
        self.topology.mark_stale();
        let slots = self.refresh_topology(deadline).await?;
        let mut to_ask: Vec<KnownPrimary> = slots.primaries().iter().map(with_slots).collect();
        let (mut slot_ownership, mut silent) = (SlotOwnership::default(), Vec::new());
        // The primaries of the first round name the others.
        for _ in 0..2 {
            let named = self.ask_members(&to_ask, &mut slot_ownership, &mut silent, deadline).await?;
            to_ask = not_asked(named, &slot_ownership);
        }
        if let Some(error) = missing_report(silent, &to_ask, &slot_ownership) {
            return Err(error);
        }
        match slot_ownership.is_covered() {
            true => Ok(slot_ownership),
            false => Err(unavailable("some slots of the cluster have no primary")),
        }
    }

    /// Adds what these nodes say of themselves, and returns the primaries that they name. Nodes that do not answer and have
    /// no slots, as others say, become `silent`.
    async fn ask_members(
        &mut self,
        nodes: &[KnownPrimary],
        slot_ownership: &mut SlotOwnership,
        silent: &mut Vec<(KnownPrimary, CacheError)>,
        deadline: &Deadline,
    ) -> Result<Vec<KnownPrimary>, CacheError> {
        let mut known = Vec::new();
        for (other, told) in self.ask_reports(nodes, deadline).await? {
            match told {
                Ok(told) => {
                    known.extend(told.primaries);
                    slot_ownership.members.extend(told.own.map(|member| (other.address, member)));
                }
                Err(error) if other.has_slots => return Err(error),
                Err(error) => silent.push((other, error)),
            }
        }
        Ok(known)
    }

    /// What each of these nodes reports. Fails only if no link to one of them can be made.
    async fn ask_reports(
        &mut self,
        nodes: &[KnownPrimary],
        deadline: &Deadline,
    ) -> Result<Vec<(KnownPrimary, Result<NodeReport, CacheError>)>, CacheError> {
        let addresses: Vec<&Address> = nodes.iter().map(|other| &other.address).collect();
        self.open_links(&addresses)?;
        let longest = deadline.left().min(Duration::max(MAX_PING, self.topology.settings.response_timeout));
        let calls = self.links.iter_mut().filter_map(|(address, link)| {
            let other = nodes.iter().find(|other| other.address == *address)?.clone();
            let within = if other.has_slots { longest } else { longest.min(MAX_EMPTY) };
            Some(async move { (other, report_of(link, within).await) })
        });
        Ok(join_all(calls).await)
    }
}

fn with_slots(primary: &Primary) -> KnownPrimary {
    KnownPrimary { id: primary.id.clone(), address: primary.address.clone(), has_slots: true }
}

/// The primaries that have not answered for themselves yet, each once.
fn not_asked(named: Vec<KnownPrimary>, slot_ownership: &SlotOwnership) -> Vec<KnownPrimary> {
    let is_new = |other: &KnownPrimary| !slot_ownership.members.values().any(|member| member.id == other.id);
    let mut left: Vec<KnownPrimary> = named.into_iter().filter(is_new).collect();
    // If anybody says that a primary has slots, that entry comes first and is kept.
    left.sort_by(|a, b| (&a.id, b.has_slots).cmp(&(&b.id, a.has_slots)));
    left.dedup_by(|a, b| a.id == b.id);
    left
}

/// Why a node did not answer whose slots must be known.
fn missing_report(
    silent: Vec<(KnownPrimary, CacheError)>,
    left: &[KnownPrimary],
    slot_ownership: &SlotOwnership,
) -> Option<CacheError> {
    let is_needed = |other: &KnownPrimary| {
        let has_slots = left.iter().any(|asked| asked.id == other.id && asked.has_slots);
        has_slots || slot_ownership.exchanges_slots_with(&other.id)
    };
    silent.into_iter().find(|(other, _)| is_needed(other)).map(|(_, error)| error)
}

/// Asks one node which slots it has, and which other primaries it knows.
async fn report_of(link: &mut NodeLink<RedisSession>, within: Duration) -> Result<NodeReport, CacheError> {
    let frames = link.with(NodeTimeouts::of(within), async move |session| {
        let mut encoder = Encoder::new();
        encoder.pack(&[b"CLUSTER", b"NODES"]);
        session.as_mut().call(encoder, MAX_REPORT_BYTES, Deadline::new(within)).await
    });
    match frames.await.and_then(|frames| frames).map(|mut frames| frames.pop()) {
        Ok(Some(Frame::Text(text))) => NodeReport::read(&text).ok_or_else(senseless),
        Ok(Some(Frame::Error(code))) => Err(code.to_error("CLUSTER NODES").into()),
        Ok(_) => Err(senseless()),
        Err(error) => Err(error.into()),
    }
}

fn senseless() -> CacheError {
    unavailable("the reply to CLUSTER NODES is malformed")
}
