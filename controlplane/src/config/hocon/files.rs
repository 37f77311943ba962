//! A configuration on disk, with the files that it includes.

use std::path::{Path, PathBuf};

use super::include::{Include, Included, Source};
use super::limits::{MAX_FILE, MAX_FILES};
use super::read::read;
use super::value::Value;

/// Reads a file; the error says why it cannot be used, and never holds a value.
pub fn load(path: &Path) -> Result<Value, String> {
    let text = text_of(path)?.ok_or("no such file")?;
    let mut files = 0;
    let mut include = |asked: &Include| -> Result<Option<Included>, String> {
        files += 1;
        if files > MAX_FILES {
            return Err(format!("more than {MAX_FILES} files are included"));
        }
        match asked.from {
            Source::Classpath => return Ok(None),
            Source::Url => return Err("files from elsewhere are not read; copy it beside this file".to_owned()),
            Source::File => {}
        }
        let beside = asked.asked_by.as_deref().map_or(path, Path::new).parent().unwrap_or(Path::new("."));
        let named = beside.join(&asked.name);
        for candidate in candidates(&named) {
            if let Some(text) = text_of(&candidate)? {
                if candidate.extension().is_some_and(|extension| extension == "properties") {
                    return Err("files of Java properties are not read; write the same keys in this file".to_owned());
                }
                return Ok(Some(Included { name: candidate.display().to_string(), text }));
            }
        }
        Ok(None)
    };
    read(&text, &mut include, &|name| std::env::var(name).ok()).map_err(|error| error.to_string())
}

/// A name without an extension may mean several files.
fn candidates(named: &Path) -> Vec<PathBuf> {
    let known = named.extension().is_some_and(|e| e == "conf" || e == "json" || e == "properties");
    let with = |extension: &str| PathBuf::from(format!("{}.{extension}", named.display()));
    if known { vec![named.to_owned()] } else { vec![named.to_owned(), with("conf"), with("json"), with("properties")] }
}

/// The text of a file; `None` when there is none.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    let named = |reason: String| format!("{}: {reason}", path.display());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(error.to_string())),
        Ok(metadata) if metadata.is_dir() => return Err(named("it is a folder".to_owned())),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(named(format!("it has more than {MAX_FILE} bytes"))),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        named(format!("line {line}: it is not UTF-8; save it with that encoding"))
    })
}
