// Across conferences and rooms, and without the right: what one may not do to others.
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { sleep } from '../../lib/process.mjs';
import { check } from '../packets.mjs';
import { Cheat } from '../peer.mjs';
import { Channel } from '../websocket.mjs';
import { Guest, Intruder, newId } from '../xmpp.mjs';

const refusal = (what, answer) => {
  const condition = answer?.child?.('error')?.children[0]?.name;
  return { what, value: answer?.attributes?.type === 'error' ? condition : `${answer?.attributes?.type ?? answer}`, ok: answer?.attributes?.type === 'error' };
};

const modify = (meeting, more = '') => `<conference-modify xmlns='jitsi:colibri2' meeting-id='${meeting}' name='stolen@conference.meet.test' create='true'>`
  + "<endpoint id='abcd1234' create='true'><capability name='source-names'/><media type='audio'/><transport ice-controlling='true'/></endpoint>" + more + '</conference-modify>';

export const scenarios = {
  'colibri-guest': {
    guards: 'colibri2, health checks and shutdown from a guest outside the brewery: refused, nothing created',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const ask = payload => guest.iq(payload, { type: 'set', to: rig.bridgeJid, timeout: 5000 }).catch(error => error.message);
      const asked = {
        'conference-modify is refused': await ask(modify('stolen-1')),
        'expiry of another conference is refused': await ask("<conference-modify xmlns='jitsi:colibri2' meeting-id='x' expire='true'/>"),
        'graceful shutdown is refused': await ask("<graceful-shutdown xmlns='http://jitsi.org/protocol/colibri'/>"),
        'forced shutdown is refused': await ask("<force-shutdown xmlns='http://jitsi.org/protocol/colibri'/>"),
      };
      guest.close();
      const stats = await rig.bridge.bridgeStats();
      return { figures: { conferences: stats.conferences }, checks: [...Object.entries(asked).map(([what, answer]) => refusal(what, answer)),
        { what: 'one conference, that of the witnesses', value: stats.conferences, ok: stats.conferences === 1 }] };
    },
  },
  'colibri-storm': {
    guards: '500 colibri2 requests from a guest, with 256 kB of sources, excessive depth and numbers',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const big = "<sources><media-source type='video' id='x'>" + "<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='99999999999'/>".repeat(3000) + '</media-source></sources>';
      for (const jid of [rig.bridgeJid, rig.bridgeOccupant]) {
        guest.send(`<iq type='set' id='${newId()}' to='${jid}'>${modify('s', `<endpoint id='e'>${big}</endpoint>`)}</iq>`);
        for (let n = 0; n < 250; n++) guest.send(`<iq type='set' id='${newId()}' to='${jid}'>${modify(`s-${n}`)}</iq>`);
      }
      await sleep(3000);
      guest.close();
      const stats = await rig.bridge.bridgeStats();
      return { figures: { conferences: stats.conferences }, checks: [{ what: 'one conference, that of the witnesses', value: stats.conferences, ok: stats.conferences === 1 }] };
    },
  },
  'brewery-guest': {
    guards: 'a guest joins the brewery, calls itself an idle bridge, and asks the bridge for conferences as its focus',
    aftermath: 2500,
    async run(rig) {
      const guest = await new Guest(rig).login();
      const room = 'jvbbrewery@internal.auth.meet.test';
      guest.send(`<presence to='${room}/aaa'><x xmlns='http://jabber.org/protocol/muc'/></presence>`);
      const stats = "<stats xmlns='http://jitsi.org/protocol/colibri'>" + Object.entries({ stress_level: '0.0', drain: 'false', healthy: 'true', version: '0.1.0', relay_id: 'aaa', region: 'x', average_participant_stress: '0' })
        .map(([name, value]) => `<stat name='${name}' value='${value}'/>`).join('') + '</stats>';
      guest.send(`<presence to='${room}/aaa'>${stats}</presence>`);
      await sleep(500);
      const theft = await guest.iq(modify('stolen-2'), { type: 'set', to: rig.bridgeOccupant, timeout: 5000 }).catch(error => error.message);
      const expiry = await guest.iq("<conference-modify xmlns='jitsi:colibri2' meeting-id='stolen-2' expire='true'/>", { type: 'set', to: rig.bridgeOccupant, timeout: 5000 }).catch(error => error.message);
      // The newcomers of a room must not be sent to it.
      const newcomer = await rig.newcomer();
      const conferences = (await rig.bridge.bridgeStats()).conferences;
      guest.send(`<presence type='unavailable' to='${room}/aaa'/>`);
      await sleep(300);
      guest.close();
      return { figures: { conferences }, checks: [
        refusal('a guest as focus is refused', theft), refusal('its expiry is refused', expiry),
        { what: 'a guest is no bridge: newcomers meet meanwhile', value: newcomer.ok ? `after ${newcomer.seconds.toFixed(1)} s` : newcomer.error, ok: newcomer.ok },
      ] };
    },
  },
  moderation: {
    guards: 'moderation without permission: mute, unmute, kick, ownership, room configuration, destruction, by a participant who owns nothing',
    async run(rig) {
      const intruder = await new Intruder(rig, rig.room).join();
      await intruder.transport();
      const target = rig.witnesses.sessions[0].endpoint;
      const room = intruder.room;
      const ask = (payload, to) => intruder.iq(payload, { type: 'set', to, timeout: 5000 }).catch(error => error.message);
      const mute = (kind, jid, value) => `<mute xmlns='http://jitsi.org/jitmeet/${kind}' jid='${jid}'>${value}</mute>`;
      const asked = {
        'muting another is refused': await ask(mute('audio', `${room}/${target}`, 'true'), `${room}/focus`),
        'muting another\'s video is refused': await ask(mute('video', `${room}/${target}`, 'true'), `${room}/focus`),
        'muting in another room is refused': await ask(mute('audio', `other@conference.meet.test/${target}`, 'true'), `${room}/focus`),
        'unmuting another is refused': await ask(mute('audio', `${room}/${target}`, 'false'), `${room}/focus`),
        'muting over the focus\'s own JID is refused': await ask(mute('audio', `${room}/${target}`, 'true'), rig.focusJid),
        'kicking is refused': await ask(`<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='${target}' role='none'/></query>`, room),
        'kicking the focus is refused': await ask("<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='focus' role='none'/></query>", room),
        'ownership is refused': await ask(`<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='${intruder.jid.split('/')[0]}' affiliation='owner'/></query>`, room),
        'destruction is refused': await ask("<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>", room),
        'the end of another\'s session is refused': await ask(`<jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='${rig.witnesses.sessions[0].sid}'><reason><success/></reason></jingle>`, `${room}/focus`),
        'an accept of another\'s session is refused': await ask(`<jingle xmlns='urn:xmpp:jingle:1' action='session-accept' sid='${rig.witnesses.sessions[0].sid}'/>`, `${room}/focus`),
      };
      intruder.leave();
      await sleep(500);
      return { checks: Object.entries(asked).map(([what, answer]) => refusal(what, answer)) };
    },
  },
  'another-channel': {
    guards: 'the bridge channel of another endpoint, with no password, a wrong one, and one\'s own',
    async run(rig) {
      const cheat = await Cheat.apart(rig);
      const mine = new URL(cheat.session.webSocket);
      const theirs = new URL(rig.witnesses.sessions[0].web_socket);
      const statuses = {};
      const attempt = async (what, change) => {
        const url = new URL(theirs);
        change(url);
        const channel = await Channel.open(url.href).catch(error => ({ status: error.message, close() {} }));
        statuses[what] = channel.status;
        channel.close();
      };
      await attempt('no password', url => { url.search = ''; });
      await attempt('a wrong password', url => { url.search = '?pwd=wrong'; });
      await attempt('one\'s own password', url => { url.search = mine.search; });
      await attempt('one\'s own conference', url => { url.pathname = mine.pathname.replace(/[^/]+$/, theirs.pathname.split('/').at(-1) ?? ''); url.search = mine.search; });
      await attempt('a password of 60 kB', url => { url.search = '?pwd=' + 'x'.repeat(60000); });
      await attempt('a path that climbs', url => { url.pathname = '/colibri-ws/../../' + theirs.pathname; url.search = ''; });
      for (let n = 0; n < 500; n++) await attempt('500 guesses', url => { url.search = `?pwd=${randomBytes(12).toString('hex')}`; });
      await cheat.leave();
      await sleep(500);
      return { figures: { statuses }, checks: Object.entries(statuses).map(([what, status]) => ({ what: `${what} opens nothing`, value: status, ok: status !== 101 })) };
    },
  },
  'another-ufrag': {
    guards: 'checks with another endpoint\'s ufrag: unsigned, signed with one\'s own password, and then one\'s own media',
    async run(rig) {
      const cheat = await Cheat.apart(rig);
      const { ufrag } = rig.witnesses.sessions[0];
      const socket = createSocket('udp4');
      let back = 0;
      socket.on('message', data => { back += data.length; });
      await new Promise(resolve => socket.bind(0, '127.0.0.1', () => resolve(undefined)));
      const [host, port] = rig.media.split(':');
      const passwords = [undefined, '', 'wrong', cheat.session.password, rig.witnesses.sessions[1].password];
      for (let n = 0; n < 2000; n++) {
        socket.send(check(`${ufrag}:abcd`, passwords[n % passwords.length]), Number(port), host);
        if (n % 200 === 0) await sleep(50);
      }
      await sleep(500);
      socket.close();
      await cheat.leave();
      return { figures: { bytes_back: back }, checks: [{ what: 'no answer to a check that is not signed', value: back, unit: 'bytes', ok: back === 0 }] };
    },
  },
};
