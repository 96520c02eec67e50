//! The run as a whole: what is over, what is under way, and the time that all of it may take. Whatever is not over by then
//! hangs, or the machine is too busy to say anything: that ends the run, and what it started.

use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::machine::end_children;
use super::tally::{Row, table};

pub struct Run {
    begun: Instant,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    under_way: &'static str,
}

impl Run {
    /// Without a bound it may take as long as it takes.
    pub fn begin(seed: u64, bound: Option<Duration>) -> Arc<Self> {
        let run = Arc::new(Run { begun: Instant::now(), seed, state: Mutex::default() });
        if let Some(bound) = bound {
            let run = run.clone();
            thread::spawn(move || {
                thread::sleep(bound);
                let mut state = run.state();
                let why = format!("not over {bound:?} after the start, all rows together");
                let row = Row::broken(state.under_way, why);
                row.print(bound);
                state.rows.push(row);
                run.conclude(&state);
                end_children();
                exit(1);
            });
        }
        run
    }

    pub fn goes_on_with(&self, scenario: &'static str) {
        self.state().under_way = scenario;
    }

    pub fn note(&self, rows: Vec<Row>) {
        self.state().rows.extend(rows);
    }

    /// Prints the table. Whether every row is held.
    pub fn end(&self) -> bool {
        let state = self.state();
        self.conclude(&state);
        state.rows.iter().all(Row::is_held)
    }

    fn conclude(&self, state: &State) {
        print!("\n{}", table(&state.rows));
        println!("\n{} s, seed {}", self.begun.elapsed().as_secs(), self.seed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
