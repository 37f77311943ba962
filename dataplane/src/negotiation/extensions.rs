//! Header extensions by URI (RFC 8285): what an endpoint's ids mean, and which id it knows a meaning by.

use serde::{Deserialize, Serialize};

use super::ids::UriId;
use super::vocabulary::Names;
use crate::media::{HeaderExtension, MediaKind};
use crate::rtp::{Extension, Packet};

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
    len: usize,
}

impl ExtensionLayout {
    /// Resolves a packet's extensions by the sender's table; ids that it did not negotiate are left out.
    #[inline]
    pub fn resolve(packet: &Packet<'_>, kind: MediaKind, table: &ExtensionTable) -> Self {
        let nothing = Resolved { uri: UriId::MID, id: 0, len: 0, start: 0 };
        let mut all = Self { list: [nothing; MAX_EXTENSIONS], len: 0 };
        for e in packet.extensions() {
            if let Some(uri) = table.uri(kind, e.id)
                && let Some(start) = packet.offset_of(e.data)
                && let Some(slot) = all.list.get_mut(all.len)
            {
                *slot = Resolved { uri, id: e.id, len: e.data.len() as u8, start: start as u16 };
                all.len += 1;
            }
        }
        all
    }

    fn iter(&self) -> impl Iterator<Item = &Resolved> {
        self.list.iter().take(self.len)
    }

    /// The value of an extension; `bytes` are those of the packet.
    #[inline]
    pub fn get<'a>(&self, uri: UriId, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.iter().find(|e| e.uri == uri).and_then(|e| e.value(bytes))
    }

    /// What receivers may be given of them; `bytes` are those of the packet.
    #[inline]
    pub fn view<'a>(&self, bytes: &'a [u8]) -> ReceivedExtensions<'a> {
        let mut view = ReceivedExtensions::NONE;
        for e in self.iter() {
            let Some(data) = e.value(bytes) else { continue };
            if e.uri == UriId::DEPENDENCY {
                view.dependency = view.dependency.or(Some(data));
            } else if e.uri.passes()
                && let Some(slot) = view.list.get_mut(view.len)
            {
                *slot = Received { uri: e.uri, id: e.id, data };
                view.len += 1;
            }
        }
        view
    }
}

impl Resolved {
    #[inline]
    fn value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::from(self.start);
        bytes.get(start..start + usize::from(self.len))
    }
}

/// One extension that passes on.
#[derive(Debug, Clone, Copy)]
struct Received<'a> {
    uri: UriId,
    /// The sender's id for it.
    id: u8,
    data: &'a [u8],
}

/// What receivers may be given of a packet's extensions, with the values.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedExtensions<'a> {
    list: [Received<'a>; MAX_EXTENSIONS],
    len: usize,
    dependency: Option<&'a [u8]>,
}

impl<'a> ReceivedExtensions<'a> {
    /// None at all.
    pub const NONE: Self =
        Self { list: [Received { uri: UriId::MID, id: 0, data: &[] }; MAX_EXTENSIONS], len: 0, dependency: None };

    /// The dependency descriptor, which does not pass on as it is.
    #[inline]
    pub fn dependency(&self) -> Option<&'a [u8]> {
        self.dependency
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
        for e in received.list.iter().take(received.len) {
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
