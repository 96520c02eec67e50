//! A step of a scan on a session, with the deletion of what earlier ones found.

use std::time::Instant;

use tokio::time::sleep;

use super::RedisSession;
use crate::cache::redis::scan::{self, MAX_KEY_BYTES, RefusedKeys, ScanRequest, Undeleted};
use crate::cache::redis::unavailable;
use crate::cache::{CacheError, DeleteGroup, Progress, Scan, Unlinked};
use crate::redis::Deadline;

impl RedisSession {
    pub(super) async fn delete_and_scan(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<Scan<'_>>,
        deadline: &Deadline,
    ) -> Progress {
        let server = match self.prepare(scan, deadline).await {
            Ok(server) => server,
            Err((failure, is_lost)) => {
                let unlinked = vec![Unlinked::default(); groups.len()];
                return Progress { unlinked, failure: Some(failure), is_lost, ..Progress::default() };
            }
        };
        match scan.and_then(|scan| Some((scan, self.slot_to_list(scan)?))) {
            Some((scan, slot)) => self.delete_and_list(groups, (scan, slot), server, deadline).await,
            None => self.delete_and_step(groups, scan, server, deadline).await,
        }
    }

    /// Lists the keys of the slot when the groups are deleted, or else begins the scan.
    async fn delete_and_list(
        &mut self,
        groups: &[DeleteGroup],
        (scan, slot): (Scan<'_>, u16),
        server: u64,
        deadline: &Deadline,
    ) -> Progress {
        let progress = match groups {
            [] => Progress::default(),
            _ => self.delete_and_step(groups, None, server, deadline).await,
        };
        if progress.failure.is_some() {
            return progress;
        }
        match self.keys_of_slot(slot, scan, deadline).await {
            Ok(None) => {}
            Ok(step) => return Progress { step, ..progress },
            Err(error) => return Progress { failure: Some(error), ..progress },
        }
        let scanned = self.delete_and_step(&[], Some(scan), server, deadline).await;
        Progress { unlinked: progress.unlinked, took: progress.took + scanned.took, ..scanned }
    }

    /// One or two pipelines, whose cursor is worth nothing if the connection did not last.
    async fn delete_and_step(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<Scan<'_>>,
        server: u64,
        deadline: &Deadline,
    ) -> Progress {
        let (connects, begun) = (self.session.connects(), Instant::now());
        let count = self.pace.count(groups.iter().map(|group| group.keys.len()).sum(), begun);
        let scan = scan.map(|scan| (scan, count));
        let (mut progress, refused_keys) = self.request(groups, scan, self.one_each, server, deadline).await;
        progress.took = self.pace.took(begun.elapsed());
        if !refused_keys.is_empty() {
            self.one_by_one(groups, refused_keys, &mut progress, deadline).await;
        }
        if !self.session.has_connection() || self.session.connects() != connects {
            progress.step = None;
        }
        progress
    }

    /// Begins the scan, or waits until it is to go on. Who gives the cursors; or why it cannot be, and whether the scan is lost.
    async fn prepare(&mut self, scan: Option<Scan<'_>>, deadline: &Deadline) -> Result<u64, (CacheError, bool)> {
        let from = scan.and_then(|scan| scan.from);
        if scan.is_some() && from.is_none() {
            let round_trip = self.session.round_trip(deadline).await;
            self.pace.begin(round_trip, Instant::now());
        } else if self.pace.rests(self.session.server().requests(), Instant::now()) {
            sleep(scan::REST).await;
        }
        if scan.is_none() {
            return Ok(0);
        }
        let server = self.session.run_id(deadline).await;
        self.note_connection();
        let server = server.map_err(|error| (error.into(), false))?;
        // Another server would make something else of the cursor.
        let is_gone = from.is_some_and(|from| from.server != server);
        if is_gone { Err((unavailable("the server on which the scan began is gone"), true)) } else { Ok(server) }
    }

    /// One pipeline; and what it is to be repeated one by one.
    async fn request(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<(Scan<'_>, usize)>,
        one_each: bool,
        server: u64,
        deadline: &Deadline,
    ) -> (Progress, Vec<RefusedKeys>) {
        let shared = self.shared.clone();
        let last = groups.iter().find_map(|group| group.keys.last());
        let wait = last.and_then(|key| self.wait(key, deadline, 0));
        let with_scripts = !self.has_scripts && groups.iter().any(|group| group.version.is_some());
        let (version_keys, asking) = (&shared.version_keys, self.asking);
        let request = ScanRequest { version_keys, groups, with_scripts, asking, one_each, wait, scan, server };
        let mut frames = Vec::new();
        let sent = self.exchange(request.encode(), MAX_KEY_BYTES, deadline, 0, &mut frames).await;
        let mut undeleted = Undeleted::default();
        let (mut progress, waited) = request.decode(self.take_note(frames, with_scripts), &mut undeleted);
        if !undeleted.moved.is_empty() && !shared.version_keys.is_cluster {
            progress.failure.get_or_insert(unavailable("redis is a node of a cluster"));
        }
        self.moved_keys.append(&mut undeleted.moved);
        if let (Some(wait), Some(waited)) = (&request.wait, waited)
            && let Err(error) = self.acknowledged(waited, wait, deadline).await
        {
            progress.failure.get_or_insert(error);
        }
        progress.failure = sent.err().or(progress.failure);
        (progress, undeleted.refused)
    }

    /// Deletes keys one by one that Redis refused to delete together: one that is forbidden forbids all of a call.
    async fn one_by_one(
        &mut self,
        groups: &[DeleteGroup],
        refused_keys: Vec<RefusedKeys>,
        progress: &mut Progress,
        deadline: &Deadline,
    ) {
        let version = |index: usize| groups.get(index).and_then(|group| group.version.clone());
        let indexes: Vec<usize> = refused_keys.iter().map(|refused_keys| refused_keys.group).collect();
        let alone: Vec<DeleteGroup> = refused_keys
            .into_iter()
            .map(|RefusedKeys { group, keys }| DeleteGroup { keys, version: version(group) })
            .collect();
        let begun = self.moved_keys.len();
        let (part, _) = self.request(&alone, None, true, 0, deadline).await;
        for moved_keys in self.moved_keys.iter_mut().skip(begun) {
            moved_keys.group = indexes.get(moved_keys.group).copied().unwrap_or(usize::MAX);
        }
        for (group, unlinked) in indexes.into_iter().zip(part.unlinked) {
            if let Some(own) = progress.unlinked.get_mut(group) {
                own.add(unlinked);
            }
        }
        if let Some(error) = part.failure {
            progress.failure.get_or_insert(error);
        }
    }
}
