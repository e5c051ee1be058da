//! The import graph: resolves every path of a [`Tree`] through modules, globs, aliases and re-exports.

use crate::parse::{Files, Form, Tree, What, Written};
use std::collections::BTreeSet;

/// A path in the code, and the items that it resolves to.
#[derive(Debug)]
pub struct Import {
    /// The module that contains it, such as `crate::wal::archive`.
    pub from: String,
    pub file: String,
    pub line: usize,
    pub form: Form,
    /// The path as written.
    pub written: String,
    /// What it resolves to, and every re-export on the way: `crate::auth::TokenKind` and
    /// `crate::catalog::TokenKind`, or `tokio::fs::File`.
    pub reaches: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Graph {
    pub imports: Vec<Import>,
    /// Top-level modules of the library.
    pub rooms: BTreeSet<String>,
    /// Files that are modules.
    pub files: BTreeSet<String>,
    /// Code that could not be resolved, where the graph is incomplete.
    pub problems: Vec<String>,
}

/// What a path resolves to.
#[derive(Debug, Clone)]
enum Target {
    Module(usize),
    Item(String),
    /// An item of another crate.
    Extern(String),
}

impl Graph {
    /// `crates`: the names of the crates that the code may use.
    pub fn of(files: &Files, crates: &BTreeSet<String>) -> Self {
        let mut tree = Tree::of(files);
        let mut problems = std::mem::take(&mut tree.problems);
        let top = tree.modules.iter().filter(|module| module.parent == Some(0) && !module.test);
        let rooms = top.filter_map(|module| module.path.strip_prefix("crate::")).map(str::to_owned).collect();
        let mut imports = Vec::new();
        for (id, module) in tree.modules.iter().enumerate().filter(|(_, module)| !module.test) {
            let mut seen = BTreeSet::new();
            for mention in &module.mentions {
                let mut following = Following::new(&tree, crates);
                let targets = match mention.path.segments.as_slice() {
                    // The module's own names were resolved where they are imported, but names from globs were not.
                    [name] if mention.form == Form::Path => following.through_globs(id, name),
                    _ => following.path(id, &mention.path),
                };
                let mut reaches = following.passed;
                reaches.extend(targets.iter().map(|target| tree.name(target)));
                let written = mention.path.segments.join("::");
                for name in following.missing {
                    problems
                        .push(format!("{}:{}: {written}: {name} does not exist", module.file, mention.line));
                }
                if !reaches.is_empty() && seen.insert((mention.form, reaches.clone())) {
                    let (from, file) = (module.path.clone(), module.file.clone());
                    let (line, form) = (mention.line, mention.form);
                    imports.push(Import { from, file, line, form, written, reaches });
                }
            }
        }
        Self { imports, rooms, files: tree.files, problems }
    }

    /// The room that a module or an item belongs to.
    pub fn room<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut segments = path.split("::");
        match segments.next() {
            Some("main") => Some("main"),
            Some("crate") => segments.next().filter(|room| self.rooms.contains(*room)),
            _ => None,
        }
    }

    /// Imports between rooms: the importing room, the imported room, the import, and the path in the imported room.
    pub fn between_rooms(&self) -> impl Iterator<Item = (&str, &str, &Import, &str)> {
        self.imports.iter().flat_map(move |import| {
            let from = self.room(&import.from);
            let reaches = import.reaches.iter().filter_map(move |path| Some((from?, self.room(path)?, path)));
            reaches
                .filter(|(from, to, _)| from != to)
                .map(move |(from, to, path)| (from, to, import, path.as_str()))
        })
    }
}

/// Whether a path equals another one or is below it.
pub fn is_within(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Tree {
    fn name(&self, target: &Target) -> String {
        match target {
            Target::Module(id) => self.modules[*id].path.clone(),
            Target::Item(path) | Target::Extern(path) => path.clone(),
        }
    }

    fn root(&self, mut module: usize) -> usize {
        while let Some(parent) = self.modules[module].parent {
            module = parent;
        }
        module
    }

    fn is_below(&self, mut module: usize, of: usize) -> bool {
        while module != of {
            let Some(parent) = self.modules[module].parent else { return false };
            module = parent;
        }
        true
    }
}

/// The resolution of one path.
struct Following<'a> {
    tree: &'a Tree,
    crates: &'a BTreeSet<String>,
    /// Re-exports that it went through.
    passed: BTreeSet<String>,
    /// Names that were looked up in a module that does not have them.
    missing: BTreeSet<String>,
    /// Aliases and globs that are being resolved, to detect cycles.
    open: Vec<(usize, String, usize)>,
}

impl<'a> Following<'a> {
    fn new(tree: &'a Tree, crates: &'a BTreeSet<String>) -> Self {
        Self { tree, crates, passed: BTreeSet::new(), missing: BTreeSet::new(), open: Vec::new() }
    }

    /// Resolves a path in a module. Empty if it begins with a variable, a parameter or a name of the prelude.
    fn path(&mut self, module: usize, path: &Written) -> Vec<Target> {
        let Some((first, mut rest)) = path.segments.split_first() else { return Vec::new() };
        let mut targets = match first.as_str() {
            _ if path.leading => self.extern_crate(module, first),
            "crate" => vec![Target::Module(self.tree.root(module))],
            "self" => vec![Target::Module(module)],
            "super" => self.tree.modules[module].parent.map(Target::Module).into_iter().collect(),
            _ => {
                let found = self.lookup(module, first, module);
                if found.is_empty() { self.extern_crate(module, first) } else { found }
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let before = std::mem::take(&mut targets);
            for target in before {
                match target {
                    Target::Module(id) if next == "super" => {
                        targets.extend(self.tree.modules[id].parent.map(Target::Module));
                    }
                    Target::Module(id) => {
                        let found = self.lookup(id, next, module);
                        if found.is_empty() {
                            let name = format!("{}::{next}", self.tree.modules[id].path);
                            self.missing.insert(name.clone());
                            targets.push(Target::Item(name));
                        }
                        targets.extend(found);
                    }
                    // A variant or an associated item.
                    Target::Item(_) => targets.push(target),
                    Target::Extern(path) => targets.push(Target::Extern(format!("{path}::{next}"))),
                }
            }
            rest = after;
        }
        targets
    }

    fn extern_crate(&self, module: usize, name: &str) -> Vec<Target> {
        // The binary imports the library as a crate.
        if name == "forebay" && self.tree.root(module) != 0 {
            vec![Target::Module(0)]
        } else if self.crates.contains(name) {
            vec![Target::Extern(name.to_owned())]
        } else {
            Vec::new()
        }
    }

    /// What a name in a module refers to, as seen from code in `from`.
    fn lookup(&mut self, module: usize, name: &str, from: usize) -> Vec<Target> {
        let tree = self.tree;
        let mut found = Vec::new();
        for (at, known) in tree.modules[module].names.get(name).into_iter().flatten().enumerate() {
            if !known.visible && !tree.is_below(from, module) {
                continue;
            }
            let path = format!("{}::{name}", tree.modules[module].path);
            match &known.what {
                What::Module(id) => found.push(Target::Module(*id)),
                What::Item => found.push(Target::Item(path)),
                What::Alias(of) => {
                    let targets = self.once((module, name.to_owned(), at), |this| this.path(module, of));
                    if !targets.is_empty() {
                        self.passed.insert(path);
                    }
                    found.extend(targets);
                }
            }
        }
        if found.is_empty() { self.through_globs_of(module, name, from) } else { found }
    }

    /// Runs `follow` unless the same step is already being resolved.
    fn once(
        &mut self,
        key: (usize, String, usize),
        follow: impl FnOnce(&mut Self) -> Vec<Target>,
    ) -> Vec<Target> {
        if self.open.contains(&key) {
            return Vec::new();
        }
        self.open.push(key);
        let found = follow(self);
        self.open.pop();
        found
    }

    /// Resolves a name that a module gets from a glob. Modules are left out: a bare name of one is usually a variable.
    fn through_globs(&mut self, module: usize, name: &str) -> Vec<Target> {
        if self.tree.modules[module].names.contains_key(name) {
            return Vec::new();
        }
        let mut found = self.through_globs_of(module, name, module);
        found.retain(|target| !matches!(target, Target::Module(_)));
        if found.is_empty() {
            self.passed.clear();
        }
        found
    }

    fn through_globs_of(&mut self, module: usize, name: &str, from: usize) -> Vec<Target> {
        let tree = self.tree;
        let mut found = Vec::new();
        for (at, glob) in tree.modules[module].globs.iter().enumerate() {
            if !glob.visible && !tree.is_below(from, module) {
                continue;
            }
            let passed = self.passed.clone();
            let through = self.once((module, format!("*{name}"), at), |this| {
                let of = this.path(module, &glob.of);
                let modules =
                    of.iter().filter_map(|of| if let Target::Module(id) = of { Some(*id) } else { None });
                modules.flat_map(|id| this.lookup(id, name, module)).collect()
            });
            if through.is_empty() {
                self.passed = passed;
            }
            found.extend(through);
        }
        found
    }
}
