// The bridge is replaced mid-call by another process, again and again.
import { readFileSync } from 'node:fs';
import { allDecode, expect, iceRestarts, watchPictures } from '../call.mjs';
import { endpoints, lostPerUpgrade, metric, open, sparedScripted } from '../upgraded.mjs';
import { lightPace, startScripted } from '../../lib/scripted.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { binary } from '../../lib/ringbridge.mjs';
import { watchIndices } from '../../lib/srtp-indices.mjs';

/** Longest pause of a picture, milliseconds: of an upgrade, and of a machine on which everything runs at once. */
const longestFreeze = 1000;
/** Longest time in which the bridge sends nothing, milliseconds: of an optimised build; of another one what the bridge itself allows, since it writes and reads its state more slowly. */
const longestFrozen = /\/debug\//.test(binary()) ? 1000 : 100;
/** Milliseconds until every bridge channel is open again. */
const channelWithin = 2000;
/** Between two upgrades, milliseconds. */
const pause = 1500;
/** How much the last processes may need more than the first ones, which have the same calls. */
const growth = 1.25;

/** Resident bytes of a process. */
const memory = pid => 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

/** Audio packets that were lost, by sender and receiver. */
async function audioLost(pages) {
  const all = await Promise.all(pages.map(one => one.stats()));
  return new Map(all.flatMap(({ remote }, index) =>
    Object.entries(remote).map(([sender, { audio }]) => [`${sender} at ${pages[index].name}`, audio?.lost ?? 0])));
}

/** The longest pause of a picture, and of which pair. */
const longestPause = pairs => [...pairs].reduce(([most, at], [key, { longest }]) => longest > most ? [longest, key] : [most, at], [0, '']);

/** The same in so many milliseconds without an upgrade: what the machine and the browsers make of it by themselves. */
async function pauseWithout(all, milliseconds) {
  if (!milliseconds) return 0;
  const pictures = watchPictures(all);
  await sleep(milliseconds);
  return longestPause(await pictures.stop())[0];
}

/**
 * Replaces the bridge so many times; `rooms` are the scripted participants of each further room. `capture`: see `watchIndices`;
 * `control`: for how many milliseconds pictures are watched without an upgrade, to compare.
 */
async function upgrades(call, { pages, rooms, times, capture = false, control = 0 }) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const names = Array.from({ length: pages }, (_, index) => `p${index + 1}`);
  const all = await call.meet(...names);
  const seconds = 60 + times * 12;
  const loads = rooms.map((count, index) => startScripted({
    stack, room: `${call.room}-${index}`, count, seconds, name: `scripted${index}`, more: lightPace,
  }));
  const count = pages + rooms.reduce((a, b) => a + b, 0);
  await until(`${count} endpoints have their channel`, 60000, async () => {
    for (const load of loads) load.check();
    return open(await endpoints(bridge)) === count;
  }, 250);
  await sleep(2000);
  const connections = () => Promise.all(all.map(async one => JSON.stringify((await one.state()).connections)));
  const removed = async () => (await Promise.all(all.map(one => one.hook('ringbridge.events.filter(one => one.name === "track-removed").length'))))
    .reduce((a, b) => a + b, 0);
  const [before, goneBefore, lostBefore] = [await connections(), await removed(), await audioLost(all)];
  const watch = capture ? await watchIndices(bridge.options.mediaPort) : undefined;
  const undisturbed = await pauseWithout(all, control);
  const counted = [['keyframe_requests', 'sent'], ['retransmissions'], ['nack_cache_misses']];
  const asked = () => Promise.all(counted.map(([name, label]) => metric(bridge, `ringbridge_${name}`, label)));
  const askedBefore = await asked();
  const pictures = watchPictures(all);
  const frozen = [], channels = [], sizes = [];
  let pid = bridge.process.pid;
  for (let time = 0; time < times; time++) {
    const outcome = await bridge.upgrade({ io: time % 2 ? 'uring' : 'mmsg' });
    const done = Date.now();
    expect(outcome.code === 0 && outcome.pid !== pid, `upgrade ${time + 1}: ${outcome.said}`);
    pid = outcome.pid;
    frozen.push(outcome.frozen);
    await until(`all channels are open after upgrade ${time + 1}`, 20000, async () => open(await endpoints(bridge)) === count, 50);
    channels.push(Date.now() - done);
    await sleep(pause);
    sizes.push(memory(pid));
  }
  const captured = await watch?.stop();
  const pairs = await pictures.stop();
  const [longest, where] = longestPause(pairs);
  const [keyframes, repeated, misses] = (await asked()).map((now, index) => now - askedBefore[index]);
  const lost = [...await audioLost(all)].map(([key, packets]) => [key, packets - (lostBefore.get(key) ?? 0)]);
  const [worst, lostMost] = lost.reduce((most, one) => one[1] > most[1] ? one : most, ['', 0]);
  const scripted = [];
  for (const load of loads) {
    load.signal('SIGTERM');
    await load.ended;
    scripted.push(sparedScripted(load, times));
  }
  const most = key => Math.max(...scripted.map(one => one[key]));
  const figures = `${times} upgrades under ${count} endpoints in ${rooms.length + 1} rooms: nothing sent for ${frozen.join(', ')} ms, `
    + `longest pause of a picture ${longest} ms (${where})${control ? `, and ${undisturbed} ms in ${control / 1000} s before` : ''}, `
    + `${keyframes} key frames asked for, ${repeated} packets sent again and ${misses} that were not there any more, at most ${lostMost} audio packets lost (${worst}), `
    + `channels open again after ${Math.max(...channels)} ms at most, memory ${sizes.map(size => Math.round(size / 2 ** 20)).join(', ')} MB; `
    + `scripted participants opened all of ${scripted.reduce((sum, one) => sum + one.opened, 0)} packets, lost ${most('lost')} of a sender's audio at most, `
    + `longest gaps ${most('audioGap')} ms of audio and ${most('videoGap')} ms between frames${captured ? `; ${captured.indices.figures()}` : ''}`;
  const after = await connections();
  expect(after.every((one, index) => one === before[index]), `a connection of a page changed: ${before} and then ${after}`);
  expect(await iceRestarts(stack, 'started') === 0, 'there was an ICE restart');
  expect(await removed() === goneBefore, 'a track was removed');
  expect(Math.max(...frozen) <= longestFrozen, figures);
  // A machine on which pictures pause by themselves makes more of a pause.
  const limit = milliseconds => call.limit(Math.max(milliseconds, 2 * undisturbed));
  expect(longest <= limit(longestFreeze), figures);
  expect(lostMost <= lostPerUpgrade * times, figures);
  expect(Math.max(...channels) <= limit(channelWithin), figures);
  expect(Math.max(...sizes.slice(-2)) <= growth * Math.max(...sizes.slice(0, 2)), figures);
  if (captured) {
    const { indices: { violations, counts }, missed } = captured;
    expect(!violations.length, `SRTP indices (${missed} packets not captured): ${violations.slice(0, 5).join('\n')}`);
    expect(counts.rtp > 1000 && counts.rtcp > 100, `too little was captured: ${figures}`);
  }
  const errors = stack.errors();
  expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
  return figures;
}

/** Data channels are not handed over: that is refused, unless they may be lost; then media goes on. */
async function dataChannels(call) {
  const bridge = call.stack.bridges[0];
  const all = await call.meet('p1', 'p2');
  await until('both have a data channel', 20000, async () => (await endpoints(bridge)).filter(one => one.channel.data_channel).length === 2);
  const named = said => /2 bridge channels are data channels/.test(said);
  const check = await bridge.upgrade({}, ['--check']);
  expect(check.code === 3 && named(check.said), `--check: ${check.code} ${check.said}`);
  const refused = await bridge.upgrade();
  expect(refused.code === 1 && named(refused.said) && refused.pid === bridge.process.pid, `${refused.code} ${refused.said}`);
  await allDecode(all);
  const accepted = await bridge.upgrade({}, ['--drop-data-channels']);
  expect(accepted.code === 0 && accepted.pid !== bridge.process.pid, `${accepted.code} ${accepted.said}`);
  await allDecode(all);
  const metrics = await (await fetch(bridge.bridgeUrl('/metrics'))).text();
  expect(/^ringbridge_upgrade_lost\{kind="data_channel"\} 2$/m.test(metrics), 'the lost channels are not counted');
  return `refused with the remedy, then handed over with ${accepted.frozen} ms without media and the two channels counted as lost`;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  upgrade: {
    about: 'the bridge is replaced 5 times mid-call: no ICE restart, no new connection, short pauses, channels back within 2 s',
    stack: { split: true },
    load: true,
    run: call => upgrades(call, { pages: 2, rooms: [3], times: 5 }),
  },
  'upgrade-many': {
    about: 'the same 20 times, with three browsers and 17 scripted participants in 4 rooms, and no SRTP index is used twice on the wire',
    stack: { split: true },
    load: true,
    root: true,
    install: ['tcpdump'],
    run: call => upgrades(call, { pages: 3, rooms: [6, 6, 5], times: 20, capture: true, control: 20000 }),
  },
  'upgrade-sctp': {
    about: 'data channels: the upgrade is refused and says why, and with --drop-data-channels media goes on',
    stack: { split: true, channel: 'sctp' },
    run: dataChannels,
  },
};
