//! Views and writers of RTP, its payload formats and RTCP against the crates `rtp` and `rtcp`, and against any bytes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use ringbridge_dataplane::ids::{PayloadType, Ssrc};
use ringbridge_dataplane::rtcp::compound::{Block, Compound, ReportBlock, SenderInfo, fir_targets, report_blocks};
use ringbridge_dataplane::rtcp::{build, nack};
use ringbridge_dataplane::rtp::{self as ours, Extension, HeaderFields, Packet, red, vp8};
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtp::codecs::vp8::Vp8Packet;
use rtp::packetizer::Depacketizer;
use webrtc_util::marshal::Unmarshal;

prop_compose! {
    fn fields()(
        marker in any::<bool>(), payload_type in 0u8..128, sequence in any::<u16>(), timestamp in any::<u32>(),
        ssrc in any::<u32>(),
    ) -> HeaderFields {
        HeaderFields { padding: false, marker, payload_type: PayloadType::new(payload_type).unwrap(), sequence, timestamp, ssrc: Ssrc::new(ssrc) }
    }
}

/// Different ids with values that the one-byte form can hold.
fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    proptest::collection::btree_map(1u8..15, vec(any::<u8>(), 1..16), 0..5).prop_map(|map| map.into_iter().collect())
}

fn report() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), 0u32..1 << 23).prop_map(
        |([ssrc, highest, jitter, last_sr, delay], fraction, lost)| ReportBlock {
            ssrc: Ssrc::new(ssrc),
            fraction_lost: fraction,
            lost,
            highest,
            jitter,
            last_sr,
            delay,
        },
    )
}

fn theirs(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc.get(),
        fraction_lost: block.fraction_lost,
        total_lost: block.lost,
        last_sequence_number: block.highest,
        jitter: block.jitter,
        last_sender_report: block.last_sr,
        delay: block.delay,
    }
}

proptest! {
    #[test]
    fn rtp_that_we_write_is_read_by_both(
        fields in fields(), csrcs in vec(any::<u32>(), 0..4), extensions in extensions(), payload in vec(any::<u8>(), 0..60),
    ) {
        let elements: Vec<Extension<'_>> = extensions.iter().map(|(id, data)| Extension { id: *id, data }).collect();
        let mut out = [0; 400];
        let len = ours::header::write(&fields, csrcs.iter().copied().map(Ssrc::new), &elements, &mut out).unwrap();
        out[len..len + payload.len()].copy_from_slice(&payload);
        let packet = &out[..len + payload.len()];

        let their = rtp::packet::Packet::unmarshal(&mut &packet[..]).unwrap();
        prop_assert_eq!(
            (their.header.marker, their.header.payload_type, their.header.sequence_number),
            (fields.marker, fields.payload_type.get(), fields.sequence)
        );
        prop_assert_eq!((their.header.timestamp, their.header.ssrc), (fields.timestamp, fields.ssrc.get()));
        prop_assert_eq!((&their.header.csrc, &their.payload[..]), (&csrcs, &payload[..]));
        for (id, data) in &extensions {
            prop_assert_eq!(their.header.get_extension(*id), Some(Bytes::copy_from_slice(data)));
        }

        let mine = Packet::parse(packet).unwrap();
        prop_assert_eq!((mine.marker(), mine.payload_type(), mine.sequence()), (fields.marker, fields.payload_type, fields.sequence));
        prop_assert_eq!((mine.timestamp(), mine.ssrc(), mine.payload()), (fields.timestamp, fields.ssrc, &payload[..]));
        prop_assert_eq!(mine.csrcs().map(Ssrc::get).collect::<Vec<_>>(), csrcs);
        let got: Vec<(u8, Vec<u8>)> = mine.extensions().map(|e| (e.id, e.data.to_vec())).collect();
        prop_assert_eq!(got, extensions);
    }

    #[test]
    fn rtp_cut_or_changed_anywhere_never_reaches_outside(
        fields in fields(), extensions in extensions(), payload in vec(any::<u8>(), 0..30),
        cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let elements: Vec<Extension<'_>> = extensions.iter().map(|(id, data)| Extension { id: *id, data }).collect();
        let mut out = vec![0; 400];
        let len = ours::header::write(&fields, [].into_iter(), &elements, &mut out).unwrap();
        out.truncate(len);
        out.extend(&payload);
        let at = at.index(out.len());
        out[at] = with;
        out.truncate(cut.index(out.len() + 1));
        if let Ok(packet) = Packet::parse(&out) {
            let range = packet.payload_range();
            prop_assert!(packet.header_len() <= range.start && range.end + packet.padding_len() == out.len());
            // The crate `rtp` is no witness here: it panics where an extension element is cut off.
            prop_assert!(packet.extensions().all(|e| e.data.len() <= 255));
        }
    }

    #[test]
    fn vp8_descriptors_mean_the_same_to_both(payload in vec(any::<u8>(), 1..40), id in 0u16..1 << 15, tl0 in any::<u8>()) {
        let Ok(mine) = vp8::Descriptor::parse(&payload) else { return Ok(()) };
        let mut their = Vp8Packet::default();
        let Ok(rest) = their.depacketize(&Bytes::copy_from_slice(&payload)) else { return Ok(()) };
        prop_assert_eq!(&rest[..], &payload[mine.len..]);
        prop_assert_eq!(u8::from(mine.partition_start), their.s);
        prop_assert_eq!(mine.picture_id.unwrap_or(0), their.picture_id);
        prop_assert_eq!(mine.tl0_pic_idx.unwrap_or(0), their.tl0_pic_idx);
        prop_assert_eq!(mine.temporal.map_or(0, |temporal| temporal.tid), if their.t == 1 { their.tid } else { 0 });

        let mut out = [0; 64];
        let len = mine.rewrite(&payload, id, tl0, &mut out).unwrap();
        let again = vp8::Descriptor::parse(&out[..len]).unwrap();
        prop_assert_eq!(again.picture_id, mine.picture_id.map(|_| id));
        prop_assert_eq!(again.tl0_pic_idx, mine.tl0_pic_idx.map(|_| tl0));
        prop_assert_eq!((again.temporal, again.key_idx), (mine.temporal, mine.key_idx));
        prop_assert_eq!(&out[again.len..len], &payload[mine.len..]);
    }

    #[test]
    fn red_blocks_fill_their_payload(payload in vec(any::<u8>(), 0..80)) {
        if let Ok(blocks) = red::blocks(&payload) {
            let blocks: Vec<_> = blocks.collect();
            let headers = 4 * (blocks.len() - 1) + 1;
            prop_assert_eq!(headers + blocks.iter().map(|block| block.data.len()).sum::<usize>(), payload.len());
            prop_assert_eq!(blocks.iter().filter(|block| block.primary).count(), 1);
            let mut patched = payload.clone();
            red::patch_payload_types(&mut patched, |payload_type| PayloadType::new(payload_type.get() ^ 1)).unwrap();
            let types: Vec<u8> = red::blocks(&patched).unwrap().map(|block| block.payload_type.get()).collect();
            prop_assert_eq!(types, blocks.iter().map(|block| block.payload_type.get() ^ 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rtcp_that_they_write_is_read(
        ssrcs in any::<[u32; 3]>(), ntp in any::<u64>(), counts in any::<[u32; 3]>(), blocks in vec(report(), 0..4),
        mut missing in proptest::collection::btree_set(any::<u16>(), 1..20),
    ) {
        let [sender, media, other] = ssrcs;
        let [rtp_time, packet_count, octet_count] = counts;
        let reports: Vec<ReceptionReport> = blocks.iter().map(theirs).collect();
        let numbers: Vec<u16> = std::mem::take(&mut missing).into_iter().collect();
        let compound: Vec<Box<dyn rtcp::packet::Packet + Send + Sync>> = vec![
            Box::new(SenderReport {
                ssrc: sender, ntp_time: ntp, rtp_time, packet_count, octet_count, reports: reports.clone(), ..Default::default()
            }),
            Box::new(ReceiverReport { ssrc: other, reports, ..Default::default() }),
            Box::new(PictureLossIndication { sender_ssrc: sender, media_ssrc: media }),
            Box::new(TransportLayerNack {
                sender_ssrc: sender,
                media_ssrc: media,
                nacks: rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(&numbers),
            }),
        ];
        let bytes = rtcp::packet::marshal(&compound).unwrap();
        let read: Vec<Block<'_>> = Compound::new(&bytes).collect();
        prop_assert_eq!(read.len(), 4);
        let Block::SenderReport { ssrc, info, reports } = read[0] else { panic!("{:?}", read[0]) };
        prop_assert_eq!(info, SenderInfo { ntp, rtp: rtp_time, packets: packet_count, octets: octet_count });
        prop_assert_eq!((ssrc, report_blocks(reports).collect::<Vec<_>>()), (Ssrc::new(sender), blocks.clone()));
        let Block::ReceiverReport { ssrc, reports } = read[1] else { panic!("{:?}", read[1]) };
        prop_assert_eq!((ssrc, report_blocks(reports).collect::<Vec<_>>()), (Ssrc::new(other), blocks));
        prop_assert_eq!(read[2], Block::Pli { media: Ssrc::new(media) });
        let Block::Nack { media: nacked, entries } = read[3] else { panic!("{:?}", read[3]) };
        prop_assert_eq!((nacked, nack::sequences(entries).collect::<Vec<_>>()), (Ssrc::new(media), numbers));
    }

    #[test]
    fn rtcp_that_we_write_is_read_by_them(
        ssrc in any::<u32>(), media in any::<u32>(), ntp in any::<u64>(), counts in any::<[u32; 3]>(),
        blocks in vec(report(), 0..4), number in any::<u8>(), missing in proptest::collection::btree_set(any::<u16>(), 1..20),
    ) {
        let [rtp, packets, octets] = counts;
        let missing: Vec<u16> = missing.into_iter().collect();
        let mut out = vec![0; 1500];
        let mut len = 0;
        len += build::sender_report(Ssrc::new(ssrc), &SenderInfo { ntp, rtp, packets, octets }, &mut out[len..]).unwrap();
        len += build::receiver_report(Ssrc::new(ssrc), &blocks, &mut out[len..]).unwrap();
        len += build::pli(Ssrc::new(ssrc), Ssrc::new(media), &mut out[len..]).unwrap();
        len += build::fir(Ssrc::new(ssrc), Ssrc::new(media), number, &mut out[len..]).unwrap();
        len += build::nack(Ssrc::new(ssrc), Ssrc::new(media), &missing, &mut out[len..]).unwrap();
        let read = rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(&out[..len])).unwrap();
        prop_assert_eq!(read.len(), 5);
        let sender = read[0].as_any().downcast_ref::<SenderReport>().unwrap();
        prop_assert_eq!(
            (sender.ssrc, sender.ntp_time, sender.rtp_time, sender.packet_count, sender.octet_count),
            (ssrc, ntp, rtp, packets, octets)
        );
        let receiver = read[1].as_any().downcast_ref::<ReceiverReport>().unwrap();
        prop_assert_eq!(&receiver.reports, &blocks.iter().map(theirs).collect::<Vec<_>>());
        let pli = read[2].as_any().downcast_ref::<PictureLossIndication>().unwrap();
        prop_assert_eq!((pli.sender_ssrc, pli.media_ssrc), (ssrc, media));
        let fir = read[3].as_any().downcast_ref::<FullIntraRequest>().unwrap();
        prop_assert_eq!((fir.fir[0].ssrc, fir.fir[0].sequence_number), (media, number));
        let nack = read[4].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        let mut numbers: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        numbers.sort_unstable();
        prop_assert_eq!((nack.media_ssrc, numbers), (media, missing));
    }

    #[test]
    fn rtcp_of_any_bytes_ends(bytes in vec(any::<u8>(), 0..120)) {
        let blocks: Vec<Block<'_>> = Compound::new(&bytes).collect();
        prop_assert!(blocks.len() <= bytes.len() / 4 + 1);
        for block in blocks {
            match block {
                Block::SenderReport { reports, .. } | Block::ReceiverReport { reports, .. } => {
                    prop_assert!(report_blocks(reports).count() <= 31);
                }
                Block::Nack { entries, .. } => prop_assert!(nack::sequences(entries).count() <= entries.len() / 4 * 17),
                Block::Fir { entries } => prop_assert!(fir_targets(entries).count() <= entries.len() / 8),
                _ => {}
            }
        }
    }
}

#[test]
fn red_of_many_blocks_is_refused() {
    let of = |redundant: usize| [[0x80 | 111u8, 0, 0, 0].repeat(redundant), vec![111, 7]].concat();
    assert_eq!(red::blocks(&of(31)).map(Iterator::count), Ok(32));
    assert!(red::blocks(&of(32)).is_err() && red::blocks(&of(340)).is_err());
}
