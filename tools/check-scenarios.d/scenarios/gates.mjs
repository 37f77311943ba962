// Who gets into a room, and who is put out of it: by Prosody, with the focus behaving as its modules expect.
import { allDecode, expect, seconds, timed } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { endConferenceAddress } from '../../lib/prosody.mjs';
import { sleep, until } from '../../lib/process.mjs';

/** Calls a method of the unmodified library's conference in the page. */
const conference = (one, call) => one.hook(`ringbridge.session.conference.${call}`);
const stateOf = async one => (await one.state()).state;
const reaches = (one, state, timeout = 20000) => timed(`${one.name} is '${state}'`, timeout, async () => await stateOf(one) === state);
const endpoints = async call => (await call.stack.bridges[0].bridgeStats()).participants;
/** The statistics are refreshed every few seconds; returns after how many milliseconds they say so. */
const bridgeCounts = (call, number) => timed(`the bridge counts ${number} endpoints`, 20000, async () => await endpoints(call) === number);
/** Time in which something that must not happen would have happened. */
const quietly = () => sleep(1500);
const events = (one, name) => one.hook(`ringbridge.events.filter(event => event.name === '${name}')`);

/** Whoever waits in the lobby under a name, as the owner's page knows it. */
async function waiting(owner, name) {
  let id;
  await until(`${owner.name} sees ${name} in the lobby`, 20000, async () => {
    id = (await events(owner, 'lobby-joined')).findLast(({ shown }) => shown === name)?.id;
    return Boolean(id);
  });
  return id;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  lobby: {
    about: 'a lobby: one is let in, one is not, the focus starts again meanwhile, the lobby is closed',
    stack: { site: { lobby: true }, split: true },
    async run(call) {
      const [a, b] = await call.meet('p1', 'p2');
      await conference(a, 'enableLobby()');
      const c = await call.join('p3');
      await reaches(c, 'lobby');
      const d = await call.join('p4');
      await reaches(d, 'lobby');
      await quietly();
      expect((await b.state()).participants.length === 1, `p2 sees ${(await b.state()).participants.length} others`);
      await bridgeCounts(call, 2);
      const start = Date.now();
      await conference(a, `lobbyApproveAccess('${await waiting(a, 'p3')}')`);
      expect(await everybodyMeets([a, b, c], 45000), 'the one who was let in does not meet the others');
      const later = Date.now() - start;
      await conference(a, `lobbyDenyAccess('${await waiting(a, 'p4')}')`);
      await reaches(d, 'denied');
      await bridgeCounts(call, 3);

      // The room is closed to strangers; its focus is none. Who comes next has it look after the room again.
      await call.stack.focus.kill();
      await call.stack.focus.start();
      const e = await call.join('p5');
      await until('the focus has the conference again', 30000, async () => (await call.stack.focus.focusStats()).participants === 3);
      await reaches(e, 'lobby');
      await conference(a, 'disableLobby()');
      expect(await everybodyMeets([a, b, c, e], 45000), 'with the lobby closed p5 did not get in');
      await allDecode([a, b, c, e]);
      return `media ${seconds(later)} after being let in; one denied; in again after the focus started anew`;
    },
  },

  password: {
    about: 'a room with a password: without it nobody gets in, with it one does',
    async run(call) {
      const [a, b] = await call.meet('p1', 'p2');
      await conference(a, `lock('s3cret')`);
      const c = await call.join('p3');
      await reaches(c, 'password');
      await conference(c, `join('wrong')`);
      await quietly();
      expect(await stateOf(c) === 'password', `p3 is '${await stateOf(c)}' with a wrong password`);
      await bridgeCounts(call, 2);
      await conference(c, `join('s3cret')`);
      expect(await everybodyMeets([a, b, c], 45000), 'p3 did not get in with the password');
      await allDecode([a, b, c]);
      return 'refused without and with a wrong one, in with the right one';
    },
  },

  kick: {
    about: 'the owner puts one out: its endpoint goes, the others go on; a guest can put out nobody',
    async run(call) {
      const [a, b, c] = await call.meet('p1', 'p2', 'p3');
      const id = async one => (await one.state()).id;
      await conference(b, `kickParticipant('${await id(c)}')`);
      await quietly();
      expect(await stateOf(c) === 'joined', 'a guest put somebody out');
      await bridgeCounts(call, 3);
      await conference(a, `kickParticipant('${await id(c)}')`);
      const out = await reaches(c, 'kicked');
      const gone = await bridgeCounts(call, 2);
      await allDecode([a, b]);
      return `out after ${seconds(out)}, its endpoint ${seconds(gone)} later`;
    },
  },

  'end-for-all': {
    about: 'a moderator ends the meeting for all; a guest cannot; the next one under its name is another',
    stack: { site: { endConference: true } },
    async run(call) {
      const [a, b] = await call.meet('p1', 'p2');
      // The packaged library is older than this call of it: the same stanza over its connection.
      const end = one => one.hook(`ringbridge.session.conference.xmpp.connection.send(new DOMParser().parseFromString(
        "<message xmlns='jabber:client' to='${endConferenceAddress}'><end_conference xmlns='jabber:client'/></message>", 'text/xml').documentElement)`);
      const meetings = async () => (await call.stack.focus.focusStats()).total_conferences_created;
      const before = await meetings();
      await end(b);
      await quietly();
      expect(await stateOf(a) === 'joined' && await stateOf(b) === 'joined', 'a guest ended the meeting');
      await end(a);
      const over = await reaches(a, 'ended for all');
      await reaches(b, 'ended for all');
      const stats = () => call.stack.bridges[0].bridgeStats();
      const gone = await timed('the bridge has no conference', 20000, async () => (await stats()).conferences === 0);
      await until('the focus has none', 20000, async () => (await call.stack.focus.focusStats()).conferences === 0);
      const c = await call.join('p3');
      const d = await call.join('p4');
      expect(await everybodyMeets([c, d], 45000), 'the next meeting under the name did not begin');
      expect(await meetings() === before + 1, `${await meetings() - before} new conferences`);
      return `out after ${seconds(over)}, the bridge free ${seconds(gone)} later`;
    },
  },

  'max-occupants': {
    about: 'a room for two: a third is refused, and gets in when there is a place; the focus takes none',
    stack: { site: { maxOccupants: 2 } },
    async run(call) {
      const [a, b] = await call.meet('p1', 'p2');
      const c = await call.join('p3');
      await until('the third is refused', 20000, async () => (await events(c, 'conference-failed')).some(({ error }) => error === 'conference.max_users'));
      await bridgeCounts(call, 2);
      await allDecode([a, b]);
      await b.leave();
      const later = await timed('the third is in', 30000, async () => await stateOf(c) === 'joined');
      expect(await everybodyMeets([a, c], 45000), 'the two did not meet');
      return `in ${seconds(later)} after a place was free`;
    },
  },
};
