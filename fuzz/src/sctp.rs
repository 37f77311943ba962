//! SCTP and the data channel: a client with an association that sends what it likes inside of it.
//!
//! Fed: steps: raw packets, any chunks under the right tag, DATA, channel openings, SACKs, stream resets, new associations,
//! messages of the bridge, time.
//! Held: nothing panics; what is sent is whole SCTP that fits a datagram; one packet causes a bounded number of others;
//! messages come only over an open channel and within their bound; timers advance.

use std::time::{Duration, Instant};

use ringbridge_controlplane::channel::{DataChannel, DataChannelOutput, MAX_MESSAGE, NotSent};

use crate::input::Input;

/// Packets that one may cause: a window of waiting DATA, and answers to chunks.
const MOST_FOR_ONE: usize = 2_000;

/// Castagnoli's CRC-32 (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0x82f6_3b78 ^ (crc >> 1) } else { crc >> 1 })
    })
}

fn sum(packet: &mut [u8]) {
    if packet.len() >= 12 {
        packet[8..12].fill(0);
        let crc = crc32c(packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

struct Client {
    channel: DataChannel,
    now: Instant,
    /// The bridge's verification tag, once it sent it.
    tag: u32,
    tsn: u32,
    /// Newest TSN of the bridge.
    theirs: u32,
    cookie: Vec<u8>,
    open: bool,
    initiations: u32,
}

fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend((body.len() as u16 + 4).to_be_bytes());
    chunk.extend(body);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

impl Client {
    fn packet(&mut self, chunks: &[u8]) {
        let tag = if chunks.first() == Some(&1) { 0 } else { self.tag };
        let mut packet = [5000u16.to_be_bytes(), 5000u16.to_be_bytes()].concat();
        packet.extend(tag.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(chunks);
        sum(&mut packet);
        self.deliver(&packet);
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.channel.handle_packet(self.now, packet);
        self.settle();
    }

    fn settle(&mut self) {
        let (mut sent, mut texts) = (0, 0);
        while let Some(output) = self.channel.poll_output() {
            match output {
                DataChannelOutput::Packet(packet) => {
                    sent += 1;
                    assert!(sent <= MOST_FOR_ONE, "{sent} packets for one");
                    self.read(&packet);
                }
                DataChannelOutput::Opened => self.open = true,
                DataChannelOutput::Closed => self.open = false,
                DataChannelOutput::Text(text) => {
                    texts += 1;
                    assert!(text.len() <= MAX_MESSAGE, "a message of {} bytes", text.len());
                    assert!(texts <= 2_000);
                }
            }
        }
        assert!(!self.channel.is_open() || self.open, "open, and that was not reported");
    }

    fn read(&mut self, packet: &[u8]) {
        assert!(packet.len() <= 1_200 && packet.len() > 12, "a packet of {} bytes", packet.len());
        let mut again = packet.to_vec();
        sum(&mut again);
        assert_eq!(again, packet, "checksum");
        let mut rest = &packet[12..];
        while let [kind, _, high, low, ..] = *rest {
            let len = usize::from(u16::from_be_bytes([high, low]));
            assert!(len >= 4 && len <= rest.len(), "whole chunks");
            let body = &rest[4..len];
            match kind {
                // INIT ACK: the tag, and the cookie among the parameters.
                2 if body.len() >= 16 => {
                    self.tag = u32::from_be_bytes(body[..4].try_into().expect("four"));
                    self.theirs = u32::from_be_bytes(body[12..16].try_into().expect("four")).wrapping_sub(1);
                    let mut parameters = &body[16..];
                    while let [k0, k1, l0, l1, ..] = *parameters {
                        let len = usize::from(u16::from_be_bytes([l0, l1])).max(4);
                        if [k0, k1] == [0, 7] {
                            self.cookie = parameters.get(4..len).unwrap_or_default().to_vec();
                        }
                        parameters = parameters.get(len.next_multiple_of(4)..).unwrap_or_default();
                    }
                }
                0 if body.len() >= 4 => self.theirs = u32::from_be_bytes(body[..4].try_into().expect("four")),
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn init(&mut self, tag: u32) {
        self.tsn = 1_000;
        let mut body = tag.to_be_bytes().to_vec();
        body.extend(200_000u32.to_be_bytes());
        body.extend([0xff, 0xff, 0xff, 0xff]);
        body.extend(self.tsn.to_be_bytes());
        self.packet(&chunk(1, 0, &body));
    }

    fn data(&mut self, flags: u8, (stream, sequence): (u16, u16), ppid: u32, jump: i8, content: &[u8]) {
        let tsn = self.tsn.wrapping_add_signed(i32::from(jump));
        if jump == 0 {
            self.tsn = self.tsn.wrapping_add(1);
        }
        let mut body = tsn.to_be_bytes().to_vec();
        body.extend(stream.to_be_bytes());
        body.extend(sequence.to_be_bytes());
        body.extend(ppid.to_be_bytes());
        body.extend(content);
        self.packet(&chunk(0, flags, &body));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.channel.poll_timeout().filter(|due| *due <= end) {
            turns += 1;
            assert!(turns <= 100 + time.as_millis() / 10, "timers of an association do not advance");
            self.now = self.now.max(due);
            self.channel.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut client = Client {
        channel: DataChannel::default(),
        now: Instant::now(),
        tag: 0,
        tsn: 1_000,
        theirs: 0,
        cookie: Vec::new(),
        open: false,
        initiations: 1,
    };
    if input.u8() & 1 == 0 {
        client.init(1);
        let cookie = chunk(10, 0, &client.cookie.clone());
        client.packet(&cookie);
    }
    let (mut sequence, mut steps) = (0u16, 0);
    while !input.is_empty() && steps < 300 {
        steps += 1;
        match input.u8() % 14 {
            0 => {
                let mut packet = input.long_bytes(1_500).to_vec();
                if input.flag() {
                    sum(&mut packet);
                }
                client.deliver(&packet);
            }
            1 => {
                let mut chunks = Vec::new();
                for _ in 0..1 + input.u8() % 4 {
                    let (kind, flags) = (input.u8(), input.u8());
                    chunks.extend(chunk(kind, flags, input.bytes()));
                }
                client.packet(&chunks);
            }
            2 => {
                let (flags, stream, ppid, jump) =
                    (input.u8(), input.u16(), input.pick(&[50, 51, 53, 54, 56, 57, 0, u32::MAX]), input.u8() as i8);
                let number = input.u16();
                client.data(flags, (stream, number), ppid, jump / 4, input.long_bytes(1_400));
            }
            3 => {
                let stream = input.u16() % 100;
                let (kind, parameter) = (input.u8(), input.u32());
                let (label, protocol) = (input.bytes(), input.bytes());
                let mut open = vec![3, kind, 0, 0];
                open.extend(parameter.to_be_bytes());
                open.extend((label.len() as u16).to_be_bytes());
                open.extend((protocol.len() as u16).to_be_bytes());
                open.extend(label);
                open.extend(protocol);
                client.data(3, (stream, sequence), 50, 0, &open);
                sequence = sequence.wrapping_add(1);
            }
            4 | 5 => {
                let stream = input.u16() % 100;
                client.data(3, (stream, sequence), 51, 0, input.bytes());
                sequence = sequence.wrapping_add(1);
            }
            6 => {
                let cumulative = client.theirs.wrapping_add_signed(i32::from(input.u8() as i8) / 8);
                let window = input.pick(&[200_000, 0, 1, 1_500, u32::MAX]);
                let (gaps, again) = (input.u8() % 8, input.u8() % 4);
                let mut body = cumulative.to_be_bytes().to_vec();
                body.extend(window.to_be_bytes());
                body.extend([0, gaps, 0, again]);
                for _ in 0..gaps {
                    body.extend(input.u16().to_be_bytes());
                    body.extend(input.u16().to_be_bytes());
                }
                for _ in 0..again {
                    body.extend(input.u32().to_be_bytes());
                }
                client.packet(&chunk(3, 0, &body));
            }
            7 => {
                // A reset of outgoing streams (RFC 6525 section 4.1), or any other parameter.
                let kind = input.pick(&[13u16, 13, 14, 15, 16, 17, 18]);
                let mut body = client.tsn.wrapping_add(u32::from(input.u8() % 3)).to_be_bytes().to_vec();
                body.extend(input.u32().to_be_bytes());
                body.extend(client.tsn.wrapping_sub(1).to_be_bytes());
                for _ in 0..input.u8() % 20 {
                    body.extend((input.u16() % 100).to_be_bytes());
                }
                let mut parameter = kind.to_be_bytes().to_vec();
                parameter.extend((body.len() as u16 + 4).to_be_bytes());
                parameter.extend(body);
                client.packet(&chunk(130, 0, &parameter));
            }
            8 => {
                let mut body = client.tsn.wrapping_add(u32::from(input.u8())).to_be_bytes().to_vec();
                for _ in 0..input.u8() % 6 {
                    body.extend((input.u16() % 100).to_be_bytes());
                    body.extend(input.u16().to_be_bytes());
                }
                client.packet(&chunk(192, 0, &body));
            }
            9 => {
                client.initiations += u32::from(input.flag());
                client.init(client.initiations);
                if input.flag() {
                    let cookie = chunk(10, 0, &client.cookie.clone());
                    client.packet(&cookie);
                }
            }
            10 => client.pass(Duration::from_millis(u64::from(input.u16()) % 5_000)),
            11 => {
                let text = "x".repeat(usize::from(input.u16()));
                let sent = client.channel.send(&text);
                // The end of the stream or association may be on its way to us.
                assert!(!matches!(sent, Err(NotSent::TooLarge)));
                let now = client.now;
                client.channel.handle_timeout(now);
                client.settle();
            }
            12 => {
                let kind = input.pick(&[4u8, 5, 6, 7, 8, 9, 14, 11]);
                let body = input.bytes();
                client.packet(&chunk(kind, 0, body));
            }
            _ => {
                client.channel.close();
                let now = client.now;
                client.channel.handle_timeout(now);
                client.settle();
            }
        }
    }
    let _ = client.channel.buffered();
    client.pass(Duration::from_secs(60));
}
