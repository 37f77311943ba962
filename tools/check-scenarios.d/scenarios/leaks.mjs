// Conferences come and go, and nothing may stay.
import { expect } from '../call.mjs';
import { lastJson, lightPace, startScripted } from '../../lib/scripted.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { heapOverTime, leastHeap } from '../../lib/heap.mjs';

/** Bytes by which memory in use may differ between two rests: a page that is being read, queues that grew once. */
const mostGrowth = 96 * 1024;

/** Three conferences of six: one leaves, one is killed without a word, one has SSRC rewriting. */
async function conferencesComeAndGo(stack, room) {
  const starts = [{ more: [] }, { more: [], killed: true }, { more: ['--ssrc-rewriting'] }];
  const loads = starts.map(({ more, killed }, index) => ({ killed, load: startScripted({
    stack, room: `${room}-${index}`, count: 6, seconds: 60, name: `scripted${index}`, more: [...lightPace, ...more],
  }) }));
  await until('18 participants have media', 40000, async () => {
    for (const { load } of loads) load.check();
    const debug = await stack.bridges[0].debug(true);
    const endpoints = Object.values(debug.conferences).flatMap(one => Object.values(one.endpoints));
    return endpoints.length === 18 && endpoints.every(one => one.forwarded_sources?.length === 5);
  }, 500);
  await sleep(2000);
  await Promise.all(loads.map(async ({ load, killed }) => {
    load.signal(killed ? 'SIGKILL' : 'SIGTERM');
    await load.ended;
    if (killed) return;
    const report = lastJson(load.tail(400));
    expect(report?.reports?.every(one => one.connected && !one.error && one.occupants.length === 5), `${load.name} was not well:\n${load.tail(3)}`);
  }));
}

/** Waits until the bridge holds nothing of any conference, and reads what its process holds. */
async function atRest(stack) {
  const bridge = stack.bridges[0];
  let left;
  await until('nothing is held', 90000, async () => {
    const text = await (await fetch(bridge.bridgeUrl('/metrics'))).text();
    left = text.split('\n').filter(line => /^ringbridge_(control_)?held\b/.test(line) && !line.endsWith(' 0'));
    const focus = await (await fetch(bridge.focusUrl('/colibri/stats'))).json();
    for (const [name, value] of Object.entries(focus)) if (/conferences|participants/.test(name) && !/total/.test(name) && value) left.push(`focus ${name} ${value}`);
    return left.length === 0;
  }, 500).catch(error => { throw new Error(`${error.message}: ${left}`); });
  // Closed connections are cleaned up a moment later.
  await sleep(1000);
  return { at: (Date.now() - bridge.process.started) / 1000, ...bridge.process.held() };
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  leaks: {
    about: 'conferences come and go in rounds: after each nothing is held, and memory in use, sockets, threads stand still',
    scripted: true,
    // Whoever is killed is gone soon.
    stack: { resumption: 2, heap: true },
    install: ['heaptrack'],
    async run(call) {
      const { stack } = call;
      // The first rounds fill caches and tables.
      const [rounds, settled] = [6, 3];
      const rests = [];
      for (let round = 1; round <= rounds; round++) {
        await conferencesComeAndGo(stack, `${call.room}-${round}`);
        rests.push(await atRest(stack));
      }
      // What it frees as it ends belongs to no round.
      await sleep(3000);
      await stack.all.stop();
      const heap = await heapOverTime(stack.heapFile);
      for (const rest of rests) rest.heap = leastHeap(heap, rest.at - 1, rest.at);
      const words = rests.map(one => `${(one.heap / 1024).toFixed(0)} kB, ${one.files} files, ${one.threads} threads`).join('; ');
      const [first, last] = [rests[settled - 1], rests.at(-1)];
      expect(last.files <= first.files && last.threads <= first.threads, `more is open after the last round: ${words}`);
      const grown = last.heap - Math.max(...rests.slice(settled - 2, settled + 1).map(one => one.heap));
      expect(grown <= mostGrowth, `${(grown / 1024).toFixed(0)} kB more are in use after the last round: ${words}`);
      // The reading after the last round is not one of the end.
      expect(last.heap > first.heap / 2, `only ${last.heap} bytes are in use after the last round: ${words}`);
      // A heap that nobody noted would stand still, too.
      const most = Math.max(...heap.map(([, bytes]) => bytes));
      expect(most > first.heap + 18 * 20_000, `18 endpoints took only ${most - first.heap} bytes`);
      return `${rounds} rounds of 18 participants; in use after each: ${rests.map(one => (one.heap / 1024).toFixed(0)).join(', ')} kB, `
        + `at most ${(most / 1024).toFixed(0)} kB; ${first.files} and ${last.files} files, ${first.threads} and ${last.threads} threads`;
    },
  },
};
