use super::*;

const SIZED: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
const CHUNKED: &str =
    "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n4;x=y\r\nbo\n\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
const LINE_FEEDS: &str = "GET / HTTP/1.1\nhost: h\n\n";

/// What is let through of these pieces, each time until an answer is awaited.
fn let_through(incoming: &mut HeadReader, pieces: &[&[u8]]) -> Vec<String> {
    let (mut requests, mut request) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = piece.to_vec();
        while !rest.is_empty() {
            let taken = incoming.take(&mut rest);
            request.extend(rest.drain(..taken));
            if !rest.is_empty() {
                assert!(incoming.is_held());
                requests.push(String::from_utf8(std::mem::take(&mut request)).unwrap());
                incoming.answered();
            }
        }
    }
    requests.push(String::from_utf8(request).unwrap());
    requests
}

#[test]
fn one_request_at_a_time_is_let_through_however_it_comes() {
    let requests = [SIZED, CHUNKED, LINE_FEEDS, SIZED, "GET"];
    let sent = requests.concat();
    for cut in 0..=sent.len() {
        let (first, second) = sent.as_bytes().split_at(cut);
        let mut incoming = HeadReader::default();
        assert_eq!(let_through(&mut incoming, &[first, second]), requests, "cut at {cut}");
        assert!(incoming.is_within_head());
    }
    let bytes: Vec<&[u8]> = sent.as_bytes().chunks(1).collect();
    assert_eq!(let_through(&mut HeadReader::default(), &bytes), requests);
}

#[test]
fn the_bytes_of_a_head_are_counted_and_no_others() {
    let mut incoming = HeadReader::default();
    let head = SIZED.len() - "body".len();
    for cut in 0..head {
        let_through(&mut incoming, &[&SIZED.as_bytes()[..cut], &SIZED.as_bytes()[cut..]]);
        assert_eq!(incoming.head_bytes(), head, "cut at {cut}");
        incoming.answered();
    }
}

#[test]
fn blank_lines_before_a_head_are_none_of_it() {
    let mut incoming = HeadReader::default();
    assert_eq!(incoming.take(&mut b"\r\n\n\r\n".to_vec()), 5);
    assert!(!incoming.is_within_head());
    incoming.take(&mut b"\r\nG".to_vec());
    assert!(incoming.is_within_head());
}

#[test]
fn blank_lines_count_with_the_head_behind_them_and_many_are_one_that_has_begun() {
    let mut incoming = HeadReader::default();
    for request in 1..3 {
        for lines in 1..100 {
            incoming.take(&mut b"\r\n".to_vec());
            assert_eq!((incoming.head_bytes(), incoming.is_within_head()), (2 * lines, 2 * lines > 16), "{request}");
        }
        incoming.take(&mut SIZED.as_bytes().to_vec());
        assert_eq!(incoming.head_bytes(), 2 * 99 + SIZED.len() - "body".len());
        assert!(incoming.is_held() && !incoming.is_within_head());
        incoming.answered();
    }
}

#[test]
fn lines_between_chunks_and_behind_them_are_not_kept() {
    let mut incoming = HeadReader::default();
    incoming.take(&mut b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=".to_vec());
    let more = |incoming: &mut HeadReader| {
        for _ in 0..1000 {
            assert_eq!(incoming.take(&mut [b'7'; 1000]), 1000);
            assert!(incoming.line.len() <= CHUNK_LINE_BYTES);
        }
    };
    more(&mut incoming);
    incoming.take(&mut b"\r\nbody\r\n0\r\nx: ".to_vec());
    assert_eq!(incoming.next, Next::Trailer);
    more(&mut incoming);
    incoming.take(&mut b"\r\n\r\n".to_vec());
    assert!(incoming.is_held(), "it is whole");
    for cut in 0..80 {
        let zeros = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}4\r\nbody", "0".repeat(40));
        let (first, second) = zeros.as_bytes().split_at(cut);
        let mut incoming = HeadReader::default();
        assert_eq!(let_through(&mut incoming, &[first, second]), [zeros.as_str()]);
        assert_eq!(incoming.next, Next::Unknown, "no part of a size is one");
    }
}

#[test]
fn what_is_not_well_formed_is_let_through_as_a_whole() {
    for strange in [
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: -4\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
    ] {
        let sent = [strange, SIZED, SIZED].concat();
        assert_eq!(let_through(&mut HeadReader::default(), &[sent.as_bytes()]), [sent]);
    }
    let mut incoming = HeadReader::default();
    incoming.take(&mut b"GET / HTTP/1.1\r\n".to_vec());
    for _ in 0..=MAX_LINE_BYTES / 1024 {
        incoming.take(&mut [b'x'; 1024]);
    }
    assert_eq!((incoming.next, incoming.line.len()), (Next::Unknown, 0));
}

#[test]
fn what_asks_for_another_protocol_is_spoiled_in_every_head_however_it_is_cut_and_nothing_else_is() {
    let asking = "GET /upgrade HTTP/1.1\r\nuPGRADE:  h2c \r\nConnection: keep-alive, UpGrade,close\r\nContent-Length: 7\r\n\r\n\
                  upgrade";
    let spoiled = |text: &str| {
        let lines = text.lines().map(str::to_lowercase);
        let asks = |line: &String| line.starts_with("upgrade:") && line.contains("h2c") || line.contains(", upgrade");
        !lines.skip(1).any(|line| asks(&line))
    };
    let sent = asking.repeat(2);
    for cut in 0..=sent.len() {
        let (first, second) = sent.as_bytes().split_at(cut);
        let requests = let_through(&mut HeadReader::default(), &[first, second]);
        assert!(requests.len() == 2 && requests.iter().all(|request| spoiled(request)), "{cut}: {requests:?}");
        let others = |text: &str| text.replace(['x', 'X'], "").len();
        for request in requests {
            assert!(request.starts_with("GET /upgrade ") && request.ends_with("upgrade"), "{request}");
            assert!(request.contains("keep-alive,") && request.contains(",close\r\n"), "{request}");
            assert!(request.len() == asking.len() && others(&request) + 10 >= asking.len(), "{request}");
        }
    }
    let whole = let_through(&mut HeadReader::default(), &[asking.as_bytes()]);
    assert_eq!(whole[0], asking.replace("h2c", "xxx").replace("UpGrade", "xxxxxxx"));
}
