// Visitors: they watch from a server of their own, and may be let in.
import { allDecode, allMoving, expect, seconds, timed } from '../call.mjs';
import { askToVisit, property, raiseHand } from '../meeting.mjs';
import { until } from '../../lib/process.mjs';
import { homes } from '../../lib/relays.mjs';

/** Asks to watch, once the visitor node is there; the focus's answer. */
async function sentToNode(call) {
  await until('the visitor node is there', 10000, async () => (await call.stack.focus.focusStats()).visitor_nodes.v1.online);
  const answer = await askToVisit(call);
  expect(answer.ready && answer.vnode === 'v1' && answer.focusJid === 'focus@auth.v1.meet.test', `answered ${JSON.stringify(answer)}`);
  return answer;
}

/** Whether `visitor` decodes and hears all of `names`. */
async function watches(visitor, names) {
  const { remote } = await visitor.stats();
  return names.every(name => remote[name]?.video?.framesDecoded >= 5 && remote[name]?.audio?.packets > 5);
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  visitors: {
    about: 'one watches two from a visitor node, unseen by them, raises its hand and takes part',
    stack: { site: { visitors: true } },
    async run(call) {
      const [p1, p2] = await call.meet('p1', 'p2');
      const answer = await sentToNode(call);
      expect(answer.properties['visitors-supported'] === 'true', 'visitors are not said to be supported');

      // It sees both, and is announced by a number alone.
      const visitor = await call.join('visitor', { visitor: answer.vnode, send: 'none' });
      const sees = await timed('the visitor sees both', 30000, () => watches(visitor, ['p1', 'p2']));
      await until('the participants learn that there is one', 10000, async () => Number(await property(p1, 'visitor-count')) === 1);
      for (const one of [p1, p2]) {
        const { remote } = await one.stats();
        expect(!remote.visitor, `${one.name} sees the visitor`);
        expect(await one.hook('ringbridge.session.conference.getParticipants().length') === 1, `${one.name} knows of more than one other`);
      }
      const { conferences } = await call.stack.bridges[0].debug(true);
      const endpoints = Object.values(conferences).flatMap(conference => Object.values(conference.endpoints));
      expect(endpoints.filter(endpoint => endpoint.visitor).length === 1 && endpoints.length === 3, 'the bridge does not know the visitor as one');

      // Who comes later is shown to it.
      const p3 = await call.join('p3');
      await allMoving([p1, p2, p3], 30000);
      await until('the visitor sees the third', 20000, async () => (await visitor.stats()).remote.p3?.video?.framesDecoded >= 5);

      // It raises its hand and is let in: its client enters the main room.
      await raiseHand(visitor);
      await visitor.leave();
      call.all.splice(call.all.indexOf(visitor), 1);
      const promoted = await call.join('promoted');
      const all = [p1, p2, p3, promoted];
      const takesPart = await allMoving(all, 30000);
      await allDecode(all);
      await until('nobody watches any more', 20000, async () => Number(await property(p1, 'visitor-count')) === 0);

      // The last participant leaves, and the focus the node with it.
      for (const one of all) await one.leave();
      call.all.length = 0;
      await until('the conference is over', 20000, async () => (await call.stack.focus.focusStats()).conferences === 0);
      const stats = await call.stack.focus.focusStats();
      expect(stats.visitors === 0 && stats.visitor_nodes.v1.visitors === 0, 'visitors are left behind');
      const refused = Object.entries(stats.refused).filter(([reason, count]) => count && ['visitor', 'visitor_source', 'foreign_node', 'node_failed'].includes(reason));
      expect(!refused.length, `refused: ${JSON.stringify(refused)}`);
      return `the visitor sees both ${seconds(sees)} after it came; let in, it meets all within ${seconds(takesPart)}`;
    },
  },
  'visitors-linked-bridges': {
    about: 'visitors of two on two linked bridges see and hear both, whichever bridge they are on',
    stack: { split: true, bridges: 2, strategy: 'split', site: { visitors: true } },
    async run(call) {
      const [p1, p2] = await call.meet('p1', 'p2');
      const { vnode } = await sentToNode(call);
      const watchers = [];
      for (const name of ['w1', 'w2']) watchers.push(await call.join(name, { visitor: vnode, send: 'none' }));
      const sees = await timed('both visitors see both', 45000, async () => (await Promise.all(watchers.map(one => watches(one, ['p1', 'p2'])))).every(Boolean));
      const places = await homes(call.stack, [p1, p2, ...watchers]);
      expect(places.size === 4 && places.get(p1) !== places.get(p2), 'the participants are not on two bridges');
      const beside = watchers.map(one => places.get(one) === places.get(p1) ? 'p1' : 'p2');

      // Who comes later is shown to them, and nobody sees them.
      const p3 = await call.join('p3');
      await allMoving([p1, p2, p3], 30000);
      await until('the visitors see the third', 30000, async () => (await Promise.all(watchers.map(one => watches(one, ['p3'])))).every(Boolean));
      for (const one of [p1, p2, p3]) {
        const { remote } = await one.stats();
        expect(!remote.w1 && !remote.w2, `${one.name} sees a visitor`);
      }
      return `both visitors (beside ${beside.join(' and ')}) see and hear both ${seconds(sees)} after they came`;
    },
  },
};
