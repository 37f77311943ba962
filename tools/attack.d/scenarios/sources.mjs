// Participants who cheat in signalling: sources, names, codecs, transports, presence.
import { sleep } from '../../lib/process.mjs';
import { Cheat } from '../peer.mjs';
import { decent, escape, Intruder, newId, source } from '../xmpp.mjs';
import { inside } from './participants.mjs';

const description = (kind, inner) => `<content creator='responder' name='${kind}' senders='both'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='${kind}'>${inner}</description></content>`;

const said = answer => answer?.attributes?.type === 'error' ? answer.child('error')?.children[0]?.name ?? 'error' : answer?.attributes?.type ?? `${answer}`;
const refused = (what, answer) => ({ what, value: said(answer), ok: answer?.attributes?.type === 'error' });
const long = size => 'n'.repeat(size);

/** An answer to the offer that somebody gives who is not seen again. */
async function accepts(rig, room, audio, video) {
  const cheat = await Cheat.enter(rig, room, { audio, video });
  await sleep(400);
  await cheat.leave();
  return cheat.accepted;
}

/** Two cheats in a room of their own: with one there is no offer. */
async function pair(rig, audio, video) {
  const room = rig.freshRoom();
  return Promise.all([accepts(rig, room, audio, video), accepts(rig, room, audio, video)]);
}

const madeUp = (from, count, kind) => Array.from({ length: count }, (_, n) =>
  `<payload-type id='${(from + n) % 128}' name='made-up-${from + n}' clockrate='${kind === 'audio' ? 48000 : 90000}' channels='${1 + n % 255}'/>`).join('');
const extensions = (from, count) => Array.from({ length: count }, (_, n) => `<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='${1 + n % 255}' uri='urn:made-up:${from + n}'/>`).join('');

export const scenarios = {
  codecs: {
    guards: 'answers with 1,100 made-up codecs, again and again; newcomers get their media',
    quick: true,
    async run(rig) {
      const accepted = [];
      for (let n = 0; n < 3; n++) {
        accepted.push(...await pair(rig, sources => decent.audio(madeUp(n * 4000, 1100, 'audio') + sources), sources => decent.video(madeUp(n * 4000 + 2000, 1100, 'video') + sources)));
      }
      return { figures: { accepted: accepted.filter(Boolean).length, of: accepted.length } };
    },
  },
  parameters: {
    guards: 'known codecs with made-up parameters (profiles, levels, rates), 1,100 of them',
    async run(rig) {
      const many = (name, make) => Array.from({ length: 1100 }, (_, n) => `<payload-type id='${96 + n % 30}' name='${name}' clockrate='90000'>${make(n)}</payload-type>`).join('');
      const h264 = many('H264', n => `<parameter name='profile-level-id' value='${(0x420000 + n).toString(16)}'/><parameter name='packetization-mode' value='${n % 9}'/>`);
      const vp9 = many('VP9', n => `<parameter name='profile-id' value='${n}'/>`);
      const accepted = [...await pair(rig, decent.audio, sources => decent.video(h264 + sources)), ...await pair(rig, decent.audio, sources => decent.video(vp9 + sources))];
      return { figures: { accepted: accepted.filter(Boolean).length, of: accepted.length } };
    },
  },
  'extension-uris': {
    guards: '600 made-up header extensions, ids out of range, the same id for all',
    async run(rig) {
      const accepted = [];
      for (let n = 0; n < 2; n++) accepted.push(...await pair(rig, sources => decent.audio(extensions(n * 2000, 600) + sources), sources => decent.video(extensions(n * 2000 + 1000, 600) + sources)));
      return { figures: { accepted: accepted.filter(Boolean).length, of: accepted.length } };
    },
  },
  'names-of-others': {
    guards: 'sources under another participant\'s name are not announced; SSRCs and msids of others are refused',
    run: rig => inside(rig, async (cheat, sessions) => {
      const { endpoint, ssrcs } = sessions[0];
      const { nick, signalling } = { nick: cheat.signalling.nick, signalling: cheat.signalling };
      const add = (kind, inner) => signalling.jingle('source-add', description(kind, inner), { timeout: 5000 }).catch(error => error.message);
      const named = [
        await add('video', source(700001, `${endpoint}-v0`, `${nick}-video-1 t1`)),
        await add('audio', source(700002, `${endpoint}-a0`, `${nick}-audio-1 t2`)),
        await add('video', source(700003, `${endpoint}-v1`, `${nick}-video-2 t3`)),
        await add('video', source(700005, 'jvb-v0', `${nick}-video-4 t5`)),
      ];
      const checks = [
        refused('an SSRC of another', await add('video', source(ssrcs.video, `${nick}-v1`, `${nick}-video-3 t4`))),
        refused('an msid of another', await add('video', source(700004, `${nick}-v1`, `${endpoint}-video-0-1 ${endpoint}-video-track-1`))),
        refused('a group with an SSRC of another', await add('video', source(700006, `${nick}-v2`, `${nick}-video-5 t6`)
          + `<ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='FID'><source ssrc='700006'/><source ssrc='${ssrcs.video}'/></ssrc-group>`)),
      ];
      // All sources are signalled to who comes now.
      const other = await new Intruder(rig, rig.room).join();
      const told = (await other.transport()).sources?.sources?.[nick] ?? [];
      other.leave();
      const names = [...told[0] ?? [], ...told[2] ?? []].map(one => one.n);
      const foreign = names.filter(name => !name?.startsWith(`${nick}-`));
      checks.push({ what: 'it is signalled to others', value: names.length, ok: names.length > 0 },
        { what: 'names of others', value: foreign.join(', ') || 'none', ok: foreign.length === 0 },
        { what: 'each name once a kind', value: names.join(', '), ok: new Set(names).size === names.length });
      return { figures: { answers: named.map(said), names }, checks };
    }),
  },
  'long-source-names': {
    guards: 'a participant publishes sources with names and msids of 40 kB',
    quick: true,
    run: rig => inside(rig, async cheat => {
      const { nick } = cheat.signalling;
      const answers = [];
      for (const [n, size] of [8200, 40000, 100000].entries()) {
        for (const inner of [source(710000 + n * 4, `${nick}-${long(size)}`, `${nick}-x${n} t`), source(710001 + n * 4, `${nick}-v${n + 1}`, `${nick}-${long(size)} t`),
          source(710002 + n * 4, `${nick}-v${n + 5}`, `${nick}-y${n} t`, ` videoType='${long(size)}'`)]) {
          answers.push(said(await cheat.signalling.jingle('source-add', description('video', inner), { timeout: 5000 }).catch(error => error.message)));
        }
      }
      return { figures: { answers } };
    }),
  },
  'sources-without-end': {
    guards: '2,000 sources in 200 requests, 10,000 in one, groups of 5,000 SSRCs',
    run: rig => inside(rig, async cheat => {
      const { signalling } = cheat;
      const { nick } = signalling;
      for (let n = 0; n < 200; n++) {
        const inner = Array.from({ length: 10 }, (_, m) => source(800000 + n * 10 + m, `${nick}-v${n * 10 + m + 1}`, `${nick}-v-${n * 10 + m} t`)).join('');
        signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='source-add' sid='${cheat.session.sid}'>${description('video', inner)}</jingle></iq>`);
      }
      const many = Array.from({ length: 2500 }, (_, n) => `<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='${900000 + n}'/>`).join('');
      const group = `<ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='SIM'>${Array.from({ length: 5000 }, (_, n) => `<source ssrc='${n + 1}'/>`).join('')}</ssrc-group>`;
      const answers = [];
      for (const inner of [many, group]) answers.push(said(await signalling.jingle('source-add', description('video', inner), { timeout: 10000 }).catch(error => error.message)));
      const view = await rig.bridge.debug(true);
      const most = Math.max(...Object.values(view.conferences).flatMap(one => Object.values(one.endpoints)).map(one => JSON.stringify(one).length));
      return { figures: { answers, largest_endpoint_view_bytes: most } };
    }),
  },
  'source-churn': {
    guards: 'the same source added and removed 1,000 times, which is signalled to everybody else',
    run: rig => inside(rig, async cheat => {
      const { signalling } = cheat;
      const { nick } = signalling;
      let told = 0;
      for (let n = 0; n < 1000; n++) {
        const inner = description('video', source(720001, `${nick}-v1`, `${nick}-video-1 t1`));
        if (signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='${n % 2 ? 'source-remove' : 'source-add'}' sid='${cheat.session.sid}'>${inner}</jingle></iq>`)) told++;
      }
      await sleep(4000);
      return { figures: { requests: told } };
    }),
  },
  'transports-without-end': {
    guards: 'transport-info with 500 candidates each, 200 times; ICE restarts; fingerprints of all kinds; ufrags of 10 kB',
    run: rig => inside(rig, async cheat => {
      const { signalling, session } = cheat;
      const transport = inner => `<content creator='responder' name='audio'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='${cheat.peer.credentials.ufrag}' pwd='${cheat.peer.credentials.password}'>${inner}</transport></content>`;
      const candidates = n => Array.from({ length: 500 }, (_, m) => `<candidate component='1' foundation='1' generation='0' id='c${n}-${m}' ip='127.${n % 250}.${m % 250}.1' port='${1024 + m}' priority='1' protocol='udp' type='host'/>`).join('');
      for (let n = 0; n < 200; n++) {
        signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='${session.sid}'>${transport(candidates(n))}</jingle></iq>`);
      }
      const odd = [transport(`<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='${long(9000)}' setup='active'>${'AB:'.repeat(5000)}</fingerprint>`),
        transport("<candidate ip='not an address' port='99999999' protocol='udp' type='host' component='1' foundation='1' priority='-1' id='x' generation='0'/>"),
        `<content creator='responder' name='audio'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='${long(10000)}' pwd='${long(10000)}'/></content>`];
      const answers = [];
      for (const inner of odd) answers.push(said(await signalling.jingle('transport-info', inner, { timeout: 8000 }).catch(error => error.message)));
      for (let n = 0; n < 50; n++) signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='${session.sid}'><bridge-session xmlns='http://jitsi.org/protocol/focus' id='x' ice-restart='true'/></jingle></iq>`);
      await sleep(1500);
      return { figures: { answers } };
    }),
  },
  'ice-restarts-without-end': {
    guards: 'ICE restarts, 200 times in 10 s; each granted one is answered four times, with different numbers, credentials and 500 candidates each',
    run: rig => inside(rig, async cheat => {
      const { signalling, session } = cheat;
      const id = (await signalling.offer).child('jingle').find('bridge-session')?.attributes.id;
      const send = (action, inner) => signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='${action}' sid='${session.sid}'>${inner}</jingle></iq>`);
      const candidates = Array.from({ length: 500 }, (_, m) => `<candidate component='1' foundation='1' generation='1' id='c${m}' ip='127.9.${m % 250}.1' port='${1024 + m}' priority='1' protocol='udp' type='host'/>`).join('');
      let granted = 0;
      signalling.handlers.push(stanza => {
        const transport = stanza.child?.('jingle')?.attributes.action === 'transport-info' && stanza.find('transport');
        if (!transport) return;
        granted++;
        const generation = Number(transport.attributes['ice-generation']);
        for (const [n, number] of [generation + 1, generation, generation, generation - 1].entries()) {
          send('transport-info', `<content creator='responder' name='audio'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='x${n}' pwd='${long(30)}' ice-generation='${number}'>${candidates}</transport></content>`);
        }
      });
      for (let n = 0; n < 200; n++) {
        send('session-info', `<bridge-session xmlns='http://jitsi.org/protocol/focus' id='${id}' ice-restart='true'/>`);
        await sleep(50);
      }
      await sleep(1500);
      return { figures: { requests: 200, granted }, checks: [{ what: 'restarts granted in 10 s', value: granted, limit: '1 to 4', ok: granted >= 1 && granted <= 4 }] };
    }),
  },
  'restarts-without-end': {
    guards: 'session-terminate with restart, 100 times: a new session each time, rate-limited',
    async run(rig) {
      const intruder = await new Intruder(rig, rig.room).join();
      await intruder.transport();
      let offers = 0;
      const sessions = [];
      intruder.handlers.push(stanza => {
        const jingle = stanza.child?.('jingle');
        if (jingle?.attributes.action !== 'session-initiate') return;
        offers++;
        sessions.push([jingle.attributes.sid, jingle.find('bridge-session')?.attributes.id]);
      });
      const first = (await intruder.offer).child('jingle');
      sessions.push([first.attributes.sid, first.find('bridge-session')?.attributes.id]);
      for (let n = 0; n < 100; n++) {
        const [sid, id] = sessions.at(-1);
        intruder.send(`<iq type='set' id='${newId()}' to='${intruder.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='${sid}'><reason><connectivity-error/></reason>`
          + `<bridge-session xmlns='http://jitsi.org/protocol/focus' id='${id}' restart='true'/></jingle></iq>`);
        await sleep(40);
      }
      await sleep(1000);
      intruder.leave();
      return { figures: { requests: 100, new_offers: offers }, checks: [{ what: 'new offers in 5 s', value: offers, limit: 'at most 10', ok: offers <= 10 }] };
    },
  },
  'jingle-garbage': {
    guards: 'invalid Jingle: unknown actions, deep and wide contents, repeated accepts, unknown sessions',
    run: rig => inside(rig, async cheat => {
      const { signalling, session } = cheat;
      const deep = '<a>'.repeat(8000) + '</a>'.repeat(8000);
      const odd = [['nonsense', ''], ['session-accept', deep], ['session-accept', ''], ['source-add', description('video', deep)], ['source-remove', description('video', source(1, 'x', 'y'))],
        ['transport-info', deep], ['session-initiate', ''], ['transport-accept', ''], ['content-modify', description('video', '')], ['session-info', `<${long(9000)}/>`],
        ['source-add', description('video', "<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='-1'/><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='4294967296'/><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0'/>")]];
      const answers = {};
      for (const [action, inner] of odd) {
        const answer = await signalling.jingle(action, inner, { sid: session.sid, timeout: 4000 }).catch(error => error.message);
        answers[`${action} ${Object.keys(answers).length}`] = said(answer);
      }
      signalling.send(`<iq type='set' id='${newId()}' to='${signalling.focus}'><jingle xmlns='urn:xmpp:jingle:1' action='session-accept' sid='${escape(long(100000))}'/></iq>`);
      await sleep(300);
      return { figures: { answers } };
    }),
  },
  'presence-flood': {
    guards: '1,000 presences a second in the room: sources, hand, names, statistics of 20 kB; joins and leaves, 150 of each',
    async run(rig) {
      const intruder = await new Intruder(rig, rig.room).join();
      const room = `${intruder.room}/${intruder.nick}`;
      for (let n = 0; n < 3000; n++) {
        const info = JSON.stringify({ [`${intruder.nick}-v0`]: { muted: n % 2 === 0 }, [`x${n}`]: { muted: true } });
        intruder.send(`<presence to='${room}'><SourceInfo>${info.replace(/"/g, '&quot;')}</SourceInfo>${n % 100 === 0 ? `<x1>${'y'.repeat(20000)}</x1>` : ''}</presence>`);
        if (n % 100 === 99) await sleep(100);
      }
      for (let n = 0; n < 150; n++) {
        intruder.send(`<presence type='unavailable' to='${room}'/><presence to='${room}'><x xmlns='http://jabber.org/protocol/muc'/></presence>`);
        if (n % 10 === 9) await sleep(100);
      }
      await sleep(1000);
      intruder.leave();
      return { figures: { presences: 3000, joins: 150 } };
    },
  },
};
