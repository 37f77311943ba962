// Follows the SRTP indices that a bridge uses, in a packet capture: no index may ever be used for two packets (RFC 3711 section 9.1,
// RFC 7714 section 8.1), whichever process sends. Headers, sequence numbers and SRTCP indices are not encrypted.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** pcap's file and packet headers, and its magic numbers in our byte order: microseconds, nanoseconds. */
const fileHeader = 24, packetHeader = 16;
const magic = [0xa1b2c3d4, 0xa1b23c4d];
/** Link types of a capture on loopback. */
const ethernet = 1;
/** How many of the latest packets of a stream are remembered, and how much later than others one may come. */
const remembered = 4096;
/** Where the SRTCP index may be, counted from the end: the AES-GCM suites, and those with an authentication tag of 80 bits after it. */
const places = [4, 14];
/** SRTCP packets of a stream after which the place is known: it begins with the E bit and, in a short call, seven zeros. */
const enough = 4;
/** Bytes in which two packets differ: the authentication tag, or the end of it. */
const tag = 10;

const isRtcp = packet => packet[1] >= 192 && packet[1] <= 223;
const isMedia = packet => packet.length >= 12 && packet[0] >> 6 === 2;
const ssrcOf = packet => packet.readUInt32BE(isRtcp(packet) ? 4 : 8);
/** With the payload type: the end of a tag may look like the beginning of RTP, with the SSRC of the RTCP behind it where its own would be. */
const sourceOf = packet => `${isRtcp(packet) ? 'RTCP' : packet[1] & 0x7f} ${ssrcOf(packet)}`;

/** The packets of one SSRC to one client, or its RTCP. */
class Stream {
  /** Extended indices (RFC 3711 section 3.3.1) of the latest packets, and the tag of each. @type {Map<number, string>} */
  seen = new Map();
  highest = -1;
  count = 0;

  /** 'new', 'late', 'repeat' for the same packet once more; 'reused' for an index of another one, 'back' for one long gone. */
  follow(index, mark) {
    this.count++;
    const before = this.seen.get(index);
    if (before !== undefined) return before === mark ? 'repeat' : 'reused';
    const verdict = index > this.highest ? 'new' : index > this.highest - remembered ? 'late' : 'back';
    this.highest = Math.max(this.highest, index);
    this.seen.set(index, mark);
    if (this.seen.size > remembered) {
      // In the order in which they came.
      const [oldest] = this.seen.keys();
      this.seen.delete(oldest);
    }
    return verdict;
  }

  /** The index of a sequence number: the nearest to the highest. */
  extend(sequence) {
    if (this.highest < 0) return 65536 + sequence;
    const near = this.highest - (this.highest & 0xffff) + sequence;
    return [near - 65536, near, near + 65536].reduce((best, one) => Math.abs(one - this.highest) < Math.abs(best - this.highest) ? one : best);
  }
}

/** Follows what is sent from a UDP port, fed with a capture as tcpdump writes it. */
export class SrtpIndices {
  /** By client, kind and SSRC. @type {Map<string, Stream>} */
  streams = new Map();
  /** What is sent to each client, by which segments are recognized. @type {Map<string, Set<string>>} */
  sources = new Map();
  /** Where the index is in each client's SRTCP, once that is known, and what came before. */
  srtcp = new Map();
  counts = { rtp: 0, rtcp: 0, late: 0, repeat: 0 };
  /** What must not be, in words. @type {string[]} */
  violations = [];
  rest = Buffer.alloc(0);
  begun = false;

  constructor(port) { this.port = port; }

  /** Takes some more bytes of the capture. */
  push(bytes) {
    let left = this.rest.length ? Buffer.concat([this.rest, bytes]) : bytes;
    if (!this.begun && left.length >= fileHeader) {
      if (!magic.includes(left.readUInt32LE(0)) || left.readUInt32LE(20) !== ethernet) throw new Error('not a capture of loopback in our byte order');
      left = left.subarray(fileHeader);
      this.begun = true;
    }
    while (this.begun && left.length >= packetHeader) {
      const length = left.readUInt32LE(8);
      if (left.length < packetHeader + length) break;
      this.frame(left.subarray(packetHeader, packetHeader + length));
      left = left.subarray(packetHeader + length);
    }
    this.rest = Buffer.from(left);
  }

  frame(frame) {
    if (frame.length < 42 || frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 17) return;
    const udp = 14 + 4 * (frame[14] & 0xf);
    if (frame.readUInt16BE(udp) !== this.port) return;
    const client = `${frame.subarray(30, 34).join('.')}:${frame.readUInt16BE(udp + 2)}`;
    this.datagram(client, frame.subarray(udp + 8));
  }

  /** What one send call had for a client: a datagram, or segments of one length that the kernel was going to cut apart (UDP GSO). */
  datagram(client, bytes) {
    if (!isMedia(bytes)) return;
    const known = this.sources.get(client) ?? new Set();
    this.sources.set(client, known);
    known.add(sourceOf(bytes));
    const begins = at => at + 12 <= bytes.length && isMedia(bytes.subarray(at)) && known.has(sourceOf(bytes.subarray(at)));
    const fits = length => {
      for (let at = length; at < bytes.length; at += length) if (!begins(at)) return false;
      return true;
    };
    let length = 28;
    while (length < bytes.length && !fits(length)) length++;
    for (let at = 0; at < bytes.length; at += length) this.packet(client, bytes.subarray(at, at + length));
  }

  packet(client, packet) {
    if (isRtcp(packet)) return this.control(client, packet);
    this.counts.rtp++;
    const ssrc = ssrcOf(packet);
    const stream = this.stream(client, 'RTP', ssrc);
    this.judge(client, 'RTP', ssrc, stream, stream.extend(packet.readUInt16BE(2)), packet);
  }

  /** SRTCP says its index in full; where it is depends on the cipher suite. */
  control(client, packet) {
    this.counts.rtcp++;
    const state = this.srtcp.get(client) ?? { place: undefined, waiting: [] };
    this.srtcp.set(client, state);
    state.waiting.push(Buffer.from(packet));
    const begins = place => state.waiting.every(one => one.length > place + 8 && one[one.length - place] === 0x80);
    const fitting = places.filter(begins);
    if (state.place === undefined && state.waiting.length >= enough && fitting.length === 1) state.place = fitting[0];
    if (state.place === undefined) {
      if (!fitting.length) this.violations.push(`SRTCP to ${client}: no index is where one should be`);
      return;
    }
    for (const one of state.waiting.splice(0)) {
      const ssrc = ssrcOf(one);
      const index = one.readUInt32BE(one.length - state.place) & 0x7fffffff;
      this.judge(client, 'SRTCP', ssrc, this.stream(client, 'SRTCP', ssrc), index, one);
    }
  }

  stream(client, kind, ssrc) {
    const key = `${kind} ${ssrc} to ${client}`;
    const stream = this.streams.get(key) ?? new Stream();
    this.streams.set(key, stream);
    return stream;
  }

  judge(client, kind, ssrc, stream, index, packet) {
    const highest = stream.highest;
    const verdict = stream.follow(index, `${packet.length} ${packet.toString('latin1', packet.length - tag - 4)}`);
    // A bridge numbers its own RTCP in the order in which it sends.
    if (verdict === 'reused' || verdict === 'back' || kind === 'SRTCP' && verdict !== 'new') {
      this.violations.push(`${kind} of SSRC ${ssrc} to ${client}: index ${index} after ${highest}: ${verdict}`);
    } else if (verdict !== 'new') this.counts[verdict]++;
  }

  /** What was followed, in words. */
  figures() {
    const { rtp, rtcp, late, repeat } = this.counts;
    return `${rtp} RTP and ${rtcp} RTCP packets on ${this.streams.size} streams captured, no index used twice (${late} out of order, ${repeat} repeated byte for byte)`;
  }
}

/** Captures what is sent from a UDP port on loopback, until `stop`; needs root and tcpdump. */
export async function watchIndices(port) {
  const indices = new SrtpIndices(port);
  const program = ['/usr/bin/tcpdump', '/usr/sbin/tcpdump'].find(existsSync) ?? 'tcpdump';
  // Not as another user, who could not be ended.
  const child = spawn(program, ['-i', 'lo', '-n', '-s', '0', '-B', '65536', '-Z', 'root', '-w', '-', '-U', `udp src port ${port}`], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '', failure;
  child.stdout.on('data', data => {
    try { indices.push(data); } catch (error) { failure ??= error; }
  });
  const listening = new Promise((resolve, reject) => {
    child.stderr.on('data', data => {
      said += data;
      if (/listening on/.test(said)) resolve(undefined);
    });
    child.on('error', reject);
    child.on('close', code => reject(new Error(`tcpdump ended with ${code}: ${said}`)));
  });
  const ended = new Promise(resolve => { child.on('close', resolve).on('error', resolve); });
  await listening;
  return {
    indices,
    stop: async () => {
      child.kill('SIGINT');
      await ended;
      if (failure) throw failure;
      const missed = Number(/(\d+) packets dropped by kernel/.exec(said)?.[1] ?? 0);
      return { indices, missed };
    },
  };
}
