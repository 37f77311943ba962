// A conference that one bridge would not carry.
import { expect, seconds } from '../call.mjs';
import { atRest, heapsOf } from './leaks.mjs';
import { ownParticipants } from '../../lib/relays.mjs';
import { lastJson, startScripted } from '../../lib/scripted.mjs';
import { sleep, until } from '../../lib/process.mjs';

/**
 * Two cores carry everything, debug builds and the participants' own encryption included: ten speak, with one packet of sound and one frame
 * a second; whoever listens sees five of them.
 */
const [participants, senders, lastN] = [200, 10, 5];
const pace = ['--senders', String(senders), '--last-n', String(lastN), '--video-fps', '1', '--audio-interval', '1000'];
/** Memory that may stay of all that the conference took: tables that grew once. */
const mayStay = 0.1;

/** Waits for something, and returns after how many milliseconds it came; looks seldom, since what the pages say of 200 costs the bridges time. */
async function within(what, timeout, condition) {
  const start = Date.now();
  await until(what, timeout, condition, 2000);
  return Date.now() - start;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  'two-hundred': {
    about: '200 participants on four linked bridges: everybody gets the sound of all who speak and the pictures that they want; nothing stays',
    scripted: true,
    stack: { resumption: 2, heap: true, split: true, bridges: 4, strategy: 'split' },
    install: ['heaptrack'],
    async run(call) {
      const { stack } = call;
      const before = await atRest(stack);
      const load = startScripted({ stack, room: call.room, count: participants, seconds: 900, name: 'scripted', more: pace });
      const local = async () => ownParticipants(await stack.bridgeStats());
      const joined = await within('all have a bridge', 300000, async () => {
        load.check();
        return (await local()).reduce((a, b) => a + b, 0) === participants;
      });
      const places = await local();
      expect(places.every(count => count === participants / stack.bridges.length), `participants on each bridge: ${places}`);
      const served = await within('all get as many videos as they want', 120000, async () => {
        const debug = await Promise.all(stack.bridges.map(one => one.debug(true)));
        const endpoints = debug.flatMap(one => Object.values(one.conferences)).flatMap(one => Object.values(one.endpoints));
        return endpoints.length === participants && endpoints.every(one => one.forwarded_sources?.length === lastN);
      });
      await sleep(20000);
      const relayed = (await stack.bridgeStats()).map(one => one.octo_endpoints);
      expect(relayed.every((count, index) => count === participants - places[index]), `endpoints behind the relays of each bridge: ${relayed}`);
      load.signal('SIGTERM');
      await load.ended;
      const { reports } = lastJson(load.tail(4000)) ?? {};
      expect(reports?.length === participants, `no report of all:\n${load.tail(3)}`);
      const unwell = reports.filter(one => !one.connected || one.error || one.occupants.length !== participants - 1);
      expect(!unwell.length, `${unwell.length} were not well, the first: ${JSON.stringify({ ...unwell[0], received: undefined, occupants: unwell[0]?.occupants.length })}`);
      let [sound, pictures, expectedSound, expectedPictures] = [0, 0, 0, 0];
      // Nobody knows who was first: whoever was heard by somebody speaks.
      const speak = new Set(reports.flatMap(one => Object.entries(one.received).filter(([, { audio_packets: n }]) => n).map(([sender]) => sender)));
      expect(speak.size === senders, `${speak.size} were heard`);
      for (const { endpoint, received } of reports) {
        const others = [...speak].filter(one => one !== endpoint);
        expectedSound += others.length;
        expectedPictures += Math.min(lastN, others.length);
        sound += others.filter(one => received[one]?.audio_packets > 0).length;
        pictures += Math.min(lastN, others.filter(one => received[one]?.video_frames > 0).length);
      }
      expect(sound === expectedSound && pictures === expectedPictures,
        `sound of ${sound} of ${expectedSound} pairs, pictures of ${pictures} of ${expectedPictures}`);
      const after = await atRest(stack);
      const most = await heapsOf(stack, [before, after]);
      const figures = stack.processes().map(({ name }) => {
        const [first, last] = [before[name], after[name]];
        const stays = (last.heap - first.heap) / (most[name] - first.heap);
        expect(last.files <= first.files && last.threads <= first.threads, `${name}: ${first.files} and ${last.files} files, ${first.threads} and ${last.threads} threads`);
        expect(stays <= mayStay, `${name}: of ${((most[name] - first.heap) / 1024).toFixed(0)} kB that it took, ${(stays * 100).toFixed(0)} % stays`);
        return `${name} took ${((most[name] - first.heap) / 1024).toFixed(0)} kB, of which ${(stays * 100).toFixed(1)} % stay`;
      });
      return `${participants} on ${stack.bridges.length} bridges (${places}) after ${seconds(joined)}, served ${seconds(served)} later; `
        + `sound of ${sound} pairs, pictures of ${pictures}; ${figures.join('; ')}`;
    },
  },
};
