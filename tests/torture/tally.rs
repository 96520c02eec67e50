//! What the clients and the watcher have counted, and the line of the table that it makes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Complaints beyond these are counted and not kept.
const KEPT: usize = 5;

#[derive(Default)]
pub struct Tally {
    /// Requests, repeats included.
    pub requests: AtomicU64,
    /// Writes, each once however often it was repeated.
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub reads: AtomicU64,
    /// Connections that nobody accepted.
    pub refused: AtomicU64,
    /// Answers of 503.
    pub unavailable: AtomicU64,
    pub late: AtomicU64,
    pub slowest_ms: AtomicU64,
    /// Of pattern deletes, which have a limit of their own.
    pub slowest_sweep_ms: AtomicU64,
    pub applied: AtomicU64,
    pub lost: AtomicU64,
    pub out_of_order: AtomicU64,
    /// Requests whose connection was lost before their answer.
    unanswered: Mutex<(u64, Vec<String>)>,
    complaints: Mutex<(u64, Vec<String>)>,
}

impl Tally {
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// Something that no contract allows.
    pub fn complain(&self, what: impl FnOnce() -> String) {
        keep(&self.complaints, what);
    }

    pub fn unanswered(&self, how: impl FnOnce() -> String) {
        keep(&self.unanswered, how);
    }

    pub fn took(&self, time: Duration, limit: Duration, body: impl FnOnce() -> String) {
        self.timed(&self.slowest_ms, time, limit, body);
    }

    pub fn swept(&self, time: Duration, limit: Duration, body: impl FnOnce() -> String) {
        self.timed(&self.slowest_sweep_ms, time, limit, body);
    }

    fn timed(&self, slowest_ms: &AtomicU64, time: Duration, limit: Duration, body: impl FnOnce() -> String) {
        slowest_ms.fetch_max(time.as_millis() as u64, Relaxed);
        if time > limit {
            Self::add(&self.late, 1);
            self.complain(|| format!("after {time:?}: {}", body()));
        }
    }

    pub fn into_row(self, name: impl Into<String>, rounds: usize) -> Row {
        let (unanswered, lost_answers) = kept(self.unanswered);
        let (_, complaints) = kept(self.complaints);
        let number = |counter: AtomicU64| counter.into_inner();
        let note = format!(
            "{} requests, {} answered 503, {} unanswered, {} connections refused, {} reads, slowest {} ms, pattern deletes {} ms",
            number(self.requests),
            number(self.unavailable),
            unanswered,
            number(self.refused),
            number(self.reads),
            number(self.slowest_ms),
            number(self.slowest_sweep_ms),
        );
        Row {
            name: name.into(),
            rounds,
            sent: number(self.sent),
            acknowledged: number(self.acknowledged),
            applied: number(self.applied),
            lost: number(self.lost),
            out_of_order: number(self.out_of_order),
            late: number(self.late),
            unanswered,
            lost_answers,
            notes: vec![note],
            complaints,
        }
    }
}

fn keep(list: &Mutex<(u64, Vec<String>)>, what: impl FnOnce() -> String) {
    let mut list = list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    list.0 += 1;
    if list.1.len() < KEPT {
        list.1.push(what());
    }
}

fn kept(list: Mutex<(u64, Vec<String>)>) -> (u64, Vec<String>) {
    let (count, mut list) = list.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if count > list.len() as u64 {
        list.push(format!("and {} more", count - list.len() as u64));
    }
    (count, list)
}

/// One line of the table.
#[derive(Default)]
pub struct Row {
    pub name: String,
    pub rounds: usize,
    pub sent: u64,
    pub acknowledged: u64,
    pub applied: u64,
    pub lost: u64,
    pub out_of_order: u64,
    pub late: u64,
    pub unanswered: u64,
    /// How the first of those were lost.
    pub lost_answers: Vec<String>,
    /// Figures for a reader.
    pub notes: Vec<String>,
    /// Why it is not held, beside the columns.
    pub complaints: Vec<String>,
}

impl Row {
    /// A scenario that did not come to its end.
    pub fn broken(name: &str, why: String) -> Self {
        Row { name: name.to_owned(), complaints: vec![why], ..Row::default() }
    }

    /// Every request has to have its answer: the service was never killed.
    pub fn all_answered(mut self) -> Self {
        let unanswered = self.unanswered;
        let how = self.lost_answers.join("; ");
        self.expect(unanswered == 0, || format!("{unanswered} requests had no answer: {how}"));
        self
    }

    pub fn expect(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub fn is_held(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.late == 0 && self.complaints.is_empty()
    }

    /// With its figures, for whoever watches.
    pub fn print(&self, took: Duration) {
        let held = if self.is_held() { "held" } else { "NOT HELD" };
        println!("{:<20} {held}, {:.1} s", self.name, took.as_secs_f64());
        self.notes.iter().for_each(|note| println!("    {note}"));
        self.complaints.iter().for_each(|complaint| println!("  ! {complaint}"));
    }

    pub fn cells(&self) -> [String; 9] {
        let held = if self.is_held() { "held" } else { "NOT HELD" };
        let numbers = [self.sent, self.acknowledged, self.applied, self.lost, self.out_of_order, self.late];
        let [sent, acknowledged, applied, lost, out_of_order, late] = numbers.map(|number| number.to_string());
        let rounds = self.rounds.to_string();
        [self.name.clone(), rounds, sent, acknowledged, applied, lost, out_of_order, late, held.to_owned()]
    }
}

pub fn table(rows: &[Row]) -> String {
    let head = ["scenario", "rounds", "sent", "acknowledged", "applied", "lost", "out of order", "late", ""];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: [usize; 9] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines {
        let padded = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 8 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
