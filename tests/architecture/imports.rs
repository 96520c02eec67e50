//! The import graph of `src/`: which module names which, as its production code says it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, heads_of_groups, places, sources};

/// A module's path from the crate on, `["pipeline", "router", "local"]`.
pub type Module = Vec<String>;

/// Each module with the modules that its production code names. Tests are left out, and so are `main.rs` and `lib.rs`.
pub struct Graph {
    imports: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    pub fn of_src() -> Graph {
        let sources: Vec<(Module, Source)> = sources()
            .into_iter()
            .filter(|source| !source.is_test() && !["main.rs", "lib.rs"].contains(&source.path.as_str()))
            .map(|source| (module(&source.path), source))
            .collect();
        let known: BTreeSet<Module> = sources.iter().map(|(module, _)| module.clone()).collect();
        let imports =
            sources.iter().map(|(module, source)| (module.clone(), imports(module, source, &known))).collect();
        Graph { imports }
    }

    /// Without the arrows from a module to those around it: what these define is there for all inside.
    fn without_arrows_outwards(mut self) -> Graph {
        for (module, imports) in &mut self.imports {
            imports.retain(|other| !module.starts_with(other));
        }
        self
    }

    /// Modules that `module` names, itself left out.
    pub fn imports(&self, module: &str) -> BTreeSet<String> {
        let path: Module = module.split("::").map(str::to_owned).collect();
        let imports = self.imports.get(&path).unwrap_or_else(|| panic!("there is no module {module}"));
        imports.iter().map(|other| other.join("::")).collect()
    }

    /// The modules from which a way leads back to themselves, each with those of its imports that do so with it.
    pub fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            self.imports.keys().map(|module| (module, self.reached_from(module))).collect();
        let in_circle = |a: &Module, b: &Module| reached[a].contains(b) && reached[b].contains(a);
        let circles = self.imports.iter().filter(|(module, _)| in_circle(module, module));
        let line = |(module, imports): (&Module, &BTreeSet<Module>)| {
            let back: Vec<String> =
                imports.iter().filter(|other| in_circle(module, other)).map(|other| other.join("::")).collect();
            format!("{} -> {}", module.join("::"), back.join(", "))
        };
        circles.map(line).collect()
    }

    fn reached_from(&self, module: &Module) -> BTreeSet<&Module> {
        let (mut reached, mut next): (BTreeSet<&Module>, Vec<&Module>) =
            (BTreeSet::new(), self.imports[module].iter().collect());
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&self.imports[module]);
            }
        }
        reached
    }
}

fn module(path: &str) -> Module {
    path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').map(str::to_owned).collect()
}

fn imports(module: &Module, source: &Source, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let code = source.production();
    let mut imports = BTreeSet::new();
    for (prefix, base) in [("crate::", 0), ("super::", module.len() - 1), ("self::", module.len())] {
        for at in places(code, prefix) {
            let is_tail = code[..at].ends_with("::");
            let paths = if is_tail { Vec::new() } else { heads_of_groups(&code[at + prefix.len()..]) };
            imports.extend(paths.iter().filter_map(|path| resolve(&module[..base], path, known)));
        }
    }
    for child in known.iter().filter(|other| other.split_last().is_some_and(|(_, parent)| parent == module)) {
        let call = format!("{}::", child[module.len()]);
        if places(code, &call).any(|at| !code[..at].ends_with("::")) {
            imports.insert(child.clone());
        }
    }
    imports.remove(module);
    imports
}

/// The longest beginning of `base::path` that is a module.
fn resolve(base: &[String], path: &str, known: &BTreeSet<Module>) -> Option<Module> {
    let mut full = base.to_vec();
    for part in path.split("::").filter(|part| !part.is_empty()) {
        match part {
            "super" => drop(full.pop()),
            part => full.push(part.to_owned()),
        }
    }
    while !full.is_empty() && !known.contains(&full) {
        full.pop();
    }
    (!full.is_empty()).then_some(full)
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let circles = Graph::of_src().without_arrows_outwards().circles();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found_wherever_it_begins() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Module>();
    let edges = [("a", vec!["a::b"]), ("a::b", vec!["c"]), ("c", vec!["a::b"]), ("d", vec!["a"])];
    let imports = edges.map(|(from, to)| (path(from), to.into_iter().map(path).collect())).into();
    assert_eq!(Graph { imports }.circles(), ["a::b -> c", "c -> a::b"]);
}

#[test]
fn groups_are_followed_to_their_ends() {
    let paths = heads_of_groups("pipeline::{router::{local, central::Router}, Settings};\nuse other::X;");
    assert_eq!(paths, ["pipeline::router::local", "pipeline::router::central::Router", "pipeline::Settings"]);
}
