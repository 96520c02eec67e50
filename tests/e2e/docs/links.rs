//! Links between the pages lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Every page, by its path in the repository.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "tests", "tests/bench", "tests/torture"];
    let names = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).expect("a folder").flatten();
        entries.map(|entry| Path::new(folder).join(entry.file_name())).collect::<Vec<_>>()
    };
    let pages = folders.into_iter().flat_map(names);
    pages.filter(|name| name.extension().is_some_and(|end| end == "md")).collect()
}

fn read(page: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a page")
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// What may stand behind `#`.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
        kept.map(|one| if one == ' ' { '-' } else { one }).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let targets = prose(&text).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let beside = page.parent().expect("a folder").join(file);
            let to = if file.is_empty() { page.clone() } else { beside };
            let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&to).exists();
            if !is_there || !anchor.is_empty() && !anchors(&read(&to)).iter().any(|known| known == anchor) {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 30, "{count} links");
}

/// Paths in backticks that begin with a folder of the repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = prose(text).flat_map(|line| line.split('`').skip(1).step_by(2));
    let folders = ["src/", "tests/", "manifests/", "config/", "docs/", ".ci/", ".github/"];
    quoted.filter(move |path| {
        folders.iter().any(|folder| path.starts_with(folder)) && !path.contains([' ', '*', '{', '…'])
    })
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages().into_iter().filter(|page| page != Path::new("CHANGELOG.md")) {
        let text = read(&page);
        for path in paths(&text) {
            count += 1;
            if !root.join(path.split('#').next().unwrap_or_default()).exists() {
                wrong.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 30, "{count} paths");
}

#[test]
fn every_file_of_tests_has_its_line() {
    let told = read(Path::new("tests/README.md"));
    let mut missing = Vec::new();
    for folder in ["tests", "tests/e2e"] {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder").flatten();
        let names = entries.map(|entry| {
            let is_folder = entry.path().is_dir();
            format!("{}{}", entry.file_name().to_string_lossy(), if is_folder { "/" } else { "" })
        });
        missing.extend(names.filter(|name| name != "README.md" && !told.contains(&format!("`{name}`"))));
    }
    assert!(missing.is_empty(), "no line in tests/README.md: {missing:?}");
}
