//! What must hold of a crate's imports. Each rule is an error that names what breaks it.

use std::collections::BTreeSet;

use super::Imports;

/// No file uses itself by way of others. `known` holds uses that are known to close a circle: each must still do so.
pub fn no_circle_of_files(imports: &Imports, known: &[(&str, &str)]) -> Result<(), String> {
    for (from, to) in known {
        if !imports.pairs().any(|(f, t, _)| (f, t) == (*from, *to)) || !imports.reaches(to, from) {
            return Err(format!("{from} to {to} closes no circle any more: take it from the list of known ones"));
        }
    }
    match imports.without(known).circle() {
        Some(circle) => Err(format!("files import each other in a circle:\n{circle}")),
        None => Ok(()),
    }
}

/// In every folder, what stands there imports each other one way only, folders as a whole. `known` likewise, as folder, user
/// and used.
pub fn no_circle_of_folders(imports: &Imports, known: &[(&str, &str, &str)]) -> Result<(), String> {
    for folder in imports.folders() {
        let within = imports.within(&folder);
        let known: Vec<_> = known.iter().filter(|(of, ..)| *of == folder).map(|(_, from, to)| (*from, *to)).collect();
        no_circle_of_files(&within, &known).map_err(|error| format!("in src/{folder}: {error}"))?;
    }
    Ok(())
}

/// What stands in `src` itself imports only what comes earlier in `order`, which names all of it.
pub fn one_way(imports: &Imports, order: &[&str], known: &[(&str, &str)]) -> Result<(), String> {
    let within = imports.within("");
    let (there, listed) = (within.files().collect::<BTreeSet<_>>(), order.iter().copied().collect::<BTreeSet<_>>());
    if there != listed {
        let (new, gone) = (there.difference(&listed), listed.difference(&there));
        return Err(format!("not in the order: {:?}; gone: {:?}", new.collect::<Vec<_>>(), gone.collect::<Vec<_>>()));
    }
    for pair in known {
        if !within.pairs().any(|(from, to, _)| (from, to) == *pair) {
            return Err(format!("{} does not import {} any more: take it from the list of known ones", pair.0, pair.1));
        }
    }
    let rank = |unit: &str| order.iter().position(|other| *other == unit);
    let upwards = |(from, to, path): (&str, &str, &str)| {
        (rank(from) < rank(to) && !known.contains(&(from, to)))
            .then(|| format!("{from} imports {to}, above it ({path})"))
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
