//! Reads Rust files into modules: what each declares, what it gives other names, and every path that it mentions. What
//! the paths lead to is for [`crate::graph`].

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, Meta, TraitItem, UseTree, Visibility};

/// Texts by path, such as `src/lib.rs`.
pub type Files = BTreeMap<String, String>;

/// A path as it is written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Begins with `::`, hence with a crate.
    pub leading: bool,
    pub segments: Vec<String>,
}

/// What a name in a module stands for.
#[derive(Debug, Clone)]
pub enum What {
    Module(usize),
    /// Defined here: a function, a type, a macro.
    Item,
    /// Another name for something: `use`, or a type alias.
    Alias(Written),
}

#[derive(Debug, Clone)]
pub struct Name {
    pub what: What,
    /// Seen from outside of the module.
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
    /// Others have it from here: `pub use`, or a type alias that is no private one.
    HandedOn,
    /// Anywhere else. A name alone may just as well be that of a variable.
    Path,
}

#[derive(Debug, Default)]
pub struct Module {
    /// `crate::wal::archive`, or `main` for that of `src/main.rs`.
    pub path: String,
    pub file: String,
    pub parent: Option<usize>,
    /// Not in the program.
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
    /// What could not be read, and would leave holes.
    pub problems: Vec<String>,
}

impl Tree {
    /// The modules of a library `src/lib.rs` and a program `src/main.rs`.
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

    /// Reads the file of a module. The files of the modules that it declares are in `dir`.
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

/// A module while it is read.
struct Reading<'a> {
    tree: &'a mut Tree,
    files: &'a Files,
    module: usize,
    file: &'a str,
    dir: PathBuf,
    /// In a module with its text in braces.
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

    /// Each name of a `use`, with what comes before it.
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
            // Beside the file that says so, unless a module in braces is around; its own are beside it, as those of
            // a `mod.rs`.
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

    /// Paths in the tokens of a macro or an attribute: whatever looks like one, in the texts of an attribute too.
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

    /// Paths in text, as `serde(with = "crate::x::y")` has them.
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
            let problem = format!("{}: `macro_use` hides who calls whose macros", self.file);
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
    /// An alias of a path hands its type on as a `pub use` would.
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
        // What it is an alias of may be no module's, such as a parameter or `Box`: then it is this.
        self.name(&plain(&item.ident), What::Item, is_visible(&item.vis));
        self.name(&plain(&item.ident), what, is_visible(&item.vis));
    }

    /// A macro, if it is one that is defined and not called. One that is exported is one of the crate, wherever it
    /// stands.
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

/// Whether something is there in tests only: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ...))]`.
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
