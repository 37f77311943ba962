// Who is in the room, and who owns it.
import { allDecode, expect, seconds, timed } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { sleep, until } from '../../lib/process.mjs';

/** name → scenario, see index.mjs. */
export const scenarios = {
  owner: {
    about: 'the first participant is owner, the second not; the owner leaves, another becomes owner',
    async run(call) {
      const a = await call.join('p1');
      await until('the first is owner', 20000, async () => (await a.state()).owner);
      const b = await call.join('p2');
      const c = await call.join('p3');
      expect(await everybodyMeets([a, b, c], 45000), 'the three did not meet');
      for (const one of [b, c]) expect(!(await one.state()).owner, `${one.name} is owner beside the first`);
      await a.leave();
      const later = await timed('another is owner', 20000, async () =>
        (await Promise.all([b, c].map(one => one.state()))).filter(state => state.owner).length === 1);
      return `the next owner was there ${seconds(later)} after the first left`;
    },
  },

  alone: {
    about: 'one participant: no media session, the bridge reports zero conferences',
    async run(call) {
      const a = await call.join('p1');
      await until('in the room', 20000, async () => (await a.state()).state === 'joined');
      await sleep(3000);
      const stats = await call.stack.bridges[0].bridgeStats();
      expect(stats.conferences === 0, `the bridge reports ${stats.conferences} conferences`);
      const state = await a.state();
      expect(state.connections.length === 0, `${state.connections.length} peer connections for one participant`);
      expect(/second participant/.test(state.notice), `the page says '${state.notice}'`);
      const b = await call.join('p2');
      expect(await everybodyMeets([a, b], 45000), 'the two did not meet');
      // Presence and statistics are refreshed every few seconds.
      await until('the bridge reports one conference', 15000, async () => (await call.stack.bridges[0].bridgeStats()).conferences === 1);
      return 'conferences: 0 with one participant, 1 with two';
    },
  },

  reload: {
    about: 'a page is reloaded and is back in the call',
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const old = (await all[1].state()).id;
      const start = Date.now();
      await all[1].reload();
      await until('the page is in the room again', 20000, async () => (await all[1].state()).state === 'joined');
      expect(await everybodyMeets(all, 45000), 'they did not meet again');
      const back = Date.now() - start;
      await until('the old participant is gone', 20000, async () =>
        (await all[0].state()).participants.every(one => one.id !== old));
      await allDecode(all);
      return `back ${seconds(back)} after the reload`;
    },
  },
};
