import assert from 'node:assert/strict';
import { test } from 'node:test';
import { check, clientHello, crc32, crc32c, fragments, nack, remb, rtp, sctp, sctpInit, stun, transportFeedback, vp8Keyframe } from '../attack.d/packets.mjs';
import { couldBeTheHost, heldMore, heldOf, judge } from '../attack.d/verdict.mjs';
import { summary, window } from '../attack.d/witnesses.mjs';
import { frame } from '../attack.d/websocket.mjs';
import { Reader } from '../attack.d/xmpp.mjs';
import { scenarios } from '../attack.d/scenarios/index.mjs';

test('checksums are those of the standards', () => {
  assert.equal(crc32(Buffer.from('123456789')), 0xcbf43926);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
});

test('a check is well-formed STUN: lengths, cookie, padding', () => {
  const message = check('theirs:ours', 'secret');
  assert.equal(message.readUInt16BE(2), message.length - 20);
  assert.equal(message.readUInt32BE(4), 0x2112a442);
  assert.equal(message.length % 4, 0);
  assert.equal(stun({ length: 7 }).readUInt16BE(2), 7);
});

test('a known signature: RFC 5769, section 2.1', () => {
  // Software, priority, controlled, user name, then integrity over all of it.
  const attribute = (kind, hex) => { const value = Buffer.from(hex, 'hex'); const head = Buffer.alloc(4); head.writeUInt16BE(kind); head.writeUInt16BE(value.length, 2); return Buffer.concat([head, value]); };
  const before = [attribute(0x8022, '5354554e207465737420636c69656e74'), attribute(0x24, '6e0001ff'), attribute(0x8029, '932ff9b151263b36'),
    Buffer.concat([attribute(6, '6576746a3a68367659'), Buffer.from('202020', 'hex')])];
  const message = stun({ transaction: Buffer.from('b7e7a701bc34d686fa87dfae', 'hex'), attributes: before, password: 'VOkJxbRl1RmTxUk/WvJxBt' });
  assert.equal(message.subarray(-28, -8).toString('hex'), '9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2');
  assert.equal(message.subarray(-4).toString('hex'), 'e57a3bcf');
});

test('fragments claim what they are given', () => {
  const hello = clientHello();
  const parts = fragments(1, hello, 60);
  assert.equal(parts.reduce((sum, part) => sum + part.length - 25, 0), hello.length);
  assert.equal(parts[1].readUIntBE(19, 3), 60);
  assert.equal(fragments(1, hello, 60, { total: 0xffffff })[0].readUIntBE(14, 3), 0xffffff);
});

test('RTCP has the lengths that it says', () => {
  for (const packet of [nack(1, 2, 340), remb(1, 63, 0x3ffff, [1, 2]), transportFeedback(1, 2, { runs: 5, deltas: 3 })]) {
    assert.equal(packet.length, 4 * (1 + packet.readUInt16BE(2)));
  }
  // 340 pairs name 17 numbers each, in a packet that a link takes.
  assert.ok(nack(1, 2, 340).length < 1400);
  assert.equal(rtp({ csrcs: 2 }).length, 40);
  assert.equal(vp8Keyframe(320, 180).readUInt16LE(10), 320);
  assert.equal(sctp([sctpInit(1)]).readUInt16BE(14), 20);
});

test('frames of all lengths', () => {
  assert.deepEqual([...frame(Buffer.from('ab')).subarray(0, 2)], [0x81, 0x82]);
  assert.equal(frame(Buffer.alloc(300)).readUInt16BE(2), 300);
  assert.equal(frame(Buffer.alloc(70000)).length, 70014);
  assert.equal(frame(Buffer.from('x'), { length: 2 ** 40 }).readBigUInt64BE(2), 2n ** 40n);
});

test('stanzas in pieces, with references, and the end of the stream', () => {
  const reader = new Reader();
  const text = "<?xml version='1.0'?><stream:stream xmlns='x'><message to='a>b'><body>1 &lt; 2 &amp;amp;</body><x/></message><presence/></stream:stream>";
  const out = [];
  for (const letter of text) out.push(...reader.push(letter));
  assert.deepEqual(out.map(one => one.name ?? one), ['message', 'presence', 'end']);
  assert.equal(out[0].attributes.to, 'a>b');
  assert.equal(out[0].child('body').text, '1 < 2 &amp;');
});

const calm = () => ({
  alive: { bridge: true }, errors: [], held: [], newcomer: { ok: true, seconds: 1 },
  witnesses: { pairs: 6, missing: 0, connected: true, video_gap_ms: 90, audio_gap_ms: 30, audio_lost_percent: 0 },
  health: { bridge: { worst_ms: 20, failures: [], asked: 10 } },
  memory: { bridge: { before: 1e7, after: 1e7, peak: 1.1e7 } },
});

test('who is undisturbed passes, and every limit can fail', () => {
  assert.ok(judge(calm()).every(one => one.ok));
  const broken = {
    dead: seen => { seen.alive.bridge = false; },
    logged: seen => { seen.errors = ['ERROR x']; },
    held: seen => { seen.held = ['endpoints 0 → 1']; },
    newcomer: seen => { seen.newcomer = { ok: false, error: 'x' }; },
    frozen: seen => { seen.witnesses.video_gap_ms = 300; },
    silent: seen => { seen.witnesses.audio_gap_ms = 300; },
    lost: seen => { seen.witnesses.audio_lost_percent = 1.1; },
    missing: seen => { seen.witnesses.missing = 1; },
    'no pairs': seen => { seen.witnesses.pairs = 0; },
    'no report': seen => { seen.witnesses = null; },
    slow: seen => { seen.health.bridge.worst_ms = 1001; },
    unhealthy: seen => { seen.health.bridge.failures = ['status 500']; },
    'never asked': seen => { seen.health.bridge.asked = 0; },
    grown: seen => { seen.memory.bridge.after += 25 * 1024 * 1024; },
    peak: seen => { seen.memory.bridge.peak += 140 * 1024 * 1024; },
  };
  for (const [what, change] of Object.entries(broken)) {
    const seen = calm();
    change(seen);
    assert.equal(judge(seen).filter(one => !one.ok).length, 1, what);
  }
  const killed = calm();
  /** @type {any} */ (killed.health.bridge).failures = ['refused'];
  assert.ok(judge(killed, { unhealthy: ['bridge'] }).every(one => one.ok));
  const seen = calm();
  seen.witnesses.video_gap_ms = 900;
  assert.ok(couldBeTheHost(judge(seen)));
  seen.alive.bridge = false;
  assert.ok(!couldBeTheHost(judge(seen)));
  assert.ok(!couldBeTheHost(judge(calm())));
});

test('held objects are compared by name, without timers', () => {
  const before = heldOf('# HELP\nringbridge_held{worker="0",reason="endpoints"} 3\nringbridge_held{worker="0",reason="timers"} 9\nringbridge_control_held{reason="conferences"} 1\nother 5\n');
  assert.deepEqual(before, { 'ringbridge_held{worker="0",reason="endpoints"}': 3, 'ringbridge_control_held{reason="conferences"}': 1 });
  assert.deepEqual(heldMore(before, { ...before, new: 2, 'ringbridge_control_held{reason="conferences"}': 0 }), ['new 0 → 2']);
});

test('what witnesses say of each other, not of intruders', () => {
  const figures = (packets, lost, gap) => ({ audio_packets: packets, audio_lost: lost, audio_gap_ms: 25, video_gap_ms: gap, video_frames: 10, video_broken: 0 });
  const before = summary([{ endpoint: 'a', connected: true, received: { b: figures(100, 0, 70) } }, { endpoint: 'b', connected: true, received: { a: figures(100, 0, 80), x: figures(5, 99, 9999) } }]);
  assert.deepEqual([before.pairs, before.missing, before.video_gap_ms], [2, 0, 80]);
  const after = summary([{ endpoint: 'a', connected: true, received: { b: figures(149, 1, 70) } }, { endpoint: 'b', connected: true, received: { a: figures(150, 0, 300) } }]);
  const seen = window(before, after);
  assert.equal(seen.audio_lost_percent, 1);
  assert.equal(seen.video_gap_ms, 300);
  assert.equal(window(before, { ...before, audio_lost: 0 }).audio_lost_percent, 100, 'nothing came');
});

test('there are at least 40 attacks, and the quick ones are of the worst kinds', () => {
  assert.ok(Object.keys(scenarios).length >= 40);
  const quick = Object.keys(scenarios).filter(name => scenarios[name].quick);
  // Stanzas that end a process, long names, floods of messages and of requests, half-sent requests, foreign web pages.
  for (const name of ['deep-message', 'long-attribute', 'endpoint-messages', 'conference-burst', 'http-half', 'rest-rebinding']) assert.ok(quick.includes(name), name);
});
