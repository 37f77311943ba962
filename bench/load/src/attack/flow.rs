//! Packets by a plan: templates that take turns, at a rate, with numbers that count on.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// Most packets of one order.
const MAX_COUNT: u64 = 2_000_000;
/// Highest rate.
const MAX_RATE: u64 = 200_000;
/// Longest order.
const MAX_SECONDS: u64 = 60;

/// A plan of packets to send.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Flow {
    /// Templates in hexadecimal; they take turns.
    packets: Vec<String>,
    /// Total number of packets.
    count: u64,
    /// Packets per second.
    per_second: u64,
    /// The RTP sequence number grows by this from round to round of the templates: at bytes 2 and 3.
    #[serde(default)]
    sequence: u16,
    /// The RTP timestamp grows by this from packet to packet: at bytes 4 to 7.
    #[serde(default)]
    timestamp: u32,
    /// So many SSRCs from the templates' own on take turns: at bytes 8 to 11; 0 leaves it.
    #[serde(default)]
    ssrcs: u32,
    /// Where bytes are random in each packet, and how many.
    random: Option<(usize, usize)>,
    /// Each packet is sent this often.
    #[serde(default = "once")]
    repeat: u64,
    /// Also from another port.
    #[serde(default)]
    elsewhere: bool,
}

fn once() -> u64 {
    1
}

/// A plan that is being carried out.
#[derive(Debug)]
pub struct Source {
    flow: Flow,
    templates: Vec<Vec<u8>>,
    start: Instant,
    made: u64,
    buffer: Vec<u8>,
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

impl Source {
    /// Takes a plan, or says why not.
    pub fn new(flow: &Flow, start: Instant) -> Result<Self, String> {
        let templates: Option<Vec<_>> = flow.packets.iter().map(|packet| bytes(packet)).collect();
        let templates = templates.filter(|all| !all.is_empty()).ok_or("packets: hexadecimal digits, at least one")?;
        if templates.iter().any(|packet| packet.is_empty() || packet.len() > 65_000) {
            return Err("packets: 1 to 65,000 bytes each".into());
        }
        let packets = flow.count.saturating_mul(flow.repeat);
        if packets > MAX_COUNT || !(1..=MAX_RATE).contains(&flow.per_second) {
            return Err(format!("count: at most {MAX_COUNT}; per_second: 1 to {MAX_RATE}"));
        }
        if flow.count / flow.per_second > MAX_SECONDS {
            return Err(format!("an order takes at most {MAX_SECONDS} s"));
        }
        Ok(Self { flow: flow.clone(), templates, start, made: 0, buffer: Vec::new() })
    }

    /// How many packets should leave now.
    pub fn due(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start) + Duration::from_millis(1);
        let planned = elapsed.as_nanos() * u128::from(self.flow.per_second) / 1_000_000_000;
        (planned as u64).min(self.flow.count).saturating_sub(self.made)
    }

    /// The next packet.
    pub fn make(&mut self) -> Option<&[u8]> {
        if self.is_done() {
            return None;
        }
        let (made, templates) = (self.made, self.templates.len() as u64);
        let template = &self.templates[(made % templates) as usize];
        self.buffer.clear();
        self.buffer.extend_from_slice(template);
        let packet = &mut self.buffer;
        let round = made / templates;
        let ssrcs = u64::from(self.flow.ssrcs);
        // With SSRCs that take turns each has numbers of its own.
        let step = round.checked_div(ssrcs).unwrap_or(round);
        if let Some(field) = packet.get_mut(2..4).filter(|_| self.flow.sequence > 0) {
            let number =
                u16::from_be_bytes([field[0], field[1]]).wrapping_add((step as u16).wrapping_mul(self.flow.sequence));
            field.copy_from_slice(&number.to_be_bytes());
        }
        if let Some(field) = packet.get_mut(4..8).filter(|_| self.flow.timestamp > 0) {
            let time = u32::from_be_bytes([field[0], field[1], field[2], field[3]])
                .wrapping_add((round as u32).wrapping_mul(self.flow.timestamp));
            field.copy_from_slice(&time.to_be_bytes());
        }
        if let Some(field) = packet.get_mut(8..12).filter(|_| ssrcs > 0) {
            let ssrc =
                u32::from_be_bytes([field[0], field[1], field[2], field[3]]).wrapping_add((round % ssrcs) as u32);
            field.copy_from_slice(&ssrc.to_be_bytes());
        }
        if let Some((from, length)) = self.flow.random {
            let end = (from + length).min(packet.len());
            if let Some(field) = packet.get_mut(from.min(end)..end) {
                rand::fill(field);
            }
        }
        self.made += 1;
        Some(packet)
    }

    /// How often each packet is sent.
    pub fn repeat(&self) -> u64 {
        self.flow.repeat
    }

    /// Whether each packet is sent from another port, too.
    pub fn elsewhere(&self) -> bool {
        self.flow.elsewhere
    }

    /// Whether all packets were made.
    pub fn is_done(&self) -> bool {
        self.made >= self.flow.count
    }

    /// Time of the first packet.
    pub fn start(&self) -> Instant {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str) -> Flow {
        serde_json::from_str(text).expect("a flow")
    }

    #[test]
    fn numbers_count_on_per_source() {
        let flow = flow(
            r#"{"packets":["8060ffff000000640000000a"],"count":5,"per_second":1000,"sequence":1,"timestamp":3000,"ssrcs":2}"#,
        );
        let mut source = Source::new(&flow, Instant::now()).expect("valid");
        let mut seen = Vec::new();
        while let Some(packet) = source.make() {
            let field = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
            seen.push((field(0) as u16, field(4), field(8)));
        }
        assert_eq!(seen, [(65535, 100, 10), (65535, 3100, 11), (0, 6100, 10), (0, 9100, 11), (1, 12100, 10)]);
    }

    #[test]
    fn a_rate_is_kept_and_everything_is_bounded() {
        let start = Instant::now();
        let plan = flow(r#"{"packets":["00","01"],"count":50,"per_second":100}"#);
        let mut source = Source::new(&plan, start).expect("valid");
        assert_eq!(source.due(start + Duration::from_millis(99)), 10);
        assert_eq!(source.make(), Some(&[0][..]));
        assert_eq!(source.make(), Some(&[1][..]));
        assert_eq!(source.due(start + Duration::from_secs(9)), 48);
        for text in [
            r#"{"packets":[],"count":1,"per_second":1}"#,
            r#"{"packets":["0"],"count":1,"per_second":1}"#,
            r#"{"packets":["zz"],"count":1,"per_second":1}"#,
            r#"{"packets":["00"],"count":1,"per_second":0}"#,
            r#"{"packets":["00"],"count":61,"per_second":1}"#,
            r#"{"packets":["00"],"count":1500000,"repeat":2,"per_second":200000}"#,
        ] {
            assert!(Source::new(&flow(text), start).is_err(), "{text}");
        }
    }

    #[test]
    fn random_bytes_stay_where_they_are_allowed() {
        let plan = flow(r#"{"packets":["aabbccdd"],"count":64,"per_second":100,"random":[1,2]}"#);
        let mut source = Source::new(&plan, Instant::now()).expect("valid");
        let mut middles = std::collections::BTreeSet::new();
        while let Some(packet) = source.make() {
            assert_eq!((packet[0], packet[3]), (0xaa, 0xdd));
            middles.insert([packet[1], packet[2]]);
        }
        assert!(middles.len() > 10);
    }
}
