//! A reader at a desk: a fresh folder that looks like a clone, a shell, further terminals for what goes on running.
//!
//! The shell is alone in a network of its own where the system allows it: then the ports are those that are printed.
//! Elsewhere each printed port stands for a free one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

use crate::support::{PATIENCE, eventually, find_program, free_port};

/// All ports that the pages name.
const PORTS: [u16; 5] = [8080, 8081, 9000, 6379, 6390];
const EVENTS: u16 = 8080;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Network {
    /// Of its own, if the system allows it.
    Own,
    Shared,
}

pub struct Terminal {
    shell: Child,
    typed: ChildStdin,
    root: TempDir,
    count: usize,
    /// Printed port → the one in use; empty in a network of its own.
    ports: Vec<(u16, u16)>,
    /// Process group and port of what goes on running.
    stays: Vec<(u32, Option<u16>)>,
}

/// What a command printed, on both streams, and its exit code.
pub struct Said {
    pub printed: String,
    pub code: i32,
}

impl Terminal {
    /// At a desk with a clone.
    pub fn open(network: Network) -> Self {
        let terminal = Self::open_empty(network);
        for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the repository").flatten() {
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                symlink(entry.path(), terminal.desk().join(entry.file_name())).expect("a link");
            }
        }
        terminal
    }

    /// At a desk with nothing on it.
    pub fn open_empty(network: Network) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let own = network == Network::Own && has_own_network();
        let ports: Vec<(u16, u16)> = if own { Vec::new() } else { PORTS.map(|port| (port, free_port())).to_vec() };
        let mut command = match own {
            true => Command::new("unshare"),
            false => Command::new("bash"),
        };
        if own {
            command.args(["-rn", "--kill-child", "bash"]);
        }
        furnish(root.path(), &ports);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("PATH", format!("{}:{path}:/usr/sbin:/sbin", root.path().join("bin").display()));
        command.env("HOME", root.path()).env("LANG", "C.UTF-8").current_dir(root.path().join("desk"));
        // Nothing comes from elsewhere during the tests.
        command.env("PIP_NO_INDEX", "1");
        for (variable, port) in [("PORT", EVENTS), ("REDIS_PORT", 6379)] {
            if let Some((_, used)) = ports.iter().find(|(printed, _)| *printed == port) {
                command.env(variable, used.to_string());
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("bash can be run");
        let typed = shell.stdin.take().expect("piped");
        let mut terminal = Terminal { shell, typed, root, count: 0, ports, stays: Vec::new() };
        // Each job has a process group of its own, as at a terminal.
        terminal.enter("set -m");
        if own {
            terminal.enter("ip link set lo up");
        }
        terminal
    }

    pub fn desk(&self) -> PathBuf {
        self.root.path().join("desk")
    }

    /// Types it and waits for its end.
    pub fn run(&mut self, commands: &str) -> Result<Said, String> {
        let script = self.script(commands);
        let (out, code) = (script.with_extension("out"), script.with_extension("code"));
        let name = script.display();
        self.enter(&format!(
            "source {name} </dev/null >{} 2>&1; echo $? >{name}.new; mv {name}.new {}",
            out.display(),
            code.display()
        ));
        let ended = eventually(PATIENCE, || code.exists());
        let printed = String::from_utf8_lossy(&fs::read(&out).unwrap_or_default()).into_owned();
        if !ended {
            return Err(format!("it does not end; it printed\n{printed}"));
        }
        let code = fs::read_to_string(code).expect("a code").trim().parse().expect("a number");
        Ok(Said { printed: self.printed(printed), code })
    }

    /// Posts an event with curl.
    pub fn post(&mut self, body: &str) -> Result<Said, String> {
        let body = self.placed(body);
        let file = self.script("");
        fs::write(&file, body.trim_end()).expect("it can be written");
        let header = "-H 'Content-Type: application/json'";
        self.run(&format!("curl -s http://localhost:{EVENTS}/events {header} --data-binary @{}", file.display()))
    }

    /// Types it in a terminal of its own, where it goes on. A page has one reader, so no port is taken twice.
    pub fn stay(&mut self, commands: &str, port: Option<u16>) -> Result<(), String> {
        if self.stays.iter().any(|(_, taken)| taken.is_some() && *taken == port) {
            return Err(format!("port {} is taken already", port.unwrap_or_default()));
        }
        let script = self.script(commands);
        let (name, out, pid) = (script.display(), script.with_extension("out"), script.with_extension("pid"));
        let begun =
            self.run(&format!("bash {name} </dev/null >{} 2>&1 & echo $! >{}", out.display(), pid.display()))?;
        let group = fs::read_to_string(&pid).map_err(|_| begun.printed)?.trim().parse().expect("a process");
        self.stays.push((group, port));
        let there = match port {
            None => return Ok(()),
            Some(EVENTS) => format!("curl -sf -o {}.ready http://localhost:{EVENTS}/ready", out.display()),
            Some(port) => format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"),
        };
        let waiting = format!("for _ in $(seq 1000); do {there} && break; sleep 0.02; done; {there}");
        match self.run(&waiting)?.code {
            0 => Ok(()),
            _ => Err(format!("it does not answer; it printed\n{}", fs::read_to_string(out).unwrap_or_default())),
        }
    }

    /// ctrl-c in the terminal of what has this port, if anything has.
    pub fn leave(&mut self, port: u16) -> Result<(), String> {
        let Some(at) = self.stays.iter().position(|(_, taken)| *taken == Some(port)) else { return Ok(()) };
        let (group, _) = self.stays.remove(at);
        self.end(group).map(|_| ())
    }

    /// What lies in the folder and is no part of a clone: links are what a clone has, `target` is ignored by git.
    pub fn left_behind(&self) -> Vec<String> {
        let entries = fs::read_dir(self.desk()).expect("a folder").flatten();
        let made = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
        made.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "target").collect()
    }

    /// ctrl-c in the terminal of this group.
    fn end(&mut self, group: u32) -> Result<Said, String> {
        self.run(&format!("kill -INT -- -{group}; wait {group}"))
    }

    fn enter(&mut self, line: &str) {
        writeln!(self.typed, "{line}").expect("the shell reads");
    }

    fn script(&mut self, commands: &str) -> PathBuf {
        self.count += 1;
        let script = self.root.path().join(format!("typed-{}", self.count));
        fs::write(&script, self.placed(commands)).expect("it can be written");
        script
    }

    /// With the ports that are in use.
    fn placed(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (port, used)| text.replace(&port.to_string(), &used.to_string()))
    }

    /// The other way round.
    fn printed(&self, text: String) -> String {
        self.ports.iter().fold(text, |text, (port, used)| text.replace(&used.to_string(), &port.to_string()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for (group, _) in std::mem::take(&mut self.stays) {
            let _ = self.end(group);
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL -{group} 2>/dev/null")]).status();
        }
        self.enter("exit");
        if !eventually(PATIENCE, || !matches!(self.shell.try_wait(), Ok(None))) {
            let _ = self.shell.kill();
            let _ = self.shell.wait();
        }
    }
}

/// Whether processes may have a network of their own in which they can speak to themselves.
pub fn has_own_network() -> bool {
    let tried = Command::new("unshare").args(["-rn", "sh", "-c", "ip link set lo up"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// A folder to work in, and the commands: what was built, by its own name and by cargo's.
fn furnish(root: &Path, ports: &[(u16, u16)]) {
    let (desk, bin) = (root.join("desk"), root.join("bin"));
    fs::create_dir(&desk).expect("a folder");
    fs::create_dir(&bin).expect("a folder");
    let built = env!("CARGO_BIN_EXE_redis-cache-sync");
    symlink(built, bin.join("redis-cache-sync")).expect("a link");
    let cargo = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || {{ echo \"cargo $1 is nothing for this test\" >&2; exit 1; }}\n\
         while [ $# -gt 0 ] && [ \"$1\" != -- ]; do shift; done\n[ $# -gt 0 ] && shift\nexec {built} \"$@\"\n"
    );
    executable(&bin.join("cargo"), &cargo);
    let redis = ports.iter().find(|(printed, _)| *printed == 6379);
    if let (Some((_, port)), Some(client)) = (redis, find_program("redis-cli")) {
        executable(&bin.join("redis-cli"), &format!("#!/bin/sh\nexec {} -p {port} \"$@\"\n", client.display()));
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("it can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
