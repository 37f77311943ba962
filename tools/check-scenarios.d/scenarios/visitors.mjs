// Visitors: they watch from a server of their own, and may be let in.
import { allDecode, allMoving, expect, seconds, timed } from '../call.mjs';
import { askToVisit, property, raiseHand } from '../meeting.mjs';
import { until } from '../../lib/process.mjs';

/** name → scenario, see index.mjs. */
export const scenarios = {
  visitors: {
    about: 'one watches two from a visitor node, unseen by them, raises its hand and takes part',
    stack: { site: { visitors: true } },
    async run(call) {
      const [p1, p2] = await call.meet('p1', 'p2');
      await until('the visitor node is there', 10000, async () => (await call.stack.focus.focusStats()).visitor_nodes.v1.online);
      const answer = await askToVisit(call);
      expect(answer.ready && answer.vnode === 'v1' && answer.focusJid === 'focus@auth.v1.meet.test', `answered ${JSON.stringify(answer)}`);
      expect(answer.properties['visitors-supported'] === 'true', 'visitors are not said to be supported');

      // It sees both, and is announced by a number alone.
      const visitor = await call.join('visitor', { visitor: answer.vnode, send: 'none' });
      const sees = await timed('the visitor sees both', 30000, async () => {
        const { remote } = await visitor.stats();
        return ['p1', 'p2'].every(name => remote[name]?.video?.framesDecoded >= 5 && remote[name]?.audio?.packets > 5);
      });
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
};
