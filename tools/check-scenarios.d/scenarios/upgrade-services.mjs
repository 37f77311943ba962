// Focus and bridge are one process, which is replaced while others have to do with the focus: recorders, gateways, visitors, users who log in.
import { allDecode, allMoving, expect, seconds, timed, watchPictures } from '../call.mjs';
import { calling, gateways, gatewayStack, gatewayStatus } from '../gateway.mjs';
import { askedToLogIn, loginStack, logIn } from '../login.mjs';
import { askToVisit, knows, property, raiseHand, send } from '../meeting.mjs';
import { account, focusStats, outcome, pageConference, Recorder, recorderStack } from '../recorder.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { until } from '../../lib/process.mjs';
import { attribute } from '../../lib/xmpp-account.mjs';

/** Five pages at once, on two cores. */
const light = { size: '160x90', fps: 8 };

/** Replaces the process of a call; for how many milliseconds nothing was sent. */
async function upgrade(call) {
  const service = call.stack.bridges[0];
  const before = service.successor ?? service.process.pid;
  const { code, pid, said, frozen } = await service.upgrade();
  expect(code === 0 && pid !== before, `the upgrade: ${said}`);
  return frozen;
}

/** Everybody's sessions and connections: none of them begins anew. */
const connections = all => Promise.all(all.map(async one => {
  const state = await one.state();
  return JSON.stringify([state.session, state.connections, state.id]);
}));

/** Has the page ask for a call without waiting; what became of it is `window.dialled`. */
const dial = one => one.hook(`void (${outcome(`${pageConference}.dial('+4930123')`)}).then(text => { window.dialled = text; })`);

/** name → scenario, see index.mjs. */
export const scenarios = {
  'upgrade-services': {
    about: 'focus and bridge are one process, replaced twice: a recording, a call out, breakout rooms and visitors go on, and the state of the focus survives a kill afterwards',
    stack: {
      state: true, site: { meetings: true, visitors: true }, accounts: [...recorderStack.accounts, ...gatewayStack.accounts],
      environment: { ...recorderStack.environment, ...gatewayStack.environment },
    },
    async run(call) {
      const { stack } = call;
      const recorder = new Recorder(call);
      await recorder.start();
      const orders = [];
      const gateway = await account(call, 'jigasi', xml => {
        if (!xml.includes('rayo')) return '';
        orders.push(xml);
        return undefined;
      });
      const accept = () => gateway.send(`<iq type='result' id='${attribute(orders.at(-1), 'id')}' to='${attribute(orders.at(-1), 'from')}'>${calling}</iq>`);
      await gateway.enter(gateways, 'jigasi-1', gatewayStatus(0));
      await until('the focus knows the gateway', 20000, async () => (await focusStats(call)).jigasi.sip_count === 1);

      // Two stay in the main room, which one watches; two are in a breakout room.
      const all = await call.meetAs(light, 'p1', 'p2', 'p3', 'p4');
      const [p1, p2, p3, p4] = all;
      const main = `${call.room}@conference.meet.test`;
      await until('p1 is a moderator', 20000, async () => (await p1.state()).owner);
      await p1.hook('ringbridge.session.conference.getBreakoutRooms().createBreakoutRoom("one")');
      const created = () => p1.hook('ringbridge.session.rooms.find(room => !room.isMainRoom)?.jid');
      await until('there is a breakout room', 20000, created);
      const breakout = await created();
      for (const one of [p3, p4]) await send(p1, one, breakout);
      await until('the visitor node is there', 10000, async () => (await focusStats(call)).visitor_nodes.v1.online);
      const visitor = await call.join('visitor', { visitor: (await askToVisit(call)).vnode, send: 'none' });
      const watched = async () => (await Promise.all(['p1', 'p2'].map(async name => (await visitor.stats()).remote[name]?.video?.framesDecoded ?? 0)));
      await until('the visitor sees both', 30000, async () => (await watched()).every(frames => frames >= 5));
      await allMoving([p1, p2], 30000);
      await allMoving([p3, p4], 30000);

      // Replaced while a Jibri is about to record and a gateway is about to call: both answer the new process.
      const ids = (await Promise.all(all.map(one => one.state()))).map(state => state.id);
      const before = await connections([...all, visitor]);
      const pictures = watchPictures([p1, p2]);
      const frozen = [];
      await dial(p1);
      await until('the gateway is asked', 20000, () => orders.length === 1);
      const recording = await recorder.record(p1, async () => { frozen.push(await upgrade(call)); });
      accept();
      await until('the call is made', 20000, () => p1.page.evaluate('/^ok/.test(window.dialled)')).catch(async error => {
        throw new Error(`${error.message}: ${await p1.page.evaluate('window.dialled')}`);
      });
      const rooms = { [main]: ids.slice(0, 2), [breakout]: ids.slice(2) };
      await until('the focus knows everybody, and the recording', 20000, () => knows(stack, rooms));
      frozen.push(await upgrade(call));
      expect(await knows(stack, rooms), 'the focus knows less than before');
      const stats = await focusStats(call);
      expect(stats.visitors === 1 && stats.visitor_nodes.v1.online && stats.jigasi.sip_count === 1, JSON.stringify([stats.visitors, stats.visitor_nodes, stats.jigasi]));
      const seen = await watched();
      await until('the visitor still sees both', 10000, async () => (await watched()).every((frames, index) => frames >= seen[index] + 5));
      await allMoving([p1, p2], 10000);
      await allMoving([p3, p4], 10000);
      const longest = Math.max(...[...await pictures.stop()].filter(([key]) => ['p1 at p2', 'p2 at p1'].includes(key)).map(([, pair]) => pair.longest));
      const after = await connections([...all, visitor]);
      expect(after.every((one, index) => one === before[index]), `a connection of a page changed: ${before} and then ${after}`);
      expect(Number(await property(p1, 'visitor-count')) === 1, 'the focus announces another number of visitors');

      // What the former processes began works on: another call, from room to room, into the room, and out of the visitor node.
      await dial(p1);
      await until('the gateway is asked again', 20000, () => orders.length === 2);
      accept();
      await send(p1, p3, main);
      await allMoving([p1, p2, p3], 30000);
      expect((await askToVisit(call)).vnode === 'v1', 'the next visitor is sent elsewhere');
      await raiseHand(visitor);
      await visitor.leave();
      call.all.splice(call.all.indexOf(visitor), 1);
      const promoted = await call.join('promoted', light);
      await allMoving([p1, p2, p3, promoted], 30000);
      await promoted.leave();
      call.all.splice(call.all.indexOf(promoted), 1);
      await until('it is gone', 20000, async () => (await p1.state()).participants.every(one => one.name !== 'promoted'));

      // The new process keeps the state, too: it is killed, and everything is as the former ones began it.
      const errors = stack.errors();
      expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
      // Who went to another room has another id there; who is alone has no session.
      const now = { [main]: (await Promise.all([p1, p2, p3].map(one => one.state()))).map(state => state.id), [breakout]: [] };
      await stack.all.kill();
      await stack.all.start();
      const known = await timed('the focus has both rooms, everybody with a session who is not alone, and the recording', 45000, () => knows(stack, now));
      await allMoving([p1, p2, p3], 45000);
      await allDecode([p1, p2, p3]);
      const stopped = await p1.hook(outcome(`${pageConference}.stopRecording('${recording}')`));
      expect(/^ok/.test(stopped), `the recording was not stopped: ${stopped}`);
      await until('the Jibri is asked to end', 20000, async () => recorder.ended);
      for (const one of [recorder, gateway]) one.stop();
      return `nothing sent for ${frozen.join(', ')} ms, longest pause of a picture ${longest} ms; a recording and a call that were asked for before the first upgrade began after it; `
        + `killed after the second one, the focus had everything again after ${seconds(known)}`;
    },
  },

  'upgrade-login': {
    about: 'focus and bridge are one process, replaced before a guest logs in, in its call and after it: guests wait as before, and the login holds',
    stack: loginStack,
    async run(call) {
      const frozen = [];
      const host = await call.join('p1');
      await askedToLogIn(host);
      frozen.push(await upgrade(call));
      await logIn(host, call);
      const guest = await call.join('p2');
      expect(await everybodyMeets([host, guest], 45000), 'the two did not meet');
      await until('the login is counted', 20000, async () => (await focusStats(call)).login.sessions === 1);
      frozen.push(await upgrade(call));
      await allMoving([host, guest], 10000);
      expect((await host.state()).owner && !(await guest.state()).owner, 'the host does not own the room alone');
      expect((await focusStats(call)).login.sessions === 1, 'the login is not known any more');
      await guest.leave();
      call.all.splice(call.all.indexOf(guest), 1);
      await host.hook('ringbridge.hangUp()');
      await until('the conference is over', 45000, async () => (await focusStats(call)).conferences === 0);
      frozen.push(await upgrade(call));
      // Who has logged in begins another conference, a guest does not.
      const stranger = await call.join('p3', {}, `${call.room}-other`);
      await askedToLogIn(stranger);
      await host.reload();
      await until('the host begins another conference', 45000, async () => { const state = await host.state(); return state.state === 'joined' && state.owner; });
      await until('the conference is counted', 20000, async () => (await focusStats(call)).conferences === 1);
      const stats = await focusStats(call);
      expect(stats.login.sessions === 1, JSON.stringify(stats.login));
      const errors = call.stack.errors();
      expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
      return `nothing sent for ${frozen.join(', ')} ms; a login holds over two upgrades, ${stats.refused.login} requests of guests were refused`;
    },
  },
};
