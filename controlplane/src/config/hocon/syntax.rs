//! The characters of HOCON: white space, comments, quoted and unquoted texts.

use super::error::HoconError;

/// Reads a text from the front, character by character.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

/// White space of HOCON, line feeds excepted, which separate.
fn is_space(c: char) -> bool {
    c != '\n' && (c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}' | '\u{feff}'))
}

/// Characters that an unquoted text cannot have.
fn is_forbidden(c: char) -> bool {
    "$\"{}[]:=,+#`^?!@*&\\".contains(c)
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The line that it is in, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    pub fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub fn starts_with(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    pub fn error(&self, reason: impl Into<String>) -> HoconError {
        HoconError::new(self.line, reason)
    }

    /// Takes one character.
    pub fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    /// Takes `text` if it comes next.
    pub fn take(&mut self, text: &str) -> bool {
        let here = self.rest.starts_with(text);
        if here {
            for _ in text.chars() {
                self.next();
            }
        }
        here
    }

    /// Takes white space within a line, and gives it back.
    pub fn space(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_space(c)).unwrap_or(self.rest.len());
        let (space, rest) = self.rest.split_at(end);
        self.rest = rest;
        space
    }

    fn at_comment(&self) -> bool {
        self.starts_with("#") || self.starts_with("//")
    }

    /// Takes a comment up to the end of its line.
    fn comment(&mut self) {
        if self.at_comment() {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    /// Takes white space, comments and line feeds; whether there was a line feed.
    pub fn blank(&mut self) -> bool {
        let mut lines = false;
        loop {
            self.space();
            self.comment();
            if !self.take("\n") {
                return lines;
            }
            lines = true;
        }
    }

    /// Whether the value or key ends here: at a separator, a bracket, a comment or the end.
    pub fn at_end_of_value(&self) -> bool {
        self.at_comment() || self.peek().is_none_or(|c| matches!(c, '\n' | ',' | '}' | ']'))
    }

    /// A character that no key or value can have without quotes, if one comes next.
    pub fn forbidden(&self) -> Option<char> {
        self.peek().filter(|c| is_forbidden(*c) && !"{}[],\"".contains(*c))
    }

    /// An unquoted text up to white space or a character that it cannot have.
    pub fn unquoted(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let mut end = self.rest.len();
        for (index, c) in self.rest.char_indices() {
            if c == '\n' || is_space(c) || is_forbidden(c) || stop(c) || self.rest[index..].starts_with("//") {
                end = index;
                break;
            }
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text
    }

    /// A text in quotes, `"..."` or `"""..."""`; the opening quote comes next.
    pub fn quoted(&mut self) -> Result<String, HoconError> {
        if self.take("\"\"\"") {
            return self.tripled();
        }
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some('\n') => {
                    return Err(HoconError::new(self.line - 1, "a text in double quotes does not end on its line"));
                }
                None => return Err(self.error("a text in double quotes does not end")),
                Some(c) => text.push(c),
            }
        }
    }

    /// The rest of a text in triple quotes: nothing in it is special, and more quotes at its end belong to it.
    fn tripled(&mut self) -> Result<String, HoconError> {
        let start = self.line;
        let Some(end) = self.rest.find("\"\"\"") else {
            return Err(HoconError::new(start, "a text in triple quotes does not end"));
        };
        let more = self.rest[end + 3..].len() - self.rest[end + 3..].trim_start_matches('"').len();
        let (text, rest) = self.rest.split_at(end + more);
        self.line += text.matches('\n').count();
        self.rest = &rest[3..];
        Ok(text.to_owned())
    }

    fn escape(&mut self) -> Result<char, HoconError> {
        Ok(match self.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let high = self.hexadecimal()?;
                let units = if (0xd800..0xdc00).contains(&high) && self.take("\\u") {
                    vec![high, self.hexadecimal()?]
                } else {
                    vec![high]
                };
                let mut characters = char::decode_utf16(units);
                match (characters.next(), characters.next()) {
                    (Some(Ok(c)), None) => c,
                    _ => return Err(self.error("\\u gives half of a character")),
                }
            }
            _ => return Err(self.error("a backslash in double quotes needs one of \" \\ / b f n r t u behind it")),
        })
    }

    fn hexadecimal(&mut self) -> Result<u16, HoconError> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let Some(unit) = unit else { return Err(self.error("\\u needs four hexadecimal digits")) };
        self.rest = &self.rest[4..];
        Ok(unit)
    }
}
