//! The end of a run: what is on its way is awaited for a while, and what was not settled is told or kept.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;

use super::{Posts, Run, RunEnd};
use crate::cli::send::event::Item;
use crate::cli::send::input::{Input, News};
use crate::cli::send::ledger::Fate;
use crate::cli::send::plan::Planner;
use crate::cli::signals::Signals;

/// After a signal: longer than any answer takes that is on its way. After a stop of our own, what comes soon.
const DRAIN_WITHIN: Duration = Duration::from_secs(35);
const STOP_WITHIN: Duration = Duration::from_secs(2);

impl Run {
    /// Takes the answers that are still on their way. If nothing more can be stored, all that was read is given up, and
    /// where that is kept, all that was not read, too.
    pub(super) async fn wind_up(
        &mut self,
        end: RunEnd,
        mut posts: Posts,
        mut input: Input,
        signals: &mut Signals,
    ) -> RunEnd {
        let within = match end {
            RunEnd::Interrupted if !posts.is_empty() => {
                self.screen.say("interrupted: waiting for requests in flight; interrupt again to exit at once");
                DRAIN_WITHIN
            }
            _ => STOP_WITHIN,
        };
        let answers = async {
            while let Some((id, verdict)) = posts.next().await {
                self.landed(id, verdict);
            }
        };
        tokio::select! {
            _ = timeout(within, answers) => {}
            _ = signals.next() => {}
        }
        let first = self.ledger.first_unsettled();
        let place = self.unsettled().find(|item| item.number == first).map(|item| item.place.clone());
        self.stopped_at = (first, place);
        if let RunEnd::Stopped(_) = &end {
            let mut rest: Vec<Item> = self.flights.drain().flat_map(|(_, flight)| flight.items).collect();
            let planner = std::mem::replace(&mut self.planner, Planner::new(self.settings.batch));
            rest.extend(planner.into_rest());
            rest.sort_by_key(|item| item.number);
            rest.iter().try_for_each(|item| self.abandon(item)).unwrap_or_else(|error| self.fault(&error.to_string()));
            if self.ledger.has_file() {
                self.abandon_unread(&mut input, signals).await;
            }
        }
        if let Err(error) = self.ledger.finish() {
            self.fault(&format!("the file of --failed cannot be written: {error}"));
        }
        end
    }

    async fn abandon_unread(&mut self, input: &mut Input, signals: &mut Signals) {
        loop {
            let news = tokio::select! {
                news = input.news.recv() => news,
                _ = signals.next() => return,
            };
            let result = match news {
                None => {
                    self.all_read = true;
                    return;
                }
                Some(News::Fault(fault)) => {
                    self.fault(&fault);
                    Ok(())
                }
                Some(News::Unfit(item, _)) => self.ledger.settle(&item, Fate::Rejected),
                Some(News::Items(items)) => items.iter().try_for_each(|item| self.abandon(item)),
            };
            if let Err(error) = result {
                return self.fault(&format!("the file of --failed cannot be written: {error}"));
            }
        }
    }

    fn abandon(&mut self, item: &Item) -> io::Result<()> {
        self.ledger.settle(item, Fate::Unavailable)
    }

    /// The events that were read and are not settled.
    fn unsettled(&self) -> impl Iterator<Item = &Item> {
        self.flights.values().flat_map(|flight| &flight.items).chain(self.planner.rest())
    }
}
