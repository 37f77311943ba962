//! What a bridge and a keeper say to each other, one frame in one message of the socket:
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | [`VERSION`] |
//! | 1 | what it is |
//! | 4 | whose session it is about, little endian: the endpoint's or the relay's id |
//! | up to [`MAX_PIECE`] | content |

/// Version of the frames; another one is an error.
const VERSION: u8 = 1;
/// Bytes before the content.
const HEAD: usize = 6;
/// Most bytes of content. A datagram is smaller; a message goes in pieces, one right after the other.
const MAX_PIECE: usize = 16 * 1024;
/// Most bytes of a frame.
pub const MAX_FRAME: usize = HEAD + MAX_PIECE;
/// Longest reason, bytes; a longer one is cut.
const MAX_REASON: usize = 256;

/// Flags of a piece of a message.
const LAST: u8 = 1;
const OF_OTHERS: u8 = 2;

/// What the frames are, each way.
mod kind {
    pub const DATAGRAM: u8 = 1;
    pub const TEXT: u8 = 2;
    pub const CLOSE: u8 = 3;
    pub const DROP: u8 = 4;

    pub const DATAGRAM_OUT: u8 = 17;
    pub const TEXT_IN: u8 = 18;
    pub const OPENED: u8 = 19;
    pub const CLOSED: u8 = 20;
    pub const ENDED: u8 = 21;
    pub const COUNTED: u8 = 22;
}

/// Why a frame is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Of another version.
    #[error("a frame has version {0}, and this release reads {VERSION}")]
    Version(u8),
    /// Of no kind that comes this way, or with content that such a one cannot have.
    #[error("a frame of kind {kind} with {length} bytes cannot be read")]
    Content {
        /// What it says to be.
        kind: u8,
        /// Bytes of its content.
        length: usize,
    },
    /// Shorter or longer than any.
    #[error("a frame has {0} bytes")]
    Length(usize),
    /// A piece of one message in the middle of another, or of a message that is too long.
    #[error("a message of session {0} is interrupted or too long")]
    Pieces(u32),
}

/// From the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToKeeper {
    /// The peer sent this datagram.
    Datagram(Vec<u8>),
    /// Send the peer this text, of which this is a piece.
    Text {
        /// It gives way to what waits.
        of_others: bool,
        /// Nothing follows of it.
        last: bool,
        /// Never empty, unless it is all.
        piece: Vec<u8>,
    },
    /// Close the channel.
    Close,
    /// The peer is gone: forget the session.
    Drop,
}

/// From the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromKeeper {
    /// Send the peer this datagram.
    Datagram(Vec<u8>),
    /// The peer sent a text, of which this is a piece.
    Text {
        /// Nothing follows of it.
        last: bool,
        /// As in [`ToKeeper::Text`].
        piece: Vec<u8>,
    },
    /// The peer opened the channel, or opened it anew.
    Opened,
    /// The channel is closed.
    Closed {
        /// Since the peer did not read.
        stalled: bool,
    },
    /// The session is over, and forgotten.
    Ended {
        /// The peer said so (`close_notify`).
        by_peer: bool,
        /// Why.
        reason: String,
    },
    /// The keeper counted something; the session is none.
    Counted {
        /// Which of the channels' counters.
        which: u8,
        /// How often.
        times: u32,
    },
}

fn frame(kind: u8, session: u32, flags: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + flags.len() + content.len());
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&session.to_le_bytes());
    bytes.extend_from_slice(flags);
    bytes.extend_from_slice(content);
    bytes
}

/// Kind, session and content.
fn open(bytes: &[u8]) -> Result<(u8, u32, &[u8]), FrameError> {
    let wrong = FrameError::Length(bytes.len());
    let (&[version, kind, a, b, c, d], content) = bytes.split_first_chunk().ok_or(wrong)?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if content.len() > MAX_PIECE {
        return Err(wrong);
    }
    Ok((kind, u32::from_le_bytes([a, b, c, d]), content))
}

/// The frames of one text, in order.
fn pieces(kind: u8, session: u32, flags: u8, text: &[u8]) -> Vec<Vec<u8>> {
    let mut left = text.chunks(MAX_PIECE - 1).peekable();
    let mut frames = Vec::with_capacity(text.len() / MAX_PIECE + 1);
    while let Some(piece) = left.next() {
        let last = if left.peek().is_none() { LAST } else { 0 };
        frames.push(frame(kind, session, &[flags | last], piece));
    }
    frames
}

/// A datagram fits unless it is none.
fn fits(datagram: &[u8]) -> bool {
    !datagram.is_empty() && datagram.len() <= MAX_PIECE
}

impl ToKeeper {
    /// The frame of a datagram; none of what cannot be one.
    pub(super) fn datagram(session: u32, datagram: &[u8]) -> Option<Vec<u8>> {
        fits(datagram).then(|| frame(kind::DATAGRAM, session, &[], datagram))
    }

    /// The frames of a text.
    pub(super) fn text(session: u32, of_others: bool, text: &[u8]) -> Vec<Vec<u8>> {
        pieces(kind::TEXT, session, if of_others { OF_OTHERS } else { 0 }, text)
    }

    pub(super) fn close(session: u32) -> Vec<u8> {
        frame(kind::CLOSE, session, &[], &[])
    }

    pub(super) fn drop(session: u32) -> Vec<u8> {
        frame(kind::DROP, session, &[], &[])
    }

    /// What a bridge said, and of which session.
    pub fn parse(bytes: &[u8]) -> Result<(u32, Self), FrameError> {
        let (kind, session, content) = open(bytes)?;
        let read = match (kind, content) {
            (kind::DATAGRAM, [_, ..]) => Self::Datagram(content.to_vec()),
            (kind::TEXT, [flags @ 0..=3, piece @ ..]) if !piece.is_empty() => {
                let (of_others, last) = (flags & OF_OTHERS != 0, flags & LAST != 0);
                Self::Text { of_others, last, piece: piece.to_vec() }
            }
            (kind::CLOSE, []) => Self::Close,
            (kind::DROP, []) => Self::Drop,
            _ => return Err(FrameError::Content { kind, length: content.len() }),
        };
        Ok((session, read))
    }
}

impl FromKeeper {
    pub(super) fn datagram(session: u32, datagram: &[u8]) -> Option<Vec<u8>> {
        fits(datagram).then(|| frame(kind::DATAGRAM_OUT, session, &[], datagram))
    }

    pub(super) fn text(session: u32, text: &[u8]) -> Vec<Vec<u8>> {
        pieces(kind::TEXT_IN, session, 0, text)
    }

    pub(super) fn opened(session: u32) -> Vec<u8> {
        frame(kind::OPENED, session, &[], &[])
    }

    pub(super) fn closed(session: u32, stalled: bool) -> Vec<u8> {
        frame(kind::CLOSED, session, &[u8::from(stalled)], &[])
    }

    pub(super) fn ended(session: u32, by_peer: bool, reason: &str) -> Vec<u8> {
        let end = (0..=MAX_REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        frame(kind::ENDED, session, &[u8::from(by_peer)], &reason.as_bytes()[..end])
    }

    pub(super) fn counted(which: u8, times: u32) -> Vec<u8> {
        frame(kind::COUNTED, 0, &[which], &times.to_le_bytes())
    }

    /// What a keeper said, and of which session.
    pub fn parse(bytes: &[u8]) -> Result<(u32, Self), FrameError> {
        let (kind, session, content) = open(bytes)?;
        let wrong = FrameError::Content { kind, length: content.len() };
        let read = match (kind, content) {
            (kind::DATAGRAM_OUT, [_, ..]) => Self::Datagram(content.to_vec()),
            (kind::TEXT_IN, [flags @ 0..=LAST, piece @ ..]) if !piece.is_empty() => {
                Self::Text { last: *flags == LAST, piece: piece.to_vec() }
            }
            (kind::OPENED, []) => Self::Opened,
            (kind::CLOSED, [stalled @ 0..=1]) => Self::Closed { stalled: *stalled == 1 },
            (kind::ENDED, [by_peer @ 0..=1, reason @ ..]) if reason.len() <= MAX_REASON => {
                let reason = std::str::from_utf8(reason).map_err(|_| wrong)?;
                Self::Ended { by_peer: *by_peer == 1, reason: reason.to_owned() }
            }
            (kind::COUNTED, &[which, a, b, c, d]) => Self::Counted { which, times: u32::from_le_bytes([a, b, c, d]) },
            _ => return Err(wrong),
        };
        Ok((session, read))
    }
}

/// A message that is not whole: whose it is, whether it is of others, and what there is of it.
pub type Partial = Option<(u32, bool, Vec<u8>)>;

/// Puts messages together.
#[derive(Debug)]
pub struct Assembly {
    partial: Partial,
    most: usize,
}

impl Assembly {
    /// Of messages of so many bytes at most.
    pub fn new(most: usize) -> Self {
        Self { partial: None, most }
    }

    /// Goes on with what another process had; nothing when that cannot be.
    pub fn from_partial(partial: Partial, most: usize) -> Option<Self> {
        partial.as_ref().is_none_or(|(_, _, bytes)| bytes.len() <= most).then_some(Self { partial, most })
    }

    /// What there is of a message.
    pub fn partial(&self) -> &Partial {
        &self.partial
    }

    /// Takes a piece; the message, when it is whole, and whether it is of others.
    pub fn add(
        &mut self,
        session: u32,
        (of_others, last): (bool, bool),
        mut piece: Vec<u8>,
    ) -> Result<Option<(bool, Vec<u8>)>, FrameError> {
        let wrong = FrameError::Pieces(session);
        let bytes = match self.partial.take() {
            None => piece,
            Some((whose, whether, mut bytes)) if (whose, whether) == (session, of_others) => {
                bytes.append(&mut piece);
                bytes
            }
            Some(_) => return Err(wrong),
        };
        if bytes.len() > self.most {
            return Err(wrong);
        }
        if last {
            return Ok(Some((of_others, bytes)));
        }
        self.partial = Some((session, of_others, bytes));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each kind, the first two from the bridge.
    fn some() -> Vec<Vec<u8>> {
        let mut frames = vec![ToKeeper::datagram(7, &[22; 1200]).expect("fits"), ToKeeper::close(7), ToKeeper::drop(7)];
        frames.extend(ToKeeper::text(7, true, &[b'x'; 3 * MAX_PIECE]));
        frames.push(FromKeeper::datagram(7, &[23]).expect("fits"));
        frames.extend(FromKeeper::text(7, b"{}"));
        frames.extend([FromKeeper::opened(7), FromKeeper::closed(7, true), FromKeeper::ended(7, false, "é")]);
        frames.push(FromKeeper::counted(3, 70_000));
        frames
    }

    #[test]
    fn each_frame_is_read_by_the_end_that_it_is_for() {
        for bytes in some() {
            assert!(bytes.len() <= MAX_FRAME);
            let (to, from) = (ToKeeper::parse(&bytes), FromKeeper::parse(&bytes));
            assert!(to.is_ok() != from.is_ok(), "{to:?} {from:?}");
        }
        let long = "ü".repeat(MAX_REASON);
        let Ok((9, FromKeeper::Ended { by_peer: true, reason })) =
            FromKeeper::parse(&FromKeeper::ended(9, true, &long))
        else {
            panic!("it is read")
        };
        assert_eq!(reason.len(), MAX_REASON);
        assert_eq!((ToKeeper::datagram(1, &[]), ToKeeper::datagram(1, &[0; MAX_PIECE + 1])), (None, None));
    }

    #[test]
    fn a_text_of_any_length_is_put_together_again() {
        for length in [1, 2, MAX_PIECE - 2, MAX_PIECE - 1, MAX_PIECE, 2 * MAX_PIECE - 2, 2 * MAX_PIECE - 1, 256 * 1024]
        {
            let text: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut assembly = Assembly::new(256 * 1024);
            let mut whole = None;
            for frame in ToKeeper::text(3, false, &text) {
                assert_eq!(whole, None, "something follows what was the last");
                let Ok((3, ToKeeper::Text { of_others, last, piece })) = ToKeeper::parse(&frame) else {
                    panic!("a text")
                };
                whole = assembly.add(3, (of_others, last), piece).expect("fits");
            }
            assert!(whole == Some((false, text)), "{length}");
        }
        assert!(ToKeeper::text(3, false, b"").is_empty(), "an empty text is no message of the channel");
    }

    #[test]
    fn pieces_that_do_not_belong_together_are_refused() {
        let begun = || {
            let mut assembly = Assembly::new(10);
            assert_eq!(assembly.add(1, (false, false), vec![1; 6]), Ok(None));
            assembly
        };
        assert_eq!(begun().add(2, (false, true), vec![1]), Err(FrameError::Pieces(2)));
        assert_eq!(begun().add(1, (true, true), vec![1]), Err(FrameError::Pieces(1)));
        assert_eq!(begun().add(1, (false, true), vec![1; 5]), Err(FrameError::Pieces(1)));
        assert_eq!(begun().add(1, (false, true), vec![1; 4]), Ok(Some((false, vec![1; 10]))));
        let carried = begun().partial().clone();
        assert!(Assembly::from_partial(carried.clone(), 5).is_none());
        let mut carried = Assembly::from_partial(carried, 10).expect("fits");
        assert_eq!(carried.add(1, (false, true), vec![2]), Ok(Some((false, vec![1, 1, 1, 1, 1, 1, 2]))));
    }

    proptest! {
        #[test]
        fn frames_that_were_changed_are_refused_or_small(which in 0..13usize, at in any::<prop::sample::Index>(), to: u8, cut: bool) {
            let frames = some();
            let mut bytes = frames[which % frames.len()].clone();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = to }
            for read in [ToKeeper::parse(&bytes).map(|(_, read)| format!("{read:?}")), FromKeeper::parse(&bytes).map(|(_, read)| format!("{read:?}"))] {
                if read.is_ok() {
                    prop_assert!(bytes.len() <= MAX_FRAME && bytes[0] == VERSION);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (ToKeeper::parse(&bytes), FromKeeper::parse(&bytes));
        }
    }
}
