//! `send --from-dir`: a folder of files becomes keys of a real Redis.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::send::{Desk, Ended, url};
use crate::support::{Random, Redis, Stage, eventually, signal};

/// These files, below `files`.
fn folder(files: &[(&str, &[u8])]) -> Desk {
    let desk = Desk::new();
    for (name, content) in files {
        let path = desk.path("files").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("it can be written");
    }
    desk
}

fn send(stage: &Stage, desk: &Desk, args: &[&str]) -> Ended {
    desk.send(&url(&stage.daemon), &[&["--from-dir", "files"], args].concat(), b"")
}

#[test]
fn each_file_is_stored_byte_for_byte_under_its_path() {
    let stage = Stage::new();
    let noise = Random::seeded(7).bytes(300_000);
    let files: [(&str, &[u8]); 7] = [
        ("a.txt", "ein Wort: äöü\r\n\0".as_bytes()),
        ("empty", b""),
        ("deep/er/b.json", b"{\"n\": 1.0}\n"),
        ("deep/noise.bin", &noise),
        ("latin1", b"caf\xe9"),
        ("with space & \"quotes\"", b"x"),
        (".hidden", b"h"),
    ];
    let desk = folder(&files);
    let ended = send(&stage, &desk, &["--prefix", "site/", "--ttl", "1000"]);
    ended.assert(0, "sent 7, ok 7, rejected 0, unavailable 0");
    assert_eq!(ended.err, "");
    for (name, content) in files {
        let key = format!("site/{name}");
        assert!(stage.redis.value(&key).as_deref() == Some(content), "{key}");
        assert!((990..=1000).contains(&stage.redis.ttl(&key)), "{key}");
    }
    assert_eq!(stage.redis.key_count(), 7);
    send(&stage, &desk, &[]).assert(0, "sent 7, ok 7, rejected 0, unavailable 0");
    assert_eq!(stage.redis.ttl("a.txt"), -1);
}

#[test]
fn links_are_followed_within_the_folder_and_never_out_of_it() {
    let stage = Stage::new();
    let desk = folder(&[("real/a", b"inside")]);
    desk.write("secret", b"outside");
    let files = desk.path("files");
    symlink("real/a", files.join("good")).expect("a link");
    symlink("../secret", files.join("out")).expect("a link");
    symlink(desk.path("secret"), files.join("absolute")).expect("a link");
    symlink("..", files.join("up")).expect("a link");
    symlink(".", files.join("round")).expect("a link");
    symlink("nowhere", files.join("broken")).expect("a link");
    symlink("../files-too", files.join("beside")).expect("a link");
    fs::write(desk.path("files-too"), b"outside").expect("it can be written");
    let ended = send(&stage, &desk, &[]);
    ended.assert(0, "sent 2, ok 2, rejected 0, unavailable 0");
    assert_eq!(stage.redis.value("good").as_deref(), Some(b"inside".as_slice()));
    assert_eq!(stage.redis.value("real/a").as_deref(), Some(b"inside".as_slice()));
    assert_eq!(stage.redis.key_count(), 2);
}

#[test]
fn what_is_too_large_is_rejected_and_kept_in_its_place() {
    let stage = Stage::with(|daemon| daemon.set("http.max_body_bytes", 100_000));
    let desk = folder(&[("a", b"1"), ("b", &[b'x'; 200_000]), ("d", b"2")]);
    let giant = fs::File::create(desk.path("files/c")).expect("it can be written");
    giant.set_len(65 << 20).expect("a hole takes no room");
    let ended = send(&stage, &desk, &["--failed", "failed"]);
    ended.assert(1, "sent 4, ok 2, rejected 2, unavailable 0");
    assert!(ended.err.contains("rejected: files/b: "), "{}", ended.err);
    assert!(ended.err.contains("rejected: files/c: more than 64 MiB"), "{}", ended.err);
    let failed = desk.read("failed");
    let lines: Vec<Value> = failed.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    assert_eq!(lines.iter().map(|line| &line["value"]["data"]["key"]).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(lines[0]["value"]["data"]["value"].as_str().map(str::len), Some(200_000));
    assert_eq!(lines[1]["file"], "files/c");

    // A service that takes more gets the first; the second is refused, not forgotten.
    let wide = Stage::new();
    let ended = desk.send(&url(&wide.daemon), &["failed"], b"");
    ended.assert(1, "sent 2, ok 1, rejected 1, unavailable 0");
    assert_eq!(wide.redis.value("b").map(|value| value.len()), Some(200_000));
    assert!(!wide.redis.exists("c"));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_stored() {
    let stage = Stage::new();
    let desk = folder(&[("a", b"1"), ("b", b"2"), ("c/d", b"3")]);
    let pipe = Command::new("mkfifo").arg(desk.path("files/pipe")).status().expect("mkfifo runs");
    assert!(pipe.success());
    fs::set_permissions(desk.path("files/b"), fs::Permissions::from_mode(0o000)).expect("it is ours");
    let is_root = fs::read(desk.path("files/b")).is_ok();
    let ended = send(&stage, &desk, &[]);
    match is_root {
        true => ended.assert(0, "sent 3, ok 3, rejected 0, unavailable 0"),
        false => ended.assert(1, "sent 3, ok 2, rejected 1, unavailable 0"),
    }
    assert_eq!(stage.redis.value("c/d").as_deref(), Some(b"3".as_slice()));
    let desk = folder(&[("a", b"1")]);
    fs::write(desk.path("files").join(OsStr::from_bytes(b"caf\xe9")), b"x").expect("it can be written");
    let ended = send(&stage, &desk, &[]);
    ended.assert(1, "sent 2, ok 1, rejected 1, unavailable 0");
    assert!(ended.err.contains("its name is not UTF-8"), "{}", ended.err);
}

#[test]
fn a_run_that_was_interrupted_goes_on_by_number() {
    let stage = Stage::new();
    let names: Vec<String> = (0..30).map(|n| format!("{n:02}")).collect();
    let desk = folder(&names.iter().map(|name| (name.as_str(), name.as_bytes())).collect::<Vec<_>>());
    send(&stage, &desk, &["--skip", "20"]).assert(0, "sent 10, ok 10, rejected 0, unavailable 0");
    assert!(!stage.redis.exists("19") && stage.redis.exists("20"));
}

#[test]
fn memory_does_not_grow_with_the_folder() {
    let stage = Stage::with(|daemon| daemon.set("http.workers", 1));
    let large = vec![b'x'; 3 << 20];
    let names: Vec<String> = (0..48).map(|n| n.to_string()).collect();
    let desk = folder(&names.iter().map(|name| (name.as_str(), large.as_slice())).collect::<Vec<_>>());
    let child = desk.start(&url(&stage.daemon), &["--from-dir", "files"]);
    let (status, pid) = (Path::new("/proc").join(child.id().to_string()).join("status"), child.id());
    let mut peak = 0;
    let ended = eventually(crate::support::PATIENCE, || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let now = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = now.map_or(peak, |now| now.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10);
        now.is_none()
    });
    if !ended {
        signal(pid, "KILL");
    }
    Ended::of(child).assert(0, "sent 48, ok 48, rejected 0, unavailable 0");
    assert!(peak < 100, "{peak} MiB for 144");
}

#[test]
fn the_command_line_says_what_goes_with_what() {
    let stage = Stage::new();
    let desk = folder(&[("a", b"1")]);
    desk.write("in", "");
    for args in [
        &["--from-dir", "files", "in"][..],
        &["in", "--prefix", "p"],
        &["in", "--ttl", "3"],
        &["--from-dir", "files", "--ttl", "0"],
        &["--from-dir", "in"],
        &["--from-dir", "nowhere"],
        &["--from-dir", "files", "--skip", "1", "--start-at", "a"],
    ] {
        let ended = desk.send(&url(&stage.daemon), args, b"");
        assert_eq!(ended.code, Some(64), "{args:?}: {}", ended.err);
    }
    assert_eq!(stage.redis.key_count(), 0);
}

#[test]
fn it_goes_on_by_name_whatever_has_come_or_gone_meanwhile() {
    let stage = Stage::new();
    let desk = folder(&[("a", b"1"), ("b/x", b"2"), ("b/y", b"3"), ("c", b"4")]);
    send(&stage, &desk, &["--start-at", "b/y"]).assert(0, "sent 2, ok 2, rejected 0, unavailable 0");
    assert!(!stage.redis.exists("b/x") && stage.redis.exists("b/y") && stage.redis.exists("c"));
    fs::remove_file(desk.path("files/b/y")).expect("it is there");
    send(&stage, &desk, &["--start-at", "b/y"]).assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    stage.daemon.sigterm();
    let ended = send(&stage, &desk, &["--start-at", "b/x", "--retry-for", "0"]);
    assert!(ended.err.contains("run it again with --start-at 'b/x'\n"), "{}", ended.err);
    let ended = send(&stage, &desk, &["--skip", "1", "--retry-for", "0"]);
    assert!(ended.err.contains("run it again with --start-at 'b/x' in place of --skip\n"), "{}", ended.err);
}

#[test]
fn a_deletion_that_was_stopped_goes_on_by_number_and_leaves_out_no_key_that_is_found_now() {
    let stage = Stage::new();
    let desk = folder(&[("a", b"1"), ("b", b"2")]);
    let redis = format!("redis://127.0.0.1:{}", stage.redis.port());
    let args = ["--prefix", "site/", "--delete", "--redis-url", &redis, "--retry-for", "0", "--skip"];
    stage.redis.put("site/gone", b"old");
    // Two files, and deletions of an earlier run.
    send(&stage, &desk, &[&args[..], &["5"]].concat()).assert(0, "sent 1, ok 1, rejected 0, unavailable 0");
    assert!(!stage.redis.exists("site/gone"));
    stage.redis.put("site/gone", b"old");
    stage.daemon.sigterm();
    let ended = send(&stage, &desk, &[&args[..], &["2"]].concat());
    assert!(ended.err.contains("run it again with --skip 2\n"), "{}", ended.err);
}

#[test]
fn a_node_of_a_cluster_is_no_whole_redis_to_copy_or_to_mirror() {
    let (stage, node) = (Stage::new(), Redis::in_cluster());
    let desk = folder(&[("a", b"1")]);
    let redis = format!("redis://127.0.0.1:{}", node.port());
    let copied = desk.send(&url(&stage.daemon), &["--from-redis", &redis], b"");
    let mirrored = send(&stage, &desk, &["--prefix", "site/", "--delete", "--redis-url", &redis]);
    for ended in [copied, mirrored] {
        assert!(ended.code == Some(1) && ended.err.contains("a node of a Redis Cluster"), "{}", ended.err);
    }
}

#[test]
fn a_mirrored_folder_takes_away_keys_without_a_file_and_no_others() {
    let stage = Stage::new();
    let desk = folder(&[("a", b"1"), ("b/x", b"2")]);
    let redis = format!("redis://127.0.0.1:{}", stage.redis.port());
    for key in ["site/gone", "site/b", "site/b//x", "site/../files/a", "other", "sitex"] {
        stage.redis.put(key, b"old");
    }
    let args = ["--prefix", "site/", "--delete", "--redis-url", &redis];
    send(&stage, &desk, &args).assert(0, "sent 3, ok 3, rejected 0, unavailable 0");
    assert!(stage.redis.exists("site/a") && stage.redis.exists("site/b/x"));
    assert!(stage.redis.exists("other") && stage.redis.exists("sitex"));
    assert_eq!(stage.redis.key_count(), 4);
    // The password of that Redis, too, is for nobody else to see.
    stage.redis.put("site/gone", b"old");
    fs::write(desk.path("password"), "hunter2").expect("it can be written");
    let asks = ["SET", "requirepass", "hunter2"];
    redis::cmd("CONFIG").arg(&asks).exec(&mut stage.redis.conn()).expect("CONFIG SET");
    let ended = send(&stage, &desk, &[&args[..], &["--redis-password-file", "password"]].concat());
    assert!(!ended.err.contains("hunter2") && !ended.err.contains("process lists"), "{}", ended.err);
    assert!(ended.out.contains("sent 3, ok 3"), "{} {}", ended.out, ended.err);
    for args in [&["--delete", "--redis-url", &redis][..], &["--prefix", "site/", "--delete"]] {
        assert_eq!(send(&stage, &desk, args).code, Some(64), "{args:?}");
    }
}
