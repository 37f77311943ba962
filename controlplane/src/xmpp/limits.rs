//! What one stanza may hold.

/// Largest stanza, bytes. Prosody takes 256 KiB from clients and 512 KiB from servers; escaping makes them longer on the way.
pub const MAX_STANZA: usize = 1 << 20;
/// Deepest nesting of a stanza, the stanza itself being 1. Elements are read, converted and dropped by recursion.
pub const MAX_DEPTH: usize = 64;
/// Most elements of a stanza. The largest that is known, an offer for 500 participants, has about 20,000.
pub const MAX_ELEMENTS: usize = 32_768;

/// Why a top-level element was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// More than [`MAX_STANZA`] bytes.
    Bytes,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// More than [`MAX_ELEMENTS`] elements.
    Elements,
    /// Not well-formed.
    Malformed,
}

impl Unfit {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Bytes, Self::Depth, Self::Elements, Self::Malformed];

    /// The label that metrics and logs use.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Depth => "depth",
            Self::Elements => "elements",
            Self::Malformed => "malformed",
        }
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes => write!(f, "the stanza has more than {MAX_STANZA} bytes"),
            Self::Depth => write!(f, "the stanza nests deeper than {MAX_DEPTH} elements"),
            Self::Elements => write!(f, "the stanza has more than {MAX_ELEMENTS} elements"),
            Self::Malformed => f.write_str("the stanza is not well-formed XML"),
        }
    }
}
