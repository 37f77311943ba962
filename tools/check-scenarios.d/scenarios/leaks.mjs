// Conferences come and go, and nothing may stay.
import { expect } from '../call.mjs';
import { lastJson, lightPace, startScripted } from '../../lib/scripted.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { untilAtRest } from '../../lib/at-rest.mjs';
import { heapOverTime, leakIn, leastHeap } from '../../lib/heap.mjs';

/** Rounds, and those that fill caches and tables. */
const [rounds, settled] = [3, 2];
/** Waves of conferences in a round, each while the one before it is there, and participants of each. */
const [waves, perWave] = [2, 18];

/** How many of the participants in rooms that begin so are connected and get everybody of theirs. */
async function served(stack, room) {
  const debug = await Promise.all(stack.bridges.map(bridge => bridge.debug(true)));
  const own = debug.flatMap(one => Object.values(one.conferences)).filter(one => one.name?.startsWith(`${room.toLowerCase()}-`));
  return own.flatMap(one => Object.values(one.endpoints)).filter(one => one.forwarded_sources?.length === 5).length;
}

/** Three conferences of six: one leaves, one is killed without a word, one has SSRC rewriting. `everybody` is called when all have media. */
async function conferencesComeAndGo(stack, room, everybody) {
  const starts = [{ more: [] }, { more: [], killed: true }, { more: ['--ssrc-rewriting'] }];
  const loads = starts.map(({ more, killed }, index) => ({ killed, load: startScripted({
    stack, room: `${room}-${index}`, count: 6, seconds: 90, name: `${room}-${index}`, more: [...lightPace, ...more],
  }) }));
  await until(`${perWave} participants have media`, 60000, async () => {
    for (const { load } of loads) load.check();
    return await served(stack, room) === perWave;
  }, 500);
  everybody();
  await sleep(2000);
  await Promise.all(loads.map(async ({ load, killed }) => {
    load.signal(killed ? 'SIGKILL' : 'SIGTERM');
    await load.ended;
    if (killed) return;
    const report = lastJson(load.tail(400));
    // Who is still there to be seen depends on whom the news reaches first.
    expect(report?.reports?.every(one => one.connected && !one.error), `${load.name} was not well:\n${load.tail(3)}`);
  }));
}

/** One round: waves of conferences, the next one as soon as everybody of one has media. */
async function round(stack, room) {
  const all = [];
  for (let wave = 0; wave < waves; wave++) {
    await new Promise((resolve, reject) => {
      const one = conferencesComeAndGo(stack, `${room}w${wave}`, () => resolve(undefined));
      one.catch(reject);
      all.push(one);
    });
  }
  await Promise.all(all);
}

/** Waits until nothing of any conference is held, and reads what each process holds; by name of the process. */
export async function atRest(stack) {
  await untilAtRest(stack);
  // Closed connections are cleaned up a moment later.
  await sleep(1000);
  return Object.fromEntries(stack.processes().map(one => [one.name, { at: (Date.now() - one.process.started) / 1000, ...one.process.held() }]));
}

/** Ends the processes, and adds to each rest what was in use then; returns the most that each ever used, by name. */
export async function heapsOf(stack, rests) {
  // What they free as they end belongs to no round.
  await sleep(3000);
  await Promise.all(stack.processes().map(one => one.stop()));
  const most = {};
  for (const { name } of stack.processes()) {
    const heap = await heapOverTime(stack.heapFile(name));
    for (const rest of rests) rest[name].heap = leastHeap(heap, rest[name].at - 1, rest[name].at);
    most[name] = Math.max(...heap.map(([, bytes]) => bytes));
  }
  return most;
}

/** Rounds of conferences; nothing of them may stay in any process. */
async function leaks(call) {
  const { stack } = call;
  const rests = [];
  for (let number = 1; number <= rounds; number++) {
    await round(stack, `${call.room}r${number}`);
    rests.push(await atRest(stack));
  }
  const most = await heapsOf(stack, rests);
  const figures = [];
  for (const { name, kind } of stack.processes()) {
    const own = rests.map(rest => rest[name]);
    // A bridge has its share of the endpoints; a focus takes little for each.
    const took = (kind === 'focus' ? 2_000 : 20_000) * perWave / (kind === 'focus' ? 1 : stack.bridges.length);
    const leak = leakIn(own, { settled, most: most[name], took });
    expect(!leak, `${name}: ${leak}`);
    const kilobytes = own.map(one => (one.heap / 1024).toFixed(0)).join(', ');
    figures.push(`${name} ${kilobytes} kB after each, at most ${(most[name] / 1024).toFixed(0)} kB, ${own.at(-1).files} files, ${own.at(-1).threads} threads`);
  }
  return `${rounds} rounds of ${waves * perWave} participants: ${figures.join('; ')}`;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  leaks: {
    about: 'conferences come and go in rounds: after each nothing is held, and memory in use, sockets, threads stand still',
    scripted: true,
    // Whoever is killed is gone soon.
    stack: { resumption: 2, heap: true },
    install: ['heaptrack'],
    run: leaks,
  },

  'leaks-relays': {
    about: 'the same on two linked bridges: relays come and go with every conference',
    scripted: true,
    stack: { resumption: 2, heap: true, split: true, bridges: 2, strategy: 'split' },
    install: ['heaptrack'],
    run: leaks,
  },
};
