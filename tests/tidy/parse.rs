//! Parses Rust files into modules: their declarations, aliases, and every path that they mention. [`crate::graph`]
//! resolves the paths.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, Meta, TraitItem, UseTree, Visibility};

/// File contents by path, such as `src/lib.rs`.
pub type Files = BTreeMap<String, String>;

/// A path as written in the code.
#[derive(Debug, Clone)]
pub struct Written {
    /// Begins with `::`, and so with a crate.
    pub leading: bool,
    pub segments: Vec<String>,
}

/// What a name in a module refers to.
#[derive(Debug, Clone)]
pub enum What {
    Module(usize),
    /// Defined here: a function, a type, a macro.
    Item,
    /// An alias: `use`, or a type alias.
    Alias(Written),
}

#[derive(Debug, Clone)]
pub struct Name {
    pub what: What,
    /// Visible outside of the module.
    pub visible: bool,
}

/// A glob import.
#[derive(Debug, Clone)]
pub struct Glob {
    pub of: Written,
    pub visible: bool,
}

/// A path in the code.
#[derive(Debug)]
pub struct Mention {
    pub path: Written,
    pub line: usize,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Use,
    /// Re-exported: `pub use`, or a type alias that is not private.
    HandedOn,
    /// Anywhere else. A single name may also be a variable.
    Path,
}

#[derive(Debug, Default)]
pub struct Module {
    /// `crate::wal::archive`, or `main` for the module of `src/main.rs`.
    pub path: String,
    pub file: String,
    pub parent: Option<usize>,
    /// Compiled for tests only.
    pub test: bool,
    pub names: HashMap<String, Vec<Name>>,
    pub globs: Vec<Glob>,
    pub mentions: Vec<Mention>,
}

/// Every module that the roots declare.
#[derive(Debug, Default)]
pub struct Tree {
    pub modules: Vec<Module>,
    /// Files that are modules.
    pub files: BTreeSet<String>,
    /// Code that could not be parsed, where the tree is incomplete.
    pub problems: Vec<String>,
}

impl Tree {
    /// The modules of the library `src/lib.rs` and the binary `src/main.rs`.
    pub fn of(files: &Files) -> Self {
        let mut tree = Self::default();
        for (file, path) in [("src/lib.rs", "crate"), ("src/main.rs", "main")] {
            if files.contains_key(file) {
                let root = Module { path: path.into(), file: file.into(), ..Module::default() };
                tree.modules.push(root);
                tree.read(files, tree.modules.len() - 1, file, Path::new("src"));
            }
        }
        tree
    }

    /// Parses the file of a module. The files of the modules that it declares are in `dir`.
    fn read(&mut self, files: &Files, module: usize, file: &str, dir: &Path) {
        let Some(text) = files.get(file) else {
            self.problems.push(format!("{file}: `{}` has no file", self.modules[module].path));
            return;
        };
        self.files.insert(file.to_owned());
        match syn::parse_file(text) {
            Ok(parsed) => {
                self.modules[module].test |= is_test(&parsed.attrs);
                let (dir, inline) = (dir.to_owned(), false);
                Reading { tree: self, files, module, file, dir, inline }.visit_file(&parsed);
            }
            Err(error) => self.problems.push(format!("{file}: {error}")),
        }
    }
}

/// A module that is being parsed.
struct Reading<'a> {
    tree: &'a mut Tree,
    files: &'a Files,
    module: usize,
    file: &'a str,
    dir: PathBuf,
    /// Inside an inline module.
    inline: bool,
}

impl Reading<'_> {
    fn name(&mut self, name: &str, what: What, visible: bool) {
        let names = &mut self.tree.modules[self.module].names;
        names.entry(name.to_owned()).or_default().push(Name { what, visible });
    }

    fn mention(&mut self, path: Written, line: usize, form: Form) {
        self.tree.modules[self.module].mentions.push(Mention { path, line, form });
    }

    /// Records each name of a `use` with the path before it.
    fn import(&mut self, tree: &UseTree, before: &Written, visible: bool) {
        let path = |ident: &proc_macro2::Ident| {
            let mut path = before.clone();
            if ident != "self" {
                path.segments.push(plain(ident));
            }
            path
        };
        let form = if visible { Form::HandedOn } else { Form::Use };
        match tree {
            UseTree::Path(within) => self.import(&within.tree, &path_within(before, &within.ident), visible),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before, visible)),
            UseTree::Glob(glob) => {
                self.tree.modules[self.module].globs.push(Glob { of: before.clone(), visible });
                self.mention(before.clone(), glob.star_token.spans[0].start().line, form);
            }
            UseTree::Name(leaf) => {
                let of = path(&leaf.ident);
                let name = of.segments.last().cloned().unwrap_or_default();
                self.mention(of.clone(), leaf.ident.span().start().line, form);
                self.name(&name, What::Alias(of), visible);
            }
            UseTree::Rename(leaf) => {
                let of = path(&leaf.ident);
                self.mention(of.clone(), leaf.ident.span().start().line, form);
                self.name(&plain(&leaf.rename), What::Alias(of), visible);
            }
        }
    }

    fn declare(&mut self, item: &ItemMod) {
        item.attrs.iter().for_each(|attr| self.visit_attribute(attr));
        let (name, parent) = (plain(&item.ident), &self.tree.modules[self.module]);
        let path = format!("{}::{name}", parent.path);
        let test = parent.test || is_test(&item.attrs);
        let file = self.file.to_owned();
        let parent = Some(self.module);
        let id = self.tree.modules.len();
        self.tree.modules.push(Module { path, file, parent, test, ..Module::default() });
        self.name(&name, What::Module(id), is_visible(&item.vis));

        if let Some((_, items)) = &item.content {
            let dir = self.dir.join(path_of(&item.attrs).unwrap_or(name));
            let mut within = Reading {
                tree: self.tree,
                files: self.files,
                module: id,
                file: self.file,
                dir,
                inline: true,
            };
            for item in items {
                within.visit_item(item);
            }
            return;
        }
        let (file, dir) = if let Some(given) = path_of(&item.attrs) {
            // Relative to the declaring file, or to the directory of the enclosing inline module. Its submodules are
            // next to it, as for a `mod.rs`.
            let base = if self.inline { self.dir.clone() } else { parent_of(Path::new(self.file)) };
            let file = normal(&base.join(given));
            let dir = parent_of(&file);
            (file, dir)
        } else {
            let dir = self.dir.join(&name);
            let (beside, within) = (self.dir.join(format!("{name}.rs")), dir.join("mod.rs"));
            let nested = self.files.contains_key(&*within.to_string_lossy());
            (if nested { within } else { beside }, dir)
        };
        let file = file.to_string_lossy().into_owned();
        self.tree.modules[id].file.clone_from(&file);
        self.tree.read(self.files, id, &file, &dir);
    }

    /// Records everything that looks like a path in the tokens of a macro or an attribute, and in the strings of an
    /// attribute.
    fn scan(&mut self, tokens: TokenStream, before: Option<&Written>, texts: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let punct = |at: usize, mark: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == mark);
        let colons = |at: usize| punct(at, ':') && punct(at + 1, ':');
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.scan(group.stream(), None, texts),
                TokenTree::Literal(literal) if texts => {
                    self.scan_text(&literal.to_string(), literal.span().start().line);
                }
                // A field or a method.
                TokenTree::Ident(_) if at >= 2 && punct(at - 2, '.') && !(at >= 3 && punct(at - 3, '.')) => {}
                TokenTree::Ident(first) => {
                    let line = first.span().start().line;
                    let leading = at >= 3 && colons(at - 3);
                    let mut path = before.cloned().unwrap_or(Written { leading, segments: Vec::new() });
                    path.segments.push(plain(first));
                    while let (true, Some(TokenTree::Ident(next))) = (colons(at), tokens.get(at + 2)) {
                        path.segments.push(plain(next));
                        at += 3;
                    }
                    if let (true, Some(TokenTree::Group(group))) = (colons(at), tokens.get(at + 2))
                        && group.delimiter() == Delimiter::Brace
                    {
                        self.scan(group.stream(), Some(&path), texts);
                        at += 3;
                    }
                    let is_type = path.segments[0].starts_with(char::is_uppercase);
                    if path.segments.len() > 1 || is_type {
                        self.mention(path, line, Form::Path);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Records a path in a string, as in `serde(with = "crate::x::y")`.
    fn scan_text(&mut self, text: &str, line: usize) {
        let text = text.trim_matches('"');
        if text.contains("::")
            && let Ok(path) = syn::parse_str::<syn::Path>(text)
        {
            let segments = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
            self.mention(Written { leading: path.leading_colon.is_some(), segments }, line, Form::Path);
        }
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if let Item::Mod(module) = item {
            self.declare(module);
            return;
        }
        let (attrs, named): (&[Attribute], Option<(&proc_macro2::Ident, &Visibility)>) = match item {
            Item::Const(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Enum(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Fn(item) => (&item.attrs, Some((&item.sig.ident, &item.vis))),
            Item::Static(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Struct(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Trait(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Union(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Macro(item) => (&item.attrs, None),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Type(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if is_test(attrs) {
            return;
        }
        if let Some((ident, vis)) = named {
            self.name(&plain(ident), What::Item, is_visible(vis));
        }
        match item {
            Item::Type(alias) => self.alias(alias),
            Item::Macro(defined) => self.define(defined),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let before = Written { leading: item.leading_colon.is_some(), segments: Vec::new() };
        self.import(&item.tree, &before, is_visible(&item.vis));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attrs = match item {
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test(attrs) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(item) if is_test(&item.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_attribute(&mut self, attr: &'ast Attribute) {
        if attr.path().is_ident("macro_use") {
            let problem = format!("{}: `macro_use` hides which module's macros are called", self.file);
            self.tree.problems.push(problem);
        }
        if !attr.path().is_ident("doc") {
            visit::visit_attribute(self, attr);
        }
        if let Meta::List(list) = &attr.meta {
            self.scan(list.tokens.clone(), None, true);
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        visit::visit_macro(self, called);
        self.scan(called.tokens.clone(), None, false);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        if let Some(first) = path.segments.first() {
            let line = first.ident.span().start().line;
            self.mention(Written { leading: path.leading_colon.is_some(), segments }, line, Form::Path);
        }
        visit::visit_path(self, path);
    }
}

impl Reading<'_> {
    /// A type alias re-exports its type, as a `pub use` would.
    fn alias(&mut self, item: &syn::ItemType) {
        let line = item.ident.span().start().line;
        let what = match &*item.ty {
            syn::Type::Path(of) if of.qself.is_none() => What::Alias(Written {
                leading: of.path.leading_colon.is_some(),
                segments: of.path.segments.iter().map(|segment| plain(&segment.ident)).collect(),
            }),
            _ => What::Item,
        };
        if let (What::Alias(of), true) = (&what, is_visible(&item.vis)) {
            self.mention(of.clone(), line, Form::HandedOn);
        }
        // The aliased type may be outside of all modules, such as a parameter or `Box`, so the alias counts as an item.
        self.name(&plain(&item.ident), What::Item, is_visible(&item.vis));
        self.name(&plain(&item.ident), what, is_visible(&item.vis));
    }

    /// Records a macro definition. An exported macro belongs to the crate root, wherever it is defined.
    fn define(&mut self, defined: &syn::ItemMacro) {
        let Some(ident) = &defined.ident else { return };
        self.name(&plain(ident), What::Item, true);
        if !defined.attrs.iter().any(|attr| attr.path().is_ident("macro_export")) {
            return;
        }
        let mut segments: Vec<String> =
            self.tree.modules[self.module].path.split("::").map(String::from).collect();
        segments.push(plain(ident));
        let what = What::Alias(Written { leading: false, segments });
        let root = self.tree.modules[0].names.entry(plain(ident)).or_default();
        root.push(Name { what, visible: true });
    }
}

fn path_within(before: &Written, ident: &proc_macro2::Ident) -> Written {
    let mut path = before.clone();
    path.segments.push(plain(ident));
    path
}

/// Without the `r#` of raw identifiers.
fn plain(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

fn is_visible(vis: &Visibility) -> bool {
    !matches!(vis, Visibility::Inherited)
}

/// Whether an item is compiled for tests only: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ...))]`.
pub fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => needs_test(list.tokens.clone()),
        Meta::List(list) => list.path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::NameValue(_) => false,
    })
}

fn needs_test(tokens: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(all), TokenTree::Group(group)] if all == "all" => {
            let parts: Vec<TokenTree> = group.stream().into_iter().collect();
            parts
                .split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                .any(|part| needs_test(part.iter().cloned().collect()))
        }
        [TokenTree::Ident(only)] => only == "test",
        _ => false,
    }
}

/// `#[path = "..."]`.
fn path_of(attrs: &[Attribute]) -> Option<String> {
    attrs.iter().find_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}
