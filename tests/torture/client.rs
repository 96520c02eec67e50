//! A client as the contract wants it: posts events on keys of its own, repeats what is unavailable or unanswered in its
//! order, and sends nothing newer on a key before the older is settled. Tells the ledger and the tally what it was told.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ledger::{Found, Verdict, read};
use super::load::Load;
use super::support::{Answer, Random, Wire, ndjson};
use super::tally::Tally;

/// A pattern delete waits for the writes before it and then for its scan, each as long as a write may be tried; what
/// binds it is `event.deadline_ms`.
const SWEEP_LIMIT: Duration = Duration::from_secs(29);
/// Bytes of a body that a complaint shows.
const SHOWN: usize = 300;
const RECONNECT: Duration = Duration::from_millis(20);

pub struct Client<'a> {
    load: &'a Load<'a>,
    number: usize,
    random: Random,
    wire: Option<Wire>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inline,
    Blob,
    Delete,
    Read,
    /// Deletes all keys of the client by a pattern.
    Sweep,
}

struct Operation {
    kind: Kind,
    /// Keys with the numbers of their writes.
    on: Vec<(usize, u64)>,
}

/// What became of a request.
enum Sent {
    Refused,
    Unanswered,
    Answered(Answer),
}

impl<'a> Client<'a> {
    pub fn new(load: &'a Load<'a>, number: usize) -> Self {
        let random = Random::seeded(load.plan.seed.wrapping_mul(1000).wrapping_add(number as u64));
        Client { load, number, random, wire: None }
    }

    pub fn run(&mut self) {
        while !self.load.is_stopped() {
            let operations = self.operations();
            self.settle(operations);
        }
    }

    fn operations(&mut self) -> Vec<Operation> {
        let ledger = &self.load.ledger;
        let own = ledger.of_client(self.number);
        if self.random.chance(2) {
            let on = own.map(|key| (key, ledger.issue(key, true))).collect();
            return vec![Operation { kind: Kind::Sweep, on }];
        }
        let count = if self.random.chance(50) { 1 } else { 1 + self.random.below(self.load.plan.batch) };
        let make = |_| {
            let key = own.start + self.random.below(own.len() as u64) as usize;
            let kind = match self.random.below(100) {
                0..15 => Kind::Read,
                15..25 => Kind::Delete,
                25..40 if self.load.blobs.is_some() => Kind::Blob,
                _ => Kind::Inline,
            };
            let number = if kind == Kind::Read { 0 } else { ledger.issue(key, kind == Kind::Delete) };
            Operation { kind, on: vec![(key, number)] }
        };
        (0..count).map(make).collect()
    }

    /// Posts until every operation is ok. Gives up only if the scenario is long over.
    fn settle(&mut self, mut pending: Vec<Operation>) {
        let tally = &self.load.tally;
        let writes = pending.iter().filter(|operation| operation.kind != Kind::Read);
        let writes = writes.map(|operation| operation.on.len() as u64).sum();
        Tally::add(&tally.sent, writes);
        while !pending.is_empty() {
            if self.load.is_given_up() {
                return tally.complain(|| format!("client {} was left with unsettled work", self.number));
            }
            let groups = self.groups(&pending);
            let floors: HashMap<usize, u64> =
                self.load.ledger.of_client(self.number).map(|key| (key, self.load.ledger.floor(key))).collect();
            let (headers, body) = self.body(&pending, &groups);
            match self.post(headers, body.as_bytes(), pending[0].kind == Kind::Sweep) {
                Sent::Refused => thread::sleep(RECONNECT),
                Sent::Unanswered => thread::sleep(RECONNECT),
                Sent::Answered(answer) => {
                    pending = self.settled(&answer, pending, &groups, floors);
                    if answer.status == 503 {
                        Tally::add(&tally.unavailable, 1);
                        let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
                        thread::sleep(Duration::from_secs(seconds.unwrap_or(1)).min(self.load.plan.patience));
                    }
                }
            }
        }
        Tally::add(&tally.acknowledged, writes);
    }

    /// How many operations each event takes: neighbours of one kind may share one.
    fn groups(&mut self, pending: &[Operation]) -> Vec<usize> {
        let class = |operation: &Operation| match operation.kind {
            Kind::Blob => Kind::Inline,
            kind => kind,
        };
        let mut groups: Vec<usize> = Vec::new();
        for (at, operation) in pending.iter().enumerate() {
            let joins = at > 0 && class(operation) == class(&pending[at - 1]) && self.random.chance(40);
            match groups.last_mut() {
                Some(last) if joins => *last += 1,
                _ => groups.push(1),
            }
        }
        groups
    }

    fn body(&mut self, pending: &[Operation], groups: &[usize]) -> (&'static str, String) {
        let mut events = Vec::new();
        let mut rest = pending;
        for size in groups {
            let (group, after) = rest.split_at(*size);
            rest = after;
            events.push(self.event(group));
        }
        match self.random.below(2) {
            _ if self.random.chance(50) && events.len() == 1 => ("application/json", events.remove(0).to_string()),
            0 => ("application/json", Value::from(events).to_string()),
            _ => ("application/x-ndjson", ndjson(&events)),
        }
    }

    fn event(&mut self, group: &[Operation]) -> Value {
        let ledger = &self.load.ledger;
        let names = || group.iter().map(|operation| ledger.name(operation.on[0].0)).collect::<Vec<_>>();
        let (kind, data) = match group[0].kind {
            Kind::Read => ("GET", json!(names())),
            Kind::Delete => ("DELETE", json!(names())),
            Kind::Sweep => ("DELETE_PATTERN", json!(format!("t{}:*", self.number))),
            Kind::Inline | Kind::Blob => ("SET", group.iter().map(|operation| self.entry(operation)).collect()),
        };
        json!({"key": kind, "value": {"data": data}})
    }

    fn entry(&mut self, operation: &Operation) -> Value {
        let (key, number) = operation.on[0];
        let name = self.load.ledger.name(key);
        match self.load.blobs {
            Some(blobs) if operation.kind == Kind::Blob => {
                json!({"key": name, "url": blobs.url(&format!("/{number}"))})
            }
            _ => {
                let padding = if self.random.chance(3) { 20_000 } else { self.random.below(200) };
                json!({"key": name, "value": format!("{number}:{}", "v".repeat(padding as usize))})
            }
        }
    }

    fn post(&mut self, content_type: &str, body: &[u8], is_sweep: bool) -> Sent {
        let tally = &self.load.tally;
        let kept = self.wire.is_some();
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => match Wire::try_open(self.load.address) {
                Ok(wire) => wire,
                Err(_) => {
                    Tally::add(&tally.refused, 1);
                    return Sent::Refused;
                }
            },
        };
        let begin = Instant::now();
        Tally::add(&tally.requests, 1);
        wire.send_request("POST", "/events", &[("Content-Type", content_type)], body);
        let answer = wire.try_answer(false);
        let start = || String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
        match is_sweep {
            true => tally.swept(begin.elapsed(), SWEEP_LIMIT, start),
            false => tally.took(begin.elapsed(), self.load.plan.limit, start),
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tally.unanswered(|| {
                    let connection = if kept { "kept" } else { "new" };
                    format!("on a {connection} connection after {:?}: {error}", begin.elapsed())
                });
                return Sent::Unanswered;
            }
        };
        if !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.wire = Some(wire);
        }
        Sent::Answered(answer)
    }

    /// What is left to repeat after an answer.
    fn settled(
        &self,
        answer: &Answer,
        pending: Vec<Operation>,
        groups: &[usize],
        mut floors: HashMap<usize, u64>,
    ) -> Vec<Operation> {
        let tally = &self.load.tally;
        if ![200, 503].contains(&answer.status) {
            tally.complain(|| format!("answered {}: {}", answer.status, answer.text()));
        }
        let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(statuses) = entries(&json, groups) else {
            if answer.status != 503 {
                tally.complain(|| format!("an answer of another form: {json}"));
            }
            return pending;
        };
        let mut left: Vec<Operation> = Vec::new();
        for (operation, entry) in pending.into_iter().zip(statuses) {
            match entry.map_or("unavailable", |entry| entry["status"].as_str().unwrap_or_default()) {
                "unavailable" => left.push(operation),
                "rejected" => tally.complain(|| format!("rejected: {json}")),
                _ if operation.kind == Kind::Read => {
                    self.check(operation.on[0].0, &floors, entry.unwrap_or(&Value::Null));
                }
                _ => {
                    for (key, number) in &operation.on {
                        floors.insert(*key, *number);
                        self.load.ledger.acknowledge(*key, *number);
                    }
                    self.overtaken(&mut left, &operation);
                }
            }
        }
        left
    }

    /// An older write that is still unavailable although a newer one on its key is ok must not be repeated, and the
    /// contract says that it is answered `superseded`.
    fn overtaken(&self, left: &mut Vec<Operation>, newer: &Operation) {
        let is_older = |older: &Operation| older.kind != Kind::Read && older.on[0].0 == newer.on[0].0;
        if left.iter().any(is_older) {
            left.retain(|older| !is_older(older));
            self.load.tally.complain(|| "unavailable although a newer write on the key is ok".to_owned());
        }
    }

    /// A read sees what was accepted before it.
    fn check(&self, key: usize, floors: &HashMap<usize, u64>, entry: &Value) {
        let (ledger, tally) = (&self.load.ledger, &self.load.tally);
        Tally::add(&tally.reads, 1);
        let found = match entry["status"].as_str() {
            Some("hit") => read(entry["value"].as_str().map(str::as_bytes)),
            _ => Found::Nothing,
        };
        let verdict = ledger.judge(key, floors[&key], found);
        if !matches!(verdict, Verdict::Right(_)) {
            tally.out_of_order.fetch_add(1, Relaxed);
            tally.complain(|| format!("read {} not below {}: {entry}, {verdict:?}", ledger.name(key), floors[&key]));
        }
    }
}

/// The results of all entries in the order of the operations; none for those of an event that has none.
fn entries<'v>(json: &'v Value, groups: &[usize]) -> Option<Vec<Option<&'v Value>>> {
    let events: Vec<&Value> = match json["events"].as_array() {
        Some(events) => events.iter().collect(),
        None if json["results"].is_array() => vec![json],
        None => return None,
    };
    if events.len() != groups.len() {
        return None;
    }
    let mut entries = Vec::new();
    for (event, size) in events.into_iter().zip(groups) {
        match event["results"].as_array() {
            Some(results) if results.len() == *size => entries.extend(results.iter().map(Some)),
            None if event["status"] == "unavailable" => entries.extend((0..*size).map(|_| None)),
            _ => return None,
        }
    }
    Some(entries)
}
