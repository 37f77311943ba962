// Peer to peer and back.
import { allDecode, allMoving, expect, seconds, timed } from '../call.mjs';
import { until } from '../../lib/process.mjs';

/** name → scenario, see index.mjs. */
export const scenarios = {
  p2p: {
    about: 'two go peer to peer; a third joins and all are on the bridge within 5 s, without a reload',
    async run(call) {
      const a = await call.join('p1', { p2p: true });
      const b = await call.join('p2', { p2p: true });
      const direct = await allMoving([a, b], 45000, { p2p: true });
      await allDecode([a, b]);
      const sessions = await Promise.all([a, b].map(one => one.state().then(state => state.session)));
      const c = await call.join('p3', { p2p: true });
      // The five seconds count from the moment that the others see the third.
      await until('the others see the third', 20000, async () => (await a.state()).participants.length === 2, 50);
      const start = Date.now();
      await allMoving([a, b, c], 20000, { p2p: false });
      const moved = Date.now() - start;
      expect(moved <= Math.max(5000, direct), `all on the bridge only after ${seconds(moved)}`);
      await allDecode([a, b, c]);
      const after = await Promise.all([a, b].map(one => one.state().then(state => state.session)));
      expect(String(after) === String(sessions), 'a page started a new session');
      return `peer to peer after ${seconds(direct)}, all three on the bridge ${seconds(moved)} after the third came`;
    },
  },

  'p2p-blocked': {
    about: 'peer to peer cannot connect: the two stay on, or return to, the bridge',
    async run(call) {
      const a = await call.join('p1', { p2p: true, 'block-p2p': true });
      const b = await call.join('p2', { p2p: true, 'block-p2p': true });
      const bridge = await allMoving([a, b], 45000, { p2p: false });
      const attempted = await timed('a peer-to-peer attempt has failed', 60000, async () =>
        (await a.state()).connections.some(one => one.p2p && ['failed', 'closed'].includes(one.ice)));
      const again = await allMoving([a, b], 10000, { p2p: false });
      await allDecode([a, b]);
      return `over the bridge after ${seconds(bridge)}; the attempt failed after ${seconds(attempted)} more, media goes on (checked in ${seconds(again)})`;
    },
  },
};
