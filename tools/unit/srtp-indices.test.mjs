// What the capture of upgrades finds, and what it lets pass (tools/lib/srtp-indices.mjs).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SrtpIndices } from '../lib/srtp-indices.mjs';

const port = 10000;
const bytes = (length, seed) => Buffer.from(Array.from({ length }, (_, at) => (seed * 31 + at * 7) & 0xff));

/** An RTP packet whose content depends on `seed`. */
function rtp(sequence, seed = sequence, { ssrc = 7, length = 60 } = {}) {
  const packet = Buffer.concat([Buffer.alloc(12), bytes(length - 12, seed)]);
  packet[0] = 0x80;
  packet[1] = 100;
  packet.writeUInt16BE(sequence & 0xffff, 2);
  packet.writeUInt32BE(ssrc, 8);
  return packet;
}

/** A receiver report with an index, and a tag after it unless the suite is AES-GCM. */
function srtcp(index, { tag = 0, ssrc = 9, body = 40 } = {}) {
  const trailer = Buffer.alloc(4);
  trailer.writeUInt32BE((0x80000000 | index) >>> 0);
  const packet = Buffer.concat([Buffer.alloc(8), bytes(body, index), trailer, bytes(tag, index + 1)]);
  packet[0] = 0x80;
  packet[1] = 201;
  packet.writeUInt32BE(ssrc, 4);
  return packet;
}

/** A capture of these datagrams. */
function capture(datagrams, from = port) {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  return Buffer.concat([header, ...datagrams.map(datagram => {
    const head = Buffer.alloc(16 + 42);
    head.writeUInt32LE(42 + datagram.length, 8);
    head.writeUInt16BE(0x0800, 16 + 12);
    head[16 + 14] = 0x45;
    head[16 + 23] = 17;
    head.set([127, 0, 0, 1, 127, 0, 0, 1], 16 + 26);
    head.writeUInt16BE(from, 16 + 34);
    head.writeUInt16BE(40000, 16 + 36);
    return Buffer.concat([head, datagram]);
  })]);
}

function follow(datagrams, from = port) {
  const indices = new SrtpIndices(port);
  const all = capture(datagrams, from);
  // In pieces, as a pipe gives them.
  for (let at = 0; at < all.length; at += 37) indices.push(all.subarray(at, at + 37));
  return indices;
}

test('indices that rise, over the end of the sequence numbers too', () => {
  const indices = follow(Array.from({ length: 200 }, (_, at) => rtp(65400 + at)));
  assert.deepEqual(indices.violations, []);
  assert.deepEqual(indices.counts, { rtp: 200, rtcp: 0, late: 0, repeat: 0 });
  assert.equal([...indices.streams.values()][0].highest, 65536 + 65599);
});

test('the same packet again is no second use of its index, and a late one is none', () => {
  const indices = follow([rtp(1), rtp(3), rtp(3), rtp(2)]);
  assert.deepEqual([indices.violations, indices.counts.repeat, indices.counts.late], [[], 1, 1]);
});

test('another packet with an index that was used', () => {
  const { violations } = follow([rtp(1), rtp(2), rtp(3), rtp(2, 99)]);
  assert.equal(violations.length, 1);
  assert.match(violations[0], /RTP of SSRC 7 .* index 65538 after 65539: reused/);
});

test('a stream that begins anew', () => {
  const { violations } = follow([...Array.from({ length: 5000 }, (_, at) => rtp(10000 + at)), rtp(5)]);
  assert.match(violations[0], /back/);
});

test('SRTCP of both kinds of suites: only upwards', () => {
  for (const tag of [0, 10]) {
    const well = follow([1, 2, 3, 5, 6, 300].map(index => srtcp(index, { tag })));
    assert.deepEqual(well.violations, [], `tag of ${tag}`);
    assert.equal(well.counts.rtcp, 6);
    for (const [last, verdict] of [[3, 'repeat'], [4, 'late']]) {
      const { violations } = follow([...[1, 2, 3, 5, 6].map(index => srtcp(index, { tag })), srtcp(Number(last), { tag })]);
      assert.match(violations[0] ?? '', new RegExp(`SRTCP .* index ${last} after 6: ${verdict}`));
    }
  }
});

test('segments that the kernel cuts apart are packets of their own', () => {
  const segments = [rtp(1), rtp(2), rtp(1, 50, { ssrc: 8 }), rtp(3, 3, { length: 40 })];
  const indices = follow([rtp(0, 1, { ssrc: 8 }), Buffer.concat(segments)]);
  assert.equal(indices.counts.rtp, 5);
  assert.deepEqual(indices.violations, []);
  assert.equal(follow([rtp(2, 77), Buffer.concat([rtp(1), rtp(2)])]).violations.length, 1);
});

test('a tag that ends like the beginning of RTP begins no packet', () => {
  // The last segment may be shorter.
  const reports = Array.from({ length: 8 }, (_, index) => srtcp(index, { tag: 10, body: index % 2 ? 24 : 40 }));
  for (const one of reports) one[one.length - 4] = 0x82;
  const pairs = [0, 2, 4, 6].map(at => Buffer.concat(reports.slice(at, at + 2)));
  const { counts, violations } = follow(pairs);
  assert.deepEqual([counts.rtp, counts.rtcp], [0, 8]);
  assert.deepEqual(violations, []);
});

test('what others send is left out', () => {
  assert.equal(follow([rtp(1), rtp(1, 9)], 10001).counts.rtp, 0);
});
