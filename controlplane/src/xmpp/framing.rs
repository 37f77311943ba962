//! Where one stanza ends and the next begins in the bytes of an XML stream (RFC 6120 section 4.1), without reading what is in it.
//!
//! Finding the end is kept apart from understanding: a stanza that is too large, too deep or not well-formed inside still has
//! an end, so it can be skipped and counted, and the stream goes on behind it.

use super::limits::{MAX_DEPTH, MAX_ELEMENTS, MAX_STANZA, Unfit};

/// A top-level element of the stream, or what is left of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// All of its bytes.
    Whole(Vec<u8>),
    /// It went beyond a bound: its opening tag, as far as that was within the bounds, and the bound.
    Skipped(Vec<u8>, Unfit),
    /// The stream's own closing tag.
    End,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text, or white space between stanzas.
    Text,
    /// The byte after `<`.
    TagStart,
    /// An opening tag; `slash`: the last byte was `/`.
    Open { slash: bool },
    /// A quoted value of an opening tag, up to this quote.
    Quoted(u8),
    /// A closing tag.
    Close,
    /// After `<!`, with how much of `[CDATA[` or `--` was seen.
    Declaration(u8),
    /// Inside a comment or a CDATA section: the byte that is doubled before the final `>`, and how often it was just seen.
    Until { mark: u8, seen: u8 },
    /// A processing instruction; `question`: the last byte was `?`.
    Instruction { question: bool },
}

/// Cuts a stream into frames; see [`Framing::next`].
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// Open elements below the stream's own.
    depth: usize,
    elements: usize,
    bytes: Vec<u8>,
    /// Length of the opening tag of the frame, once it is complete.
    head: Option<usize>,
    unfit: Option<Unfit>,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Text, depth: 0, elements: 0, bytes: Vec::new(), head: None, unfit: None }
    }
}

impl Framing {
    /// Takes bytes from the front of `input` until a frame is complete; `None` when all are taken and none is.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            // White space keeps a stream alive; no other text belongs between stanzas.
            if self.depth == 0 && self.state == State::Text && byte != b'<' {
                continue;
            }
            if self.unfit.is_none() {
                self.bytes.push(byte);
                if self.bytes.len() > MAX_STANZA {
                    self.give_up(Unfit::Bytes);
                }
            }
            if let Some(frame) = self.step(byte) {
                return Some(frame);
            }
        }
        None
    }

    /// Bytes that are held back for a frame that is not complete.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    fn step(&mut self, byte: u8) -> Option<Frame> {
        self.state = match (self.state, byte) {
            (State::Text, b'<') => State::TagStart,
            (State::Text, _) => State::Text,
            (State::TagStart, b'/') => State::Close,
            (State::TagStart, b'?') => State::Instruction { question: false },
            (State::TagStart, b'!') => State::Declaration(0),
            (State::TagStart, _) => {
                self.opened();
                if byte == b'>' { State::Text } else { State::Open { slash: false } }
            }
            (State::Open { slash: true }, b'>') => {
                self.head.get_or_insert(self.bytes.len());
                return self.closed();
            }
            (State::Open { .. }, b'>') => {
                self.head.get_or_insert(self.bytes.len());
                State::Text
            }
            (State::Open { .. }, b'\'' | b'"') => State::Quoted(byte),
            (State::Open { .. }, _) => State::Open { slash: byte == b'/' },
            (State::Quoted(quote), _) if byte == quote => State::Open { slash: false },
            (State::Close, b'>') if self.depth == 0 => {
                *self = Self::default();
                return Some(Frame::End);
            }
            (State::Close, b'>') => return self.closed(),
            (State::Declaration(0), b'-') => State::Declaration(1),
            (State::Declaration(1), b'-') => State::Until { mark: b'-', seen: 0 },
            (State::Declaration(0), b'[') => State::Until { mark: b']', seen: 0 },
            // A declaration of any other kind has no place in a stream; it is passed over up to its end.
            (State::Declaration(_), b'>') => self.aside_ended(),
            (State::Declaration(_), _) => State::Declaration(2),
            (State::Until { seen: 2, .. }, b'>') => self.aside_ended(),
            (State::Until { mark, seen }, _) if byte == mark => State::Until { mark, seen: (seen + 1).min(2) },
            (State::Until { mark, .. }, _) => State::Until { mark, seen: 0 },
            (State::Instruction { question: true }, b'>') => self.aside_ended(),
            (State::Instruction { .. }, _) => State::Instruction { question: byte == b'?' },
            (state @ (State::Quoted(_) | State::Close), _) => state,
        };
        None
    }

    fn opened(&mut self) {
        self.depth = self.depth.saturating_add(1);
        self.elements = self.elements.saturating_add(1);
        if self.depth > MAX_DEPTH {
            self.give_up(Unfit::Depth);
        } else if self.elements > MAX_ELEMENTS {
            self.give_up(Unfit::Elements);
        }
    }

    /// One element is closed; the frame is complete when it was the outermost.
    fn closed(&mut self) -> Option<Frame> {
        self.state = State::Text;
        self.depth -= 1;
        if self.depth > 0 {
            return None;
        }
        let whole = std::mem::take(self);
        Some(match whole.unfit {
            None => Frame::Whole(whole.bytes),
            Some(unfit) => Frame::Skipped(whole.bytes, unfit),
        })
    }

    /// Something that is no element has ended; between stanzas nothing of it is kept.
    fn aside_ended(&mut self) -> State {
        if self.depth == 0 {
            *self = Self::default();
        }
        State::Text
    }

    /// Nothing but the opening tag is kept from here on.
    fn give_up(&mut self, unfit: Unfit) {
        if self.unfit.is_none() {
            self.unfit = Some(unfit);
            self.bytes.truncate(self.head.unwrap_or(0));
            self.bytes.shrink_to_fit();
        }
    }
}
