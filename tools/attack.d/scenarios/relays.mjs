// Links between bridges, as those attack them who are neither a focus nor a bridge. What a bridge with keys may do is tried by the fuzz
// targets `relay`, `channel` and `colibri`.
import { sleep } from '../../lib/process.mjs';
import { Guest, newId } from '../xmpp.mjs';

/** Witnesses on both of two linked bridges. */
const linked = () => ({ stack: { bridges: 2, strategy: 'split' } });

const relay = (meeting, id, attributes, content = '') =>
  `<conference-modify xmlns='jitsi:colibri2' meeting-id='${meeting}'><relay id='${id}' ${attributes}>${content}</relay></conference-modify>`;
const transport = "<transport ice-controlling='true' use-unique-port='true'><sctp role='client'/></transport>";

/** A transport with which the link would go to the attacker. */
const elsewhere = "<transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='evil' pwd='evilevilevilevilevilevil'>"
  + "<candidate component='1' foundation='1' generation='0' id='c' ip='127.0.0.1' network='0' port='9' priority='1' protocol='udp' type='host'/>"
  + `<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='active'>${Array(32).fill('AB').join(':')}</fingerprint></transport></transport>`;

/** The witnesses' conference, with its relays, on the bridge that was attacked: what a guest cannot know, but might. */
async function conference(rig) {
  const debug = await rig.bridge.debug(true);
  const [one] = Object.values(debug.conferences).filter(({ name }) => name?.startsWith(rig.room));
  return { meeting: one.meeting_id, relays: Object.values(one.relays), endpoints: Object.keys(one.endpoints) };
}

/** Every request about relays that a focus makes, of the witnesses' conference. */
const requests = ({ meeting, relays }, { id, endpoints } = relays[0]) => ({
  'a relay of its own': relay(meeting, 'evil', "create='true' mesh-id='0'", transport),
  'another transport for the relay that there is': relay(meeting, id, '', elsewhere),
  'an endpoint behind it': relay(meeting, id, '', "<endpoints><endpoint id='evil0001' create='true'/></endpoints>"),
  'the end of an endpoint behind it': relay(meeting, id, '', `<endpoints><endpoint id='${Object.keys(endpoints)[0]}' expire='true'/></endpoints>`),
  'the end of the relay': relay(meeting, id, "expire='true'"),
});

/** Asks as somebody to the JID, and waits for each answer. */
async function ask(guest, asked, to) {
  const checks = [];
  for (const [what, payload] of Object.entries(asked)) {
    const answer = await guest.iq(payload, { type: 'set', to, timeout: 5000 }).catch(error => error.message);
    const refused = answer?.attributes?.type === 'error';
    checks.push({ what: `${what} is refused`, value: refused ? answer.child('error')?.children[0]?.name : `${answer?.attributes?.type ?? answer}`, ok: refused });
  }
  return checks;
}

/** Whether the link is what it was. */
function same(before, after) {
  const shape = ({ relays }) => JSON.stringify(relays.map(({ id, number, ice_connected: ice, dead_for_seconds: dead, endpoints }) => [id, number, ice, dead, Object.keys(endpoints).sort()]));
  return { what: 'relays are as they were', value: shape(after), ok: shape(before) === shape(after) };
}

export const scenarios = {
  'relay-guest': {
    guards: 'requests about relays from a guest outside the brewery: refused, and the link of two bridges is as it was',
    open: linked,
    async run(rig) {
      const before = await conference(rig);
      const guest = await new Guest(rig).login();
      const checks = await ask(guest, requests(before), rig.bridgeJid);
      guest.close();
      return { figures: { relays: before.relays.length }, checks: [...checks, same(before, await conference(rig))] };
    },
  },
  'relay-stranger': {
    guards: 'a guest joins the brewery, calls itself the linked bridge by its relay id, and asks for relays as the focus does',
    open: linked,
    aftermath: 2500,
    async run(rig) {
      const before = await conference(rig);
      const guest = await new Guest(rig).login();
      const room = 'jvbbrewery@internal.auth.meet.test';
      guest.send(`<presence to='${room}/stranger'><x xmlns='http://jabber.org/protocol/muc'/></presence>`);
      const stats = "<stats xmlns='http://jitsi.org/protocol/colibri'>" + Object.entries({ stress_level: '0.0', healthy: 'true', version: '0.1.0', relay_id: before.relays[0].id, region: 'region1', dead_relays: before.relays[0].id })
        .map(([name, value]) => `<stat name='${name}' value='${value}'/>`).join('') + '</stats>';
      guest.send(`<presence to='${room}/stranger'>${stats}</presence>`);
      await sleep(500);
      const checks = await ask(guest, requests(before), rig.bridgeOccupant);
      for (let n = 0; n < 250; n++) guest.send(`<iq type='set' id='${newId()}' to='${rig.bridgeOccupant}'>${relay(before.meeting, `evil${n}`, "create='true' mesh-id='0'", transport)}</iq>`);
      await sleep(1500);
      const after = await conference(rig);
      guest.send(`<presence type='unavailable' to='${room}/stranger'/>`);
      await sleep(300);
      guest.close();
      return { figures: { relays: after.relays.length }, checks: [...checks, same(before, after)] };
    },
  },
};
