// What comes back to a sender whose address may be another's.
import { createSocket } from 'node:dgram';
import { sleep } from '../../lib/process.mjs';
import { check, clientHello, fragments, nack, pli, rtp, stun } from '../packets.mjs';
import { Cheat } from '../peer.mjs';
import { Intruder, decent, source } from '../xmpp.mjs';

/** Sends each packet once from a socket of its own and counts for `seconds` what comes back. */
async function provoke(rig, packets, seconds) {
  const socket = createSocket('udp4');
  let back = 0, datagrams = 0;
  socket.on('message', data => { back += data.length; datagrams++; });
  await new Promise(resolve => socket.bind(0, '127.0.0.1', () => resolve(undefined)));
  const [host, port] = rig.media.split(':');
  for (const packet of packets) socket.send(packet, Number(port), host);
  await sleep(seconds * 1000);
  socket.close();
  const sent = packets.reduce((sum, one) => sum + one.length, 0);
  return { sent, back, datagrams, ratio: Number((back / sent).toFixed(2)) };
}

export const scenarios = {
  reflection: {
    guards: 'reflection: bytes sent back per byte received before authentication, for every kind of datagram',
    newcomer: false,
    async run(rig) {
      const { ufrag, ssrcs } = rig.witnesses.sessions[0];
      const kinds = {
        'STUN without user': Array.from({ length: 20 }, () => stun()),
        'STUN with a user, unsigned': Array.from({ length: 20 }, () => check(`${ufrag}:abcd`)),
        'STUN with a user, signed wrongly': Array.from({ length: 20 }, () => check(`${ufrag}:abcd`, 'wrong')),
        'STUN with an attribute that must be known': Array.from({ length: 20 }, () => stun({ username: `${ufrag}:abcd`, attributes: [Buffer.from([0, 0x77, 0, 0])] })),
        'DTLS ClientHello': Array.from({ length: 20 }, () => fragments(1, clientHello(), 1200)[0]),
        'RTP': Array.from({ length: 20 }, (_, n) => rtp({ ssrc: ssrcs.video, sequence: n })),
        'RTCP that asks': [nack(1, ssrcs.video, 300), pli(1, ssrcs.video), pli(1, ssrcs.audio)],
      };
      const figures = {};
      const checks = [];
      for (const [what, packets] of Object.entries(kinds)) {
        const { ratio, sent, back } = figures[what] = await provoke(rig, packets, 0.7);
        checks.push({ what: `bytes back per byte, ${what}`, value: ratio, limit: 'at most 1', ok: sent > 0 && back <= sent });
      }
      return { figures, checks };
    },
  },
  amplification: {
    guards: 'amplification: a participant signs one check with its own password and spoofs a victim\'s address',
    async run(rig) {
      const intruder = await new Intruder(rig, rig.room).join();
      const session = await intruder.transport();
      const name = intruder.nick;
      await intruder.accept({ audio: decent.audio(source(77001, `${name}-a0`, `${name}-a x`)), video: decent.video(''),
        credentials: { ufrag: 'abcd', password: 'x'.repeat(24), fingerprint: Array(32).fill('AB').join(':') } });
      await sleep(300);
      const checks = {
        'one check': [check(`${session.ufrag}:abcd`, session.password)],
        '100 checks': Array.from({ length: 100 }, () => check(`${session.ufrag}:abcd`, session.password)),
        'a check and a ClientHello': [check(`${session.ufrag}:abcd`, session.password), ...fragments(1, clientHello(), 1200)],
      };
      const figures = {};
      for (const [what, packets] of Object.entries(checks)) figures[what] = await provoke(rig, packets, 8);
      intruder.leave();
      await sleep(500);
      return { figures, checks: Object.entries(figures).map(([what, { ratio }]) =>
        ({ what: `bytes back per byte, ${what}`, value: ratio, limit: 'at most 20', ok: ratio <= 20 })) };
    },
  },
  'silent-participant': {
    guards: 'amplification: a participant with keys goes silent; media to its address ends with consent (RFC 7675, 30 s)',
    timeout: 120000,
    async run(rig) {
      const cheat = await Cheat.enter(rig, rig.room);
      await sleep(2000);
      const before = await cheat.peer.count();
      await cheat.peer.order({ do: 'silence' });
      const start = Date.now();
      let last = (await cheat.peer.count()).received, ended;
      while (!ended && Date.now() - start < 45000) {
        await sleep(1000);
        const { received } = await cheat.peer.count();
        if (received - last <= 2) ended = (Date.now() - start) / 1000;
        last = received;
      }
      await cheat.leave();
      await sleep(500);
      return { figures: { datagrams_before: before.received, ended_after_s: ended }, checks: [
        { what: 'media came before', value: before.received, ok: before.received > 50 },
        { what: 'media ended', value: ended === undefined ? 'not' : Number(ended.toFixed(0)), limit: 'at most 40', unit: 's', ok: ended !== undefined && ended <= 40 }] };
    },
  },
};
