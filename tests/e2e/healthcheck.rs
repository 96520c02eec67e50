//! `healthcheck`, and what is made of the definition of the command line.

use std::process::Command;

use crate::support::{Builder, Daemon, Redis, closed_port};

fn run(args: &[&str], settings: &[(&str, String)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
    command.args(args).current_dir(dir.path()).env_clear();
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
    let output = command.output().expect("the binary can be run");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn port(port: u16) -> [(&'static str, String); 1] {
    [("PORT", port.to_string())]
}

#[test]
fn it_says_by_its_exit_code_whether_the_daemon_is_live_and_whether_it_is_ready() {
    let daemon = Daemon::embedded();
    let ours = port(daemon.address().port());
    assert_eq!(run(&["healthcheck"], &ours), (Some(0), String::new()));
    assert_eq!(run(&["healthcheck", "--ready"], &ours).0, Some(0));
    let (code, said) = run(&["healthcheck"], &port(closed_port()));
    assert!(code == Some(1) && said.contains("refused"), "{said}");
    assert_eq!(run(&["healthcheck", "--port", "0"], &[]).0, Some(64));
    assert_eq!(run(&["healthcheck", "--port", "x"], &[]).0, Some(64));
}

#[test]
fn a_daemon_without_redis_is_live_and_not_ready() {
    let mut redis = Redis::start();
    redis.kill();
    let builder: Builder = Daemon::builder().redis(&redis).unready().set("admin_port", 0);
    let daemon = builder.start();
    let ours = [("ADMIN_PORT", daemon.admin_address().port().to_string())];
    let (code, said) = run(&["healthcheck", "--ready"], &ours);
    assert!(code == Some(1) && said.contains("answered 503") && said.contains("not_ready"), "{said}");
    assert_eq!(run(&["healthcheck"], &ours).0, Some(0));
}

/// A daemon goes on with the settings that it has.
#[test]
fn faults_in_the_files_that_came_after_the_start_do_not_end_a_live_daemon() {
    let builder = Daemon::builder().embedded().args(&["--config", "s.toml"]).set("auth.tokens_file", "tokens");
    let daemon = builder.file("s.toml", "log_level = \"info\"\n").file("tokens", "one\n").start();
    let path = |name: &str| daemon.dir().join(name).display().to_string();
    let [port] = port(daemon.address().port());
    let settings = [port, ("AUTH_TOKENS_FILE", path("tokens"))];
    let asks = |file: &str| run(&["healthcheck", "--config", &path(file)], &settings);
    assert_eq!(asks("s.toml"), (Some(0), String::new()));

    std::fs::write(path("s.toml"), "nonsense = 1\n").expect("it can be written");
    daemon.log_line(|line| line.contains("new settings are invalid"));
    assert_eq!(asks("s.toml"), (Some(0), String::new()));
    std::fs::write(path("tokens"), "").expect("it can be written");
    assert_eq!(asks("s.toml"), (Some(0), String::new()));
    std::fs::write(path("s.toml"), "not TOML").expect("it can be written");
    assert_eq!(asks("s.toml"), (Some(0), String::new()));
    assert_eq!(asks("missing.toml"), (Some(0), String::new()));

    let (code, said) = run(&["healthcheck", "--config", &path("s.toml"), "--port", &closed_port().to_string()], &[]);
    assert!(code == Some(1) && said.contains("refused") && said.contains("s.toml"), "{said}");
    std::fs::write(path("s.toml"), "admin_port = -1\n").expect("it can be written");
    let (code, said) = asks("s.toml");
    assert!(code == Some(64) && said.contains("admin_port = -1"), "{said}");
    assert_eq!(run(&["healthcheck", "--prot", "1"], &settings).0, Some(64));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let commands = ["serve", "demo", "check-config", "send", "clear", "healthcheck", "completions", "man"];
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = run(&["completions", shell], &[]);
        assert!(code == Some(0) && commands.iter().all(|command| script.contains(command)), "{shell}");
        assert!(script.contains("retry-for") && script.contains("redis-pool-size"), "{shell}");
    }
    assert_eq!(run(&["completions", "dos"], &[]).0, Some(64));
    let (code, page) = run(&["man"], &[]);
    assert!(code == Some(0) && page.contains(".TH"), "{page}");
    for command in commands {
        let (code, page) = run(&["man", command], &[]);
        assert!(code == Some(0) && page.contains(".TH") && page.contains("Examples:"), "{command}");
        let (code, help) = run(&[command, "--help"], &[]);
        assert!(code == Some(0) && help.matches("\n  redis-cache-sync ").count() >= 2, "{help}");
    }
    assert_eq!(run(&["man", "nothing"], &[]).0, Some(64));
}
