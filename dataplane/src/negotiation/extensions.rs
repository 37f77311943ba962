//! Header extensions by URI (RFC 8285): what an endpoint's ids mean, and which id it knows a meaning by.

use super::ids::UriId;
use super::vocabulary::Names;
use crate::media::{HeaderExtension, MediaKind};
use crate::rtp::{Extension, Packet};

/// Header extensions of one endpoint that are looked at: every id once for audio and once for video.
const MAX_NEGOTIATED: usize = 2 * 255;

/// The ids of one endpoint in one media kind.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Row {
    by_id: Vec<Option<UriId>>,
    by_uri: Vec<Option<u8>>,
}

/// One endpoint's extension ids, compiled for look-up in both directions.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
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
        names.uris_refused += excess.len() as u64;
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

/// One received extension: where its value lies in the packet, and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its meaning.
    pub uri: UriId,
    /// The sender's id for it.
    pub id: u8,
    /// Its value.
    pub data: &'a [u8],
}

/// The extensions of one packet, resolved once for all receivers.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedExtensions<'a> {
    list: [Received<'a>; MAX_EXTENSIONS],
    len: usize,
}

impl<'a> ReceivedExtensions<'a> {
    /// None at all.
    pub const NONE: Self = Self { list: [Received { uri: UriId::MID, id: 0, data: &[] }; MAX_EXTENSIONS], len: 0 };

    /// Resolves a packet's extensions by the sender's table; ids that it did not negotiate are left out.
    pub fn resolve(packet: &Packet<'a>, kind: MediaKind, table: &ExtensionTable) -> Self {
        let mut all = Self::NONE;
        for e in packet.extensions() {
            if let Some(uri) = table.uri(kind, e.id)
                && let Some(slot) = all.list.get_mut(all.len)
            {
                *slot = Received { uri, id: e.id, data: e.data };
                all.len += 1;
            }
        }
        all
    }

    fn iter(&self) -> impl Iterator<Item = &Received<'a>> {
        self.list.iter().take(self.len)
    }

    /// The value of an extension.
    pub fn get(&self, uri: UriId) -> Option<&'a [u8]> {
        self.iter().find(|e| e.uri == uri).map(|e| e.data)
    }
}

/// The extensions of one outgoing packet.
#[derive(Debug)]
pub struct OutgoingExtensions<'a> {
    list: [Extension<'a>; MAX_EXTENSIONS + WRITTEN_ANEW],
    len: usize,
}

impl<'a> OutgoingExtensions<'a> {
    /// Those that pass on, under the receiver's ids (the sender's own ids when `translate` is false).
    pub fn select(
        received: &ReceivedExtensions<'a>,
        kind: MediaKind,
        receiver: &ExtensionTable,
        translate: bool,
    ) -> Self {
        let mut out = Self { list: [Extension { id: 0, data: &[] }; MAX_EXTENSIONS + WRITTEN_ANEW], len: 0 };
        for e in received.iter().filter(|e| e.uri.passes()) {
            let id = if translate { receiver.id(kind, e.uri) } else { Some(e.id) };
            if let Some(id) = id {
                out.push(id, e.data);
            }
        }
        out
    }

    /// Adds one.
    pub fn push(&mut self, id: u8, data: &'a [u8]) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = Extension { id, data };
            self.len += 1;
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Extension<'a>] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}
