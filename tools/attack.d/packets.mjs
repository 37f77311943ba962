// Datagrams by hand: STUN, DTLS, RTP, RTCP.
import { createHmac, randomBytes } from 'node:crypto';

const u8 = (...values) => Buffer.from(values);
const u16 = value => { const b = Buffer.alloc(2); b.writeUInt16BE(value & 0xffff); return b; };
const u24 = value => Buffer.from([(value >> 16) & 255, (value >> 8) & 255, value & 255]);
const u32 = value => { const b = Buffer.alloc(4); b.writeUInt32BE(value >>> 0); return b; };

const crcTable = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

/** CRC-32 of ISO 3309. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

export const stunTypes = { request: 0x0001, indication: 0x0011, success: 0x0101, error: 0x0111 };

/** One STUN attribute, padded. */
export function attribute(kind, value) {
  const padding = Buffer.alloc((4 - value.length % 4) % 4);
  return Buffer.concat([u16(kind), u16(value.length), value, padding]);
}

/**
 * A STUN message; `username`, `password` sign it as a check of ICE. `attributes` come before the signature; `length`
 * overrides what the header says.
 * @param {{ type?: number, username?: string, password?: string, attributes?: Buffer[], length?: number, fingerprint?: boolean, transaction?: Buffer }} [options]
 */
export function stun({ type = stunTypes.request, username, password, attributes = [], length, fingerprint = true, transaction = randomBytes(12) } = {}) {
  const head = size => Buffer.concat([u16(type), u16(size), u32(0x2112a442), transaction]);
  let body = Buffer.concat([...username === undefined ? [] : [attribute(0x0006, Buffer.from(username))], ...attributes]);
  if (password !== undefined) {
    const tag = createHmac('sha1', password).update(Buffer.concat([head(body.length + 24), body])).digest();
    body = Buffer.concat([body, attribute(0x0008, tag)]);
  }
  if (fingerprint) {
    const crc = crc32(Buffer.concat([head(body.length + 8), body])) ^ 0x5354554e;
    body = Buffer.concat([body, attribute(0x8028, u32(crc))]);
  }
  return Buffer.concat([head(length ?? body.length), body]);
}

/** A check of ICE as a controlled agent sends it. */
export const check = (username, password) =>
  stun({ username, password, attributes: [attribute(0x0024, u32(1853824767)), attribute(0x8029, randomBytes(8))] });

/** A DTLS record of a plaintext epoch. */
export const dtlsRecord = (body, { type = 22, epoch = 0, sequence = 0, version = 0xfefd } = {}) =>
  Buffer.concat([u8(type), u16(version), u16(epoch), u16(0), u32(sequence), u16(body.length), body]);

/** The body of a ClientHello with ECDHE-ECDSA suites, use_srtp and a random. */
export function clientHello({ cookie = Buffer.alloc(0), extensions = [] } = {}) {
  const suites = Buffer.concat([0xc02b, 0xc02c, 0xcca9].map(u16));
  const extension = (kind, body) => Buffer.concat([u16(kind), u16(body.length), body]);
  const known = [
    extension(10, Buffer.concat([u16(4), u16(23), u16(29)])),
    extension(11, u8(1, 0)),
    extension(13, Buffer.concat([u16(4), u16(0x0403), u16(0x0503)])),
    extension(14, Buffer.concat([u16(4), u16(7), u16(1), u8(0)])),
    extension(23, Buffer.alloc(0)),
    ...extensions,
  ];
  const all = Buffer.concat(known);
  return Buffer.concat([u16(0xfefd), randomBytes(32), u8(0), u8(cookie.length), cookie, u16(suites.length), suites, u8(1, 0), u16(all.length), all]);
}

/** A handshake message in fragments of `size` bytes; `total` overrides the length that they claim. */
export function fragments(type, body, size, { total = body.length, message = 0 } = {}) {
  const parts = [];
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size);
    parts.push(Buffer.concat([u8(type), u24(total), u16(message), u24(at), u24(part.length), part]));
  }
  return parts.map((part, sequence) => dtlsRecord(part, { sequence }));
}

/**
 * An RTP packet.
 * @param {{ type?: number, sequence?: number, timestamp?: number, ssrc?: number, marker?: boolean, payload?: Buffer, extension?: Buffer, csrcs?: number }} [options]
 */
export function rtp({ type = 111, sequence = 1, timestamp = 0, ssrc = 1, marker = false, payload = Buffer.alloc(20), extension, csrcs = 0 } = {}) {
  const first = 0x80 | (extension ? 0x10 : 0) | csrcs;
  const head = Buffer.concat([u8(first, (marker ? 0x80 : 0) | type), u16(sequence), u32(timestamp), u32(ssrc), Buffer.alloc(4 * csrcs)]);
  return Buffer.concat([head, extension ?? Buffer.alloc(0), payload]);
}

/** A VP8 payload: a keyframe of a size, in one packet. */
export const vp8Keyframe = (width, height, pictureId = 1, length = 60) => Buffer.concat([
  u8(0x90, 0x80, 0x80 | (pictureId >> 8), pictureId & 255),
  u8(0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a), u8(width & 255, width >> 8, height & 255, height >> 8), Buffer.alloc(length)]);

/** An RTCP packet; `count` is the five-bit field, the body a multiple of four bytes. */
export const rtcp = (type, count, body) => Buffer.concat([u8(0x80 | count, type), u16(body.length / 4), body]);

export const receiverReport = (ssrc, about) => rtcp(201, 1, Buffer.concat([u32(ssrc), u32(about), u32(0x00000000), u32(1), u32(0), u32(0), u32(0)]));

/** A generic NACK that asks for `pairs` × 17 numbers. */
export const nack = (ssrc, media, pairs, first = 0) => rtcp(205, 1, Buffer.concat([u32(ssrc), u32(media),
  ...Array.from({ length: pairs }, (_, n) => Buffer.concat([u16(first + 17 * n), u16(0xffff)]))]));

export const pli = (ssrc, media) => rtcp(206, 1, Buffer.concat([u32(ssrc), u32(media)]));

/** A FIR with `entries` of which each has a number of its own. */
export const fir = (ssrc, media, number, entries = 1) => rtcp(206, 4, Buffer.concat([u32(ssrc), u32(0),
  ...Array.from({ length: entries }, () => Buffer.concat([u32(media), u8(number & 255, 0, 0, 0)]))]));

/** A REMB of mantissa × 2^exponent for the named SSRCs. */
export const remb = (ssrc, exponent, mantissa, ssrcs) => rtcp(206, 15, Buffer.concat([u32(ssrc), u32(0), Buffer.from('REMB'),
  u8(ssrcs.length, (exponent << 2) | (mantissa >> 16)), u16(mantissa), ...ssrcs.map(u32)]));

/**
 * Transport-wide feedback: `runs` run-length chunks that each claim `length` packets with status `status`.
 * @param {number} ssrc
 * @param {number} media
 * @param {{ base?: number, claimed?: number, runs?: number, length?: number, status?: number, deltas?: number, number?: number }} [options]
 */
export function transportFeedback(ssrc, media, { base = 0, claimed, runs = 1, length = 8191, status = 1, deltas = 0, number = 0 } = {}) {
  const chunks = Array.from({ length: runs }, () => u16((status << 13) | length));
  let body = Buffer.concat([u32(ssrc), u32(media), u16(base), u16(claimed ?? Math.min(65535, runs * length)), u24(1), u8(number), ...chunks, Buffer.alloc(deltas, 1)]);
  body = Buffer.concat([body, Buffer.alloc((4 - body.length % 4) % 4)]);
  return rtcp(205, 15, body);
}

/** A goodbye of up to 31 sources. */
export const bye = ssrcs => rtcp(203, ssrcs.length, Buffer.concat(ssrcs.map(u32)));

/** An SCTP packet with wrong or right checksum: chunks as they are given. */
export const sctp = (chunks, { tag = 0, from = 5000, to = 5000 } = {}) => {
  const packet = Buffer.concat([u16(from), u16(to), u32(tag), u32(0), ...chunks]);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
};

export const sctpChunk = (type, flags, body) => Buffer.concat([u8(type, flags), u16(4 + body.length), body, Buffer.alloc((4 - body.length % 4) % 4)]);

/** An INIT chunk. */
export const sctpInit = (tag, streams = 65535) => sctpChunk(1, 0, Buffer.concat([u32(tag), u32(1500000), u16(streams), u16(streams), u32(1)]));

const castagnoli = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0x82f63b78 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

/** CRC-32C, the checksum of SCTP. */
export function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = castagnoli[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
