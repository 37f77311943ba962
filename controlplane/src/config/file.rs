//! Reading a HOCON file: what the `hocon` crate leaves out is here, namely optional substitutions (`${?X}`) of
//! things that do not exist, and the line of a syntax error.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hocon::{Error, Hocon, HoconLoader};

use super::reference::SECTIONS;

/// Includes within includes; a file that includes itself ends here.
const DEPTH: u8 = 10;

/// Brackets within brackets; the loader calls itself for each.
const NESTING: usize = 64;

/// Reads a file; the error says why it cannot be used.
pub(super) fn load(path: &Path) -> Result<Hocon, String> {
    // Checked first: the loader takes a missing file for an empty one.
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if let Some(file) = too_deep(path, &text, DEPTH) {
        return Err(format!("{} has brackets more than {NESTING} deep; there is no setting there", file.display()));
    }
    // The loader gives up with a panic on some of what it does not know.
    catch_unwind(AssertUnwindSafe(|| load_text(path, &text))).unwrap_or_else(|_| {
        Err("it has something that is not understood, e.g. an optional substitution (${?X}) that finds nothing within a \
             list or two levels deep; write the value out"
            .to_owned())
    })
}

/// The file, of this one and those that it includes, whose brackets are nested too deeply.
fn too_deep(path: &Path, text: &str, depth: u8) -> Option<PathBuf> {
    let mut open = Vec::new();
    for line in text.lines() {
        // One line may open any number of them.
        let mut deepest = 0;
        brackets(line, &mut open, &mut deepest);
        if deepest > NESTING {
            return Some(path.to_owned());
        }
        if let Some(file) = included(path, line).filter(|file| depth > 0 && file.is_file())
            && let Ok(text) = std::fs::read_to_string(&file)
            && let Some(found) = too_deep(&file, &text, depth - 1)
        {
            return Some(found);
        }
    }
    None
}

fn load_text(path: &Path, text: &str) -> Result<Hocon, String> {
    if SECTIONS.iter().any(|section| text.lines().any(|line| line.trim_start().starts_with(section))) {
        return load_reference(path);
    }
    let strict = HoconLoader::new().strict();
    let loaded = strict.load_file(path).map_err(|error| match error {
        Error::Include { path } => format!("it includes {path:?}, which cannot be read"),
        error => syntax_error(text).unwrap_or_else(|| format!("{error}; a file that it includes may be broken")),
    })?;
    match loaded.hocon() {
        Err(Error::KeyNotFound { .. }) => {}
        result => return result.map_err(|error| error.to_string()),
    }
    // Some substitution finds nothing. That is an error, unless it is an optional one: then its key is not set.
    let mut required = HashSet::new();
    substitutions(path, DEPTH, &mut required);
    let tree =
        HoconLoader::new().load_file(path).and_then(|loader| loader.hocon()).map_err(|error| error.to_string())?;
    without_optional(tree, &required)
}

/// Reads a file of the reference. It ends with an include that need not exist, and HOCON leaves such includes out; the
/// loader does not.
fn load_reference(path: &Path) -> Result<Hocon, String> {
    let text = inlined(path, DEPTH)?;
    let mut required = HashSet::new();
    substitutions(path, DEPTH, &mut required);
    let broken = |error: Error| syntax_error(&text).unwrap_or_else(|| error.to_string());
    // Without strictness a text that is no HOCON is taken for an empty one, with it a substitution may find nothing.
    HoconLoader::new().strict().load_str(&text).map_err(broken)?;
    let tree = HoconLoader::new().load_str(&text).and_then(|loader| loader.hocon()).map_err(broken)?;
    without_optional(tree, &required)
}

/// A file with what it includes in place.
fn inlined(path: &Path, depth: u8) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut whole = String::new();
    for line in text.lines() {
        match included(path, line) {
            None => whole.push_str(line),
            Some(file) if file.is_file() && depth > 0 => whole.push_str(&inlined(&file, depth - 1)?),
            Some(_) => {}
        }
        whole.push('\n');
    }
    Ok(whole)
}

/// Replaces values whose optional substitution found nothing by null.
fn without_optional(tree: Hocon, required: &HashSet<String>) -> Result<Hocon, String> {
    Ok(match tree {
        Hocon::Hash(children) => {
            let clean = |(name, child)| without_optional(child, required).map(|child| (name, child));
            Hocon::Hash(children.into_iter().map(clean).collect::<Result<_, _>>()?)
        }
        Hocon::Array(items) => {
            let clean = |item| without_optional(item, required);
            Hocon::Array(items.into_iter().map(clean).collect::<Result<_, _>>()?)
        }
        Hocon::BadValue(Error::KeyNotFound { key }) if !required.contains(&key) => Hocon::Null,
        Hocon::BadValue(Error::KeyNotFound { key }) => {
            return Err(format!(
                "${{{key}}} is neither a key of the file nor an environment variable; set it, or write ${{?{key}}}"
            ));
        }
        Hocon::BadValue(error) => return Err(error.to_string()),
        other => other,
    })
}

/// Collects the names of required substitutions in a file and in what it includes.
fn substitutions(path: &Path, depth: u8, required: &mut HashSet<String>) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    for line in text.lines() {
        for rest in line.split("${").skip(1) {
            if let Some((name, _)) = rest.split_once('}')
                && !name.starts_with('?')
            {
                required.insert(name.trim().to_owned());
            }
        }
        if let Some(included) = included(path, line)
            && depth > 0
        {
            substitutions(&included, depth - 1, required);
        }
    }
}

/// The file that a line includes, if it does: `include "name"`, `include file("name")`.
fn included(path: &Path, line: &str) -> Option<PathBuf> {
    let name = line.trim().strip_prefix("include")?.split('"').nth(1)?;
    Some(path.parent().unwrap_or(Path::new(".")).join(name))
}

/// Where a text stops to be HOCON: it is tried line by line, with what is open at that point closed.
fn syntax_error(text: &str) -> Option<String> {
    let mut so_far = String::new();
    let mut open = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Includes need a file to start from; they were read without complaint.
        let line = if line.trim_start().starts_with("include") { "" } else { line };
        so_far.push_str(line);
        so_far.push('\n');
        brackets(line, &mut open, &mut 0);
        let closing: String = open.iter().rev().map(|bracket| format!("\n{bracket}")).collect();
        if HoconLoader::new().strict().load_str(&format!("{so_far}{closing}")).is_err() {
            return Some(format!(
                "line {}: {:?} is not understood; texts with any of : / # ? @ * & ! need double quotes, and every \
                 bracket its partner",
                number + 1,
                line.trim()
            ));
        }
    }
    (!open.is_empty()).then(|| format!("at its end {:?} is missing", open.iter().rev().collect::<String>()))
}

/// Follows a line's brackets; `open` holds what would close them, `deepest` the most that it held.
fn brackets(line: &str, open: &mut Vec<char>, deepest: &mut usize) {
    let (mut quoted, mut before) = (false, ' ');
    for c in line.chars() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            _ if quoted => {}
            '#' => return,
            '/' if before == '/' => return,
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
        *deepest = open.len().max(*deepest);
        before = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Hocon, String> {
        let folder = std::env::temp_dir().join(format!("ringbridge-hocon-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        std::fs::write(folder.join("part.conf"), "bridge { port = 11, region = ${?RINGBRIDGE_NO_SUCH} }\n")
            .expect("written");
        let path = folder.join("main.conf");
        std::fs::write(&path, text).expect("written");
        let result = load(&path);
        let _ = std::fs::remove_dir_all(&folder);
        result
    }

    #[test]
    fn includes_and_substitutions() {
        let tree = read(
            "good",
            "domain = \"example.net\"\ninclude \"part.conf\"\nbridge.jid = \"jvb@auth.\"${domain}\n\
             bridge.workers = 3\nbridge.workers = ${?RINGBRIDGE_NO_SUCH}\nbridge.home = ${?HOME}\nbridge.nickname = ${?RINGBRIDGE_NO_SUCH}\n",
        )
        .expect("valid");
        assert_eq!(tree["bridge"]["jid"].as_string().as_deref(), Some("jvb@auth.example.net"));
        assert_eq!((tree["bridge"]["port"].as_i64(), tree["bridge"]["workers"].as_i64()), (Some(11), Some(3)));
        assert_eq!(tree["bridge"]["home"].as_string(), std::env::var("HOME").ok());
        assert_eq!((&tree["bridge"]["nickname"], &tree["bridge"]["region"]), (&Hocon::Null, &Hocon::Null));
    }

    #[test]
    fn what_the_loader_gives_up_on_is_an_error() {
        let error = read("panic", "bridge.websocket { base-url = ${?RINGBRIDGE_NO_SUCH} }\n").expect_err("refused");
        assert!(error.contains("not understood"), "{error}");
        for text in ["{".repeat(100_000), "a = ".to_owned() + &"[".repeat(100_000), "a {\n".repeat(65)] {
            let error = read("deep", &text).expect_err("refused");
            assert!(error.contains("more than 64 deep"), "{error}");
        }
        assert!(read("flat", &("a {\n".repeat(60) + &"}\n".repeat(60))).is_ok());
    }

    #[test]
    fn a_required_substitution_must_find_something() {
        let error = read("required", "a = ${?RINGBRIDGE_NO_SUCH}\nb = ${RINGBRIDGE_NOR_THIS}\n").expect_err("refused");
        assert!(
            error.contains("${RINGBRIDGE_NOR_THIS} is neither") && error.contains("${?RINGBRIDGE_NOR_THIS}"),
            "{error}"
        );
    }

    #[test]
    fn syntax_errors_name_their_line() {
        for (name, text, expected) in [
            ("url", "a = 1\nb {\n  c = wss://example.net/x\n}\nd = 2\n", "line 3: \"c = wss://example.net/x\""),
            ("extra", "a { b = 1 }\n}\nc = 3\n", "line 2"),
            ("open", "a {\n  b = [1, 2]\n", "at its end \"}\" is missing"),
            ("key", "a = 1\njust words here\nb = 2", "line 2: \"just words here\""),
            ("include", "a = 1\ninclude \"absent.conf\"\n", "it includes \"absent.conf\""),
            ("comma", "videobridge {\n  a = \"x\" b = 1\n}\n", "line 2: \"a = \\\"x\\\" b = 1\""),
            ("closing", "videobridge {\n  ice { udp { port = 10001 }\n}\n", "at its end \"}\" is missing"),
        ] {
            let error = read(name, text).expect_err("refused");
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
