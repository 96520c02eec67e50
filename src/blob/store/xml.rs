//! What stores answer in XML: its elements, one by one.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Levels, at most.
const MAX_DEPTH: usize = 32;

/// Hands over every element at its end, with the names from the root to it, whether it says that its text is percent-encoded, and its own text.
/// None for what is no XML, or was cut off; what was whole until then has been handed over.
pub fn elements(body: &[u8], mut each: impl FnMut(&[&str], bool, &str)) -> Option<()> {
    let mut reader = Reader::from_reader(body);
    let mut open: Vec<(String, bool, String)> = Vec::new();
    loop {
        let event = reader.read_event().ok()?;
        match event {
            Event::Start(element) => {
                if open.len() == MAX_DEPTH {
                    return None;
                }
                let is_encoded = element.attributes().flatten().any(|attribute| {
                    attribute.key.as_ref() == "Encoded" && attribute.value.eq_ignore_ascii_case("true")
                });
                open.push((element.local_name().as_ref().to_owned(), is_encoded, String::new()));
            }
            Event::Text(text) => add(&mut open, &text),
            Event::CData(text) => add(&mut open, &text),
            Event::GeneralRef(name) => {
                let named = match &*name {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => name.resolve_char_ref().ok().flatten(),
                };
                add(&mut open, named?.encode_utf8(&mut [0; 4]));
            }
            Event::End(_) => {
                let names: Vec<&str> = open.iter().map(|(name, ..)| name.as_str()).collect();
                let (_, is_encoded, text) = open.last()?;
                each(&names, *is_encoded, text);
                open.pop();
            }
            Event::Eof => return open.is_empty().then_some(()),
            _ => {}
        }
    }
}

fn add(open: &mut [(String, bool, String)], text: &str) {
    if let Some((_, _, own)) = open.last_mut() {
        own.push_str(text);
    }
}
