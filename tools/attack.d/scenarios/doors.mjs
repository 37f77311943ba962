// Strangers at the doors: datagrams and connections from whoever knows an address.
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { randomBytes } from 'node:crypto';
import { sleep, until } from '../../lib/process.mjs';
import { counter, relays } from '../../lib/relays.mjs';
import { attribute, check, clientHello, dtlsRecord, fragments, nack, rtp, stun, stunTypes } from '../packets.mjs';
import { Peer } from '../peer.mjs';
import { Channel } from '../websocket.mjs';

/**
 * Floods the media port; the bridge must not answer with more than it gets.
 * @param {any} rig
 * @param {Buffer[]} packets
 * @param {{ per_second?: number, seconds?: number, random?: number[] }} [pace]
 */
async function flood(rig, packets, { per_second = 15000, seconds = 4, random } = {}) {
  const peer = new Peer(rig);
  try {
    const done = await peer.plain(packets, { count: per_second * seconds, per_second, ...random && { random } });
    await sleep(300);
    const { sent, sent_bytes, received_bytes } = await peer.count();
    const least = Math.round(per_second * seconds * rig.rate / 4);
    return { figures: { sent, per_second: Math.round(sent / done.seconds), bytes_back_per_byte: Number((received_bytes / sent_bytes).toFixed(3)) },
      checks: [{ what: 'bytes back per byte', value: Number((received_bytes / sent_bytes).toFixed(3)), limit: 'at most 1', ok: received_bytes <= sent_bytes },
        { what: 'it was a flood', value: sent, limit: `at least ${least}`, unit: 'datagrams', ok: sent >= least }] };
  } finally {
    await peer.end();
  }
}

/** `count` connections that send `head` and then, for `seconds`, one more byte every half second. */
async function halfOpen(ports, count, head, seconds) {
  const sockets = [];
  let refused = 0, closed = 0;
  for (let n = 0; n < count; n++) {
    const socket = connect(ports[n % ports.length], '127.0.0.1', () => socket.write(head));
    socket.on('error', () => { refused++; });
    socket.on('close', () => { closed++; });
    sockets.push(socket);
    if (n % 100 === 99) await sleep(20);
  }
  for (let n = 0; n < seconds * 2; n++) {
    await sleep(500);
    for (const socket of sockets) if (!socket.destroyed) socket.write('x');
  }
  const open = sockets.filter(one => !one.destroyed).length;
  for (const socket of sockets) socket.destroy();
  await sleep(300);
  return { connections: count, refused, closed_by_the_server: closed - refused, open_at_the_end: open };
}

/** A STUN server that hears questions and never answers; its port is one of its own. */
/** @type {{ port: number, socket?: import('node:dgram').Socket, questions: number }} */
const silentServer = { port: 34780 + process.pid % 1000, socket: undefined, questions: 0 };

/** The forged answer: who is asked has the worker and four bytes of ones before seven random bytes in its transaction. */
const answer = (worker, /** @type {{ type?: number, address?: number[], fingerprint?: boolean, length?: number }} */ { type = stunTypes.success, address = [192, 0, 2, 66], ...more } = {}) => {
  const port = 10000 ^ 0x2112, mapped = Buffer.from([0, 1, port >> 8, port & 255, ...address.map((octet, n) => octet ^ [0x21, 0x12, 0xa4, 0x42][n])]);
  return stun({ type, transaction: Buffer.concat([Buffer.from([worker, 255, 255, 255, 255]), randomBytes(7)]), attributes: [attribute(0x0020, mapped)], ...more });
};

const ufragOf = rig => rig.witnesses.sessions[0].ufrag;

export const scenarios = {
  'stun-valid': {
    guards: 'well-formed checks at 15,000 a second: no user, unknown users, a witness\'s user with a wrong password',
    run: rig => flood(rig, [stun(), check('unknown:abcd', 'x'), check(`${ufragOf(rig)}:abcd`, 'wrong'), check(`${ufragOf(rig)}:abcd`),
      check(`${ufragOf(rig)}:${'x'.repeat(500)}`, 'wrong'), stun({ type: stunTypes.indication }), stun({ type: stunTypes.success, password: 'x' }), stun({ type: stunTypes.error })]),
  },
  'stun-invalid': {
    guards: 'STUN with wrong lengths, endless attributes, wrong fingerprints, unknown methods',
    run: rig => flood(rig, [
      stun({ length: 0 }), stun({ length: 65532 }), stun({ length: 3 }), stun({ type: 0x3fff }), stun({ fingerprint: false }).subarray(0, 19),
      stun({ attributes: Array.from({ length: 300 }, (_, n) => attribute(n, Buffer.alloc(0))) }),
      stun({ username: 'x'.repeat(1300) }), stun({ username: `${ufragOf(rig)}:`, attributes: [attribute(8, Buffer.alloc(20))] }),
      stun({ attributes: [attribute(0x0006, Buffer.from(':')), attribute(0x0006, Buffer.from('::'))] }),
      Buffer.concat([stun({ fingerprint: false, length: 8 }), Buffer.from([0, 6, 0xff, 0xff, 0, 0, 0, 0])]),
    ]),
  },
  'stun-answers': {
    guards: 'unsolicited answers of STUN servers, 15,000 a second, while the bridge asks a silent one: none of their addresses is used',
    open: () => {
      silentServer.questions = 0;
      silentServer.socket = createSocket('udp4', () => { silentServer.questions++; }).bind(silentServer.port, '127.0.0.1');
      return { stack: { environment: { RINGBRIDGE_STUN_SERVER: `127.0.0.1:${silentServer.port}` } } };
    },
    closed: () => silentServer.socket?.close(),
    async run(rig) {
      const packets = Array.from({ length: 40 }, (_, n) => answer(n % 3 === 2 ? 255 : n % 2));
      const { figures, checks } = await flood(rig, [...packets, answer(0, { address: [0, 0, 0, 0] }), answer(0, { type: stunTypes.error }), answer(0, { fingerprint: false }), answer(1, { length: 0 })]);
      const text = await (await fetch(rig.bridge.bridgeUrl('/metrics'))).text();
      const told = Number(/^ringbridge_public_addresses\{source="stun"\} (\d+)$/m.exec(text)?.[1] ?? -1);
      return { figures: { ...figures, questions: silentServer.questions },
        checks: [...checks, { what: 'addresses of theirs that are announced', value: told, limit: 'none', ok: told === 0 },
          { what: 'the bridge asks', value: silentServer.questions, limit: 'at least 2', unit: 'questions', ok: silentServer.questions >= 2 }] };
    },
  },
  'stun-huge': {
    guards: 'STUN of 9 to 60 kB',
    run: rig => flood(rig, [stun({ username: 'x'.repeat(9000) }), stun({ attributes: [attribute(0x8022, randomBytes(60000))] })], { per_second: 1500 }),
  },
  'dtls-hello': {
    guards: 'complete ClientHellos from addresses unknown to ICE, with and without a cookie, 15,000 a second',
    run: rig => flood(rig, [...fragments(1, clientHello(), 1200), ...fragments(1, clientHello({ cookie: randomBytes(32) }), 1200), dtlsRecord(randomBytes(40), { type: 21 }), dtlsRecord(randomBytes(800), { type: 23, epoch: 1 })], { random: [30, 20] }),
  },
  'dtls-fragments': {
    guards: 'ClientHellos in fragments of one byte, that claim 16 MB, that overlap, that never end',
    run: rig => flood(rig, [...fragments(1, clientHello(), 1).slice(0, 40), ...fragments(1, randomBytes(1000), 100, { total: 0xffffff }), ...fragments(1, clientHello(), 60).reverse(),
      ...fragments(1, randomBytes(500), 50, { message: 65535 })]),
  },
  'rtp-stranger': {
    guards: 'RTP and RTCP from unauthenticated addresses, with SSRCs of the witnesses',
    run: rig => flood(rig, [rtp({ ssrc: rig.witnesses.sessions[0].ssrcs.audio }), rtp({ type: 100, ssrc: rig.witnesses.sessions[1].ssrcs.video, payload: randomBytes(1100) }),
      nack(1, rig.witnesses.sessions[0].ssrcs.video, 300), rtp({ csrcs: 15, payload: Buffer.alloc(0) })], { random: [12, 10] }),
  },
  random: {
    guards: 'random bytes of all lengths from 0 to 60,000, every first byte',
    async run(rig) {
      const lengths = [1, 2, 3, 4, 7, 8, 11, 12, 13, 19, 20, 21, 100, 576, 1200, 1472, 1500];
      const first = await flood(rig, lengths.map(length => randomBytes(length)), { per_second: 12000, seconds: 3, random: [0, 1500] });
      const large = await flood(rig, [9000, 60000].map(length => randomBytes(length)), { per_second: 500, seconds: 1 });
      const socket = createSocket('udp4');
      const [host, port] = rig.media.split(':');
      for (let n = 0; n < 2000; n++) socket.send(Buffer.alloc(0), Number(port), host);
      await sleep(300);
      socket.close();
      return { figures: { small: first.figures, large: large.figures, empty: 2000 }, checks: [...first.checks, ...large.checks] };
    },
  },
  'http-half': {
    guards: '900 half-sent requests on each of the two REST doors and on the channel, a byte every half second, for 8 s',
    quick: true,
    async run(rig) {
      const ports = [rig.bridge.options.bridgeRestPort, rig.focus.options.focusRestPort, rig.channelPort];
      const figures = await halfOpen(ports, 2700, 'GET /about/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ', 8);
      return { figures, checks: [{ what: 'half-sent requests open after 8 s', value: figures.open_at_the_end, limit: 'at most 1500', ok: figures.open_at_the_end <= 1500 }] };
    },
  },
  'http-silent': {
    guards: 'connections that send nothing, and bodies that never arrive',
    async run(rig) {
      const ports = [rig.bridge.options.bridgeRestPort, rig.focus.options.focusRestPort, rig.channelPort];
      const silent = await halfOpen(ports, 600, '', 3);
      const bodies = await halfOpen(ports.slice(0, 2), 300, 'POST /colibri/drain/disable HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n', 4);
      return { figures: { silent, bodies } };
    },
  },
  'websocket-half': {
    guards: 'half-sent WebSocket requests, and 1,500 complete ones for nonexistent endpoints',
    async run(rig) {
      const path = '/colibri-ws/jvb1/0123456789abcdef/abcd1234?pwd=guess';
      const head = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n`;
      const half = await halfOpen([rig.channelPort], 900, head, 4);
      const whole = await halfOpen([rig.channelPort], 1500, head + '\r\n', 2);
      return { figures: { half, whole } };
    },
  },
  'relay-door': {
    guards: 'the WebSocket by which two bridges talk: guessed passwords, other relays, half-sent requests, by somebody who knows all names',
    open: () => ({ stack: { bridges: 2, strategy: 'split', relayChannel: 'websocket' } }),
    async run(rig) {
      const links = () => relays(rig.stack).then(all => all.filter(one => one.carrier === 'WebSocket').length);
      await until('the bridges talk', 20000, async () => await links() === 2, 500);
      const page = await rig.bridge.debug();
      const [conference] = Object.keys(page.conferences);
      const counted = async () => (await Promise.all(rig.stack.bridges.map(one => counter(one, 'ringbridge_channel_refused', 'unknown')))).reduce((a, b) => a + b, 0);
      const before = await counted();
      const base = port => `ws://127.0.0.1:${port}/colibri-relay-ws`;
      const statuses = {};
      for (let n = 0; n < 400; n++) {
        const bridge = rig.stack.bridges[n % 2];
        const { nickname, websocketPort } = bridge.options;
        const other = rig.stack.bridges[1 - n % 2].options.nickname;
        const guess = randomBytes(18).toString('base64url').toLowerCase();
        const url = [
          `${base(websocketPort)}/${nickname}/${conference}/${other}?pwd=${guess}`,
          `${base(websocketPort)}/${nickname}/${conference}/${other}`,
          `${base(websocketPort)}/${nickname}/${conference}/${nickname}?pwd=${guess}`,
          `${base(websocketPort)}/${nickname}/${guess}/${other}?pwd=${guess}`,
          `${base(websocketPort)}/${other}/${conference}/${other}?pwd=${guess}`,
          `${base(websocketPort)}/${nickname}/${conference}/${'x'.repeat(4000)}?pwd=${guess}`,
        ][n % 6];
        const channel = await Channel.open(url);
        statuses[channel.status] = (statuses[channel.status] ?? 0) + 1;
        channel.close();
      }
      const refused = await counted() - before;
      const head = `GET /colibri-relay-ws/jvb1/${conference}/jvb2?pwd=guess HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n`;
      const half = await halfOpen([rig.channelPort], 300, head, 4);
      const open = await links();
      return { figures: { statuses, half }, checks: [
        { what: 'requests let in', value: statuses[101] ?? 0, limit: 'none', ok: !statuses[101] },
        { what: 'refusals counted', value: refused, limit: '400', ok: refused === 400 },
        { what: 'bridges that still talk', value: open, limit: '2', ok: open === 2 },
      ] };
    },
  },
  'connection-churn': {
    guards: '6,000 connections that open and close at once, with and without reset, on all TCP listeners',
    async run(rig) {
      const ports = [rig.bridge.options.bridgeRestPort, rig.focus.options.focusRestPort, rig.channelPort];
      let opened = 0;
      for (let n = 0; n < 60; n++) {
        await Promise.all(Array.from({ length: 100 }, (_, index) => new Promise(resolve => {
          const socket = connect(ports[index % 3], '127.0.0.1', () => { opened++; index % 2 ? socket.resetAndDestroy() : socket.destroy(); });
          socket.on('close', resolve);
          socket.on('error', resolve);
        })));
        await sleep(20);
      }
      return { figures: { opened } };
    },
  },
};
