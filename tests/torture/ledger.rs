//! The model: what each key may hold. Every write to a key carries a number one above the last, so what Redis holds tells
//! by itself how old it is. Owns the judgement; posts and reads nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

/// All keys of all clients; `t<client>:<number>`.
pub struct Ledger {
    keys: Vec<Mutex<Key>>,
    per_client: usize,
}

#[derive(Default)]
struct Key {
    /// The last number given out.
    issued: u64,
    /// The highest number that was answered ok.
    acknowledged: u64,
    /// Numbers that delete the key.
    deletes: BTreeSet<u64>,
    /// The highest number that anybody has read.
    seen: u64,
    /// Redis lost everything after this number had been given out: nothing up to it is owed any more.
    void: u64,
}

/// What a key was found to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    Nothing,
    Number(u64),
    /// Nothing that a client of ours wrote.
    Foreign,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As it may be; so many of the key's writes have taken effect or been overtaken.
    Right(u64),
    /// So many acknowledged writes never took effect, or did and are gone.
    Lost(u64),
    /// An older write took effect after a newer one.
    OutOfOrder,
    Foreign,
}

impl Ledger {
    pub fn new(clients: usize, per_client: usize) -> Self {
        Ledger { keys: (0..clients * per_client).map(|_| Mutex::default()).collect(), per_client }
    }

    pub fn of_client(&self, client: usize) -> std::ops::Range<usize> {
        client * self.per_client..(client + 1) * self.per_client
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn name(&self, key: usize) -> String {
        format!("t{}:{}", key / self.per_client, key % self.per_client)
    }

    /// The number of the next write to a key.
    pub fn issue(&self, key: usize, delete: bool) -> u64 {
        let mut key = self.key(key);
        key.issued += 1;
        let number = key.issued;
        if delete {
            key.deletes.insert(number);
        }
        number
    }

    pub fn acknowledge(&self, key: usize, number: u64) {
        let mut key = self.key(key);
        key.acknowledged = key.acknowledged.max(number);
    }

    /// The number below which a read that begins now must not find anything.
    pub fn floor(&self, key: usize) -> u64 {
        self.key(key).acknowledged
    }

    /// Redis is down and has lost everything.
    pub fn void(&self) {
        for key in &self.keys {
            let mut key = lock(key);
            (key.void, key.seen) = (key.issued, 0);
        }
    }

    /// What a read has found that began when the floor was `floor`.
    pub fn judge(&self, key: usize, floor: u64, found: Found) -> Verdict {
        let mut key = self.key(key);
        let floor = if floor <= key.void { 0 } else { floor };
        match found {
            Found::Foreign => Verdict::Foreign,
            Found::Nothing => match key.deletes.range(floor..).next_back() {
                Some(number) => Verdict::Right(*number),
                None if floor == 0 => Verdict::Right(0),
                None => Verdict::Lost(1),
            },
            Found::Number(number) if number > key.issued || key.deletes.contains(&number) => Verdict::Foreign,
            Found::Number(number) if number >= floor => {
                key.seen = key.seen.max(number);
                Verdict::Right(number)
            }
            Found::Number(_) if key.seen >= floor || key.deletes.contains(&floor) => Verdict::OutOfOrder,
            Found::Number(number) => Verdict::Lost(floor - number),
        }
    }

    fn key(&self, key: usize) -> MutexGuard<'_, Key> {
        lock(&self.keys[key])
    }
}

/// The number at the beginning of a value.
pub fn read(value: Option<&[u8]>) -> Found {
    let Some(value) = value else { return Found::Nothing };
    let digits = value.split(|byte| *byte == b':').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map_or(Found::Foreign, Found::Number)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
