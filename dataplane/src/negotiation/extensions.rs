//! Header extensions by URI (RFC 8285): what an endpoint's ids mean, and which id it knows a meaning by.

use serde::{Deserialize, Serialize};

use super::ids::UriId;
use super::vocabulary::Names;
use crate::media::{HeaderExtension, MediaKind};
use crate::rtp::Packet;
use crate::rtp::extension::{BlockSize, Extension};

/// Header extensions of one endpoint that are looked at: every id once for audio and once for video.
const MAX_NEGOTIATED: usize = 2 * 255;

/// The ids of one endpoint in one media kind.
#[derive(Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Row {
    by_id: Vec<Option<UriId>>,
    by_uri: Vec<Option<u8>>,
}

/// One endpoint's extension ids, compiled for look-up in both directions.
#[derive(Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExtensionTable {
    rows: [Row; 2],
}

fn row(kind: MediaKind) -> usize {
    match kind {
        MediaKind::Audio => 0,
        MediaKind::Video => 1,
    }
}

impl ExtensionTable {
    /// Compiles what an endpoint negotiated.
    pub fn compile(extensions: &[HeaderExtension], names: &mut Names<'_>) -> Self {
        let mut table = Self::default();
        let (extensions, excess) = extensions.split_at(extensions.len().min(MAX_NEGOTIATED));
        names.refuse_uris(excess.len());
        for e in extensions.iter().filter(|e| e.id != 0) {
            let Some(uri) = names.uri(&e.uri) else { continue };
            let row = &mut table.rows[row(e.kind)];
            put(&mut row.by_id, usize::from(e.id), uri);
            put(&mut row.by_uri, usize::from(uri.number()), e.id);
        }
        table
    }

    /// What the endpoint means by an id.
    #[inline]
    pub fn uri(&self, kind: MediaKind, id: u8) -> Option<UriId> {
        *self.rows[row(kind)].by_id.get(usize::from(id))?
    }

    /// The endpoint's id for a URI.
    #[inline]
    pub fn id(&self, kind: MediaKind, uri: UriId) -> Option<u8> {
        *self.rows[row(kind)].by_uri.get(usize::from(uri.number()))?
    }
}

fn put<T: Clone>(list: &mut Vec<Option<T>>, index: usize, value: T) {
    if list.len() <= index {
        list.resize(index + 1, None);
    }
    if let Some(slot) = list.get_mut(index) {
        *slot = Some(value);
    }
}

/// Most extensions of one packet that are looked at; further ones are dropped.
pub const MAX_EXTENSIONS: usize = 12;
/// Those that are written anew for each receiver: its number or time, the dependency descriptor, the media section.
const WRITTEN_ANEW: usize = 3;

/// One received extension: what it means, and where its value lies in the packet.
#[derive(Debug, Clone, Copy)]
struct Resolved {
    uri: UriId,
    /// The sender's id for it.
    id: u8,
    len: u8,
    start: u16,
}

/// The extensions of one packet, resolved once for all receivers, apart from the packet's bytes.
#[derive(Debug, Clone, Copy)]
pub struct ExtensionLayout {
    list: [Resolved; MAX_EXTENSIONS],
    len: u8,
}

impl ExtensionLayout {
    /// None at all.
    pub const NONE: Self =
        Self { list: [Resolved { uri: UriId::MID, id: 0, len: 0, start: 0 }; MAX_EXTENSIONS], len: 0 };

    /// Resolves a packet's extensions by the sender's table; ids that it did not negotiate are left out.
    #[inline]
    pub fn resolve(packet: &Packet<'_>, kind: MediaKind, table: &ExtensionTable) -> Self {
        let mut all = Self::NONE;
        for e in packet.extensions() {
            if let Some(uri) = table.uri(kind, e.id)
                && let Some(start) = packet.offset_of(e.data)
                && let Some(slot) = all.list.get_mut(usize::from(all.len))
            {
                *slot = Resolved { uri, id: e.id, len: e.data.len() as u8, start: start as u16 };
                all.len += 1;
            }
        }
        all
    }

    #[inline]
    fn as_slice(&self) -> &[Resolved] {
        self.list.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The value of an extension; `bytes` are those of the packet.
    #[inline]
    pub fn get<'a>(&self, uri: UriId, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.as_slice().iter().find(|e| e.uri == uri).and_then(|e| e.value(bytes))
    }
}

impl Resolved {
    #[inline]
    fn value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::from(self.start);
        bytes.get(start..start + usize::from(self.len))
    }
}

/// A packet's extensions together with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedExtensions<'a> {
    layout: &'a ExtensionLayout,
    bytes: &'a [u8],
}

impl<'a> ReceivedExtensions<'a> {
    /// None at all.
    pub const NONE: Self = Self { layout: &ExtensionLayout::NONE, bytes: &[] };

    /// Those at `layout` in the bytes of the packet.
    #[inline]
    pub fn new(layout: &'a ExtensionLayout, bytes: &'a [u8]) -> Self {
        Self { layout, bytes }
    }

    /// The dependency descriptor, which does not pass on as it is.
    #[inline]
    pub fn dependency(&self) -> Option<&'a [u8]> {
        self.layout.get(UriId::DEPENDENCY, self.bytes)
    }
}

/// The extensions of one outgoing packet: received ones under the receiver's ids, and those that are written anew.
#[derive(Debug)]
pub struct OutgoingExtensions<'a> {
    received: ReceivedExtensions<'a>,
    /// The receiver's id for each of the received ones; 0 where it is not given it.
    ids: [u8; MAX_EXTENSIONS],
    anew: [Extension<'a>; WRITTEN_ANEW],
    written: usize,
    size: BlockSize,
}

impl<'a> OutgoingExtensions<'a> {
    /// Those that pass on, under the receiver's ids (the sender's own ids when `translate` is false).
    #[inline(always)]
    pub fn select(
        received: ReceivedExtensions<'a>,
        kind: MediaKind,
        receiver: &ExtensionTable,
        translate: bool,
    ) -> Self {
        let anew = [Extension { id: 0, data: &[] }; WRITTEN_ANEW];
        let mut out = Self { received, ids: [0; MAX_EXTENSIONS], anew, written: 0, size: BlockSize::default() };
        for (e, given) in received.layout.as_slice().iter().zip(&mut out.ids).filter(|(e, _)| e.uri.passes()) {
            let id = if translate { receiver.id(kind, e.uri) } else { Some(e.id) };
            if let Some(id) = id {
                *given = id;
                out.size.add(id, usize::from(e.len));
            }
        }
        out
    }

    /// Adds one that is written anew.
    #[inline]
    pub fn push(&mut self, id: u8, data: &'a [u8]) {
        if let Some(slot) = self.anew.get_mut(self.written) {
            *slot = Extension { id, data };
            self.written += 1;
            self.size.add(id, data.len());
        }
    }

    /// What they take when written.
    #[inline]
    pub fn size(&self) -> BlockSize {
        self.size
    }

    /// All of them.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Extension<'a>> {
        let ReceivedExtensions { layout, bytes } = self.received;
        let given = layout.as_slice().iter().zip(self.ids).filter(|(_, id)| *id != 0);
        let given = given.map(move |(e, id)| Extension { id, data: e.value(bytes).unwrap_or(&[]) });
        given.chain(self.anew.iter().take(self.written).copied())
    }
}
