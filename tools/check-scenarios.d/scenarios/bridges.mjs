// Bridges and the server come and go, and clocks jump.
import { allDecode, allMoving, expect, seconds, timed, watchPictures } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { dropping } from '../../lib/packet-filter.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { ownParticipants } from '../../lib/relays.mjs';
import { relayPorts } from '../../lib/stack.mjs';

/** How many connections each participant has ever made. */
const connectionsMade = all => Promise.all(all.map(one => one.state().then(state => state.connections.length)));

const differing = (before, after) => after.filter((count, index) => count !== before[index]).length;

/** How many conferences each bridge has. */
const conferences = async stack => (await stack.bridgeStats()).map(one => one.conferences);

/** Drops what bridges send each other while `during` runs; clients are not touched. */
const withoutLinks = during => dropping([`udp sport ${relayPorts}`, `udp dport ${relayPorts}`], during);

/** name → scenario, see index.mjs. */
export const scenarios = {
  'kill-bridge': {
    about: 'SIGKILL of the bridge mid-call, which is started again at once, and after 3 s; media is back for all within 10 s of a bridge being there',
    stack: { split: true },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const bridge = call.stack.bridges[0];
      const pictures = watchPictures(all);
      const killed = Date.now();
      await bridge.kill();
      await bridge.start();
      const up = Date.now() - killed;
      await call.mediaBack(all);
      const pauses = [...(await pictures.stop()).values()].map(pair => pair.longest).sort((a, b) => a - b);
      await sleep(2000);
      await bridge.kill();
      await sleep(3000);
      await bridge.start();
      const back = await call.mediaBack(all);
      return `started again at once, the bridge answered after ${seconds(up)}, and pictures paused for ${seconds(pauses[0])} to ${seconds(pauses.at(-1))}; `
        + `after 3 s, media was back for three ${seconds(back)} after the bridge`;
    },
  },

  'kill-one-of-two': {
    about: 'SIGKILL of the bridge that has the call; the other bridge takes over within 10 s',
    stack: { split: true, bridges: 2 },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const counts = () => conferences(call.stack);
      await until('one bridge has the conference', 20000, async () => (await counts()).reduce((a, b) => a + b, 0) === 1);
      const index = (await counts()).indexOf(1);
      await call.stack.bridges[index].kill();
      const back = await call.mediaBack(all);
      await until('the other bridge reports the conference', 20000, async () =>
        (await call.stack.bridges[1 - index].bridgeStats()).conferences === 1);
      return `media back for three ${seconds(back)} after the kill`;
    },
  },

  'kill-prosody': {
    about: 'Prosody dies mid-call: media keeps flowing meanwhile; it returns and signalling recovers',
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      await call.stack.prosody.kill();
      const killed = Date.now();
      await sleep(1000);
      await allDecode(all);
      await sleep(Math.max(0, killed + 6000 - Date.now()));
      await allDecode(all);
      const away = Date.now() - killed;
      await call.stack.prosody.start();
      const health = await timed('the focus is healthy again', 60000, async () => await call.stack.focus.focusHealth() === 200);
      const rejoined = await timed('all are in the room again', 60000, async () =>
        (await Promise.all(all.map(one => one.state()))).every(state => state.state === 'joined' && state.session > 1 && state.participants.length === 2));
      expect(await everybodyMeets(all, 45000), 'they did not meet again');
      await sleep(1000);
      await allDecode(all);
      const fourth = await call.join('p4');
      expect(await everybodyMeets([...all, fourth], 45000), 'a newcomer was not let in');
      return `media flowed for ${seconds(away)} without Prosody; focus healthy ${seconds(health)}, all back ${seconds(health + rejoined)} after its return; a newcomer joined`;
    },
  },

  'no-bridge': {
    about: 'no bridge: the page says so, the focus is not healthy, the call starts by itself when the bridge returns',
    stack: { split: true },
    async run(call) {
      const bridge = call.stack.bridges[0];
      await bridge.stop();
      const noticed = await timed('the focus is not healthy', 30000, async () => await call.stack.focus.focusHealth() !== 200);
      const code = await call.stack.focus.focusHealth();
      const a = await call.join('p1');
      const b = await call.join('p2');
      await until('the pages say that there is no bridge', 20000, async () =>
        (await Promise.all([a, b].map(one => one.state()))).every(state => /No bridge available/.test(state.notice)));
      await bridge.start();
      const started = await allMoving([a, b], 30000);
      await allDecode([a, b]);
      expect(await call.stack.focus.focusHealth() === 200, 'the focus is still not healthy');
      return `health ${code} after ${seconds(noticed)}; media ${seconds(started)} after the bridge returned`;
    },
  },

  'two-bridges': {
    about: 'a second bridge with lower load gets the second conference',
    stack: { split: true, bridges: 2 },
    async run(call) {
      const counts = () => conferences(call.stack);
      const first = [await call.join('p1'), await call.join('p2')];
      expect(await everybodyMeets(first, 45000), 'the first two did not meet');
      await until('one bridge has the first conference', 20000, async () => (await counts()).reduce((a, b) => a + b, 0) === 1);
      const before = await counts();
      const second = [await call.join('q1', {}, `${call.room}-b`), await call.join('q2', {}, `${call.room}-b`)];
      expect(await everybodyMeets(second, 45000), 'the second two did not meet');
      await until('two conferences', 20000, async () => (await counts()).reduce((a, b) => a + b, 0) === 2);
      const after = await counts();
      expect(after.every(count => count === 1), `conferences per bridge: ${before} and then ${after}`);
      return `conferences per bridge: ${before}, then ${after}`;
    },
  },

  'three-linked-bridges': {
    about: 'one call on three bridges; one is killed, its participant moves within 10 s, and the others are not disturbed',
    stack: { split: true, bridges: 3, strategy: 'split' },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      await allDecode(all);
      const local = async () => ownParticipants(await call.stack.bridgeStats());
      await until('each bridge has one participant', 20000, async () => String(await local()) === '1,1,1');
      const before = await connectionsMade(all);
      await call.stack.bridges[2].kill();
      const back = await call.mediaBack(all);
      const moved = differing(before, await connectionsMade(all));
      expect(moved === 1, `${moved} participants had to begin again, one was on the bridge that was killed`);
      const fourth = await call.join('p4');
      expect(await everybodyMeets([...all, fourth], 45000), 'a newcomer was not let in');
      return `one participant on each of three bridges; media back for all ${seconds(back)} after one was killed`;
    },
  },

  'cut-link': {
    about: 'nothing passes between two living bridges any more: noticed, and healed within 20 s by moving the smaller side (as root)',
    root: true,
    install: ['nftables'],
    stack: { split: true, bridges: 2, strategy: 'split' },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      await allDecode(all);
      const local = async () => ownParticipants(await call.stack.bridgeStats());
      await until('both bridges have participants', 20000, async () => (await local()).every(count => count > 0));
      const before = await connectionsMade(all);
      return await withoutLinks(async () => {
        const noticed = await timed('a bridge notices', 15000, async () => (await call.stack.bridgeStats()).some(one => one.relays_dead > 0));
        const healed = await timed('all are on one bridge', 20000, async () => (await local()).sort().join() === '0,3');
        expect(await everybodyMeets(all, 20000), 'they did not meet again');
        await allDecode(all);
        const moved = differing(before, await connectionsMade(all));
        expect(moved === 1, `${moved} participants had to begin again, one was alone on its bridge`);
        return `noticed ${seconds(noticed)} after the cut, on one bridge ${seconds(noticed + healed)} after it; one participant moved`;
      });
    },
  },

  'clock-jump': {
    about: 'the clock of focus and bridge jumps a day ahead, then to a month ago: nobody notices, and a newcomer gets in',
    stack: { clock: true },
    install: ['faketime'],
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const bridge = call.stack.bridges[0];
      const day = 24 * 3600 * 1000;
      const offset = async () => (await bridge.debug()).time - Date.now();
      expect(Math.abs(await offset()) < day / 2, 'the clock is wrong from the start');
      const sessions = await Promise.all(all.map(one => one.state().then(state => state.session)));
      for (const [jump, days] of [['+1d', 1], ['-30d', -30]]) {
        call.stack.setClock(jump);
        expect(Math.abs(await offset() - days * day) < day / 2, `the clock did not jump by ${jump}`);
        // Longer than health checks, consent, reports and the focus's patience take to notice something.
        await sleep(12000);
        await allDecode(all).catch(error => expect(false, `media stopped after ${jump}: ${error.message}`));
        expect(await bridge.bridgeHealth() === 200 && await call.stack.focus.focusHealth() === 200, `unhealthy after ${jump}`);
        const stats = await bridge.bridgeStats();
        expect(stats.endpoints === 3 && stats.muc_clients_connected === 1, `after ${jump}: ${stats.endpoints} endpoints, ${stats.muc_clients_connected} XMPP connections`);
      }
      const after = await Promise.all(all.map(one => one.state().then(state => state.session)));
      expect(String(after) === String(sessions), 'a page started a new session');
      const start = Date.now();
      const fourth = await call.join('p4');
      expect(await everybodyMeets([...all, fourth], 45000), 'a newcomer was not let in');
      return `media of three went on for 24 s through both jumps; a newcomer joined after ${seconds(Date.now() - start)}`;
    },
  },
};
