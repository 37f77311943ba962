//! What another process reads, as the sources say it: nobody changes it without thinking of the releases that are out there.

use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use ringbridge_dataplane::carry::STATE_VERSION;

/// The version, and what [`carried`] came to when it was given.
const AGREED: (u16, u64) = (1, 0x431f_681d_4b53_bf30);

#[test]
fn the_form_of_the_state_changes_with_its_version() {
    let mut texts = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    texts.sort();
    assert!(texts.len() > 100, "found {} definitions only", texts.len());
    let found = texts
        .iter()
        .flat_map(|text| text.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(
        (STATE_VERSION, found),
        AGREED,
        "what is carried to another process changed: raise `carry::STATE_VERSION` unless both releases read each other's, and put \
         {found:#x} here"
    );
}

/// Reads a folder.
fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            carried(TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())), texts);
        }
    }
}

/// The types that derive serde's traits, with their attributes, and what writes and reads others.
fn carried(tokens: TokenStream, texts: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut attributes, mut derives) = (String::new(), false);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let Some(TokenTree::Group(group)) = tokens.get(at) else { continue };
                let text = flat(group.stream(), true);
                derives |= text.starts_with("derive ") && text.contains("Deserialize");
                if text.starts_with("serde ") {
                    attributes.push_str(&text);
                }
                at += 1;
            }
            TokenTree::Ident(word) if *word == "struct" || *word == "enum" => {
                let end = (at..tokens.len()).find(|at| ends(&tokens[*at])).map_or(tokens.len(), |end| end + 1);
                if derives {
                    let skips = *word == "enum" && skips_in_the_middle(&tokens[at..end]);
                    assert!(
                        !skips,
                        "`enum {}`: serde writes the variants behind a skipped one under other numbers than it reads them; let it be the last",
                        tokens[at]
                    );
                    let definition = tokens[at..end].iter().cloned().collect();
                    texts.push(format!("{attributes} {word} {}", flat(definition, false)));
                }
                (attributes, derives) = (String::new(), false);
                at = end;
            }
            TokenTree::Ident(word) if *word == "fn" => {
                let named = |name: &str| matches!(tokens.get(at), Some(TokenTree::Ident(word)) if *word == *name);
                let end = (at..tokens.len()).find(|at| ends(&tokens[*at])).map_or(tokens.len(), |end| end + 1);
                if ["serialize", "deserialize"].iter().any(|name| named(name)) {
                    texts.push(flat(tokens[at..end].iter().cloned().collect(), false));
                }
                (attributes, derives) = (String::new(), false);
                at = end;
            }
            TokenTree::Group(group) => {
                (attributes, derives) = (String::new(), false);
                carried(group.stream(), texts);
            }
            _ => {}
        }
    }
}

/// Whether a variant of an enum that is left out is followed by others.
fn skips_in_the_middle(definition: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(body)) = definition.last() else { return false };
    let tokens: Vec<TokenTree> = body.stream().into_iter().collect();
    let skips = |token: &TokenTree| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            let text = flat(group.stream(), true);
            text.starts_with("serde ") && text.contains("skip")
        }
        _ => false,
    };
    let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let behind = tokens.iter().position(skips).map(|at| &tokens[at..]).unwrap_or_default();
    behind.iter().position(comma).is_some_and(|end| end + 1 < behind.len())
}

/// Whether a definition ends here: at its fields, or at a semicolon.
fn ends(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

/// Tokens with a space between each two; of attributes only serde's, and `texts` only in those: others are for people.
fn flat(tokens: TokenStream, texts: bool) -> String {
    let mut flattened = String::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let attribute = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        if let Some(TokenTree::Group(group)) = tokens.peek().filter(|_| attribute) {
            let text = flat(group.stream(), true);
            if text.starts_with("serde ") {
                flattened.push_str(&text);
            }
            tokens.next();
            continue;
        }
        match token {
            TokenTree::Group(group) => {
                flattened.push_str(&format!("{:?} {}", group.delimiter(), flat(group.stream(), texts)));
            }
            TokenTree::Literal(literal) if !texts && literal.to_string().starts_with('"') => {}
            other => flattened.push_str(&other.to_string()),
        }
        flattened.push(' ');
    }
    flattened
}
