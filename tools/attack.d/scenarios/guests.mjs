// XMPP from a guest: anonymous, in no room unless said otherwise.
import { sleep } from '../../lib/process.mjs';
import { escape, Guest, newId } from '../xmpp.mjs';

export const nested = depth => '<a>'.repeat(depth) + '</a>'.repeat(depth);

/** Sends each stanza on a stream of its own kind: a guest that the server cuts off comes again. */
async function deliver(rig, stanzas, { pause = 50 } = {}) {
  let guest = await new Guest(rig).login();
  let cut = 0;
  for (const stanza of stanzas) {
    if (guest.closed) {
      cut++;
      guest = await new Guest(rig).login();
    }
    await guest.sendAll(stanza);
    await sleep(pause);
  }
  await sleep(300);
  guest.close();
  return { figures: { stanzas: stanzas.length, bytes: stanzas.reduce((sum, one) => sum + one.length, 0), cut_by_the_server: cut } };
}

const both = rig => [rig.bridgeJid, rig.focusJid];
const to = (rig, make) => both(rig).flatMap(jid => make(escape(jid)));

/** The stanzas of every kind that carry `payload` to a full JID. */
export const everyKind = (jid, payload) => [
  `<message to='${jid}'>${payload}</message>`,
  `<message to='${jid}' type='chat'><body>x</body>${payload}</message>`,
  `<message to='${jid}' type='error'>${payload}<error type='cancel'/></message>`,
  `<presence to='${jid}'>${payload}</presence>`,
  `<presence to='${jid}' type='error'>${payload}</presence>`,
  ...['get', 'set', 'result', 'error'].map(type => `<iq to='${jid}' type='${type}' id='${newId()}'>${payload}</iq>`),
];

const long = size => 'x'.repeat(size);

export const scenarios = {
  'deep-message': {
    guards: 'messages of 4,000 to 8,000 nested elements to the full JIDs of bridge and focus',
    quick: true,
    run: rig => deliver(rig, to(rig, jid => [1000, 4000, 6000, 8000].map(depth => `<message to='${jid}'>${nested(depth)}</message>`))),
  },
  'deep-kinds': {
    guards: 'the same in presence, iq of all types, errors, subscriptions',
    quick: true,
    run: rig => deliver(rig, to(rig, jid => [
      ...everyKind(jid, nested(8000)),
      ...['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe'].map(type => `<presence to='${jid}' type='${type}'>${nested(8000)}</presence>`),
    ])),
  },
  'deep-limit': {
    guards: 'the depth that the server lets through (36,000), names of one to 20 letters, attributes and text in between',
    run: rig => deliver(rig, to(rig, jid => [
      `<message to='${jid}'>${nested(36000)}</message>`,
      `<iq to='${jid}' type='set' id='${newId()}'>${nested(36000)}</iq>`,
      `<message to='${jid}'>${'<abcdefghijklmnopqrst x="1">y'.repeat(4000)}${'</abcdefghijklmnopqrst>'.repeat(4000)}</message>`,
      `<message to='${jid}'>${'<b xmlns="u:1"><b xmlns="u:2">'.repeat(4000)}${'</b></b>'.repeat(4000)}</message>`,
    ])),
  },
  'deep-100000': {
    guards: '100,000 levels (700 kB), more than the server accepts',
    run: rig => deliver(rig, to(rig, jid => [`<message to='${jid}'>${nested(100000)}</message>`, `<presence to='${jid}'>${nested(100000)}</presence>`]), { pause: 300 }),
  },
  'deep-in-room': {
    guards: 'deep stanzas to a room with the focus in it: presence, messages, private messages and iq to the focus',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const room = `${rig.freshRoom()}@conference.meet.test`;
      await guest.conference(room);
      const deep = nested(8000);
      const stanzas = [
        `<presence to='${room}/g'><x xmlns='http://jabber.org/protocol/muc'/>${deep}</presence>`,
        `<presence to='${room}/g'>${deep}</presence>`,
        `<message to='${room}' type='groupchat'><body>x</body>${deep}</message>`,
        ...everyKind(`${room}/focus`, deep),
        `<message to='${room}/focus' type='chat'>${nested(30000)}</message>`,
      ];
      for (const stanza of stanzas) { await guest.sendAll(stanza); await sleep(80); }
      await sleep(300);
      guest.send(`<presence type='unavailable' to='${room}/g'/>`);
      await sleep(200);
      guest.close();
      return { figures: { stanzas: stanzas.length } };
    },
  },
  'deep-in-brewery': {
    guards: 'a guest in the brewery sends deep presence, statistics and iq to everybody in it',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const room = 'jvbbrewery@internal.auth.meet.test';
      const deep = nested(8000);
      const stanzas = [
        `<presence to='${room}/g'><x xmlns='http://jabber.org/protocol/muc'/>${deep}</presence>`,
        `<presence to='${room}/g'><stats xmlns='http://jitsi.org/protocol/colibri'>${deep}</stats></presence>`,
        `<message to='${room}' type='groupchat'>${deep}</message>`,
        ...everyKind(`${room}/focus`, deep), ...everyKind(escape(rig.bridgeOccupant), deep),
      ];
      for (const stanza of stanzas) { await guest.sendAll(stanza); await sleep(50); }
      guest.send(`<presence type='unavailable' to='${room}/g'/>`);
      await sleep(300);
      guest.close();
      return { figures: { stanzas: stanzas.length } };
    },
  },
  'long-attribute': {
    guards: 'attributes of 8,000 to 250,000 bytes in message, presence and iq',
    quick: true,
    run: rig => deliver(rig, to(rig, jid => [8000, 8200, 40000, 250000].flatMap(size => [
      `<message to='${jid}'><a b='${long(size)}'/></message>`,
      `<presence to='${jid}'><a b='${long(size)}'/></presence>`,
      `<iq to='${jid}' type='get' id='${newId()}'><a xmlns='u' b='${long(size)}'/></iq>`,
    ]))),
  },
  'long-names': {
    guards: 'element names, attribute names, prefixes, namespaces, ids and types above 8 KiB',
    quick: true,
    run: rig => deliver(rig, to(rig, jid => [8200, 100000].flatMap(size => [
      `<message to='${jid}'><${long(size)}/></message>`,
      `<message to='${jid}'><a ${long(size)}='1'/></message>`,
      `<message to='${jid}'><a xmlns='${long(size)}'/></message>`,
      `<message to='${jid}'><a xmlns:${long(size)}='u' ${long(size)}:b='1'/></message>`,
      `<message to='${jid}'><${long(size)}:a xmlns:${long(size)}='u'/></message>`,
      `<message to='${jid}' id='${long(size)}'/>`,
      `<message to='${jid}' type='${long(size)}'/>`,
      `<message to='${jid}' xml:lang='${long(size)}'/>`,
      `<iq to='${jid}' type='get' id='${long(size)}'><query xmlns='jabber:iq:version'/></iq>`,
    ])), { pause: 80 }),
  },
  'long-text': {
    guards: 'text, references and entities above 8 KiB, up to the 256 kB that the server accepts',
    run: rig => deliver(rig, to(rig, jid => [
      `<message to='${jid}'><body>${long(250000)}</body></message>`,
      `<message to='${jid}'><body>${'&amp;'.repeat(50000)}</body></message>`,
      `<message to='${jid}'><body>${'&#x10FFFF;'.repeat(25000)}</body></message>`,
      `<message to='${jid}'><body>&#x${'0'.repeat(9000)}41;</body></message>`,
      `<message to='${jid}'><a b='${'&lt;&#10;&quot;'.repeat(9000)}'/></message>`,
      `<message to='${jid}'><body><![CDATA[${long(100000)}]]></body></message>`,
      `<message to='${jid}'><body>${'\u{1F600}'.repeat(60000)}</body></message>`,
      `<iq to='${jid}' type='set' id='${newId()}'><conference xmlns='http://jitsi.org/protocol/focus' room='${long(200000)}'/></iq>`,
    ])),
  },
  'wide-stanzas': {
    guards: '25,000 siblings, 10,000 attributes, 5,000 namespaces in one stanza',
    run: rig => deliver(rig, to(rig, jid => [
      `<message to='${jid}'>${'<a/>'.repeat(60000)}</message>`,
      `<message to='${jid}'><a ${Array.from({ length: 10000 }, (_, n) => `a${n}='${n}'`).join(' ')}/></message>`,
      `<message to='${jid}'>${Array.from({ length: 5000 }, (_, n) => `<a xmlns='urn:x:${n}'/>`).join('')}</message>`,
      `<iq to='${jid}' type='get' id='${newId()}'>${'<query xmlns="jabber:iq:version"/>'.repeat(5000)}</iq>`,
      `<presence to='${jid}'>${'<x xmlns="http://jabber.org/protocol/muc#user"/>'.repeat(4000)}</presence>`,
    ])),
  },
  'odd-xml': {
    guards: 'shifting namespaces, unbound prefixes, undeclared entities, DOCTYPE, billion laughs, processing instructions',
    run: rig => deliver(rig, to(rig, jid => [
      `<message to='${jid}'><a xmlns=''><b xmlns='jabber:client'/></a></message>`,
      `<message to='${jid}' xmlns='jabber:server'><a/></message>`,
      `<message to='${jid}'><a xmlns='http://www.w3.org/XML/1998/namespace'/></message>`,
      `<message to='${jid}'><xml:a/></message>`,
      `<message to='${jid}'><a xml:lang='x' xml:b='y' xml:c='z'/></message>`,
      `<message to='${jid}'><p:a xmlns:p='u' p:b='1' b='2'/></message>`,
      `<message to='${jid}'><stream:error xmlns:stream='http://etherx.jabber.org/streams'/></message>`,
      `<message to='${jid}'><r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='4294967295'/></message>`,
      `<message to='${jid}'><p:a/></message>`,
      `<message to='${jid}'><a>&nosuch;</a></message>`,
      `<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]><message to='${jid}'><a>&b;</a></message>`,
      `<?target ${long(9000)}?><message to='${jid}'/>`,
      `<!-- ${long(9000)} --><message to='${jid}'/>`,
      `<message to='${jid}'><a>\u0001</a></message>`,
      `<message to='${jid}'><a b='\uFFFE\uFFFF'>\uFFFF</a></message>`,
    ]), { pause: 80 }),
  },
  'odd-addresses': {
    guards: 'from, to and id of every length and script, in requests that get an answer',
    run: rig => deliver(rig, to(rig, jid => [
      `<iq to='${jid}' type='get' id=''><query xmlns='jabber:iq:version'/></iq>`,
      `<iq to='${jid}' type='get'><query xmlns='jabber:iq:version'/></iq>`,
      `<iq to='${jid}' id='x'><query xmlns='jabber:iq:version'/></iq>`,
      `<iq to='${jid}' type='nonsense' id='x'><query xmlns='jabber:iq:version'/></iq>`,
      `<iq to='${jid}' type='get' id='${'\u{1F600}'.repeat(2000)}'><ping xmlns='urn:xmpp:ping'/></iq>`,
      `<iq to='${jid}' type='get' id='&lt;&amp;&quot;&apos;'><ping xmlns='urn:xmpp:ping'/></iq>`,
      `<iq to='${jid}' type='get' id='two'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>`,
      `<iq to='${jid}' type='set' id='none'/>`,
      `<iq to='${jid}' type='error' id='none'/>`,
      `<iq to='${jid}' type='get' id='node'><query xmlns='http://jabber.org/protocol/disco#info' node='${long(200000)}'/></iq>`,
    ])),
  },
  'stanza-flood': {
    guards: '3,000 small stanzas at once to bridge and focus, some of which need answers',
    run: rig => deliver(rig, [
      Array.from({ length: 1500 }, (_, n) => `<message to='${both(rig)[n % 2]}'><body>x</body></message>`).join(''),
      Array.from({ length: 1000 }, (_, n) => `<iq type='get' id='f${n}' to='${both(rig)[n % 2]}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`).join(''),
      Array.from({ length: 500 }, (_, n) => `<presence to='${both(rig)[n % 2]}' type='subscribe'/>`).join(''),
    ], { pause: 1000 }),
  },
  subscriptions: {
    guards: 'subscription presences of all types, to full and bare JIDs, 100 each',
    run: rig => deliver(rig, [rig.bridgeJid, rig.focusJid].flatMap(jid => [jid, jid.split('/')[0]]).map(jid =>
      ['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'unavailable'].map(type => `<presence to='${jid}' type='${type}'><status>x</status></presence>`).join('').repeat(100)), { pause: 300 }),
  },
  'forged-replies': {
    guards: 'a guest answers requests that bridge and focus sent to others, with guessed ids',
    run: rig => deliver(rig, to(rig, jid => [
      Array.from({ length: 2000 }, (_, n) => `<iq type='${n % 2 ? 'result' : 'error'}' id='${n}' to='${jid}'><conference-modified xmlns='jitsi:colibri2'/></iq>`).join(''),
      ['bind', 'session', 'join', 'ping', 'health', 'enable'].map(id => `<iq type='result' id='${id}' to='${jid}'/>`).join(''),
    ]), { pause: 300 }),
  },
  'conference-burst': {
    guards: '300 conference requests by one guest in one burst; everybody else is answered',
    quick: true,
    aftermath: 3000,
    async run(rig) {
      const guest = await new Guest(rig).login();
      const room = rig.freshRoom();
      let answers = 0, errors = 0;
      guest.handlers.push(stanza => {
        if (stanza.name === 'iq' && stanza.attributes.id?.startsWith('burst')) {
          answers++;
          if (stanza.attributes.type === 'error') errors++;
        }
      });
      guest.send(Array.from({ length: 300 }, (_, n) => `<iq type='set' id='burst${n}' to='${rig.focusJid}'>`
        + `<conference xmlns='http://jitsi.org/protocol/focus' room='${room}-${n}@conference.meet.test' machine-uid='m${n}'/></iq>`).join(''));
      const start = Date.now();
      const other = await new Guest(rig).login();
      const answer = await other.conference(`${rig.freshRoom()}@conference.meet.test`);
      const waited = Date.now() - start;
      await sleep(Math.max(0, 5000 - waited));
      guest.close();
      other.close();
      return { figures: { answered: answers, refused: errors, another_waited_ms: waited },
        checks: [{ what: 'another guest is answered', value: waited, limit: 'at most 1000', unit: 'ms', ok: answer.attributes.type === 'result' && waited <= 1000 }] };
    },
  },
  'conference-same-room': {
    guards: '1,000 requests for the same room, and for a room of others, by one guest',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const rooms = [rig.freshRoom(), rig.room];
      guest.send(Array.from({ length: 1000 }, (_, n) => `<iq type='set' id='same${n}' to='${rig.focusJid}'>`
        + `<conference xmlns='http://jitsi.org/protocol/focus' room='${rooms[n % 2]}@conference.meet.test' machine-uid='m${n}'/></iq>`).join(''));
      await sleep(4000);
      guest.close();
      return { figures: { requests: 1000 } };
    },
  },
  'conference-odd': {
    guards: 'invalid rooms: the brewery, users, other services, full JIDs, 200 kB of name, 4,000 properties',
    async run(rig) {
      const guest = await new Guest(rig).login();
      const rooms = ['jvbbrewery@internal.auth.meet.test', 'focus@auth.meet.test', 'jvb@auth.meet.test', 'meet.test', 'conference.meet.test', '@conference.meet.test',
        'a@conference.meet.test/b', 'x@conference.nowhere.test', long(900) + '@conference.meet.test', long(3000) + '@conference.meet.test', 'ä ß\u{1F600}@conference.meet.test', '', '/', 'a@b@c',
        "a'b@conference.meet.test", '__jicofo-health-check-1@conference.meet.test'];
      const answers = {};
      for (const room of rooms) {
        const answer = await guest.conference(room).catch(error => error);
        answers[room.slice(0, 40)] = answer instanceof Error ? answer.message : answer.attributes.type;
      }
      guest.send(`<iq type='set' id='p' to='${rig.focusJid}'><conference xmlns='http://jitsi.org/protocol/focus' room='${rig.freshRoom()}@conference.meet.test'>`
        + "<property name='startAudioMuted' value='99999999999999999999'/>".repeat(3000) + '</conference></iq>');
      await sleep(1000);
      guest.close();
      const silent = Object.entries(answers).filter(([, answer]) => /not within/.test(answer)).map(([room]) => room);
      const brewery = answers['jvbbrewery@internal.auth.meet.test'];
      return { figures: { answers }, checks: [
        { what: 'every request is answered', value: silent.length ? `not ${silent.join(', ')}` : 'yes', ok: silent.length === 0 },
        { what: 'the brewery is no conference', value: brewery, ok: brewery === 'error' },
      ] };
    },
  },
  'half-streams': {
    guards: 'guests that disconnect in the middle of a stanza, a name, a character; 200 logins that do nothing',
    async run(rig) {
      const cuts = [`<message to='${rig.focusJid}'><a b='`, `<iq type='set' id='x' to='${rig.bridgeJid}'>`, `<message to='${rig.focusJid}'><`, '<', '</stream:stream'];
      for (const cut of cuts) {
        const guest = await new Guest(rig).login();
        await guest.sendAll(cut);
        await sleep(50);
        guest.close();
      }
      const idle = [];
      for (let n = 0; n < 200; n++) idle.push(await new Guest(rig).login());
      await sleep(1000);
      for (const one of idle) one.close();
      return { figures: { cut: cuts.length, idle: idle.length } };
    },
  },
};
