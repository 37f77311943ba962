// The bridge channel of participants who cheat.
import { resident, sleep } from '../../lib/process.mjs';
import { Channel, frame } from '../websocket.mjs';
import { decent, Intruder, source } from '../xmpp.mjs';

const credentials = { ufrag: 'abcd', password: 'p'.repeat(24), fingerprint: Array(32).fill('AB').join(':') };

/** Into the room with a channel, without media. */
async function enter(rig, room, { reads = true, accept = true } = {}) {
  const intruder = await new Intruder(rig, room).join();
  const session = await intruder.transport();
  const { nick } = intruder;
  if (accept) {
    const ssrc = () => 1 + Math.floor(Math.random() * 4e9);
    await intruder.accept({ audio: decent.audio(source(ssrc(), `${nick}-a0`, `${nick}-a t`)), video: decent.video(source(ssrc(), `${nick}-v0`, `${nick}-v t`)), credentials });
  }
  const channel = await Channel.open(session.webSocket, { reads });
  if (channel.status !== 101) throw new Error(`the channel of ${nick} did not open: ${channel.status}`);
  return { intruder, session, channel, nick, leave() { channel.close(); intruder.leave(); } };
}

const message = (colibriClass, fields) => JSON.stringify({ colibriClass, ...fields });

/** Longest that an attacker talks, ms: the bridge does not listen to who says too much, so not all of it may be taken. */
const talkTime = 30000;

/** Sends texts on one channel, anew when the bridge closed it; how many were taken. */
async function talk(rig, texts, { pause = 5 } = {}) {
  const one = await enter(rig, rig.room);
  const end = Date.now() + talkTime;
  let taken = 0, reopened = 0;
  for (const text of texts) {
    if (Date.now() > end) break;
    if (one.channel.closed) {
      one.channel = await Channel.open(one.session.webSocket).catch(() => one.channel);
      reopened++;
    }
    if (await (Buffer.isBuffer(text) ? one.channel.raw(text) : one.channel.text(text))) taken++;
    await sleep(pause);
  }
  await sleep(500);
  one.leave();
  await sleep(300);
  return { figures: { messages: texts.length, taken, reopened } };
}

export const scenarios = {
  'endpoint-messages': {
    guards: '12 MB of EndpointMessage with 64 kB arrays to 30 endpoints that do not read',
    quick: true,
    timeout: 120000,
    async run(rig) {
      const room = rig.freshRoom();
      const members = [];
      for (let n = 0; n < 31; n++) members.push(enterLater(rig, room, n > 0));
      const all = await Promise.all(members);
      const [sender] = all;
      const before = resident(rig.bridge.process.pid);
      const text = message('EndpointMessage', { to: '', msgPayload: Array(31000).fill(0) });
      let taken = 0;
      for (let n = 0; n < 200; n++) if (await sender.channel.text(text, {}, 3000)) taken++; else break;
      await sleep(1000);
      const grown = (resident(rig.bridge.process.pid) - before) / 1024 / 1024;
      for (const one of all) one.leave();
      await sleep(1500);
      return { figures: { endpoints: all.length, megabytes_taken: Number((taken * text.length / 1e6).toFixed(1)), grown_mib: Number(grown.toFixed(0)) } };
    },
  },
  'endpoint-messages-room': {
    guards: '5,000 endpoint messages a second, to all and to one, in the room of the witnesses',
    run: rig => talk(rig, Array.from({ length: 4000 }, (_, n) => message('EndpointMessage', { to: n % 2 ? '' : rig.witnesses.sessions[0].endpoint, msgPayload: { n, x: 'y'.repeat(n % 50 === 0 ? 60000 : 100) } })), { pause: 0 }),
  },
  'endpoint-statistics': {
    guards: 'EndpointStats of 64 kB, deep, and with 5,000 members, 500 times',
    run: rig => talk(rig, Array.from({ length: 500 }, (_, n) => n % 2
      ? message('EndpointStats', Object.fromEntries(Array.from({ length: 3000 }, (__, m) => [`k${m}`, m])))
      : `{"colibriClass":"EndpointStats","x":${'['.repeat(20000)}${']'.repeat(20000)}}`), { pause: 2 }),
  },
  'selected-sources': {
    guards: '10,000 selected sources, on stage, in constraints; names of 60 kB; 300 changes a second',
    async run(rig) {
      const names = Array.from({ length: 5000 }, (_, n) => `n${n}-v0`);
      const witness = `${rig.witnesses.sessions[0].endpoint}-v0`;
      const constraints = [
        { selectedSources: names }, { onStageSources: names }, { onStageSources: Array(5000).fill(witness) },
        { constraints: Object.fromEntries(names.slice(0, 1800).map(name => [name, { maxHeight: 2160 }])) },
        { selectedSources: ['x'.repeat(60000)] }, { selectedEndpoints: names.slice(0, 4000) }, { lastN: -5 }, { lastN: 1e300 }, { lastN: 0.5 },
        { defaultConstraints: { maxHeight: 1e308, maxFrameRate: -1e308 } }, { assumedBandwidthBps: -1e18 }, { assumedBandwidthBps: 1e300 },
        { constraints: { [witness]: { maxHeight: -2147483649 } } }, { defaultConstraints: null, constraints: null, selectedSources: null },
      ];
      const texts = Array.from({ length: 900 }, (_, n) => message('ReceiverVideoConstraints', constraints[n % constraints.length]));
      const audio = Array.from({ length: 200 }, (_, n) => message('ReceiverAudioSubscription', n % 2 ? { mode: 'Include', list: names } : { all: true, include: names, exclude: names }));
      return talk(rig, [...texts, ...audio], { pause: 3 });
    },
  },
  'channel-garbage': {
    guards: 'invalid messages: depth of 60,000, broken text, binary, 256 kB, unknown classes, endless numbers',
    run: rig => talk(rig, [
      '['.repeat(60000), '{"a":'.repeat(10000), '{', 'null', '[]', '""', '{"colibriClass":null}', '{"colibriClass":"ClientHello","x":1e99999}', `{"colibriClass":"${'x'.repeat(60000)}"}`,
      frame(Buffer.from([0xff, 0xfe, 0xc0, 0x80])), frame(Buffer.alloc(60000), { opcode: 2 }), frame(Buffer.alloc(65 * 1024, 32)), frame(Buffer.alloc(250 * 1024, 32)), frame(Buffer.alloc(400 * 1024, 32)),
      message('ReceiverVideoConstraints', { lastN: 'x' }), message('SourceVideoTypeMessage', { sourceName: 'x'.repeat(60000), videoType: 'camera' }),
      ...Array.from({ length: 200 }, (_, n) => message('SourceVideoTypeMessage', { sourceName: `${rig.witnesses.sessions[0].endpoint}-v0`, videoType: n % 2 ? 'none' : 'desktop' })),
      message('LastNChangedEvent', { lastN: -99999999999 }), message('VideoTypeMessage', { videoType: '' }), message('ClientHello', {}),
    ], { pause: 20 }),
  },
  'frame-garbage': {
    guards: 'invalid WebSocket frames: unmasked, 2^62 bytes long, endless fragments, reserved opcodes, 5,000 pings',
    run: rig => talk(rig, [
      frame(Buffer.from('x'), { masked: false }), frame(Buffer.from('x'), { length: 2 ** 52 }), frame(Buffer.from('x'), { opcode: 11 }), frame(Buffer.alloc(200), { opcode: 9 }),
      frame(Buffer.alloc(1), { opcode: 8 }), frame(Buffer.from('x'), { opcode: 0 }), Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.concat(Array.from({ length: 3000 }, () => frame(Buffer.from('x'.repeat(100)), { opcode: 1, final: false }))),
      Buffer.concat([frame(Buffer.from('x'), { final: false }), ...Array.from({ length: 4000 }, () => frame(Buffer.alloc(100, 120), { opcode: 0, final: false }))]),
      Buffer.concat(Array.from({ length: 5000 }, () => frame(Buffer.alloc(100), { opcode: 9 }))),
    ], { pause: 100 }),
  },
  'channel-reconnects': {
    guards: 'the channel of one endpoint opened 400 times, 20 at once, and replaced each time',
    async run(rig) {
      const one = await enter(rig, rig.room);
      let opened = 0;
      for (let n = 0; n < 20; n++) {
        const all = await Promise.all(Array.from({ length: 20 }, () => Channel.open(one.session.webSocket).catch(() => undefined)));
        opened += all.filter(channel => channel?.status === 101).length;
        await sleep(50);
        for (const channel of all) channel?.close();
      }
      one.leave();
      await sleep(300);
      return { figures: { opened } };
    },
  },
  'channel-slow': {
    guards: 'a channel that never reads while it asks for everything, endless pings',
    async run(rig) {
      const one = await enter(rig, rig.room, { reads: false });
      const text = message('ReceiverVideoConstraints', { lastN: -1, defaultConstraints: { maxHeight: 720 } });
      let taken = 0;
      for (let n = 0; n < 3000; n++) {
        if (!await one.channel.raw(Buffer.concat([frame(Buffer.from(text)), frame(Buffer.alloc(120), { opcode: 9 }), frame(Buffer.from(message('ClientHello', {})))]), 500)) break;
        taken++;
      }
      await sleep(1000);
      one.leave();
      await sleep(300);
      return { figures: { taken } };
    },
  },
};

/** As `enter`, a little later each, so that the room is filled in some order. */
async function enterLater(rig, room, deaf) {
  await sleep(Math.random() * 2000);
  return enter(rig, room, { reads: !deaf });
}
