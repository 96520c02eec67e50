//! The examples of `--help` work as they are printed.

use super::terminal::{Network, Terminal};
use crate::support::find_program;

const COMMANDS: [&str; 9] = ["", "serve", "demo", "check-config", "send", "clear", "healthcheck", "completions", "man"];

/// Begins of examples that cannot be run here, and why.
const NOT_RUN: [(&str, &str); 2] = [
    ("redis-cache-sync send a.json b.ndjson --to https://", "needs a service with a certificate of its own"),
    ("redis-cache-sync send --from-redis redis://old:6379", "needs a Redis of that name"),
];

/// What the examples take for granted.
const THERE: &str = r#"
mkdir -p public/img ~/.local/share/bash-completion/completions ~/.local/share/man/man1 ~/.zfunc ~/.config/fish/completions
echo hello > public/hello.txt && head -c 3000 /dev/urandom > public/img/noise
echo '{"key":"SET","value":{"data":{"key":"sess:1","value":"a"}}}' > events.ndjson && gzip -k < events.ndjson > events.gz
printf 'id,profile\n1,Ada\n' > users.csv
echo 'port = 8080' > other.toml"#;

fn examples(command: &str, help: &str) -> Vec<String> {
    let (_, rest) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{command} has no examples:\n{help}"));
    let examples: Vec<String> = rest.lines().map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect();
    assert!(examples.len() >= 2, "{command}: {examples:?}");
    examples
}

#[test]
fn the_examples_of_help_work() {
    let mut terminal = Terminal::open(Network::Own);
    terminal.stay("redis-server --port 6379 --save ''", Some(6379)).expect("it starts");
    let made = terminal.run(THERE).expect("it ends");
    assert_eq!(made.code, 0, "{}", made.printed);
    let (mut left_out, mut run) = (0, 0);
    for command in COMMANDS {
        let help = terminal.run(&format!("redis-cache-sync {command} --help")).expect("it ends");
        for example in examples(command, &help.printed) {
            if let Some((_, reason)) = NOT_RUN.iter().find(|(begin, _)| example.starts_with(begin)) {
                eprintln!("not run, {reason}: {example}");
                left_out += 1;
                continue;
            }
            if example.contains("| man ") && find_program("man").is_none() {
                eprintln!("not run, there is no man here: {example}");
                continue;
            }
            run += 1;
            let stays =
                command == "serve" || command.is_empty() && example.contains(" --") && !example.contains(" send ");
            if stays || example.ends_with("--keep") {
                let port = if example.contains("8081") { 8081 } else { 8080 };
                let port = stays.then_some(port);
                if let Some(port) = port {
                    terminal.leave(port).unwrap_or_else(|what| panic!("{example}: {what}"));
                }
                terminal.stay(&example, port).unwrap_or_else(|what| panic!("{example}: {what}"));
                continue;
            }
            let said = terminal.run(&example).unwrap_or_else(|what| panic!("{example}: {what}"));
            assert_eq!(said.code, 0, "{example}\n{}", said.printed);
        }
    }
    assert_eq!(left_out, NOT_RUN.len(), "an example that is left out is gone");
    assert!(run >= 20, "{run}");
}
