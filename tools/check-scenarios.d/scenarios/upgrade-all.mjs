// Focus and bridge are one process, and it is replaced mid-call by another one.
import { allDecode, allMoving, expect, iceRestarts, seconds, watchPictures } from '../call.mjs';
import { sleep, until } from '../../lib/process.mjs';

/** Longest pause of a picture, milliseconds: of an upgrade, and of a machine on which everything runs at once. */
const longestFreeze = 1000;
/** Upgrades in a row. */
const times = 3;
/** Between two of them, milliseconds. */
const pause = 1500;

/** Everybody's sessions and connections: none of them begins anew. */
const connections = all => Promise.all(all.map(async one => {
  const state = await one.state();
  return JSON.stringify([state.session, state.connections]);
}));

const removed = async all => (await Promise.all(all.map(one => one.hook('ringbridge.events.filter(one => one.name === "track-removed").length'))))
  .reduce((a, b) => a + b, 0);

/** name → scenario, see index.mjs. */
export const scenarios = {
  'upgrade-all': {
    about: 'focus and bridge are one process: it is replaced 3 times mid-call, nobody notices, and others join and leave as ever',
    stack: {},
    async run(call) {
      const { stack } = call;
      const service = stack.bridges[0];
      const other = `${call.room}-direct`;
      const [a, b] = await call.meet('p1', 'p2');
      const [c, d] = [await call.join('q1', { p2p: true }, other), await call.join('q2', { p2p: true }, other)];
      await allMoving([c, d], 45000, { p2p: true });
      await sleep(2000);
      const [before, gone] = [await connections([a, b]), await removed([a, b, c, d])];
      const pictures = watchPictures([a, b]);
      const frozen = [], asked = [];
      let pid = service.process.pid;
      for (let time = 0; time < times; time++) {
        // Somebody asks how the focus is all the while: whichever process it is, it is well.
        const state = { asking: true };
        const asking = (async () => {
          while (state.asking) {
            const answer = await fetch(service.focusUrl('/about/health')).then(one => one.status, () => 0);
            asked.push(answer);
            await sleep(20);
          }
        })();
        const outcome = await service.upgrade();
        state.asking = false;
        await asking;
        expect(outcome.code === 0 && outcome.pid !== pid, `upgrade ${time + 1}: ${outcome.said}`);
        pid = outcome.pid;
        frozen.push(outcome.frozen);
        await sleep(pause);
      }
      const pairs = await pictures.stop();
      const longest = Math.max(...[...pairs.values()].map(one => one.longest));
      const figures = `${times} upgrades of focus and bridge in one: nothing sent for ${frozen.join(', ')} ms, longest pause of a picture ${longest} ms`;
      const after = await connections([a, b]);
      expect(after.every((one, index) => one === before[index]), `a connection of a page changed: ${before} and then ${after}`);
      expect(await iceRestarts(stack, 'started') === 0, 'there was an ICE restart');
      expect(await removed([a, b, c, d]) === gone, 'a track was removed');
      expect(longest <= call.limit(longestFreeze), figures);
      expect(!asked.includes(500), `the focus was not well meanwhile: ${asked.filter(one => one !== 200)}`);
      const { conferences, participants } = await service.focusStats();
      expect(conferences === 2 && participants === 4, `the focus has ${conferences} conferences with ${participants} participants`);
      // Two rooms as ever: one joins a call over the bridge, and one that is peer to peer; one leaves.
      const joined = Date.now();
      const [e, f] = [await call.join('p3'), await call.join('q3', { p2p: true }, other)];
      await allMoving([a, b, e], 30000, { p2p: false });
      await allMoving([c, d, f], 30000, { p2p: false });
      const took = Date.now() - joined;
      await allDecode([a, b, e]);
      await e.leave();
      await until('the others see that it left', 20000, async () => (await a.state()).participants.length === 1, 100);
      await allDecode([a, b]);
      const errors = stack.errors();
      expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
      return `${figures}; two more joined within ${seconds(took)}, and one left`;
    },
  },
};
