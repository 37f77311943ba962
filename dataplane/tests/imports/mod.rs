//! Which file of a crate uses which: read from its tokens, followed through re-exports to where a name is defined.
//!
//! What only tests use does not count, and neither does a re-export by itself: it names something without using it.
//! `rules` says what must hold of the imports.

pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Re-exports that lead to each other are given up after so many steps.
const MAX_STEPS: usize = 32;

type Segments = Vec<String>;

/// One `use`, or one name out of the braces of one.
#[derive(Debug, Clone)]
struct Import {
    path: Segments,
    /// The name that it goes by here; `*` for everything.
    alias: String,
    /// Visible to others: a re-export.
    public: bool,
}

/// A module, with a file of its own or inside another's.
#[derive(Debug, Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths of two or more segments that stand in its code.
    paths: BTreeSet<Segments>,
    /// Names that stand in its code by themselves.
    names: BTreeSet<String>,
}

/// The imports among the files of one crate; files are named by their path below `src`.
#[derive(Debug, Default)]
pub struct Imports {
    /// User, used, and one path that shows it.
    edges: BTreeMap<String, BTreeMap<String, String>>,
}

impl Imports {
    /// The crate whose test this is.
    pub fn of_this_crate() -> Self {
        Self::of_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
    }

    /// Reads a crate from its `src` folder, beginning with `lib.rs`.
    pub fn of_crate(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_file(src, "lib.rs", Vec::new(), &mut modules);
        let mut edges: BTreeMap<String, BTreeMap<String, String>> =
            modules.values().map(|module| (module.file.clone(), BTreeMap::new())).collect();
        for (at, module) in &modules {
            let reached = |path: &Segments| resolve(&modules, at, path, MAX_STEPS);
            let re_exports_used = |import: &&Import| !import.public || module.names.contains(&import.alias);
            let used = module.imports.iter().filter(re_exports_used).map(|import| &import.path);
            for path in used.chain(&module.paths) {
                if let Some(Reached::Item(file)) = reached(path)
                    && file != module.file
                {
                    let users = edges.entry(module.file.clone()).or_default();
                    users.entry(file).or_insert_with(|| path.join("::"));
                }
            }
        }
        Self { edges }
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    /// Every pair of a file and one that it uses, with a path that shows it.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.edges
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |(to, path)| (from.as_str(), to.as_str(), path.as_str())))
    }

    /// The same among what stands in one folder (`""` is `src` itself): its files, and its folders as a whole. A module's
    /// file and its folder, `a.rs` and `a/`, are one.
    pub fn within(&self, folder: &str) -> Self {
        let unit = |file: &str| {
            let rest = file.strip_prefix(folder)?;
            let rest = if folder.is_empty() { rest } else { rest.strip_prefix('/')? };
            let first = rest.split('/').next()?;
            Some(first.strip_suffix(".rs").unwrap_or(first).to_owned())
        };
        let mut edges: BTreeMap<String, BTreeMap<String, String>> =
            self.files().filter_map(unit).map(|unit| (unit, BTreeMap::new())).collect();
        for (from, to, path) in self.pairs() {
            if let (Some(from_unit), Some(to_unit)) = (unit(from), unit(to))
                && from_unit != to_unit
            {
                let used = edges.entry(from_unit).or_default();
                used.entry(to_unit).or_insert_with(|| format!("{path} in {from}"));
            }
        }
        Self { edges }
    }

    /// Every folder with files in it, `""` first.
    pub fn folders(&self) -> BTreeSet<String> {
        let mut folders = BTreeSet::from([String::new()]);
        for file in self.files() {
            folders.extend(file.match_indices('/').map(|(at, _)| file[..at].to_owned()));
        }
        folders
    }

    /// A shortest circle, step by step, if there is one.
    pub fn circle(&self) -> Option<String> {
        let circle = self.files().filter_map(|file| self.way_back_to(file)).min_by_key(Vec::len)?;
        let mut text = String::new();
        for (from, to) in circle.iter().zip(circle.iter().cycle().skip(1)) {
            let _ = writeln!(text, "  {from} uses {to} ({})", self.edges[*from][*to]);
        }
        Some(text)
    }

    /// The shortest way from a file back to itself.
    fn way_back_to<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut came_from = BTreeMap::from([(start, start)]);
        let mut open = std::collections::VecDeque::from([start]);
        while let Some(file) = open.pop_front() {
            for next in self.edges.get(file)?.keys().map(String::as_str) {
                if next == start {
                    let mut way = vec![file];
                    while let Some(before) = way.last().filter(|last| **last != start).map(|last| came_from[last]) {
                        way.push(before);
                    }
                    way.reverse();
                    return Some(way);
                }
                if !came_from.contains_key(next) {
                    came_from.insert(next, file);
                    open.push_back(next);
                }
            }
        }
        None
    }
}

type Modules = BTreeMap<Segments, Module>;

/// Where a path leads.
enum Reached {
    Module(Segments),
    /// Something defined in this file.
    Item(String),
}

/// Follows a path as it stands in the module `at`; `None` for paths of other crates.
fn resolve(modules: &Modules, at: &Segments, path: &[String], steps: usize) -> Option<Reached> {
    let steps = steps.checked_sub(1)?;
    let (first, mut rest) = path.split_first()?;
    let mut place = match first.as_str() {
        "crate" => Vec::new(),
        "self" => at.clone(),
        "super" => {
            let mut place = at.clone();
            place.pop()?;
            while let Some(("super", after)) = rest.split_first().map(|(first, after)| (first.as_str(), after)) {
                place.pop()?;
                rest = after;
            }
            place
        }
        name => match step(modules, at, name, steps)? {
            Reached::Module(place) => place,
            Reached::Item(file) => return Some(Reached::Item(file)),
        },
    };
    for name in rest {
        // `use a::{self}` and `use a::*` speak of the module itself.
        match name.as_str() {
            "self" => return Some(Reached::Module(place)),
            "*" => return Some(Reached::Item(modules.get(&place)?.file.clone())),
            _ => {}
        }
        match step(modules, &place, name, steps) {
            Some(Reached::Module(next)) => place = next,
            Some(item) => return Some(item),
            // Re-exported from another crate, or made by a macro.
            None if imports_foreign(modules, &place, name) => return None,
            None => return Some(Reached::Item(modules.get(&place)?.file.clone())),
        }
    }
    Some(Reached::Module(place))
}

fn imports_foreign(modules: &Modules, at: &Segments, name: &str) -> bool {
    modules.get(at).is_some_and(|module| module.imports.iter().any(|import| import.alias == name))
}

/// One name, looked up in one module.
fn step(modules: &Modules, at: &Segments, name: &str, steps: usize) -> Option<Reached> {
    let module = modules.get(at)?;
    if module.children.contains(name) {
        let mut child = at.clone();
        child.push(name.to_owned());
        return Some(Reached::Module(child));
    }
    if module.items.contains(name) {
        return Some(Reached::Item(module.file.clone()));
    }
    if let Some(import) = module.imports.iter().find(|import| import.alias == name) {
        // `use aes::cipher` in a module that others call `aes`: the path is another crate's.
        if import.path.first().is_some_and(|first| first == name) {
            return None;
        }
        return resolve(modules, at, &import.path, steps);
    }
    module.imports.iter().filter(|import| import.alias == "*" && import.public).find_map(|import| {
        let Reached::Module(place) = resolve(modules, at, &import.path[..import.path.len() - 1], steps)? else {
            return None;
        };
        step(modules, &place, name, steps.checked_sub(1)?)
    })
}

fn read_file(src: &Path, file: &str, at: Segments, modules: &mut Modules) {
    let text = std::fs::read_to_string(src.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    read_module(src, file, at, tokens, modules);
}

fn read_module(src: &Path, file: &str, at: Segments, tokens: TokenStream, modules: &mut Modules) {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let (mut own_files, mut inline) = (Vec::new(), Vec::new());
    read_tokens(tokens, Place::Module, &mut module, &mut own_files, &mut inline);
    module.children = own_files.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect();
    modules.insert(at.clone(), module);
    let below = |name: &str| {
        let mut child = at.clone();
        child.push(name.to_owned());
        child
    };
    for name in own_files {
        let path = below(&name).join("/");
        let candidates = [format!("{path}.rs"), format!("{path}/mod.rs")];
        let found = candidates.iter().find(|file| src.join(file).exists());
        let child_file = found.unwrap_or_else(|| panic!("{file}: no file for `mod {name}`"));
        read_file(src, child_file, below(&name), modules);
    }
    for (name, tokens) in inline {
        read_module(src, file, below(&name), tokens, modules);
    }
}

/// Where tokens stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Module,
    Variants,
    Elsewhere,
}

/// Takes the tokens of a module, or of a group inside one.
fn read_tokens(
    tokens: TokenStream,
    place: Place,
    module: &mut Module,
    own_files: &mut Vec<String>,
    inline: &mut Vec<(String, TokenStream)>,
) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let ident = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    };
    let punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
    let is_path = |at: usize| punct(at, ':') && punct(at + 1, ':');
    let (top, mut at) = (place == Place::Module, 0);
    let mut is_enum = false;
    // Whether the item that begins here is visible to others.
    let mut public = false;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                let attribute = tokens.get(at + 1 + usize::from(punct(at + 1, '!'))).map(ToString::to_string);
                if attribute.as_deref().is_some_and(is_test_only) {
                    at = end_of_item(&tokens, at + 2);
                    continue;
                }
                at += 1;
            }
            TokenTree::Group(group) => {
                let braces = group.delimiter() == Delimiter::Brace;
                let place = if braces && is_enum { Place::Variants } else { Place::Elsewhere };
                read_tokens(group.stream(), place, module, own_files, inline);
                at += 1;
                if braces {
                    (public, is_enum) = (false, false);
                }
            }
            TokenTree::Ident(_) => {
                let name = ident(at).unwrap_or_default();
                is_enum |= name == "enum";
                match name.as_str() {
                    "pub" => {
                        public = true;
                        at += 1;
                        // `pub(in crate::a)` is no use of `crate::a`.
                        if matches!(tokens.get(at), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis)
                        {
                            at += 1;
                        }
                        continue;
                    }
                    "use" => {
                        let end = (at..tokens.len()).find(|at| punct(*at, ';')).unwrap_or(tokens.len());
                        read_use(&tokens[at + 1..end], Vec::new(), public, &mut module.imports);
                        (at, public) = (end + 1, false);
                        continue;
                    }
                    "mod" if top => {
                        if let (Some(name), true) = (ident(at + 1), punct(at + 2, ';')) {
                            own_files.push(name);
                        } else if let (Some(name), Some(TokenTree::Group(body))) = (ident(at + 1), tokens.get(at + 2)) {
                            inline.push((name, body.stream()));
                        }
                        (at, public) = (at + 3, false);
                        continue;
                    }
                    "struct" | "enum" | "union" | "trait" | "fn" | "type" | "const" | "static" if top => {
                        let name =
                            ident(at + 1).filter(|name| name != "fn" && name != "unsafe").or_else(|| ident(at + 2));
                        module.items.extend(name);
                    }
                    "macro_rules" if top => module.items.extend(ident(at + 2)),
                    _ => {}
                }
                let (mut path, start) = (vec![name], at);
                while is_path(at + 1)
                    && let Some(next) = ident(at + 3)
                {
                    path.push(next);
                    at += 3;
                }
                // What follows another path's generics or a leading `::` is no beginning.
                let begins = start < 2 || !is_path(start - 2);
                // What follows an attribute or a comma names a variant there.
                let is_variant = place == Place::Variants
                    && tokens[..start].last().is_none_or(|before| {
                        matches!(before, TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket)
                            || punct(start - 1, ',')
                    });
                let is_member = start > 0 && punct(start - 1, '.') && !(start > 1 && punct(start - 2, '.'));
                match path.len() {
                    1 if begins && !is_member && !is_variant => {
                        module.names.extend(path);
                    }
                    2.. if begins => {
                        module.names.insert(path[0].clone());
                        module.paths.insert(path);
                    }
                    _ => {}
                }
                at += 1;
            }
            TokenTree::Punct(p) => {
                if p.as_char() == ';' {
                    public = false;
                }
                at += 1;
            }
            TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Takes one tree of a `use`: `a::{b, c::*, d as e}`.
fn read_use(tokens: &[TokenTree], prefix: Segments, public: bool, out: &mut Vec<Import>) {
    let mut path = prefix;
    let mut alias = None;
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if *ident == "as" => alias = tokens.next().map(ToString::to_string),
            TokenTree::Ident(ident) => path.push(ident.to_string().trim_start_matches("r#").to_owned()),
            TokenTree::Punct(p) if p.as_char() == '*' => path.push("*".into()),
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                for tree in inner.split(is_comma).filter(|tree| !tree.is_empty()) {
                    read_use(tree, path.clone(), public, out);
                }
                return;
            }
            _ => {}
        }
    }
    let last = path.iter().rfind(|name| *name != "self").cloned();
    if let Some(alias) = alias.or(last) {
        out.push(Import { path, alias, public });
    }
}

/// `[cfg(test)]` and its kind.
fn is_test_only(attribute: &str) -> bool {
    let words: Vec<&str> = attribute.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    words.contains(&"cfg") && words.contains(&"test") && !words.contains(&"not") || words == ["", "test", ""]
}

/// The token after the item that begins at `at`, further attributes included.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    let is = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
    while is(at, '#') {
        at += 2;
    }
    let is_use = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if *ident == "use");
    let ends_with_semicolon = tokens[at.min(tokens.len())..].iter().take(3).any(is_use);
    while at < tokens.len() {
        let ends = match &tokens[at] {
            TokenTree::Punct(p) => p.as_char() == ';',
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !ends_with_semicolon,
            _ => false,
        };
        at += 1;
        if ends {
            break;
        }
    }
    at
}
