use bytes::Bytes;

use super::*;
use crate::event::version::Version;

const AMPLE: Bounds = Bounds { window_bytes: WINDOW_BYTES, read_bytes: MAX_READ_BYTES };

fn command(text: &'static str) -> Command {
    let (verb, name) = text.split_at(1);
    let (key, version) = (CacheKey::new_unchecked(name), None);
    let sized = |bytes: usize, version| Command::Set {
        key: CacheKey::new_unchecked(name),
        value: Bytes::from(vec![0; bytes]),
        ttl: None,
        version,
        remembered: None,
    };
    match verb {
        "?" => Command::Get { key, max_bytes: 1 << 20 },
        "-" => Command::Delete { key, version },
        "L" => sized(WINDOW_BYTES, None),
        "v" => sized(9, Version::from_number(1)),
        _ => sized(9, None),
    }
}

fn parts(words: &[&'static str], read: &Result<Reply, CacheError>) -> Vec<Vec<usize>> {
    let batch: Vec<Command> = words.iter().map(|word| command(word)).collect();
    let (mut parts, mut all) = (PipelineSplit::new(&batch, AMPLE), Vec::new());
    while let Some(part) = parts.next() {
        let result = |place: &usize| if batch[*place].is_write() { Ok(Reply::Stored) } else { read.clone() };
        let results: Vec<_> = part.places.iter().map(result).collect();
        parts.note(&part, &results, &HashSet::new());
        all.push(part.places);
    }
    all
}

#[test]
fn a_write_behind_a_read_of_unknown_size_comes_later_and_other_keys_do_not() {
    let hit = Ok(Reply::Hit(Bytes::from_static(b"v")));
    assert_eq!(parts(&["?a", "+a", "?a", "+b", "?b", "-a"], &hit), [vec![0, 3, 4], vec![1, 2, 5]]);
    assert_eq!(parts(&["?a", "va", "?a", "va", "?a", "va"], &hit), [vec![0], vec![1, 2, 3, 4, 5]]);
    assert_eq!(parts(&["+a", "?a", "+a", "-a", "?a", "+a"], &hit), [vec![0, 1, 2, 3, 4, 5]]);
    assert_eq!(parts(&["?a", "?a", "?b"], &hit), [vec![0, 1, 2]]);
    assert_eq!(parts(&[], &hit), [[0; 0]; 0]);
}

#[test]
fn what_follows_something_to_be_repeated_is_not_sent() {
    let again = Err(CacheError::Unavailable("gone".into()));
    assert_eq!(parts(&["?a", "+a", "?a", "+b"], &again), [vec![0, 3]]);
}

#[test]
fn a_read_of_known_size_asks_for_that_much_and_whether_there_is_a_value_if_it_must() {
    let batch = ["La", "?a", "+a", "-b", "?b", "+b", "?b"].map(command);
    let part = PipelineSplit::new(&batch, AMPLE).next().unwrap();
    let window = |bytes, with_exists, is_followed| Window { bytes, with_exists, is_followed };
    let expected =
        [window(WINDOW_BYTES + 1, false, true), window(WINDOW_BYTES, true, true), window(WINDOW_BYTES, false, false)];
    assert_eq!(part.windows, expected);
}

fn fits(batch: &[Command]) -> bool {
    fits_one_pipeline(batch, &Survey::of(batch))
}

#[test]
fn a_batch_is_one_pipeline_unless_it_writes_what_it_has_read() {
    let all_of = |words: &[&'static str]| fits(&words.iter().map(|word| command(word)).collect::<Vec<_>>());
    assert!(all_of(&[]) && all_of(&["+a", "-a", "?a", "?b"]) && all_of(&["?a", "+b", "?b"]));
    assert!(!all_of(&["?a", "?b", "-a"]) && !all_of(&["?a", "+b", "va"]));
}

#[test]
fn what_one_pipeline_may_bring_has_a_bound() {
    let value = Bytes::from(vec![0; 1 << 20]);
    let key = || CacheKey::new_unchecked("a");
    let set = Command::Set { key: key(), value, ttl: None, version: None, remembered: None };
    let get = Command::Get { key: key(), max_bytes: 1 << 20 };
    let batch: Vec<Command> = (0..100).flat_map(|_| [set.clone(), get.clone()]).collect();
    assert!(!fits(&batch));
    let part = PipelineSplit::new(&batch, AMPLE).next().unwrap();
    assert_eq!(part.windows.len(), MAX_READ_BYTES / ((1 << 20) + 1));
    assert!(!fits(&vec![set; MAX_COMMANDS + 1]));
}

#[test]
fn with_little_room_less_is_asked_for_at_a_time() {
    let asked = |reads, free| Bounds::new(reads, free).window_bytes;
    assert_eq!(asked(512, usize::MAX), WINDOW_BYTES);
    assert_eq!((asked(1, 8 * WINDOW_BYTES), asked(2, 8 * WINDOW_BYTES)), (WINDOW_BYTES, WINDOW_BYTES / 2));
    assert_eq!(asked(512, 0), LEAST_WINDOW_BYTES);
    let batch = ["La", "?a", "+b", "?b"].map(command);
    let small = Bounds { window_bytes: LEAST_WINDOW_BYTES, read_bytes: WINDOW_BYTES };
    let part = PipelineSplit::new(&batch, small).next().unwrap();
    let windows: Vec<usize> = part.windows.iter().map(|window| window.bytes).collect();
    assert_eq!(windows, [LEAST_WINDOW_BYTES; 2], "room is taken before the large one is read");
}
