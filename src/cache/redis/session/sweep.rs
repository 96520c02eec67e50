//! A step of a scan on a session, with the deletion of what earlier ones found.

use std::time::Instant;

use tokio::time::sleep;

use super::RedisSession;
use crate::cache::redis::scan::{self, Apart, MAX_KEY_BYTES, Stride};
use crate::cache::redis::unavailable;
use crate::cache::{CacheError, DeleteGroup, Progress, Scan, Unlinked};
use crate::redis::Budget;

impl RedisSession {
    pub(super) async fn sweep(&mut self, groups: &[DeleteGroup], scan: Option<Scan<'_>>, budget: &Budget) -> Progress {
        let server = match self.prepare(scan, budget).await {
            Ok(server) => server,
            Err((failure, is_lost)) => {
                let unlinked = vec![Unlinked::default(); groups.len()];
                return Progress { unlinked, failure: Some(failure), is_lost, ..Progress::default() };
            }
        };
        let connects = self.session.connects();
        let keys = groups.iter().map(|group| group.keys.len()).sum();
        let count = self.pace.count(keys, Instant::now());
        let scan = scan.map(|scan| (scan, count));
        let begun = Instant::now();
        let (mut progress, apart) = self.stride(groups, scan, self.one_each, server, budget).await;
        progress.took = self.pace.took(begun.elapsed());
        if !apart.is_empty() {
            self.one_by_one(groups, apart, &mut progress, budget).await;
        }
        if !self.session.has_connection() || self.session.connects() != connects {
            progress.step = None;
        }
        progress
    }

    /// Begins the scan, or waits until it is to go on. Who gives the cursors; or why it cannot be, and whether the scan is lost.
    async fn prepare(&mut self, scan: Option<Scan<'_>>, budget: &Budget) -> Result<u64, (CacheError, bool)> {
        let from = scan.and_then(|scan| scan.from);
        if scan.is_some() && from.is_none() {
            let round_trip = self.session.round_trip(budget).await;
            self.pace.begin(round_trip, Instant::now());
        } else if self.pace.rests(self.session.server().requests(), Instant::now()) {
            sleep(scan::REST).await;
        }
        if scan.is_none() {
            return Ok(0);
        }
        let server = self.session.run_id(budget).await;
        self.note_connection();
        let server = server.map_err(|error| (error.into(), false))?;
        // Another server would make something else of the cursor.
        match from {
            Some(from) if from.server != server => {
                Err((unavailable("the server that the scan began on is gone"), true))
            }
            Some(_) | None => Ok(server),
        }
    }

    /// One pipeline; and what it is to be repeated one by one.
    async fn stride(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<(Scan<'_>, usize)>,
        one_each: bool,
        server: u64,
        budget: &Budget,
    ) -> (Progress, Vec<Apart>) {
        let shared = self.shared.clone();
        let last = groups.iter().find_map(|group| group.keys.last());
        let wait = last.and_then(|key| self.wait(key, budget, 0));
        let with_scripts = !self.has_scripts && groups.iter().any(|group| group.version.is_some());
        let (version_keys, asking) = (&shared.version_keys, self.asking);
        let stride = Stride { version_keys, groups, with_scripts, asking, one_each, wait, scan, server };
        let mut frames = Vec::new();
        let sent = self.exchange(stride.encode(), MAX_KEY_BYTES, budget, 0, &mut frames).await;
        let (mut misplaced, mut apart) = (Vec::new(), Vec::new());
        let (mut progress, waited) = stride.decode(self.take_note(frames, with_scripts), &mut misplaced, &mut apart);
        if !misplaced.is_empty() && !shared.version_keys.is_cluster {
            progress.failure.get_or_insert(unavailable("redis is a part of a cluster"));
        }
        self.misplaced.append(&mut misplaced);
        if let (Some(wait), Some(waited)) = (&stride.wait, waited)
            && let Err(error) = self.acknowledged(waited, wait, budget).await
        {
            progress.failure.get_or_insert(error);
        }
        progress.failure = sent.err().or(progress.failure);
        (progress, apart)
    }

    /// Deletes keys one by one that Redis refused to delete together: one that is forbidden forbids all of a call.
    async fn one_by_one(
        &mut self,
        groups: &[DeleteGroup],
        apart: Vec<Apart>,
        progress: &mut Progress,
        budget: &Budget,
    ) {
        let version = |index: usize| groups.get(index).and_then(|group| group.version.clone());
        let indexes: Vec<usize> = apart.iter().map(|apart| apart.group).collect();
        let alone: Vec<DeleteGroup> =
            apart.into_iter().map(|Apart { group, keys }| DeleteGroup { keys, version: version(group) }).collect();
        let begun = self.misplaced.len();
        let (part, _) = self.stride(&alone, None, true, 0, budget).await;
        for misplaced in self.misplaced.iter_mut().skip(begun) {
            misplaced.group = indexes.get(misplaced.group).copied().unwrap_or(usize::MAX);
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
