//! A received packet: parsed once, for all receivers, and kept until its batch goes to them.
//!
//! [`payload`] reads the codec's descriptor into a [`frame`] and a [`picture`], in terms that all codecs share; with its number
//! in its stream that is the packet's [`info`], by which receivers decide. It waits in the [`batch`], and video stays in the
//! source's [`cache`] for those who miss it.

pub mod batch;
pub mod cache;
pub mod frame;
pub mod info;
pub mod payload;
pub mod picture;

use std::sync::Arc;

use info::PacketInfo;
use payload::PayloadView;
use picture::Picture;

use crate::congestion::active::ActiveLayers;
use crate::ids::SourceId;
use crate::media::MediaKind;
use crate::negotiation::extensions::{ExtensionLayout, ReceivedExtensions};
use crate::negotiation::formats::{Format, FormatTable};
use crate::negotiation::negotiated::Negotiated;
use crate::rtp::{Layout, Packet};

/// What was parsed of an opened packet, RTX undone, apart from its bytes.
#[derive(Debug)]
pub struct ReceivedPacket {
    /// Audio or video.
    pub kind: MediaKind,
    /// Where the parts of its header lie.
    pub layout: Layout,
    /// Its header extensions.
    pub extensions: ExtensionLayout,
    /// Its canonical format.
    pub format: Format,
    /// What its payload says.
    pub view: PayloadView,
    /// Its sequence number and timestamp.
    pub info: PacketInfo,
    /// What the sender sent when it came.
    pub active: ActiveLayers,
    /// The sender's numbers.
    pub sender: Arc<Negotiated>,
}

impl ReceivedPacket {
    /// The packet together with its bytes; `None` when they are not those of the packet.
    #[inline]
    pub fn media<'a>(&'a self, source: SourceId, bytes: &'a [u8]) -> Option<MediaPacket<'a>> {
        Some(MediaPacket {
            rtp: Packet::with_layout(bytes, self.layout)?,
            source,
            kind: self.kind,
            format: self.format,
            extensions: ReceivedExtensions::new(&self.extensions, bytes),
            view: self.view,
            picture: self.info.picture,
            sender: &self.sender.formats,
        })
    }
}

/// A received media packet with its bytes, ready to be written for each receiver.
#[derive(Clone, Copy)]
pub struct MediaPacket<'a> {
    /// The plaintext, RTX already undone.
    pub rtp: Packet<'a>,
    /// Its source in the conference.
    pub source: SourceId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its canonical format.
    pub format: Format,
    /// Its extensions by URI.
    pub extensions: ReceivedExtensions<'a>,
    /// What its payload says.
    pub view: PayloadView,
    /// The numbers that the sender gave its picture.
    pub picture: Picture,
    /// The sender's payload types, for what lies inside RED.
    pub sender: &'a FormatTable,
}
