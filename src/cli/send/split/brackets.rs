//! Finds where an object ends: counts brackets and skips strings, and does not look at anything else.

/// What a byte is to the object that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Inside,
    /// It closes the outermost bracket.
    Closing,
    /// It opens an object where JSON allows none: the one before lacks a bracket.
    NextObject,
}

/// Brackets that are open, looking past strings.
#[derive(Default)]
pub struct Depth {
    /// Whether each is an object's.
    open: Vec<bool>,
    /// Brackets within those, deeper than the service takes.
    deeper: u64,
    in_string: bool,
    escaped: bool,
    /// The last byte that is no white space, outside of strings.
    last: u8,
}

/// More than the service takes.
const MAX_DEPTH: usize = 256;

impl Depth {
    pub fn is_outside(&self) -> bool {
        self.open.is_empty() && !self.in_string
    }

    /// The next byte.
    pub fn take(&mut self, byte: u8) -> Part {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Part::Inside;
        }
        let last = self.last;
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' if !self.may_open(last) => return Part::NextObject,
            b'{' | b'[' if self.open.len() < MAX_DEPTH => self.open.push(byte == b'{'),
            b'{' | b'[' => self.deeper += 1,
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => {
                self.open.pop();
                if self.open.is_empty() {
                    return Part::Closing;
                }
            }
            _ => {}
        }
        Part::Inside
    }

    /// Whether an object may begin after this byte: as a value of the one around it, as an element, or as the first.
    fn may_open(&self, last: u8) -> bool {
        match self.open.last() {
            None => true,
            Some(_) if self.deeper > 0 => true,
            Some(true) => last == b':',
            Some(false) => matches!(last, b'[' | b','),
        }
    }
}
