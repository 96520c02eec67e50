use super::*;

#[test]
fn of_an_error_only_the_code_word_is_kept_and_what_is_known_by_heart() {
    let unknown = Some(Hint::UnknownCommand);
    for (line, code, hint) in [
        (b"-WRONGTYPE Operation \xff\r\n".as_slice(), "WRONGTYPE", None),
        (b"-ERR unknown command 'secret'\r\n", "ERR", unknown),
        (b"-NOPERM this user has no permissions to run the 'mset' command\r\n", "NOPERM", Some(Hint::ForbiddenCommand)),
        (b"-ERR Protocol error: invalid bulk length\r\n", "ERR", Some(Hint::TooLong)),
        (b"-secret\r\n", "ERR", None),
        (b"-\r\n", "ERR", None),
    ] {
        let expected = Code { word: code.into(), inner: None, redirect: None, hint };
        let line = line.strip_prefix(b"-").and_then(|line| line.strip_suffix(b"\r\n")).unwrap();
        assert_eq!(Code::from_line(line), expected);
    }
}

/// As 6.2.14, 7.0.15, Redis 8.2.3 and Valkey 9.1.2 put it.
#[test]
fn an_error_inside_of_a_script_is_told_apart_on_every_version() {
    let start = "ERR Error running script (call to f_91cd): @user_script:12: @user_script: 12:";
    let behind = "script: 91cd, on @user_script:12.";
    for (line, code) in [
        (format!("{start} -OOM command not allowed when used memory > 'maxmemory'."), "OOM"),
        (format!("{start} -READONLY You can't write against a read only replica."), "READONLY"),
        (format!("{start} -NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (format!("{start} -MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
        ("ERR Error running script (call to f_91cd): @user_script:1: WRONGTYPE Operation against".into(), "WRONGTYPE"),
        (format!("{start} The user executing the script can't run this command or subcommand"), "NOPERM"),
        (format!("{start} Unknown Redis command called from Lua script"), "ERR"),
        (format!("ERR The user executing the script can't run this command or subcommand {behind}"), "NOPERM"),
        (format!("ERR ACL failure in script: User u has no permissions to run the 'setex' command {behind}"), "NOPERM"),
        (format!("OOM command not allowed when used memory > 'maxmemory'. {behind}"), "OOM"),
        (format!("ERR Unknown Redis command called from script {behind}"), "ERR"),
        ("BUSY Redis is busy running a script.".into(), "BUSY"),
        ("ERR value OOM".into(), "ERR"),
    ] {
        assert_eq!(Code::from_line(line.as_bytes()).as_str(), code, "{line}");
    }
}

#[test]
fn what_is_refused_for_good_is_named() {
    let error = |line: &str| Code::from_line(line.as_bytes()).to_error("EVALSHA").to_string();
    assert_eq!(error("NOPERM No permissions to access a key"), "redis refused EVALSHA: NOPERM");
    assert_eq!(error("NOPERM SETEX"), "redis refused SETEX: NOPERM");
    assert_eq!(error("NOPERM SECRET"), "redis refused EVALSHA: NOPERM");
    assert_eq!(error("ERR unknown command"), "redis refused EVALSHA: ERR");
}

#[test]
fn a_redirection_tells_where_to_if_that_makes_sense() {
    let read = |line: &str| Code::from_line(line.as_bytes()).redirect().cloned();
    let to = |is_ask, slot, host: &str, port| {
        let host = Some(host.to_owned()).filter(|host| !host.is_empty());
        Some(Redirect { is_ask, slot, host, port })
    };
    assert_eq!(read("MOVED 3999 127.0.0.1:6381"), to(false, 3999, "127.0.0.1", 6381));
    assert_eq!(read("ASK 16383 redis-1.example:1"), to(true, 16383, "redis-1.example", 1));
    assert_eq!(read("MOVED 0 2001:db8::1:6379"), to(false, 0, "2001:db8::1", 6379));
    assert_eq!(read("MOVED 0 :6379"), to(false, 0, "", 6379));
    assert_eq!(read("MOVED 0 ?:6379"), to(false, 0, "", 6379));
    for line in [
        "MOVED",
        "MOVED 1",
        "MOVED 16384 a:1",
        "MOVED -1 a:1",
        "MOVED 1 a:0",
        "MOVED 1 a:65536",
        "MOVED 1 a",
        "MOVED 1 a/b:1",
        "MOVED 1 a\tb:1",
        "TRYAGAIN 1 a:1",
        &format!("ASK 1 {}:1", "a".repeat(600)),
    ] {
        assert_eq!(read(line), None, "{line}");
    }
    assert_eq!(Code::from_line(b"MOVED 1 \xff:1").redirect(), None);
}
