//! The names of the journal's keys.

/// All in the slot of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The stream of accepted events.
    pub stream: String,
    /// How many events it holds.
    pub events: String,
    /// How many appends came too late.
    pub late: String,
    /// Who feeds.
    pub lease: String,
    /// How many leases there have been.
    pub epoch: String,
    /// Holders whose connections have still to be killed.
    pub former: String,
    /// The stream of dead letters.
    pub dead: String,
    /// Events of the journal that are among them: entry and place → dead letter.
    pub buried: String,
}

impl Keys {
    /// Of the journal with this name, which has no braces.
    pub fn of(name: &str) -> Self {
        let beside = |what: &str| format!("{{{name}}}:{what}");
        Keys {
            stream: name.to_owned(),
            events: beside("events"),
            late: beside("late"),
            lease: beside("lease"),
            epoch: beside("epoch"),
            former: beside("former"),
            dead: beside("dead"),
            buried: beside("buried"),
        }
    }
}
