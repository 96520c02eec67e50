//! Lines of requests that went well: with very many requests one in some will do.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many of them have a line. It may change while requests come in.
pub struct SampledLines(AtomicU32);

thread_local! {
    /// Requests of this thread that went well since one had a line. Not shared: a request must not touch a counter that all
    /// threads do.
    static PASSED_OVER: Cell<u32> = const { Cell::new(0) };
}

impl SampledLines {
    pub fn new(one_in: u32) -> Self {
        SampledLines(AtomicU32::new(one_in))
    }

    pub fn set(&self, one_in: u32) {
        self.0.store(one_in, Relaxed);
    }

    /// Whether the next one on this thread has a line. The first has.
    pub fn is_next(&self) -> bool {
        let one_in = self.0.load(Relaxed);
        one_in <= 1
            || PASSED_OVER.with(|passed_over| {
                let is_next = passed_over.get() == 0;
                passed_over.set(if passed_over.get() + 1 >= one_in { 0 } else { passed_over.get() + 1 });
                is_next
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_has_a_line_beginning_with_the_first() {
        let lines = SampledLines::new(1);
        let told = |count| (0..count).map(|_| u32::from(lines.is_next())).sum::<u32>();
        assert_eq!(told(5), 5);
        lines.set(10);
        assert_eq!((told(1), told(9), told(1), told(109)), (1, 0, 1, 10));
        lines.set(3);
        assert!((3..=4).contains(&told(10)), "whatever was passed over before");
    }
}
