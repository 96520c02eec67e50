//! A body as JSON of one shape.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::SourceFault;

/// Some senders begin a text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The body without a byte order mark and the blanks around it.
pub(super) fn trimmed(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii()
}

/// The whole body as JSON of this shape.
///
/// # Errors
/// When it is not; the detail tells where, and nothing of the body's texts.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SourceFault> {
    serde_json::from_slice(trimmed(body)).map_err(|error| malformed(&error))
}

/// A text that stands in the body, as JSON of this shape; `part` is its name.
///
/// # Errors
/// When it is not; the detail tells where in the text.
pub(super) fn read_part<'a, T: Deserialize<'a>>(part: &str, text: &'a str) -> Result<T, SourceFault> {
    serde_json::from_str(text).map_err(|error| malformed_in(part, &error))
}

/// The elements of an array, or the one that stands alone. Each is read by itself where not all have this shape.
///
/// # Errors
/// When the body is not JSON.
pub(super) fn read_each<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Vec<Result<T, SourceFault>>, SourceFault> {
    if trimmed(body).first() != Some(&b'[') {
        return match read(body) {
            Ok(element) => Ok(vec![Ok(element)]),
            Err(fault) => read::<&RawValue>(body).map(|_| vec![Err(fault)]),
        };
    }
    match read::<Vec<T>>(body) {
        Ok(elements) => Ok(elements.into_iter().map(Ok).collect()),
        Err(_) => Ok(one_by_one(read(body)?)),
    }
}

/// Elements read one by one, which costs more than to read them together.
pub(super) fn one_by_one<'a, T: Deserialize<'a>>(elements: Vec<&'a RawValue>) -> Vec<Result<T, SourceFault>> {
    elements.into_iter().map(|element| read_part("it", element.get())).collect()
}

/// serde_json's own texts may quote a value, so only the kind of fault and its place are told.
fn malformed(error: &serde_json::Error) -> SourceFault {
    malformed_in("the body", error)
}

/// The same of a text that stands in the body, by its name.
fn malformed_in(part: &str, error: &serde_json::Error) -> SourceFault {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not have the shape of this format",
        _ => "is not JSON",
    };
    SourceFault::Malformed(format!("{part} {what}: line {}, column {}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_quotes_nothing() {
        for (text, kind) in
            [(r#"[1 "secret"#, "not JSON"), (r#"["secret"]"#, "shape of this format"), ("secret", "not JSON")]
        {
            let fault = read::<Vec<u8>>(text.as_bytes()).expect_err(text).to_string();
            assert!(fault.contains(kind) && !fault.contains("secret"), "{fault}");
        }
        assert_eq!(read::<Vec<u8>>(b"\xef\xbb\xbf [1]\n"), Ok(vec![1]));
    }
}
