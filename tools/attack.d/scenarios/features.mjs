// What Jitsi Meet has beside rooms and media (breakout rooms, moderation, recording, calls, login, visitors, requests over HTTP), asked
// for by who may not: a guest in the room, and a stranger outside of it. Refused, counted, nothing changed.
import { sleep, until } from '../../lib/process.mjs';
import { Guest, Intruder, newId } from '../xmpp.mjs';

const recorders = 'jibribrewery@internal.auth.meet.test';
const gateways = 'jigasibrewery@internal.auth.meet.test';
const conferences = 'conference.meet.test';
const jibriNs = 'http://jitsi.org/protocol/jibri';
const focusNs = 'http://jitsi.org/protocol/focus';

/** A stack that has everything. */
const open = () => ({ stack: {
  site: { meetings: true, visitors: true },
  environment: { RINGBRIDGE_JIBRI_BREWERY: recorders, RINGBRIDGE_JIGASI_BREWERY: gateways },
} });

const json = value => JSON.stringify(value).replace(/[<&]/g, c => `&#${c.charCodeAt(0)};`);
const told = (value, more = '') => `<json-message xmlns='http://jitsi.org/jitmeet'${more}>${typeof value === 'string' ? value : json(value)}</json-message>`;

/** Requests to the focus: what → [what is inside, type]; `room` is the witnesses' and `other` one of them. */
const requests = (room, other) => ({
  'a recording': [`<jibri xmlns='${jibriNs}' action='start' recording_mode='file' app_data='{}'/>`],
  'a stream': [`<jibri xmlns='${jibriNs}' action='start' recording_mode='stream' streamid='key'/>`],
  'a stream without a key': [`<jibri xmlns='${jibriNs}' action='start' recording_mode='stream'/>`],
  'a SIP call': [`<jibri xmlns='${jibriNs}' action='start' sipaddress='sip:a@b'/>`],
  'the end of a recording': [`<jibri xmlns='${jibriNs}' action='stop' recording_mode='file'/>`],
  'a report of a Jibri': [`<jibri xmlns='${jibriNs}' status='on'/>`],
  'a Jibri request that is nothing': [`<jibri xmlns='${jibriNs}'/>`],
  'a recording that is asked for by get': [`<jibri xmlns='${jibriNs}' action='start' recording_mode='file'/>`, 'get'],
  'a call out': ["<dial xmlns='urn:xmpp:rayo:1' to='+4930123' from='x'/>"],
  'a call out to nobody': ["<dial xmlns='urn:xmpp:rayo:1'/>"],
  'a call out from another room': ["<dial xmlns='urn:xmpp:rayo:1' to='+49'><header xmlns='urn:xmpp:rayo:1' name='JvbRoomName' value='other@conference.meet.test'/></dial>"],
  'the end of a call': ["<hangup xmlns='urn:xmpp:rayo:1'/>"],
  'an address to log in at': [`<login-url xmlns='${focusNs}' room='${room}' machine-uid='m'/>`, 'get'],
  'an address to log in at, of no room': [`<login-url xmlns='${focusNs}'/>`, 'get'],
  'a logout of somebody': [`<logout xmlns='${focusNs}' session-id='00000000-0000-0000-0000-000000000000'/>`],
  'a logout of nobody': [`<logout xmlns='${focusNs}'/>`],
  'a conference of no room': [`<conference xmlns='${focusNs}' machine-uid='m'/>`],
  'a conference elsewhere': [`<conference xmlns='${focusNs}' room='x@elsewhere.test' machine-uid='m'/>`],
  'a conference in the brewery': [`<conference xmlns='${focusNs}' room='${recorders}' machine-uid='m'/>`],
  'visitors for a room': [`<visitors xmlns='jitsi:visitors' room='${room}'><connect-vnode xmlns='jitsi:visitors' vnode='evil'/></visitors>`],
  'a promotion': [`<visitors xmlns='jitsi:visitors'><promotion-request xmlns='jitsi:visitors'/></visitors>`],
  'muting by another medium': [`<mute xmlns='http://jitsi.org/jitmeet/smell' jid='${room}/${other}'>true</mute>`],
  'muting a screen': [`<mute xmlns='http://jitsi.org/jitmeet/desktop' jid='${room}/${other}'>true</mute>`],
  'metadata as a request': [`<room_metadata xmlns='http://jitsi.org/jitmeet' room='${room}'>{}</room_metadata>`],
});

/** Messages of components that somebody makes up. */
const messages = (room, other) => [
  told({ type: 'av_moderation', room, mediaType: 'audio', enabled: true, actor: `${room}/${other}` }),
  told({ type: 'av_moderation', room, mediaType: 'video', enabled: true, actor: `${room}/${other}` }),
  told({ type: 'av_moderation', room, whitelists: { audio: [`${room}/${other}`], video: [] } }),
  told({ type: 'room_metadata', metadata: { startMuted: { audio: true, video: true }, visitorsEnabled: true, participantsSoftLimit: 1 } }, ` room='${room}'`),
  told({ type: 'room_metadata', metadata: { moderators: ['x'], participants: [], visitors: { live: true } } }, ` room='${room}'`),
  told({ type: 'breakout_rooms', event: 'features/breakout-rooms/update', rooms: {} }),
  told('{'), told('[]'), told('{"type":"av_moderation"}'), told('[['.repeat(2000)), told(`{"x":"${'y'.repeat(200000)}"}`),
];

/** What components are asked that heed moderators alone. */
const wishes = (room, other) => [
  ['avmoderation.meet.test', "<av_moderation enable='true' mediaType='audio'/>"],
  ['avmoderation.meet.test', `<av_moderation mediaType='audio' jidToBlacklist='${room}/${other}'/>`],
  ['metadata.meet.test', `<room_metadata xmlns='http://jitsi.org/jitmeet' room='${room}'>{"key":"startMuted","data":{"audio":true}}</room_metadata>`],
  ['breakout.meet.test', "<breakout_rooms xmlns='http://jitsi.org/jitmeet' type='features/breakout-rooms/add' subject='mine'/>"],
  ['breakout.meet.test', `<breakout_rooms xmlns='http://jitsi.org/jitmeet' type='features/breakout-rooms/remove' breakoutRoomJid='${room}'/>`],
];

/** Bodies over HTTP that begin nothing. */
const bodies = ['', '{', 'null', '[]', '{}', '{"room":7}', '{"room":"x"}', '{"room":"x@elsewhere.test"}', '{"room":"a@b@c"}', '{"room":"r@conference.meet.test","properties":[]}',
  JSON.stringify({ room: `${'x'.repeat(5000)}@${conferences}` }), JSON.stringify({ room: `r@${conferences}`, properties: Object.fromEntries(Array.from({ length: 100 }, (_, n) => [n, n])) }),
  `{"room":"r@conference.meet.test","x":"${'y'.repeat(5000000)}"}`];

const stats = async rig => (await fetch(rig.focus.focusUrl('/stats'))).json();
const sum = ({ refused }) => Object.values(refused).reduce((all, one) => all + one, 0);

/** What the focus knows of the witnesses' conference, but for who else is in it. */
async function state(rig, without = '') {
  const all = await (await fetch(rig.focus.focusUrl('/debug/conferences-full'))).json();
  const { participants, av_moderation, metadata, bridges, meeting_id, main_room, conference_properties } = all[`${rig.room}@${conferences}`];
  delete participants[without];
  return JSON.stringify({ rooms: Object.keys(all), participants, av_moderation, metadata, bridges: bridges.length, meeting_id, main_room, conference_properties });
}

/** Sends everything, and says what became of it. */
async function ask(rig, guest, focus, { inside }) {
  const room = `${rig.room}@${conferences}`;
  const other = rig.witnesses.sessions[0].endpoint;
  const before = await state(rig, inside);
  const counted = sum(await stats(rig));
  const checks = [];
  let expected = 0;
  for (const [what, [payload, type = 'set']] of Object.entries(requests(room, other))) {
    const answer = await guest.iq(payload, { type, to: focus, timeout: 8000 }).catch(error => error.message);
    const condition = answer?.child?.('error')?.children[0]?.name;
    checks.push({ what: `${what} is refused`, value: condition ?? answer?.attributes?.type ?? answer, ok: Boolean(condition) });
    expected++;
    await sleep(20);
  }
  for (const message of messages(room, other)) {
    for (const to of [rig.focusJid, focus]) {
      await guest.sendAll(`<message to='${to}' id='${newId()}'>${message}</message>`);
      await sleep(20);
      expected++;
    }
  }
  for (const [to, wish] of wishes(room, other)) {
    await guest.sendAll(`<message to='${to}' id='${newId()}'>${wish}</message>`);
    await sleep(20);
  }
  // Neither a recorder nor a gateway.
  for (const [brewery, announced] of [
    [recorders, `<jibri-status xmlns='${jibriNs}'><busy-status xmlns='${jibriNs}' status='idle'/><health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>`],
    [gateways, "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='supports_sip' value='true'/><stat name='participants' value='0'/></stats>"],
  ]) {
    await guest.sendAll(`<presence to='${brewery}/aaa'><x xmlns='http://jabber.org/protocol/muc'/>${announced}</presence>`);
    expected++;
  }
  const statuses = [];
  for (const body of bodies) {
    const answer = await fetch(rig.focus.focusUrl('/conference-request/v1'), { method: 'POST', headers: { 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.9' }, body })
      .then(one => one.status, error => error.message);
    statuses.push(answer);
    expected++;
  }
  checks.push({ what: 'malformed requests over HTTP are refused', value: [...new Set(statuses)].join(', '), ok: statuses.every(one => one >= 400 && one < 500) });
  let now = await stats(rig);
  // Statistics are refreshed every second.
  await until('everything is counted', 5000, async () => sum(now = await stats(rig)) - counted >= expected, 200).catch(() => {});
  checks.push({ what: `all ${expected} are counted`, value: sum(now) - counted, ok: sum(now) - counted >= expected });
  checks.push({ what: 'nobody is a recorder or a gateway', value: `${now.jibri.count} and ${now.jigasi.sip_count}`, ok: now.jibri.count === 0 && now.jigasi.sip_count === 0 });
  for (const brewery of [recorders, gateways]) await guest.sendAll(`<presence type='unavailable' to='${brewery}/aaa'/>`);
  const after = await state(rig, inside);
  checks.push({ what: 'the conference is as it was', value: after === before ? 'yes' : `${before} → ${after}`, ok: after === before });
  const reasons = Object.entries(now.refused).filter(([, count]) => count > 0);
  return { figures: { asked: expected, refused: Object.fromEntries(reasons) }, checks };
}

export const scenarios = {
  'features-guest': {
    guards: 'recording, calls, login, breakout rooms, moderation, metadata, visitors and conferences over HTTP, asked for by a guest who owns nothing',
    open,
    async run(rig) {
      const guest = await new Intruder(rig, rig.room).join();
      await guest.transport();
      await sleep(1500);
      const outcome = await ask(rig, guest, guest.focus, { inside: guest.nick });
      guest.leave();
      return outcome;
    },
  },
  'features-stranger': {
    guards: 'the same by somebody who is in no room, at the focus\'s own address',
    open,
    async run(rig) {
      const guest = await new Guest(rig).login();
      const outcome = await ask(rig, guest, rig.focusJid, { inside: undefined });
      guest.close();
      return outcome;
    },
  },
};
