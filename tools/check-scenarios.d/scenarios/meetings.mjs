// What a meeting has beside its main room: breakout rooms, moderators who mute, metadata.
import { allDecode, allMoving, expect, seconds, timed, watchPictures } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { knows, send } from '../meeting.mjs';
import { outcome, pageConference, Recorder, recorderStack } from '../recorder.mjs';

/** What was seen between participants while something went on, see watchPictures, and its result. */
async function watching(participants, act) {
  const watch = watchPictures(participants);
  try {
    const result = await act();
    return [await watch.stop(), result];
  } finally {
    await watch.stop();
  }
}

/** What the focus refused for a reason. */
async function refused(stack, reason) {
  const stats = await (await fetch(stack.focus.focusUrl('/stats'))).json();
  return stats.refused[reason];
}

/** What the bridge drops of each endpoint: id → {audio, video}. */
async function dropped(stack) {
  const { conferences } = await stack.bridges[0].debug(true);
  const endpoints = Object.values(conferences).flatMap(conference => Object.entries(conference.endpoints));
  return Object.fromEntries(endpoints.map(([id, endpoint]) => [id, endpoint.force_mute]));
}

/** Packets of sound that one received of another. */
async function heard(receiver, sender) {
  return (await receiver.stats()).remote[sender.name]?.audio?.packets ?? 0;
}

/** Waits until one hears another again: sound is sent at 50 packets a second, of silence too. */
async function hears(receiver, sender) {
  const before = await heard(receiver, sender);
  await until(`${receiver.name} hears ${sender.name}`, 20000, async () => await heard(receiver, sender) - before >= 50);
}

/** Packets of sound that one received of another while two seconds of sound went between `control`, [receiver, sender]. */
async function heardMeanwhile(receiver, sender, control) {
  const before = await heard(receiver, sender);
  for (let second = 0; second < 2; second++) await hears(control[0], control[1]);
  return await heard(receiver, sender) - before;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  breakout: {
    about: 'two of four go to a breakout room and back, then all go; the focus is killed meanwhile, in a call that is recorded, too',
    stack: { site: { meetings: true }, split: true, state: true, ...recorderStack },
    async run(call) {
      const recorder = new Recorder(call);
      await recorder.start();
      const all = await call.meetAs({ renew: true }, 'p1', 'p2', 'p3', 'p4');
      const [p1, p2, p3, p4] = all;
      const main = `${call.room}@conference.meet.test`;
      await until('p1 is a moderator', 20000, async () => (await p1.state()).owner);
      expect(await refused(call.stack, 'unserved') === 0, 'requests were refused before it began');
      await p1.hook('ringbridge.session.conference.getBreakoutRooms().createBreakoutRoom("one")');
      const created = () => p1.hook('ringbridge.session.rooms.find(room => !room.isMainRoom)?.jid');
      await until('there is a breakout room', 20000, created);
      const breakout = await created();

      // A busy machine has pauses of its own.
      const [calm] = await watching([p1, p2], () => sleep(2000));
      const noise = Math.max(...[...calm].map(([, pair]) => pair.longest));

      // Two go. Who stays notices nothing.
      const [pairs, there] = await watching([p1, p2], async () => {
        await send(p1, p3, breakout);
        await send(p1, p4, breakout);
        return allMoving([p3, p4], 20000);
      });
      const longest = Math.max(...[...pairs].filter(([name]) => ['p1 at p2', 'p2 at p1'].includes(name)).map(([, pair]) => pair.longest));
      expect(longest < Math.max(1500, 3 * noise), `a pause of ${longest} ms in the main room, before it ${noise} ms`);
      const owners = await Promise.all([p3, p4].map(async one => (await one.state()).owner));
      expect(!owners.some(Boolean), 'somebody was made owner of the breakout room');
      await allDecode([p1, p2]);

      // And come back.
      await send(p1, p3, main);
      await send(p1, p4, main);
      const back = await allMoving(all, 30000);
      await allDecode(all);

      // All go, so the main room is empty, and come back.
      for (const one of [p2, p3, p4, p1]) await send(p1, one, breakout);
      await allMoving(all, 30000);
      await send(p1, p2, main);
      await send(p1, p1, main);
      await allMoving([p1, p2], 30000);
      await allMoving([p3, p4], 30000);
      const recording = await recorder.record(p1);

      // The focus dies. Calls go on, and nobody sees that it was away.
      const before = await Promise.all(all.map(one => one.state()));
      const ids = before.map(state => state.id);
      const rooms = { [main]: ids.slice(0, 2), [breakout]: ids.slice(2) };
      await until('the focus knows everybody', 20000, () => knows(call.stack, rooms));
      const again = end => watching(all, async () => {
        await end();
        await sleep(1000);
        await call.stack.focus.start();
        const found = await timed('the focus has both rooms, everybody with a session, and the recording', 30000, () => knows(call.stack, rooms));
        await allMoving([p1, p2], 45000);
        await allMoving([p3, p4], 45000);
        // Both calls begin anew, on as many cores as the first one had.
        expect(found <= 2 * call.limit(1000), `everything is as it was only ${seconds(found)} after the focus was back`);
        return found;
      });
      const [during, right] = await again(() => call.stack.focus.kill());
      // To end it in order makes no difference.
      const [, restarted] = await again(() => call.stack.focus.stop());
      const after = await Promise.all(all.map(one => one.state()));
      expect(after.every((state, index) => state.state === 'joined' && state.id === ids[index] && state.session === before[index].session),
        `somebody began anew: ${JSON.stringify(after.map(({ state, id, session }) => [state, id, session]))}`);
      await allDecode([p1, p2]);
      await allDecode([p3, p4]);
      const together = ['p1 at p2', 'p2 at p1', 'p3 at p4', 'p4 at p3'];
      const pause = Math.max(...[...during].filter(([name]) => together.includes(name)).map(([, pair]) => pair.longest));

      // What was there before is not only known: it works.
      await send(p1, p3, main);
      await allMoving([p1, p2, p3], 30000);
      const stopped = await p1.hook(outcome(`${pageConference}.stopRecording('${recording}')`));
      expect(/^ok/.test(stopped), `the recording was not stopped: ${stopped}`);
      await until('the Jibri is asked to end', 20000, async () => recorder.ended);
      recorder.stop();
      await call.stack.focus.process.check();
      return `media after ${seconds(there)} in the breakout room and ${seconds(back)} back, longest pause of others ${longest} ms; ` +
        `both rooms and the recording as before ${seconds(right)} after the killed focus was back, ${seconds(restarted)} after a restart in order, longest pause ${pause} ms, nobody joined again`;
    },
  },

  'av-moderation': {
    about: 'a moderator mutes one, then everybody: who goes on sending is not heard; who is allowed is',
    stack: { site: { meetings: true } },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const [p1, p2, p3] = all;
      await until('p1 is a moderator', 20000, async () => (await p1.state()).owner);
      const [id2, id3] = [(await p2.state()).id, (await p3.state()).id];
      expect(await p1.hook('ringbridge.session.conference.isAVModerationSupported()'), 'the library does not see the component');
      const mutedByBridge = (id, medium, state) => until(`${medium} of ${id} is ${state ? '' : 'not '}dropped`, 20000,
        async () => Boolean((await dropped(call.stack))[id]?.[medium]) === state);
      const locallyMuted = (one, kind) => one.hook(`ringbridge.session.localTrack('${kind}').isMuted()`);

      // One is muted. Chromium goes on sending silence, and is not heard; it unmutes itself, and is.
      await hears(p1, p2);
      await p1.hook(`ringbridge.session.conference.muteParticipant('${id2}', 'audio')`);
      await until('p2 is muted', 20000, () => locallyMuted(p2, 'audio'));
      await mutedByBridge(id2, 'audio', true);
      const silence = await heardMeanwhile(p1, p2, [p1, p3]);
      expect(silence <= 5, `p1 got ${silence} packets of p2, who is muted`);
      await hears(p1, p3);
      await p2.hook(`ringbridge.session.localTrack('audio').unmute()`);
      await mutedByBridge(id2, 'audio', false);
      await hears(p1, p2);
      // Who is no moderator cannot.
      await p2.hook(`ringbridge.session.conference.room.muteParticipant('${call.room}@conference.meet.test/${id3}', true, 'audio')`);
      await until('the request is refused', 20000, async () => await refused(call.stack, 'mute') === 1);
      expect(!await locallyMuted(p3, 'audio'), 'p3 was muted by who is no moderator');

      // Everybody is. Who unmutes all the same is not heard or seen.
      await p1.hook(`ringbridge.session.conference.enableAVModeration('audio')`);
      await p1.hook(`ringbridge.session.conference.enableAVModeration('video')`);
      for (const one of [p2, p3]) for (const kind of ['audio', 'video']) await until(`${kind} of ${one.name} is muted`, 20000, () => locallyMuted(one, kind));
      for (const id of [id2, id3]) for (const medium of ['audio', 'video']) await mutedByBridge(id, medium, true);
      await hears(p2, p1);
      await p2.hook(`ringbridge.session.localTrack('audio').unmute()`);
      await p2.hook(`ringbridge.session.localTrack('video').unmute()`);
      await until('leave to unmute is refused', 20000, async () => await refused(call.stack, 'mute') >= 2);
      const before = (await p1.stats()).remote.p2?.video?.framesDecoded ?? 0;
      const forbidden = await heardMeanwhile(p1, p2, [p2, p1]);
      const frames = ((await p1.stats()).remote.p2?.video?.framesDecoded ?? 0) - before;
      expect(forbidden <= 5 && frames <= 2, `p1 got ${forbidden} packets and ${frames} frames of p2, who goes on sending`);

      // A newcomer is held to it too.
      const p4 = await call.join('p4');
      await until('p4 is in the room', 20000, async () => (await p4.state()).state === 'joined');
      const id4 = (await p4.state()).id;
      await mutedByBridge(id4, 'audio', true);
      const newcomer = await heardMeanwhile(p1, p4, [p2, p1]);
      expect(newcomer <= 5, `p1 got ${newcomer} packets of p4, who came later`);

      // One is allowed.
      await p1.hook(`ringbridge.session.conference.avModerationApprove('audio', '${id2}')`);
      await mutedByBridge(id2, 'audio', false);
      await hears(p1, p2);
      const left = await heardMeanwhile(p1, p3, [p1, p2]);
      expect(left <= 5, `p1 got ${left} packets of p3, who is not allowed`);

      // And then all.
      await p1.hook(`ringbridge.session.conference.disableAVModeration('audio')`);
      await p1.hook(`ringbridge.session.conference.disableAVModeration('video')`);
      for (const medium of ['audio', 'video']) for (const id of [id3, id4]) await mutedByBridge(id, medium, false);
      for (const one of [p2, p3]) for (const kind of ['audio', 'video']) await one.hook(`ringbridge.setMuted('${kind}', false)`);
      expect(await everybodyMeets([p1, p2, p3], 30000), 'not everybody is seen and heard again');
      await allDecode([p1, p2, p3]);
      return `muted: ${silence} packets in 2 s; moderated: ${forbidden} packets and ${frames} frames of who went on sending`;
    },
  },
};
