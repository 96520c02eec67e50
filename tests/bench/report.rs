//! What was measured, what it is held against, and the table.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::machine;

/// One line of the table: what is measured and what it has to reach.
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    /// What ours is divided by; empty: the value itself counts.
    pub reference: &'static str,
    pub must: Bound,
    pub aim: Bound,
}

#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Measured for comparison only.
    Told,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
            Bound::Told => true,
        }
    }

    fn text(self) -> String {
        match self {
            Bound::AtLeast(bound) => format!(">= {}", short(bound)),
            Bound::AtMost(bound) => format!("<= {}", short(bound)),
            Bound::Told => String::new(),
        }
    }
}

/// One measurement.
#[derive(Clone, Copy)]
pub struct Sample {
    pub value: f64,
    /// Processor time an event, of the service and Redis.
    pub cpu_us: Option<f64>,
}

impl Sample {
    pub fn plain(value: f64) -> Self {
        Sample { value, cpu_us: None }
    }
}

/// A figure's measurements; the n-th of ours and the n-th of the reference are a pair.
pub struct Row {
    pub figure: &'static Figure,
    pub ours: Vec<Sample>,
    pub reference: Vec<Sample>,
}

impl Row {
    /// What is judged: the ratios of the pairs, or the values where there is no reference.
    fn judged(&self) -> Vec<f64> {
        if self.reference.is_empty() {
            return self.ours.iter().map(|sample| sample.value).collect();
        }
        self.ours.iter().zip(&self.reference).map(|(ours, reference)| ours.value / reference.value).collect()
    }

    fn met(&self, bound: Bound) -> bool {
        median(&self.judged()).is_some_and(|value| bound.holds(value))
    }
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    broken: Vec<&'static str>,
    finished: bool,
}

/// Gathers rows; shared with the thread that ends the bench when its time is up.
#[derive(Clone)]
pub struct Report {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

impl Report {
    pub fn new() -> Self {
        Report { state: Arc::default(), begun: Instant::now() }
    }

    pub fn progress(&self, what: &str) {
        eprintln!("{:>4} s  {what}", self.begun.elapsed().as_secs());
    }

    pub fn add(&self, rows: Vec<Row>) {
        self.state().rows.extend(rows);
    }

    pub fn broken(&self, figures: &[&'static Figure]) {
        self.state().broken.extend(figures.iter().map(|figure| figure.name));
    }

    /// Prints the table and writes the file; whether every must is met and nothing broke.
    pub fn finish(&self) -> bool {
        let mut state = self.state();
        if std::mem::replace(&mut state.finished, true) {
            return false;
        }
        println!("\n{}", machine::line());
        print!("{}", table(&state.rows));
        for name in &state.broken {
            println!("{name}: could not be measured, see above");
        }
        let path = file();
        let text = json!({
            "machine": machine::facts(),
            "seconds": self.begun.elapsed().as_secs(),
            "figures": state.rows.iter().map(as_json).collect::<Vec<_>>(),
            "broken": state.broken,
        });
        match fs::write(&path, format!("{text:#}\n")) {
            Ok(()) => println!("\n{} s; as JSON: {}", self.begun.elapsed().as_secs(), path.display()),
            Err(error) => println!("\n{}: {error}", path.display()),
        }
        state.broken.is_empty() && state.rows.iter().all(|row| row.met(row.figure.must))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["figure", "unit", "ours", "reference", "", "median (min..max)", "must", "aim", "met", "cpu µs/event"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: [usize; 10] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    let mut text = String::from("\n");
    for line in lines {
        let padded = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; 10] {
    let values = |samples: &[Sample]| samples.iter().map(|sample| sample.value).collect::<Vec<_>>();
    let cpu = |samples: &[Sample]| median(&samples.iter().filter_map(|sample| sample.cpu_us).collect::<Vec<_>>());
    let middle = |samples: &[Sample]| median(&values(samples)).map(short).unwrap_or_default();
    let judged = row.judged();
    let least = judged.iter().copied().fold(f64::INFINITY, f64::min);
    let most = judged.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let met = match (row.met(row.figure.must), row.met(row.figure.aim)) {
        _ if matches!(row.figure.must, Bound::Told) => "",
        (false, _) => "NO",
        (true, false) => "must",
        (true, true) => "must, aim",
    };
    let cpu = match (cpu(&row.ours), cpu(&row.reference)) {
        (Some(ours), Some(reference)) => format!("{} / {}", short(ours), short(reference)),
        (Some(ours), None) => short(ours),
        _ => String::new(),
    };
    [
        row.figure.name.to_owned(),
        row.figure.unit.to_owned(),
        middle(&row.ours),
        row.figure.reference.to_owned(),
        middle(&row.reference),
        format!("{} ({}..{})", median(&judged).map(short).unwrap_or_default(), short(least), short(most)),
        row.figure.must.text(),
        row.figure.aim.text(),
        met.to_owned(),
        cpu,
    ]
}

fn as_json(row: &Row) -> Value {
    let samples = |samples: &[Sample]| {
        let listed = samples.iter().map(|sample| json!({"value": sample.value, "cpu_us": sample.cpu_us}));
        listed.collect::<Vec<_>>()
    };
    json!({
        "figure": row.figure.name,
        "unit": row.figure.unit,
        "reference_is": row.figure.reference,
        "ours": samples(&row.ours),
        "reference": samples(&row.reference),
        "judged": row.judged(),
        "median": median(&row.judged()),
        "must": row.figure.must.text(),
        "aim": row.figure.aim.text(),
        "must_met": row.met(row.figure.must),
        "aim_met": row.met(row.figure.aim),
    })
}

/// With as many digits as a reader needs.
fn short(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        _ => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// `target/bench.json`, beside the profile that the bench was built in.
fn file() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let target = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(Path::new("target")).join("bench.json")
}
