//! News that cannot be lost: a message that is sent when its holder is dropped, whatever ends it.

use std::sync::Arc;

/// Makes [`DropNotice`]s that all go to one receiver, of which the holder knows nothing. Cheap to clone.
pub struct Notifier<L>(Arc<dyn Fn(L) + Send + Sync>);

impl<L> Clone for Notifier<L> {
    fn clone(&self) -> Self {
        Notifier(self.0.clone())
    }
}

impl<L> Notifier<L> {
    /// `send` may be called while a panic unwinds, so it must not panic itself.
    pub fn new(send: impl Fn(L) + Send + Sync + 'static) -> Self {
        Notifier(Arc::new(send))
    }

    /// Sends it now.
    pub fn send(&self, letter: L) {
        (self.0)(letter);
    }

    /// A notice that sends `letter` when it is dropped.
    pub fn notice(&self, letter: L) -> DropNotice<L> {
        DropNotice { to: self.clone(), letter: Some(letter) }
    }
}

/// Sends its letter when it is dropped.
pub struct DropNotice<L> {
    to: Notifier<L>,
    letter: Option<L>,
}

impl<L> DropNotice<L> {
    /// The letter as it would be sent.
    pub fn letter(&self) -> Option<&L> {
        self.letter.as_ref()
    }

    /// The same, to be filled in.
    pub fn letter_mut(&mut self) -> Option<&mut L> {
        self.letter.as_mut()
    }
}

impl<L> Drop for DropNotice<L> {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            self.to.send(letter);
        }
    }
}
