//! What must hold of a crate's imports. Each rule is an error that names what breaks it.

use std::collections::BTreeSet;

use super::Imports;

/// No file uses itself by way of others.
pub fn no_circle_of_files(imports: &Imports) -> Result<(), String> {
    match imports.circle() {
        Some(circle) => Err(format!("files import each other in a circle:\n{circle}")),
        None => Ok(()),
    }
}

/// In every folder, what stands there imports each other one way only, folders as a whole.
pub fn no_circle_of_folders(imports: &Imports) -> Result<(), String> {
    for folder in imports.folders() {
        let within = imports.within(&folder);
        no_circle_of_files(&within).map_err(|error| format!("in src/{folder}: {error}"))?;
    }
    Ok(())
}

/// What stands in `src` itself imports only what comes earlier in `order`, which names all of it.
pub fn one_way(imports: &Imports, order: &[&str]) -> Result<(), String> {
    let within = imports.within("");
    let (there, listed) = (within.files().collect::<BTreeSet<_>>(), order.iter().copied().collect::<BTreeSet<_>>());
    if there != listed {
        let (new, gone) = (there.difference(&listed), listed.difference(&there));
        return Err(format!("not in the order: {:?}; gone: {:?}", new.collect::<Vec<_>>(), gone.collect::<Vec<_>>()));
    }
    let rank = |unit: &str| order.iter().position(|other| *other == unit);
    let upwards = |(from, to, path): (&str, &str, &str)| {
        (rank(from) < rank(to)).then(|| format!("{from} imports {to}, above it ({path})"))
    };
    let found: Vec<String> = within.pairs().filter_map(upwards).collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// Each of `folders` could be a crate of its own: of `src` it imports only itself and `allowed`.
pub fn stands_alone(imports: &Imports, folders: &[&str], allowed: &[&str]) -> Result<(), String> {
    let within = imports.within("");
    for folder in folders {
        if !within.files().any(|unit| unit == *folder) {
            return Err(format!("{folder} is gone"));
        }
        if let Some((_, to, path)) = within.pairs().find(|(from, to, _)| from == folder && !allowed.contains(to)) {
            return Err(format!("{folder} imports {to} ({path})"));
        }
    }
    Ok(())
}
