// What participants, moderators and visitors do in a meeting with several rooms, and what the focus knows of it.
import { expect } from './call.mjs';
import { until } from '../lib/process.mjs';

/** Sends a participant to a room, as a moderator does; resolves when it is there. */
export async function send(moderator, participant, jid) {
  const { id } = await participant.state();
  await moderator.hook(`(() => {
    const people = ringbridge.session.rooms.flatMap(room => Object.entries(room.participants));
    const [, one] = people.find(([nick]) => nick.endsWith('/${id}'));
    ringbridge.session.conference.getBreakoutRooms().sendParticipantToRoom(one.jid, '${jid}');
  })()`);
  await inRoom([participant], jid);
}

/** Waits until all are in the room of that address. */
async function inRoom(participants, jid) {
  await until(`${participants.map(one => one.name).join(', ')} in ${jid}`, 20000, async () => {
    const where = await Promise.all(participants.map(one => one.hook('[ringbridge.session.state, ringbridge.session.conference?.room?.roomjid]')));
    return where.every(([state, room]) => state === 'joined' && room === jid);
  });
}

/** Whether the focus has these participants with a session each, by room, and the recording. */
export async function knows(stack, rooms) {
  const [debug, stats] = await Promise.all(['/debug/conferences-full', '/stats'].map(async path => (await fetch(stack.focus.focusUrl(path))).json()));
  return stats.jibri.recording_active === 1 && Object.keys(debug).length === Object.keys(rooms).length
    && Object.entries(rooms).every(([room, ids]) => ids.every(id => debug[room]?.participants[id]?.stage === 'Active'));
}

/** Asks the focus for the conference as a client does that would rather watch. */
export async function askToVisit(call) {
  const body = JSON.stringify({ room: `${call.room}@conference.meet.test`, properties: { 'visitors-version': 1, visitor: true } });
  const answer = await fetch(call.stack.focus.focusUrl('/conference-request/v1'), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  expect(answer.ok, `the focus answers ${answer.status}: ${await answer.clone().text()}`);
  return answer.json();
}

/** What the focus says in its presence of a conference, as a participant sees it. */
export const property = (participant, name) => participant.hook(`ringbridge.session.conference.properties['${name}']`);

/** A visitor raises its hand, and the focus lets it in. */
export async function raiseHand(visitor) {
  await visitor.hook(`(() => {
    const { conference } = ringbridge.session;
    conference.xmpp.connection.addHandler(iq => { window.letIn = iq.outerHTML; return true; }, 'jitsi:visitors', 'iq', 'set');
    conference.setLocalParticipantProperty('raisedHand', String(Date.now()));
  })()`);
  await until('the visitor is let in', 10000, () => visitor.page.evaluate('Boolean(window.letIn)'));
  const letIn = await visitor.page.evaluate('window.letIn');
  expect(/promotion-response/.test(letIn) && /allow="true"/.test(letIn), `answered ${letIn}`);
}
