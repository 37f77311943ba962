// A client changes its network.
import { allDecode, expect, iceRestarts, watchPictures } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { sleep, until } from '../../lib/process.mjs';

/** name → scenario, see index.mjs. */
export const scenarios = {
  'address-change': {
    about: 'a client in a namespace goes from Wi-Fi to phone and asks for an ICE restart: media again within 1 s (as root)',
    current: true,
    namespace: true,
    async run(call) {
      const { stack, namespace } = call;
      const inside = call.inside;
      const mobile = await call.join('p1', {}, call.room, inside);
      const [b, c] = [await call.join('p2'), await call.join('p3')];
      const all = [mobile, b, c];
      expect(await everybodyMeets(all, 45000), 'they did not meet within 45 s');
      await allDecode(all);
      await sleep(3000);
      const others = pairs => [...pairs].filter(([key]) => !key.includes('p1'));
      const worst = list => Math.max(...list.map(([, pair]) => pair.longest));
      // A busy host has pauses of its own: what is no longer than those, or than three pictures, is none.
      let watched = watchPictures(all);
      await sleep(6000);
      const noise = worst([...await watched.stop()]);
      const calm = (list, when) => expect(worst(list) <= Math.max(250, 1.5 * noise), `${when} (before it ${noise} ms at most): ${JSON.stringify(list)}`);
      const restart = async pictures => {
        const asked = Date.now();
        await mobile.hook('ringbridge.session.conference.restartJvbIce()');
        const pairs = () => [...pictures.pairs].filter(([key]) => key.includes('p1'));
        await until('media of the one that moved, both ways', 15000, () => pairs().length === 4 && pairs().every(([, pair]) => pair.last > asked + 30), 10);
        return Math.max(...pairs().map(([, pair]) => pair.last)) - asked;
      };

      // While the old address still works: nobody notices anything.
      watched = watchPictures(all);
      await sleep(1000);
      namespace.bringUp('phone');
      await sleep(1000);
      await restart(watched);
      await until('the restart has succeeded', 5000, async () => await iceRestarts(stack, 'succeeded') === 1);
      await sleep(4000);
      let pairs = await watched.stop();
      const gentle = worst([...pairs]);
      calm([...pairs], 'while both addresses worked');

      // The address goes: what is lost is the time until the restart.
      const sessions = await Promise.all(all.map(one => one.state().then(state => state.session)));
      watched = watchPictures(all);
      await sleep(1000);
      namespace.takeDown('phone');
      namespace.takeDown('wifi');
      namespace.bringUp('phone');
      // The browser hears of it.
      await sleep(500);
      const back = await restart(watched);
      await until('the second restart has succeeded', 5000, async () => await iceRestarts(stack, 'succeeded') === 2);
      await sleep(4000);
      pairs = await watched.stop();
      calm(others(pairs), 'after the address changed, the others');
      expect(back <= 1000, `media again only ${back} ms after the request`);
      const after = await Promise.all(all.map(one => one.state().then(state => state.session)));
      expect(String(after) === String(sessions), 'a page started a new session');
      expect(await iceRestarts(stack, 'failed') === 0, 'a restart failed');
      await allDecode(all);
      const own = worst([...pairs].filter(([key]) => key.includes('p1')));
      return `longest pause of a picture without a restart ${noise} ms; with both addresses the longest of all was ${gentle} ms; with the old one gone media was back ${back} ms after the request `
        + `(pause ${own} ms with the half second before it), the others' longest pause ${worst(others(pairs))} ms`;
    },
  },
};
