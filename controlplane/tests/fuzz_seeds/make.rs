//! Writes the seeds anew: `cargo test --test fuzz_seeds -- --ignored make_seeds`.
//!
//! Signalling comes from recordings of real clients, a real focus and a real bridge, configuration and captures from cases
//! that went wrong; packets are written by hand here. Inputs that found something lie beside them as `found-*` and stay.

mod relays;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_xmpp::minidom::Element;

/// Requests of one recording that make a seed.
const LINES: usize = 12;
/// Longest seed, bytes.
const LONGEST: usize = 24 * 1024;

pub struct Seeds(pub PathBuf);

impl Seeds {
    pub fn write(&self, target: &str, name: &str, content: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        let content = content.as_ref();
        assert!(content.len() <= LONGEST, "{target}/{name} has {} bytes", content.len());
        fs::write(folder.join(name), content).expect("written");
    }
}

#[test]
#[ignore = "writes into the source tree"]
fn make_seeds() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let seeds = Seeds(PathBuf::from(super::SEEDS));
    let mut scenarios: Vec<PathBuf> = fs::read_dir(shared.join("fixtures"))
        .expect("fixtures")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    scenarios.sort();
    for scenario in &scenarios {
        let name = scenario.file_name().and_then(|name| name.to_str()).expect("a name");
        stanzas(&seeds, name, scenario);
        messages(&seeds, name, scenario);
    }
    configuration(&seeds, &shared.join("cases"));
    captures(&seeds, &shared.join("cases/captures"));
    streams(&seeds);
    visitors(&seeds);
    parsers(&seeds);
    stun(&seeds);
    public_addresses(&seeds);
    machines(&seeds);
    relays::relays(&seeds);
    services(&seeds);
    conference_requests(&seeds);
    super::handover_seeds::write(&seeds);
}

/// colibri2 as the focus sent it, and what clients sent to the focus.
fn stanzas(seeds: &Seeds, name: &str, scenario: &Path) {
    let Ok(text) = fs::read_to_string(scenario.join("xmpp.xml")) else { return };
    let (mut modifies, mut iqs, mut presences) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut stanzas = BTreeSet::new();
    for chunk in text.split_inclusive("</x>\n").filter_map(|chunk| chunk.find("<x t=").map(|start| &chunk[start..])) {
        let xml = chunk.replacen("<x ", "<x xmlns='jabber:client' ", 1);
        let Ok(element) = xml.trim().parse::<Element>() else { continue };
        let Some(stanza) = element.children().next() else { continue };
        if element.attr("via") != Some("recv") {
            continue;
        }
        let by = element.attr("peer").unwrap_or_default();
        let to = stanza.attr("to").unwrap_or_default();
        for payload in stanza.children() {
            let line = String::from(payload).replace('\n', " ");
            if by == "focus" && payload.name() == "conference-modify" {
                modifies.push(format!("c{line}"));
            }
            let client = by != "focus" && by != "bridge" && to.starts_with("focus@") | to.ends_with("/focus");
            if client && stanza.name() == "iq" && stanza.attr("type") == Some("set") {
                let letter = if payload.name() == "conference" { 'g' } else { 'm' };
                let sid = payload.attr("sid").map(str::to_owned);
                let mut line = format!("{letter}{line}");
                if let Some(sid) = sid {
                    line = line.replace(&sid, "{sid}");
                }
                iqs.push(line);
            }
        }
        let (whole, role) = (String::from(stanza), if matches!(by, "focus" | "bridge") { by } else { "client" });
        if whole.len() < 2_500 && stanzas.insert(format!("{}-{role}", stanza.name())) {
            seeds.write("xmpp", &format!("{name}-{}-{role}", stanza.name()), format!("@{whole}"));
        }
        if by != "focus" && by != "bridge" && stanza.name() == "presence" && to.contains("conference.") {
            let content: String = stanza.children().map(|child| String::from(child).replace('\n', " ")).collect();
            presences.insert(format!("p{content}"));
        }
    }
    let short = |lines: &[String]| -> String {
        let mut text = String::new();
        for line in lines.iter().take(LINES).filter(|line| line.len() < LONGEST / 2) {
            if text.len() + line.len() < LONGEST - 100 {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    };
    seeds.write("colibri", name, short(&modifies) + "a0\ni1\nt70\nt130\n");
    let presences: Vec<String> = presences.into_iter().take(4).collect();
    seeds.write("focus", name, short(&presences) + "a\nt1\n" + &short(&iqs[..iqs.len().min(5)]) + "t30\n");
    // One request each, for the fuzzer to put together.
    let mut kinds = BTreeSet::new();
    for iq in &iqs {
        let kind = iq.split("action=").nth(1).and_then(|rest| rest.get(1..16)).unwrap_or(&iq[1..12]);
        let kind: String = kind.chars().filter(char::is_ascii_alphabetic).collect();
        if iq.len() < LONGEST / 2 && kinds.insert(kind.clone()) {
            seeds.write("focus", &format!("one-{kind}"), format!("a\n{iq}\nt1\n"));
        }
    }
}

/// Bytes of streams by hand; stanzas come out of the recordings.
fn streams(seeds: &Seeds) {
    let nested = "<a>".repeat(70) + &"</a>".repeat(70);
    for (name, content) in [
        (
            "content",
            "\u{d}<body>x &lt; &#x41; y</body><x xmlns='jabber:x:oob'><url>u</url></x><![CDATA[<a>]]>".to_owned(),
        ),
        ("namespaces", "\u{1}<p:a xmlns:p='urn:p' p:b='1'><b xmlns=''/><c xmlns='urn:c'/></p:a>".to_owned()),
        ("malformed", "\u{5}<a b='1' b='2'/><!-- c --><?x y?>&unknown;<p:a/>".to_owned()),
        ("deep", format!("\u{ff}<iq type='get' from='g@h/1' id='a>b'>{nested}</iq><presence/>")),
        (
            "stream",
            "\u{8} <r xmlns='urn:xmpp:sm:3'/><stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
            </stream:error></stream:stream>"
                .to_owned(),
        ),
    ] {
        // The first character is the first byte.
        let mut bytes = vec![content.chars().next().map_or(0, |first| first as u32 as u8)];
        bytes.extend(content.chars().skip(1).collect::<String>().bytes());
        seeds.write("xmpp", name, bytes);
    }
}

fn messages(seeds: &Seeds, name: &str, scenario: &Path) {
    let Ok(text) = fs::read_to_string(scenario.join("bridge-channel.jsonl")) else { return };
    let (mut lines, mut seen) = (String::new(), BTreeSet::new());
    for (index, line) in text.lines().enumerate() {
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let record = record.to_string();
        if !record.contains("client->bridge") {
            continue;
        }
        let Ok(record) = serde_json::from_str::<Value>(&record) else { continue };
        let message = match &record["msg"] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        if seen.insert(message.clone()) && lines.len() + message.len() < 4_000 {
            lines.push_str(&format!("{}{message}\n", index % 4));
        }
    }
    seeds.write("channel", name, lines);
}

fn configuration(seeds: &Seeds, cases: &Path) {
    let mut folders: Vec<PathBuf> = fs::read_dir(cases).expect("cases").filter_map(|e| Some(e.ok()?.path())).collect();
    folders.sort();
    for folder in folders.iter().filter(|path| path.is_dir()) {
        for entry in fs::read_dir(folder).expect("a case").flatten() {
            let path = entry.path();
            let name = format!(
                "{}-{}",
                folder.file_name().and_then(|n| n.to_str()).expect("a name"),
                path.file_stem().and_then(|n| n.to_str()).expect("a name")
            );
            let Ok(text) = fs::read_to_string(&path) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("conf") => seeds.write("config", &name, text),
                Some("env") => {
                    let lines = text.split_whitespace().collect::<Vec<_>>().join("\n");
                    seeds.write("config", &name, format!("\n---\nJVB_AUTH_PASSWORD=p\n{lines}\n"));
                }
                _ => {}
            }
        }
    }
    seeds.write(
        "config",
        "ours",
        "xmpp { host = prosody, domain = \"meet.example\", password = \"p\" }\nbridge { port = 10000, workers = 2\n  \
         public-addresses = [\"198.51.100.7\"], cores = \"0,1\", nickname = ${?HOSTNAME} }\nfocus.min-participants = 2\n\
         include \"part.conf\"\n---\nRINGBRIDGE_BRIDGE_PORT=9\nRINGBRIDGE_XMPP_HOST=x\n",
    );
    for (name, open) in [("deep-lists", "["), ("deep-objects", "{a"), ("deep-paths", "a.")] {
        seeds.write("config", name, format!("a = {}", open.repeat(1_300)));
    }
    for name in ["jicofo-debian", "jicofo-docker", "jicofo-old-keys"] {
        let path = format!("{}/tests/configurations/{name}.conf", env!("CARGO_MANIFEST_DIR"));
        seeds.write("config", name, fs::read_to_string(path).expect("a configuration"));
    }
    seeds.write(
        "config",
        "jicofo-environment",
        "jicofo.rest.port = 1\n---\nJICOFO_AUTH_PASSWORD=p\nXMPP_SERVER=[::1]:5\nENABLE_AUTH=1\nENABLE_RECORDING=1\n\
         ENABLE_VISITORS=1\nVISITORS_XMPP_SERVER=a,b:1\nENABLE_JVB_XMPP_SERVER=1\nJICOFO_ICE_FAILURE_INTERVAL=60\n",
    );
    let packaged = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/ringbridge.conf");
    seeds.write("config", "packaged", fs::read_to_string(packaged).expect("the packaged file"));
}

/// Visitors by hand.
fn visitors(seeds: &Seeds) {
    const WANTS: &str = "Q<property name='visitors-version' value='1'/><property name='visitor' value='true'/>\n";
    let x = "<x xmlns='http://jabber.org/protocol/muc#user'><item role='visitor' affiliation='none' jid='a@v1.meet.test/b'/></x>";
    for (name, lines) in [
        ("watches", format!("{WANTS}v\na\nt1\nl\n")),
        ("many", (0..6).map(|n| format!("{WANTS}Vn{n} {x}\n")).collect::<String>() + "t20\n"),
        ("names", format!("{WANTS}Valice {x}\nVjvb {x}\nVfocus {x}\nVbob {x}\nVmallory {x}\nv\n")),
        ("nodes", format!("{WANTS}v\na\no\nt5\n{WANTS}r\no\nf\no\nt61\n{WANTS}t61\n")),
        (
            "listed",
            "m{\"participants\":[\"u1\"],\"visitors\":{\"live\":true},\"participantsSoftLimit\":1}\n\
             qe30.eyJjb250ZXh0Ijp7InVzZXIiOnsiaWQiOiJ1MSJ9LCJncm91cCI6ImcxIn19.x\nqe30.e30.\nq...\n\
             m{\"lobbyEnabled\":true}\nq\nm{\"visitorsEnabled\":false}\nqa.b.c\n"
                .to_owned(),
        ),
        (
            "sends",
            format!(
                "{WANTS}v\na\ni<jingle xmlns='urn:xmpp:jingle:1' action='source-add' sid='{{sid}}'><content name='audio'>\
                 <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' \
                 ssrc='5'/></description></content></jingle>\ni<jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' \
                 sid='{{sid}}'/>\ni<mute xmlns='http://jitsi.org/jitmeet/audio' jid='room@conference.meet.test/bob'>true</mute>\n"
            ),
        ),
        (
            "forged",
            format!(
                "{WANTS}v\nx<presence xmlns='jabber:client' type='unavailable' from='room@conference.meet.test/bob'/>\n\
                 X<presence xmlns='jabber:client' type='unavailable' from='room@conference.v1.meet.test/mallory'/>\n\
                 x<presence xmlns='jabber:client' type='unavailable' from='room@conference.v1.meet.test/focus'/>\n\
                 x<presence xmlns='jabber:client' type='error' from='room@conference.v1.meet.test/focus'/>\n{WANTS}"
            ),
        ),
    ] {
        seeds.write("visitors", name, lines);
    }
}

fn captures(seeds: &Seeds, folder: &Path) {
    for entry in fs::read_dir(folder).expect("captures").flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if name.ends_with("pcap") || name.ends_with("pcapng") {
            let bytes = fs::read(&path).expect("read");
            seeds.write("capture", &name, &bytes[..bytes.len().min(2_000)]);
        }
    }
    let rtp = |number: u8, sequence: u8| {
        [&[0x80, number, 0, sequence, 0, 0, 1, sequence, 0, 0, 0, number][..], &[1, 2, 3]].concat()
    };
    let packets: Vec<Vec<u8>> = (0..6).map(|at| rtp(if at % 2 == 0 { 96 } else { 111 }, at)).collect();
    let mut dump = b"#!rtpplay1.0 127.0.0.1/5000\n".to_vec();
    dump.extend([0; 16]);
    let mut pcap: Vec<u8> =
        [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (at, packet) in packets.iter().enumerate() {
        dump.extend((packet.len() as u16 + 8).to_be_bytes());
        dump.extend((packet.len() as u16).to_be_bytes());
        dump.extend((at as u32 * 20).to_be_bytes());
        dump.extend(packet);
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 0, 9, 0, 9]);
        frame.extend((packet.len() as u16 + 8).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(packet);
        for word in [7, at as u32 * 1_000, frame.len() as u32, frame.len() as u32] {
            pcap.extend(word.to_le_bytes());
        }
        pcap.extend(frame);
    }
    seeds.write("capture", "rtpdump", dump);
    seeds.write("capture", "pcap", pcap);
}

fn parsers(seeds: &Seeds) {
    let rtp = [
        &[0x90, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0xbe, 0xde, 0, 2][..],
        &[0x10, 0x85, 0x51, 0, 9, 0x22, 1, 2, 3][..8],
        &[0x90, 0xe0, 0x81, 0x23, 7, 0x20, 0, 1, 2, 0x9d, 1, 0x2a, 64, 1, 180, 0],
    ]
    .concat();
    let compound = [
        &[0x80, 200, 0, 6, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2][..],
        &[0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 7, 0, 9, 0x80, 1],
        &[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7],
        &[0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 3, 0, 0, 0],
        &[0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0xff, 0xff, 0xff, 0, 0, 0, 7],
        &[0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 5, 0, 0, 1, 0, 0x20, 5, 4, 4, 4, 4, 4, 0][..24],
    ]
    .concat();
    let descriptor = [0x80, 0, 1, 0x80, 0x04, 0xea, 0xaa, 0x85, 0x14, 0x50, 0x10];
    let feedback = [0, 1, 0, 5, 0, 0, 1, 0, 0x20, 5, 4, 4, 4, 4, 4];
    let sps = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe8, 0x06, 0xd0, 0xa1, 0x35];
    let stap = [&[24, 0, 13][..], &sps, &[0, 4, 0x68, 0xce, 0x3c, 0x80]].concat();
    let red = [0xef, 0, 0x08, 3, 111, 1, 2, 3, 9, 9];
    let vp9 = [0xaa, 0x81, 0x23, 0x20, 0x07, 0x58, 1, 64, 0, 180, 2, 128, 1, 104, 1, 2, 3];
    for (number, name, content) in [
        (0, "rtp", &rtp[..]),
        (1, "extensions", &[1, 1, 5, 2, 3, 1, 2, 3, 9, 0]),
        (2, "compound", &compound),
        (3, "nacks", &[0xff, 0xf0, 0, 0, 3, 20, 0, 0, 1]),
        (4, "feedback", &feedback),
        (5, "arrivals", &[0, 0, 10, 1, 0, 26, 9, 1, 12, 200, 0, 0x88, 1, 0, 9, 9, 9]),
        (6, "descriptor", &[&[11][..], &descriptor, &[1, 2, 3, 3, 0x40, 0, 2, 0, 0, 0]].concat()),
        (7, "vp8", &[1, 2, 3, 0x90, 0xf0, 0x12, 9, 0x65, 0, 1, 2, 0x9d, 1, 0x2a, 64, 1, 180, 0]),
        (8, "vp9", &[&[1, 2, 3][..], &vp9].concat()),
        (9, "sps", &sps),
        (9, "stap", &stap),
        (10, "red", &red),
        (11, "small", &[1, 2, 3]),
    ] {
        seeds.write("parsers", name, [&[number], content].concat());
    }
}

fn stun(seeds: &Seeds) {
    let attributes = [
        &[0, 6, 0, 5, b'0', b'a', b':', b'b', b'c', 0, 0, 0][..],
        &[0, 0x24, 0, 4, 0x6e, 0, 0xff, 0xff],
        &[0x80, 0x2a, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x25, 0, 0],
    ]
    .concat();
    let message = crate::stun::sign(1, [7; 12], &attributes, "secret");
    seeds.write("stun", "datagram", [&[0][..], &message].concat());
    seeds.write("stun", "signed", [&[1, 0][..], &[7; 12], &attributes].concat());
    let address = [&[0, 0x20, 0, 8, 0, 1, 1, 2, 3, 4, 5, 6][..], &[0, 9, 0, 4, 0, 0, 4, 87]].concat();
    seeds.write("stun", "answer", [&[1, 2][..], &[7; 12], &address].concat());
    seeds.write("stun", "written", [&[2][..], &[5; 40], b"user:name"].concat());
    seeds.write("stun", "table", [3, 2, 1, 0, 0x42, 1, 0, 2, 1, 2, 0x42, 1, 2, 0, 1, 2, 5, 3, 3]);
}

fn public_addresses(seeds: &Seeds) {
    // An answer to one of the questions: which, what is changed of it, the address (IPv4 octets, port), its class.
    let answer = |question: u8, change: u8, octets: [u8; 4]| {
        [&[3, question, 0, change, 0][..], &octets, &[0x10, 0x27, 0]].concat()
    };
    let good = [198, 51, 100, 7];
    let mut search = vec![0, 0x0f];
    // Two look-ups, right answers, time, another round, fewer sockets.
    search.extend([2, 2, 1, 0, 203, 0, 113, 9, 187, 1]);
    search.extend([answer(0, 0, good), answer(1, 0, good), vec![0, 0, 1, 0xff, 0xff, 1, 0xff, 0xff, 5, 3, 0]].concat());
    seeds.write("public_address", "found", &search);
    // From elsewhere, another port, another id; without an address, an error, cut off.
    let mut forged = vec![0, 0x09];
    for change in [1, 2, 3, 0x33, 4, 5, 6] {
        forged.extend(answer(0, change, good));
    }
    forged.extend(answer(0, 0x80, good));
    forged.extend([30, 4, 0, 2, 0, 28, 1, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1]);
    seeds.write("public_address", "forged", &forged);
    // Addresses that nobody has, and the other family.
    let mut unusable = vec![0, 0x0f];
    for octets in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1], [169, 254, 169, 254]] {
        unusable.extend(answer(0, 0, octets));
        unusable.extend(answer(1, 0, octets));
        unusable.extend([5, 0xff]);
    }
    unusable.extend([3, 0, 0, 0, 1, 0x01, 0x20, 0xb8, 0x0d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0]);
    seeds.write("public_address", "unusable", &unusable);
    // Two servers that disagree, then time until they are asked again and again.
    let mut differs = vec![0, 0x09];
    differs.extend([answer(0, 0, good), answer(1, 0, [198, 51, 100, 8]), answer(2, 0, good)].concat());
    differs.extend([0; 20]);
    seeds.write("public_address", "differs", &differs);
    let body = |text: &str| [&[3, text.len() as u8][..], text.as_bytes()].concat();
    let instance = [vec![1], body("AQAEAKmtoken=="), body("10.0.0.2\n"), body("198.51.100.7")].concat();
    seeds.write("public_address", "instance", instance);
    let header = [vec![1], body("AQ\r\nHost: elsewhere"), body("10.0.0.2")].concat();
    seeds.write("public_address", "header", header);
    let refused = [vec![1], body("token"), vec![2, 0x91, 1, 0]].concat();
    seeds.write("public_address", "refused", refused);
    for (name, text) in [
        ("server", "[2001:db8::1]:443"),
        ("server-url", "stun:meet-jit-si-turnrelay.jitsi.net:443"),
        ("mapping", "10.0.0.2=198.51.100.7#443"),
    ] {
        seeds.write("public_address", name, [&[2][..], text.as_bytes()].concat());
    }
}

fn machines(seeds: &Seeds) {
    // Candidates and credentials; a request; answers to what it triggered; time; the consent's end.
    let mut ice = vec![1, 6, 0x21, 5, 0, 1, 0, 0, 0x6e, 9, 1, 0, 0, 0, 0];
    ice.extend([0, 5, 2, 0, 0, 0, 0x6e, 1, 2, 3, 4, 5, 6, 7, 8]);
    ice.extend([2, 0, 0, 7, 60, 2, 0, 0, 8, 0, 20, 2, 0, 0, 8, 0, 0x80]);
    seeds.write("ice", "connects", &ice);
    // A restart, a request under its ufrag from elsewhere, its credentials, answers to its checks, the end of the transition.
    ice.extend([9, 5, 0, 9, 0x80, 0, 0, 0, 0x6e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 9]);
    ice.extend([
        2, 0, 0, 7, 60, 2, 0, 0, 7, 60, 2, 0, 0, 8, 0xff, 0x0f, 0, 9, 0x80, 0, 0, 0, 0x6e, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    seeds.write("ice", "restarts", &ice);
    let mut role =
        vec![0, 6, 1, 0, 5, 2, 0, 0, 0, 0x6e, 255, 255, 255, 255, 255, 255, 255, 255, 7, 55, 2, 0, 12, 7, 55];
    role.extend([4, 5, 0, 0, 12, 0, 0x24, 0, 4, 1, 2, 3, 4, 0, 0x25, 0, 0, 5, 5, 20]);
    role.extend([0; 20]);
    seeds.write("ice", "conflict", &role);
    // Everybody's pictures, what the attacker wants, packets of its own, reports.
    for (name, flags) in
        [("plain", 0u8), ("small-cache", 2), ("rewriting", 64 + 128), ("counter-mode", 32), ("loudest", 4)]
    {
        let mut call = vec![flags];
        call.extend([11, 0, 2, 0, 1, 0, 6, 0, 0, 0, 1, 0, 0, 7, 30, 16, 7, 60, 16, 16, 7, 60]);
        // Crafted VP8 on each of its encodings.
        for ssrc in [1, 2, 3, 0] {
            call.extend([
                1, 2, 2, 9, 0, 0, 0, ssrc, 14, 0x90, 0xe0, 0x81, 0x23, 7, 0x20, 0, 1, 2, 0x9d, 1, 0x2a, 64, 1, 2,
            ]);
        }
        // NACK, PLI, feedback, REMB, FIR, sender and receiver reports.
        for kind in [0u8, 1, 4, 5, 6, 7] {
            call.extend([4, 0, 1, kind, 2, 0, 0, 255, 255, 0, 2, 1, 1, 0, 0, 0, 0, 9]);
        }
        call.extend([4, 0, 0, 2, 12, 0, 1, 0, 5, 0, 0, 1, 0, 0x20, 5, 4, 4, 8, 0, 4, 16, 16, 12, 1, 7, 20, 16]);
        call.extend([13, 0, 7, 9, 13, 1, 16, 7, 200, 14, 0x23, 15, 0x37, 18, 3, 18, 0, 17, 7, 17, 1]);
        seeds.write("forwarder", name, &call);
    }
    let mut media = vec![0u8, 10, 0x23, 100, 0x82, 101, 0x86, 100, 34, 0x61, 1, 0, 0, 0, 1, 5, 1, 7, 5, 16, 7, 40];
    media.extend([
        9, 3, 0x40, 0x61, 0, 0x62, 0, 0x21, 3, 1, 0x63, 0x20, 0, 0x81, 0, 16, 7, 40, 1, 0, 0, 1, 1, 1, 1, 1, 3, 1, 2, 3,
    ]);
    seeds.write("forwarder", "negotiates", &media);
    // Estimates beyond all numbers; then formats and extensions of its own making until every table would be full.
    seeds.write(
        "forwarder",
        "remb-without-end",
        [0u8, 16, 4, 0, 0, 4, 255, 255, 255, 7, 50, 16, 4, 0, 0, 4, 255, 255, 255, 8, 0, 8],
    );
    let codecs: Vec<u8> = (0..12).flat_map(|turn| [10, 0xff, turn]).collect();
    seeds.write("forwarder", "codecs-without-end", [&[0x80][..], &codecs].concat());
    let keyframe = |height: u16| {
        let mut call =
            vec![1u8, 2, 2, 1, 2, 3, 4, 1, 16, 0x90, 0xe0, 0x81, 0x23, 7, 0x20, 0, 1, 2, 0x9d, 1, 0x2a, 64, 1];
        call.extend(height.to_le_bytes());
        call
    };
    let flood =
        [vec![0], keyframe(180), keyframe(360), keyframe(180), vec![8, 0, 9], keyframe(360), vec![7, 200]].concat();
    seeds.write("forwarder", "resizes", flood);
    // Handshakes: undisturbed with data, with losses and repetitions, with changed bytes, with somebody else's certificate.
    seeds.write("dtls", "good", [0u8, 90, 75, 5, b'h', b'e', b'l', b'l', b'o', 0, 0xcb, 3, 1, 2, 3, 0x80]);
    seeds.write("dtls", "stranger", [1u8, 90, 75, 2, 1, 2]);
    seeds.write(
        "dtls",
        "losses",
        [0u8, 17, 16, 0x91, 61, 0xff, 3, 17, 0x92, 18, 3, 0x83, 61, 0xff, 3, 90, 75, 1, 9, 3],
    );
    seeds.write(
        "dtls",
        "changes",
        [0u8, 19, 30, 0, 1, 3, 0x94, 80, 0, 4, 41, 40, 0, 90, 42, 9, 0, 22, 254, 253, 90, 61, 0xff, 3, 90],
    );
    let hello = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    seeds.write("dtls", "invented", [&[0, 43, 25, 0][..], &hello, &[90, 44, 25, 0], &hello].concat());
    // Data channels: opened, talked over, reset, opened again in a new association.
    let open = [3u8, 0, 0, 0, 0, 0, 0, 0, 3, b'J', b'V', b'B', 0];
    let mut sctp = vec![0u8];
    sctp.extend(open);
    sctp.extend([
        4, 0, 0, 4, b'{', b'}', b' ', b' ', 11, 200, 0, 6, 0, 0, 0, 0, 10, 0xe8, 3, 11, 255, 255, 6, 8, 2, 1, 0, 1, 0,
        2, 0,
    ]);
    sctp.extend([7, 0, 0, 0, 0, 0, 0, 1, 0, 0, 10, 0xe8, 3, 9, 1, 1]);
    sctp.extend(open);
    sctp.extend([13, 8, 3, 1, 0, 0, 0, 0, 12, 6, 0, 12, 0, 4, 1, 2, 3, 4]);
    seeds.write("sctp", "channel", &sctp);
    seeds.write(
        "sctp",
        "chunks",
        [0u8, 1, 3, 4, 0, 4, 1, 2, 3, 4, 9, 0, 2, 0, 1, 6, 0, 0, 0, 2, 3, 1, 0, 1, 4, 8, 0, 3, 0, 1, 2, 3],
    );
    let fragments = [0u8, 2, 2, 0, 0, 1, 0, 0, 0, 4, 0, 1, 2, 3, 4, 2, 1, 0, 0, 1, 0, 0, 0, 2, 0, 5, 6];
    seeds.write("sctp", "fragments", fragments);
}

/// Recorders, gateways and components: what goes well, what fails, and what nobody may.
fn services(seeds: &Seeds) {
    let jibri = |rest: &str| format!("<jibri xmlns='http://jitsi.org/protocol/jibri' {rest}/>");
    let dial = |to: &str| {
        format!(
            "<dial xmlns='urn:xmpp:rayo:1' from='fromnumber' to='{to}'><header name='JvbRoomName' value='own@conference.meet.test'/><header name='JvbRoomPassword' value='x'/></dial>"
        )
    };
    let file = jibri("action='start' recording_mode='file' app_data='{}'");
    let pending = format!("aresult {}", jibri("status='pending'"));
    let status = |busy: &str| {
        format!(
            "J<jibri-status xmlns='http://jitsi.org/protocol/jibri'><busy-status xmlns='http://jitsi.org/protocol/jibri' status='{busy}'/><health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
        )
    };
    let moderation = |rest: &str| {
        format!(r#"{{"type":"av_moderation","room":"own@conference.meet.test","mediaType":"audio",{rest}}}"#)
    };
    let metadata = r#"{"type":"room_metadata","metadata":{"startMuted":{"audio":true,"video":false},"moderators":["x"],"participants":["y"],"participantsSoftLimit":5,"visitorsEnabled":true,"visitors":{"live":true},"lobbyEnabled":true,"recording":{"isTranscribingEnabled":true}}}"#;
    let call = |kind: &str, inside: &str| format!("A{kind} {inside}");
    let reference = "<ref xmlns='urn:xmpp:rayo:1' uri='xmpp:call1@gw'/>";
    for (name, lines) in [
        ("recording", vec![pending.clone(), format!("m{file}"), format!("j{}", jibri("status='on'")), status("busy"), "t5".into(),
            format!("m{}", jibri("action='stop' recording_mode='file'")), format!("j{}", jibri("status='off'")), status("idle")]),
        ("stream-fails", vec![pending.clone(), format!("m{}", jibri("action='start' recording_mode='stream' streamid='k' you_tube_broadcast_id='b' displayname='d'")),
            format!("j{}", jibri("status='off' failure_reason='error' should_retry='true'")), "t100".into()]),
        ("sip-calls", vec![pending.clone(), format!("m{}", jibri("action='start' sipaddress='sip:a@b' displayname='A'")), format!("j{}", jibri("status='on' sipaddress='sip:a@b'")),
            format!("m{}", jibri("action='stop' sipaddress='sip:a@b'"))]),
        ("refused-by-all", vec!["aerror ".into(), format!("m{file}"), "t20".into(), "aresult ".into(), format!("m{file}"), "t120".into()]),
        ("silent-recorder", vec![format!("m{file}"), format!("m{file}"), "t16".into(), status("idle"), "t90".into()]),
        ("recorder-in-the-room", vec![format!("p<features><feature var='http://jitsi.org/protocol/jibri'/></features><session_id>{{id}}</session_id><mode>STREAM</mode>"), pending, format!("m{file}"), "p<session_id>{id}</session_id><mode>FILE</mode>".into()]),
        ("strangers", vec![format!("n{file}"), format!("g{file}"), format!("j{}", jibri("status='on' session_id='{id}'")), format!("n{}", dial("+1")), format!("g{}", dial("+1")),
            format!("s{}", moderation(r#""enabled":true"#)), format!("s{metadata}"), format!("n{}", jibri("action='stop'"))]),
        ("call-out", vec![call("result", reference), format!("m{}", dial("+4930")), call("error", ""), format!("m{}", dial("jitsi_meet_transcribe")), "t20".into()]),
        ("gateway", vec!["G<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='supports_sip' value='true'/><stat name='supports_transcription' value='true'/><stat name='participants' value='3'/><stat name='region' value='eu'/><stat name='graceful_shutdown' value='false'/></stats>".into(),
            call("result", reference), format!("m{}", dial("jitsi_meet_transcribe"))]),
        ("moderation", vec![format!("c{}", moderation(r#""enabled":true,"actor":"own@conference.meet.test/mallory""#)), format!("c{}", moderation(r#""whitelists":{"audio":["own@conference.meet.test/malvina"]}"#)),
            "n<mute xmlns='http://jitsi.org/jitmeet/audio' jid='own@conference.meet.test/malvina'>false</mute>".into(), format!("c{}", moderation(r#""enabled":false"#))]),
        ("metadata", vec![format!("d{metadata}"), r#"d{"type":"room_metadata","metadata":{}}"#.into(), r#"d{"type":"room_metadata","metadata":null}"#.into(), format!("c{metadata}")]),
        ("no-json", vec!["c[".into(), "d{}".into(), "c{\"type\":7}".into(), format!("d{}{}", "[".repeat(500), "]".repeat(500)), format!("c{}", moderation(r#""enabled":"yes""#)), format!("c{}", moderation(r#""whitelists":[[]]"#))]),
    ] {
        seeds.write("services", name, lines.join("\n") + "\n");
    }
}

/// Bodies of requests for a conference.
fn conference_requests(seeds: &Seeds) {
    for (name, lines) in [
        (
            "client",
            vec![
                r#"{"room":"r@conference.meet.test","machineUid":"0123","sessionId":"s","properties":{"rtcstatsEnabled":false,"visitors-version":1,"startAudioMuted":"9"}}"#,
                r#"{"room":"r@conference.meet.test"}"#,
                "t20",
                r#"{"room":"r@conference.meet.test","machineUid":"0123"}"#,
            ],
        ),
        (
            "many-rooms",
            vec![
                r#"{"room":"a@conference.meet.test"}"#,
                r#"{"room":"b@conference.meet.test"}"#,
                r#"{"room":"c@conference.meet.test"}"#,
                r#"{"room":"d@conference.meet.test"}"#,
                r#"{"room":"e@conference.meet.test"}"#,
                r#"{"room":"f@conference.meet.test"}"#,
                r#"{"room":"g@conference.meet.test"}"#,
            ],
        ),
        (
            "elsewhere",
            vec![
                r#"{"room":"r@elsewhere.example"}"#,
                r#"{"room":"conference.meet.test"}"#,
                r#"{"room":"r@conference.meet.test/n"}"#,
                r#"{"room":"@@"}"#,
            ],
        ),
        (
            "no-request",
            vec![
                "",
                "null",
                "[]",
                "{}",
                "7",
                "{\"room\":7}",
                "{\"room\":\"r@conference.meet.test\",\"properties\":[]}",
                "{\"room\":\"r\\u0000@c\"}",
                "{\"room\":",
            ],
        ),
        (
            "markup",
            vec![
                r#"{"room":"r'<&>\"@conference.meet.test","machineUid":"'><x/>","sessionId":"]]>","properties":{"<":"&","'":"\u0001"}}"#,
                "{\"room\":\"\u{fffd}@conference.meet.test\"}",
            ],
        ),
    ] {
        seeds.write("conference_request", name, lines.join("\n") + "\n");
    }
    seeds.write(
        "conference_request",
        "no-utf-8",
        [&b"{\"room\":\"r\xff@conference.meet.test\"}\n"[..], &[0xff, 0xfe, 0, b'{']].concat(),
    );
    let deep = format!("{}{}\n", r#"{"a":"#.repeat(300), "}".repeat(300));
    let long = format!("{{\"room\":\"{}@conference.meet.test\"}}\n", "r".repeat(1_100));
    seeds.write("conference_request", "deep-and-long", deep + &long);
}
