//! A page of the docs as a list of steps. Every block of code is one, answers one of those, or says in a comment before
//! it why it is neither: nothing is passed over in silence.

/// What a reader does with a page, from top to bottom.
#[derive(Debug)]
pub struct Step {
    /// Of the page, from 1.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    /// Typed into a shell. `soon`: again and again, until it answers so.
    Run { commands: String, answer: Option<Answer>, soon: bool },
    /// Typed into a shell of its own, where it goes on; from when this port is open, if there is one.
    Stay { commands: String, port: Option<u16> },
    /// An event, posted.
    Post { body: String, answer: Answer },
    /// Not for this machine.
    NotRun { reason: String, commands: String },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Json(String),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Mark {
    None,
    NotRun(String),
    Stays(Option<u16>),
    Soon,
    Shown,
}

struct Block {
    line: usize,
    language: String,
    text: String,
    mark: Mark,
}

/// The steps of a page, or what is wrong with it.
pub fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut blocks = blocks(page)?.into_iter().peekable();
    while let Some(block) = blocks.next() {
        let line = block.line;
        let wrong = |what: &str| Err(format!("line {line}: {what}"));
        let answered = |next: &Block| {
            next.mark == Mark::None && (next.language == "text" || next.language == "json" && !is_event(&next.text))
        };
        let mut answer = || blocks.next_if(answered).map(Answer::of);
        let commands = block.text;
        match (block.language.as_str(), block.mark) {
            ("sh" | "console", Mark::NotRun(reason)) => {
                steps.push(Step { line, kind: Kind::NotRun { reason, commands } });
            }
            ("sh", Mark::Stays(port)) => steps.push(Step { line, kind: Kind::Stay { commands, port } }),
            ("sh", Mark::None) => {
                steps.push(Step { line, kind: Kind::Run { commands, answer: answer(), soon: false } })
            }
            ("console", mark @ (Mark::None | Mark::Soon)) => {
                steps.extend(dialogue(line, &commands, mark == Mark::Soon)?);
            }
            ("json", Mark::None) if is_event(&commands) => match answer() {
                Some(answer) => steps.push(Step { line, kind: Kind::Post { body: commands, answer } }),
                None => return wrong("no answer stands below this event"),
            },
            ("json" | "text" | "toml" | "yaml", Mark::Shown) => {}
            ("json" | "text" | "toml" | "yaml", _) => {
                return wrong("this block answers nothing and is not marked as shown");
            }
            ("sh" | "console", _) => return wrong("this mark does not go with commands"),
            (language, _) => return wrong(&format!("a block of {language:?} is neither run nor marked")),
        }
    }
    Ok(steps)
}

impl Answer {
    fn of(block: Block) -> Self {
        if block.language == "json" { Answer::Json(block.text) } else { Answer::Text(block.text) }
    }
}

/// The page with these sections alone, the lines of the others empty: those under a heading `## NAME`.
pub fn sections(page: &str, names: &[&str]) -> String {
    let mut is_read = false;
    let lines = page.lines().map(|line| {
        is_read = line.strip_prefix("## ").map_or(is_read, |name| names.contains(&name));
        if is_read { line } else { "" }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Events to be posted, by their content type, and the JSON that stands below each.
pub fn posts(page: &str) -> Vec<(&'static str, String, String)> {
    let post = |step: Step| match step.kind {
        Kind::Post { body, answer: Answer::Json(answer) } => Some(("application/json", body, answer)),
        Kind::Run { commands, answer: Some(Answer::Json(answer)), .. } if commands.contains("x-ndjson") => {
            let body = commands.split('\'').nth(3)?.to_owned();
            Some(("application/x-ndjson", body, answer))
        }
        _ => None,
    };
    steps(page).expect("a good page").into_iter().filter_map(post).collect()
}

fn is_event(text: &str) -> bool {
    text.starts_with("{\"key\"")
}

/// `$ command` and what it prints.
fn dialogue(line: usize, text: &str, soon: bool) -> Result<Vec<Step>, String> {
    let mut steps: Vec<(usize, String, String)> = Vec::new();
    for (at, one) in text.lines().enumerate() {
        match (one.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((line + 1 + at, format!("{command}\n"), String::new())),
            (None, Some((_, _, output))) => *output += &format!("{one}\n"),
            (None, None) => return Err(format!("line {line}: a dialogue begins with `$ `")),
        }
    }
    let step = |(line, commands, output)| {
        let kind = Kind::Run { commands, answer: Some(Answer::Text(output)), soon };
        Step { line, kind }
    };
    Ok(steps.into_iter().map(step).collect())
}

fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    let mut before = "";
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, Some(language)) => {
                let mark = mark(before).map_err(|what| format!("line {}: {what}", at + 1))?;
                open = Some(Block { line: at + 1, language: language.to_owned(), text: String::new(), mark });
            }
            (None, None) if line.trim_start().starts_with("```") => {
                return Err(format!("line {}: an indented block would be passed over", at + 1));
            }
            (None, None) => {}
        }
        before = line;
    }
    match open {
        Some(block) => Err(format!("line {}: the block does not end", block.line)),
        None => Ok(blocks),
    }
}

fn mark(line: &str) -> Result<Mark, String> {
    let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else {
        return Ok(Mark::None);
    };
    let (name, rest) = comment.split_once(": ").unwrap_or((comment, ""));
    match (name, rest) {
        ("not run", reason) if !reason.is_empty() => Ok(Mark::NotRun(reason.to_owned())),
        ("shown", reason) if !reason.is_empty() => Ok(Mark::Shown),
        ("soon", "") => Ok(Mark::Soon),
        ("stays", "") => Ok(Mark::Stays(None)),
        ("stays", port) => port.parse().map(|port| Mark::Stays(Some(port))).map_err(|_| format!("no port: {port}")),
        _ => Err(format!("a mark that is not known, or lacks its reason: {line}")),
    }
}
