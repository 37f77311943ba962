// Participants who cheat: with keys, in the room of the witnesses.
import { randomBytes } from 'node:crypto';
import { sleep } from '../../lib/process.mjs';
import { bye, fir, nack, pli, receiverReport, remb, rtcp, rtp, sctp, sctpChunk, sctpInit, transportFeedback, vp8Keyframe } from '../packets.mjs';
import { Cheat } from '../peer.mjs';

/** With keys in the witnesses' room; leaves in any case. */
export async function inside(rig, run, options) {
  const cheat = await Cheat.enter(rig, rig.room, options);
  try {
    await sleep(500);
    return await run(cheat, rig.witnesses.sessions) ?? {};
  } finally {
    await cheat.leave();
    await sleep(300);
  }
}

const sent = async (cheat, work) => {
  const before = await cheat.peer.count();
  const seconds = [];
  for (const order of await work()) seconds.push(order.seconds);
  const after = await cheat.peer.count();
  const packets = after.sent - before.sent;
  return { figures: { packets, mbit: Number(((after.sent_bytes - before.sent_bytes) * 8 / 1e6).toFixed(1)), seconds: Number(seconds.reduce((a, b) => a + b, 0).toFixed(1)) },
    checks: [{ what: 'packets left', value: packets, ok: packets >= 20 }] };
};

/** Orders one after the other. */
const each = async orders => { const done = []; for (const order of orders) done.push(await order()); return done; };

export const scenarios = {
  'foreign-ssrcs': {
    guards: 'SSRCs that were never signalled: 20,000 of them, 5,000 packets a second',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.rtp([rtp({ ssrc: 1000, sequence: 5 })], { count: 20000, per_second: 5000, sequence: 1, ssrcs: 20000 }),
      () => cheat.peer.rtcp([receiverReport(1, 5), rtcp(200, 0, Buffer.alloc(24, 7))], { count: 5000, per_second: 5000, random: [4, 4] }),
    ]))),
  },
  'ssrcs-of-others': {
    guards: 'media with the SSRCs of the witnesses, and BYEs in their name',
    run: rig => inside(rig, (cheat, sessions) => sent(cheat, () => each([
      () => cheat.peer.rtp(sessions.flatMap(one => [rtp({ ssrc: one.ssrcs.audio, sequence: 60000 }), rtp({ type: 100, ssrc: one.ssrcs.video, sequence: 60000, payload: vp8Keyframe(64, 64) })]), { count: 9000, per_second: 3000, sequence: 1, timestamp: 960 }),
      () => cheat.peer.rtcp([bye(sessions.map(one => one.ssrcs.video)), bye(sessions.map(one => one.ssrcs.audio)), rtcp(200, 0, Buffer.concat([Buffer.from(new Uint32Array([sessions[0].ssrcs.video]).buffer).reverse(), Buffer.alloc(20, 255)]))], { count: 900, per_second: 300 }),
    ]))),
  },
  'nack-storm': {
    guards: '25 Mbit/s of NACKs with 5,780 numbers each, for the video and audio of witnesses',
    run: rig => inside(rig, (cheat, sessions) => sent(cheat, () => each([
      () => cheat.peer.rtcp(sessions.flatMap(one => [nack(cheat.ssrcs.video, one.ssrcs.video, 340), nack(cheat.ssrcs.video, one.ssrcs.video, 340, 30000)]), { count: 11000, per_second: 2200 }),
    ]))),
  },
  'keyframe-storm': {
    guards: '4,000 PLI and FIR a second for the video of all witnesses, FIR with 150 entries',
    run: rig => inside(rig, (cheat, sessions) => sent(cheat, () => each([
      () => cheat.peer.rtcp(sessions.map(one => pli(cheat.ssrcs.video, one.ssrcs.video)), { count: 8000, per_second: 4000 }),
      () => cheat.peer.rtcp(Array.from({ length: 64 }, (_, n) => fir(cheat.ssrcs.video, sessions[n % 3].ssrcs.video, n)), { count: 8000, per_second: 4000 }),
      () => cheat.peer.rtcp(Array.from({ length: 16 }, (_, n) => fir(cheat.ssrcs.video, sessions[n % 3].ssrcs.video, n, 150)), { count: 2000, per_second: 1000 }),
    ]))),
  },
  'remb-storm': {
    guards: 'REMB of 0, of 2^62 and more, with all exponents, for up to 255 SSRCs',
    run: rig => inside(rig, (cheat, sessions) => sent(cheat, () => each([
      () => cheat.peer.rtcp([...Array.from({ length: 64 }, (_, exponent) => remb(cheat.ssrcs.video, exponent, 0x3ffff, [sessions[0].ssrcs.video])),
        remb(cheat.ssrcs.video, 0, 0, []), remb(cheat.ssrcs.video, 63, 1, Array(255).fill(sessions[0].ssrcs.video))], { count: 6000, per_second: 2000 }),
    ]))),
  },
  'feedback-storm': {
    guards: 'transport-wide feedback about 65,535 packets that were never sent, in run lengths, with jumping bases',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.rtcp(Array.from({ length: 32 }, (_, n) => transportFeedback(cheat.ssrcs.video, 0, { base: n * 2111, runs: 1 + n * 8, status: n % 4, deltas: n * 30, number: n })), { count: 6000, per_second: 1500 }),
      () => cheat.peer.rtcp([transportFeedback(cheat.ssrcs.video, 0, { claimed: 65535, runs: 340, length: 8191, status: 0 }), transportFeedback(cheat.ssrcs.video, 0, { claimed: 0, runs: 0 })], { count: 3000, per_second: 1500 }),
    ]))),
  },
  'rtcp-garbage': {
    guards: 'invalid RTCP: random bodies of all types, compounds of 300, wrong lengths, sender reports that jump',
    run: rig => inside(rig, cheat => {
      const types = [192, 200, 201, 202, 203, 204, 205, 206, 207, 208, 223];
      const compound = Buffer.concat(Array.from({ length: 100 }, () => receiverReport(1, 2))).subarray(0, 1300);
      const packets = [...types.map(type => rtcp(type, 31, randomBytes(400))), ...types.map(type => rtcp(type, 0, randomBytes(4))), compound,
        Buffer.concat([receiverReport(1, 2), Buffer.from([0x80, 200, 0xff, 0xff])]), Buffer.concat([receiverReport(1, 2), randomBytes(3)])];
      return sent(cheat, () => each([() => cheat.peer.rtcp(packets, { count: 8000, per_second: 2000, random: [8, 300] })]));
    }),
  },
  'packet-flood': {
    guards: 'a signalled source of audio at 4,000 packets a second and one of video at 25 Mbit/s, then 30,000 a second that were not signalled',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.rtp([rtp({ ssrc: cheat.ssrcs.audio, payload: randomBytes(80) })], { count: 8000, per_second: 4000, sequence: 1, timestamp: 960 }),
      () => cheat.peer.rtp([rtp({ type: 100, ssrc: cheat.ssrcs.video, marker: true, payload: vp8Keyframe(320, 180, 1, 1000) })], { count: 6000, per_second: 3000, sequence: 1, timestamp: 3000 }),
      () => cheat.peer.rtp([rtp({ ssrc: 4242, payload: randomBytes(1000) })], { count: 60000, per_second: 30000, sequence: 1 }),
    ]))),
  },
  replays: {
    guards: 'each packet 50 times and also from another address; with more than 64 SSRCs in between',
    run: rig => inside(rig, async (cheat, sessions) => {
      const first = await sent(cheat, () => each([
        () => cheat.peer.rtp([rtp({ ssrc: cheat.ssrcs.audio, payload: randomBytes(80) })], { count: 300, per_second: 100, sequence: 1, timestamp: 960, repeat: 50, elsewhere: true }),
        () => cheat.peer.rtp([rtp({ ssrc: 9000, payload: randomBytes(80) })], { count: 600, per_second: 1200, ssrcs: 200, repeat: 10 }),
        () => cheat.peer.rtcp([pli(cheat.ssrcs.video, sessions[0].ssrcs.video)], { count: 100, per_second: 100, repeat: 50 }),
      ]));
      return first;
    }),
  },
  'jumping-numbers': {
    guards: 'sequence numbers and timestamps that jump at random, markers on all packets, payload types that were not negotiated',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.rtp([rtp({ ssrc: cheat.ssrcs.audio, payload: randomBytes(80) })], { count: 6000, per_second: 2000, sequence: 32767, timestamp: 0x7ffffff1 }),
      () => cheat.peer.rtp([rtp({ type: 100, ssrc: cheat.ssrcs.video, marker: true, payload: randomBytes(900) })], { count: 3000, per_second: 1500, sequence: 20001, random: [13, 40] }),
      () => cheat.peer.rtp(Array.from({ length: 128 }, (_, type) => rtp({ type, ssrc: cheat.ssrcs.video, payload: randomBytes(30) })), { count: 3000, per_second: 1500, sequence: 1 }),
      () => cheat.peer.rtp([Buffer.from([0xbe, 0xde, 0xff, 0xff]), Buffer.from([0x10, 0x00, 0xff, 0xff]), Buffer.from([0xbe, 0xde, 0, 1, 0xff, 0xff, 0xff, 0xff])]
        .map(extension => rtp({ ssrc: cheat.ssrcs.audio, extension, payload: randomBytes(40) })), { count: 3000, per_second: 1500, sequence: 1 }),
    ]))),
  },
  heights: {
    guards: 'VP8 keyframes whose height alternates, 400 a second',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.rtp(Array.from({ length: 8 }, (_, n) => rtp({ type: 100, ssrc: cheat.ssrcs.video, sequence: n + 1, timestamp: n * 3000, marker: true, payload: vp8Keyframe(n % 2 ? 1280 : 320, [180, 720, 360, 90, 1080, 16383, 1, 240][n], n) })),
        { count: 2000, per_second: 400, sequence: 8, timestamp: 24000 }),
    ]))),
  },
  'data-channel': {
    guards: 'SCTP over DTLS: endless INITs with 65,535 streams, wrong tags, wrong lengths, data before an association',
    run: rig => inside(rig, cheat => sent(cheat, () => each([
      () => cheat.peer.data([sctp([sctpInit(1)]), sctp([sctpInit(0)]), sctp([sctpInit(77), sctpInit(78)]), sctp([sctpChunk(10, 0, randomBytes(300))], { tag: 5 }),
        sctp([sctpChunk(0, 3, randomBytes(800))], { tag: 7 }), sctp([sctpChunk(3, 0, randomBytes(600))], { tag: 7 }), sctp([sctpChunk(192, 0, randomBytes(900))]),
        sctp([sctpChunk(6, 0, Buffer.alloc(0))]), randomBytes(13), sctp([Buffer.from([0, 3, 0xff, 0xff])])], { count: 5000, per_second: 1500 }),
    ]))),
  },
  moving: {
    guards: 'a participant changes its address 200 times, and sends its media from all of them',
    run: rig => inside(rig, async cheat => {
      for (let n = 0; n < 200; n++) await cheat.peer.order({ do: 'move' });
      await sleep(700);
      return sent(cheat, () => each([() => cheat.peer.rtp([rtp({ ssrc: cheat.ssrcs.audio })], { count: 300, per_second: 300, sequence: 1, timestamp: 960 })]));
    }),
  },
};
