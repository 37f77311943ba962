//! Text to tree.

use super::error::HoconError;
use super::include::{Include, Included, Source};
use super::limits::{MAX_DEPTH, MAX_INCLUDE_DEPTH};
use super::syntax::Cursor;
use super::tree::{Node, Object, Path, Substitution};

type Includer<'a> = &'a mut dyn FnMut(&Include) -> Result<Option<Included>, String>;

/// Reads a whole file.
pub(super) fn parse(text: &str, include: Includer<'_>, depth: usize) -> Result<Object, HoconError> {
    parse_file(text, None, include, depth)
}

fn parse_file(text: &str, name: Option<&str>, include: Includer<'_>, depth: usize) -> Result<Object, HoconError> {
    let mut parser = Parser { cursor: Cursor::new(text), name, include, include_depth: depth, depth: 0 };
    parser.file().map_err(|error| HoconError { file: error.file.or(name.map(str::to_owned)), ..error })
}

struct Parser<'a, 'b> {
    cursor: Cursor<'a>,
    name: Option<&'a str>,
    include: Includer<'b>,
    include_depth: usize,
    depth: usize,
}

impl Parser<'_, '_> {
    fn file(&mut self) -> Result<Object, HoconError> {
        self.cursor.blank();
        let braces = self.cursor.take("{");
        if self.cursor.starts_with("[") {
            return Err(self.cursor.error("a configuration is an object, not a list; begin with a key"));
        }
        let object = self.fields(braces, &[])?;
        self.cursor.blank();
        match self.cursor.peek() {
            None => Ok(object),
            Some(_) => Err(self.cursor.error("a bracket is closed that was not opened")),
        }
    }

    /// Fields up to the closing brace, which is taken, or up to the end of the file.
    fn fields(&mut self, braces: bool, place: &[String]) -> Result<Object, HoconError> {
        let opened = self.cursor.line();
        let mut object = Object::default();
        // A comma stands between fields, or after the last one, alone.
        let mut comma = true;
        loop {
            let line_feed = self.cursor.blank();
            match self.cursor.peek() {
                None if braces => return Err(HoconError::new(opened, "the \"}\" to a \"{\" of this line is missing")),
                None => return Ok(object),
                Some('}') if braces => {
                    self.cursor.next();
                    return Ok(object);
                }
                Some('}' | ']') => return Err(self.cursor.error("a bracket is closed that was not opened")),
                Some(',') if comma => return Err(self.cursor.error("a comma has nothing before it; remove it")),
                Some(',') => {
                    self.cursor.next();
                    comma = true;
                }
                Some(_) if !comma && !line_feed => {
                    return Err(self.cursor.error("two settings on one line need a comma between them"));
                }
                Some(_) => {
                    self.field(&mut object, place)?;
                    comma = false;
                }
            }
        }
    }

    fn field(&mut self, object: &mut Object, place: &[String]) -> Result<(), HoconError> {
        let line = self.cursor.line();
        if let Some(included) = self.include(place)? {
            object.merge(included);
            return Ok(());
        }
        let path = self.path("a key", |c| matches!(c, ':' | '=' | '{' | '+'))?;
        self.cursor.blank();
        let here = [place, &path].concat();
        if self.cursor.take("+=") {
            self.cursor.blank();
            let item = self.value(&here)?.ok_or_else(|| self.cursor.error("the value behind += is missing"))?;
            let so_far = self.refer(here, true, false, line);
            object.set(&path, Node::Concatenation(vec![so_far, Node::List(vec![item])]));
            return Ok(());
        }
        if self.cursor.take("=") || self.cursor.take(":") {
            self.cursor.blank();
        } else if let Some(c) = self.cursor.forbidden() {
            return Err(HoconError::new(line, format!("{c:?} cannot stand in a key without double quotes")));
        } else if self.cursor.peek() != Some('{') {
            return Err(HoconError::new(line, "a key needs \"=\", \":\" or \"{\" behind it"));
        }
        let Some(value) = self.value(&here)? else {
            return Err(HoconError::new(line, "a key has no value; write \"\" for an empty text, or null"));
        };
        object.set(&path, value);
        Ok(())
    }

    /// A path: texts with dots between them. Ends at white space or where `stop` says.
    fn path(&mut self, what: &str, stop: impl Fn(char) -> bool) -> Result<Path, HoconError> {
        let mut path = vec![String::new()];
        // Whether the last element has anything in it: `""` is an element, nothing is none.
        let mut given = false;
        let mut space = "";
        loop {
            match self.cursor.peek() {
                Some('"') => {
                    let text = self.cursor.quoted()?;
                    if let Some(last) = path.last_mut() {
                        if given {
                            last.push_str(space);
                        }
                        last.push_str(&text);
                    }
                    given = true;
                }
                Some('.') => {
                    if !given {
                        return Err(self.cursor.error(format!("{what} has a dot with nothing before it")));
                    }
                    self.cursor.next();
                    path.push(String::new());
                    given = false;
                }
                _ => {
                    let text = self.cursor.unquoted(|c| c == '.' || stop(c));
                    if text.is_empty() {
                        break;
                    }
                    if let Some(last) = path.last_mut() {
                        if given {
                            last.push_str(space);
                        }
                        last.push_str(text);
                    }
                    given = true;
                }
            }
            space = self.cursor.space();
        }
        if path.len() > MAX_DEPTH {
            return Err(self.cursor.error(format!("{what} has more than {MAX_DEPTH} parts")));
        }
        match given {
            true => Ok(path),
            false if path.len() > 1 => Err(self.cursor.error(format!("{what} ends with a dot"))),
            false => Err(match self.cursor.peek() {
                Some(c) if !stop(c) => self.cursor.error(format!("{c:?} cannot stand in {what} without double quotes")),
                _ => self.cursor.error(format!("{what} is missing")),
            }),
        }
    }

    /// A value up to the end of its line, a comma or a closing bracket; `None` when there is none.
    fn value(&mut self, place: &[String]) -> Result<Option<Node>, HoconError> {
        let mut parts: Vec<Node> = Vec::new();
        loop {
            let space = self.cursor.space();
            if self.cursor.at_end_of_value() {
                break;
            }
            if !parts.is_empty() && !space.is_empty() {
                parts.push(Node::Text { text: space.to_owned(), quoted: false });
            }
            let part = match self.cursor.peek() {
                Some('"') => Node::Text { text: self.cursor.quoted()?, quoted: true },
                Some('{') => {
                    self.enter()?;
                    self.cursor.next();
                    let object = self.fields(true, place)?;
                    self.depth -= 1;
                    Node::Object(object)
                }
                Some('[') => self.list(place)?,
                Some('$') => self.substitution()?,
                _ => {
                    let text = self.cursor.unquoted(|_| false);
                    if text.is_empty() {
                        let c = self.cursor.peek().unwrap_or(' ');
                        return Err(self.cursor.error(format!(
                            "{c:?} cannot stand in a value without double quotes; put the whole value in double quotes"
                        )));
                    }
                    Node::Text { text: text.to_owned(), quoted: false }
                }
            };
            parts.push(part);
        }
        let line = self.cursor.line();
        Ok(match parts.len() {
            0 => None,
            1 => match parts.remove(0) {
                Node::Text { text, quoted: false } if text == "null" => Some(Node::Null),
                part => Some(part),
            },
            _ => {
                check_concatenation(&parts).map_err(|reason| HoconError::new(line, reason))?;
                Some(Node::Concatenation(parts))
            }
        })
    }

    fn enter(&mut self) -> Result<(), HoconError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.cursor.error(format!("brackets are nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn list(&mut self, place: &[String]) -> Result<Node, HoconError> {
        let opened = self.cursor.line();
        self.enter()?;
        self.cursor.next();
        let mut items = Vec::new();
        let mut comma = true;
        loop {
            let line_feed = self.cursor.blank();
            match self.cursor.peek() {
                None => return Err(HoconError::new(opened, "the \"]\" to a \"[\" of this line is missing")),
                Some(']') => {
                    self.cursor.next();
                    self.depth -= 1;
                    return Ok(Node::List(items));
                }
                Some(',') if comma => return Err(self.cursor.error("a comma has nothing before it; remove it")),
                Some(',') => {
                    self.cursor.next();
                    comma = true;
                }
                Some('}') => return Err(self.cursor.error("a \"}\" closes a \"[\"")),
                Some(_) if !comma && !line_feed => {
                    return Err(self.cursor.error("two items on one line need a comma between them"));
                }
                Some(_) => {
                    items.extend(self.value(place)?);
                    comma = false;
                }
            }
        }
    }

    fn substitution(&mut self) -> Result<Node, HoconError> {
        let line = self.cursor.line();
        if !self.cursor.take("${") {
            return Err(self.cursor.error("'$' cannot stand in a value without double quotes"));
        }
        let optional = self.cursor.take("?");
        self.cursor.space();
        let path = self.path("the path of a ${...}", |c| matches!(c, '}' | '[' | '{' | '=' | ':'))?;
        let list = self.cursor.take("[]");
        self.cursor.space();
        if !self.cursor.take("}") {
            return Err(HoconError::new(line, "a ${ has no } on its line"));
        }
        Ok(self.refer(path, optional, list, line))
    }

    fn refer(&self, path: Path, optional: bool, list: bool, line: usize) -> Node {
        let file = self.name.map(str::to_owned);
        Node::Substitution(Substitution { path, optional, list, prefix: Vec::new(), line, file })
    }

    /// What an `include` brings, if one comes next.
    fn include(&mut self, place: &[String]) -> Result<Option<Object>, HoconError> {
        let mut ahead = Cursor::new("");
        std::mem::swap(&mut ahead, &mut self.cursor);
        let (taken, found) = include_statement(ahead);
        self.cursor = taken;
        let Some((required, from, name)) = found? else { return Ok(None) };
        let line = self.cursor.line();
        if self.include_depth >= MAX_INCLUDE_DEPTH {
            return Err(HoconError::new(
                line,
                format!("{name:?}: files include each other deeper than {MAX_INCLUDE_DEPTH}"),
            ));
        }
        let asked = Include { from, name: name.clone(), asked_by: self.name.map(str::to_owned) };
        let found =
            (self.include)(&asked).map_err(|reason| HoconError::new(line, format!("include {name:?}: {reason}")))?;
        match found {
            Some(Included { name, text }) => {
                let mut object = parse_file(&text, Some(&name), self.include, self.include_depth + 1)?;
                object.included_at(place);
                Ok(Some(object))
            }
            // A file that need not exist, as the image's own custom-jvb.conf.
            None if !required => Ok(Some(Object::default())),
            None => Err(HoconError::new(
                line,
                format!(
                    "include required({name:?}): there is no such file; create it, or write include {name:?} if it need not exist"
                ),
            )),
        }
    }
}

type Statement = Option<(bool, Source, String)>;

/// Reads an `include` statement from the front; gives the cursor back behind it, or where it was if there is none.
fn include_statement(cursor: Cursor<'_>) -> (Cursor<'_>, Result<Statement, HoconError>) {
    let mut ahead = cursor.clone();
    let mut read = || -> Result<Statement, HoconError> {
        if !ahead.take("include") || ahead.space().is_empty() {
            return Ok(None);
        }
        let required = ahead.take("required(");
        if required {
            ahead.space();
        }
        let kinds = [("file(", Source::File), ("classpath(", Source::Classpath), ("url(", Source::Url)];
        let kind = kinds.into_iter().find(|(word, _)| ahead.take(word)).map(|(_, source)| source);
        if kind.is_some() {
            ahead.space();
        }
        if ahead.peek() != Some('"') {
            // A key that begins with this word.
            return if required || kind.is_some() {
                Err(ahead.error("include needs the name of a file in double quotes"))
            } else {
                Ok(None)
            };
        }
        let name = ahead.quoted()?;
        for _ in 0..usize::from(required) + usize::from(kind.is_some()) {
            ahead.space();
            if !ahead.take(")") {
                return Err(ahead.error("the \")\" of an include is missing"));
            }
        }
        Ok(Some((required, kind.unwrap_or(Source::File), name)))
    };
    match read() {
        Ok(None) => (cursor, Ok(None)),
        result => (ahead, result),
    }
}

/// Texts, lists and objects do not go together; substitutions are looked at when they are filled in.
fn check_concatenation(parts: &[Node]) -> Result<(), String> {
    let kind = |part: &Node| match part {
        Node::List(_) => Some("a list"),
        Node::Object(_) => Some("an object"),
        Node::Substitution(_) => None,
        part if part.is_space() => None,
        _ => Some("a text"),
    };
    let mut kinds = parts.iter().filter_map(kind);
    let Some(first) = kinds.next() else { return Ok(()) };
    match kinds.find(|kind| *kind != first) {
        Some(other) => Err(format!("{first} and {other} stand side by side; a line feed or a comma is missing")),
        None => Ok(()),
    }
}
