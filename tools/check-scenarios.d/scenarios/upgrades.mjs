// The bridge is replaced mid-call by another process, again and again.
import { allDecode, expect, iceRestarts, watchPictures } from '../call.mjs';
import { pageConference } from '../recorder.mjs';
import { endpoints, lives, lostPerUpgrade, metric, open, sparedScripted } from '../upgraded.mjs';
import { lightPace, startScripted } from '../../lib/scripted.mjs';
import { resident, sleep, until } from '../../lib/process.mjs';
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
    sizes.push(resident(pid));
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

/** The page remembers the data channel that it has now, and what others say over theirs. */
const watchChannel = `(() => {
  const conference = ${pageConference};
  ringbridge.kept = conference.rtc._channel._channel;
  ringbridge.heard = [];
  conference.on(window.JitsiMeetJS.events.conference.ENDPOINT_MESSAGE_RECEIVED, (from, message) => ringbridge.heard.push(message.word));
  return ringbridge.kept.readyState;
})()`;

/** Whether the page still has that data channel, and it is open. */
const sameChannel = `(() => {
  const now = ${pageConference}.rtc._channel?._channel;
  return now === ringbridge.kept ? now.readyState : 'another one, ' + now?.readyState;
})()`;

/** Each says a word over the bridge channel, and all others hear it; how long that took, milliseconds. */
async function saysToAll(pages, word) {
  const start = Date.now();
  await Promise.all(pages.map(one => one.hook(`void ${pageConference}.broadcastEndpointMessage({ word: '${word}-${one.name}' })`)));
  const heard = () => Promise.all(pages.map(one => one.hook('ringbridge.heard')));
  await until(`all hear what the others say (${word})`, 15000, async () => (await heard()).every((words, index) =>
    pages.every((one, from) => from === index || words.includes(`${word}-${one.name}`))), 50);
  return Date.now() - start;
}

/** Data channels go on: the process that has them stays as their end until their participants leave. */
async function dataChannels(call) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const allOpen = async count => (await endpoints(bridge)).filter(one => one.channel.data_channel).length === count;
  const all = await call.meet('p1', 'p2');
  const pids = [bridge.process.pid];
  const connections = async pages => Promise.all(pages.map(async one => JSON.stringify((await one.state()).connections)));
  const took = [], sizes = [];
  for (let turn = 0; turn < 5; turn++) {
    // The second process has somebody to stay for, too; the others have nobody.
    if (turn === 1) all.push(await call.join('p3'));
    if (turn < 2) {
      await until(`all have a data channel (${turn})`, 30000, () => allOpen(all.length), 100);
      await allDecode(all, 30000);
      for (const one of turn ? all.slice(2) : all) expect(await one.hook(watchChannel) === 'open', `the data channel of ${one.name}`);
    }
    const before = await connections(all);
    if (turn === 0) {
      const check = await bridge.upgrade({}, ['--check']);
      expect(check.code === 0 && /would stay as the end of 2 data channels/.test(check.said), `--check: ${check.code} ${check.said}`);
    }
    const outcome = await bridge.upgrade({ io: turn % 2 ? 'uring' : 'mmsg' });
    expect(outcome.code === 0 && !pids.includes(outcome.pid), `upgrade ${turn + 1}: ${outcome.said}`);
    pids.push(outcome.pid);
    took.push(await saysToAll(all, `upgrade${turn}`));
    const states = await Promise.all(all.map(one => one.hook(sameChannel)));
    expect(states.every(state => state === 'open'), `after upgrade ${turn + 1} the data channels are ${states}`);
    const after = await connections(all);
    expect(after.every((one, index) => one === before[index]), `a connection of a page changed: ${before} and then ${after}`);
    expect(await allOpen(all.length), 'the bridge does not show all data channels as open');
    sizes.push(Math.round(resident(pids[0]) / 2 ** 20));
  }
  await allDecode(all);
  const [keepers, kept, lost] = [await metric(bridge, 'ringbridge_keepers'), await metric(bridge, 'ringbridge_kept_channels'),
    await metric(bridge, 'ringbridge_upgrade_lost', 'data_channel')];
  expect(keepers === 2 && kept === 3 && lost === 0, `${keepers} keepers of ${kept} data channels, ${lost} lost`);
  expect(pids.map(lives).join() === 'true,true,false,false,false,true', `of the processes live: ${pids.map(lives)}`);
  expect(await iceRestarts(stack, 'started') === 0, 'there was an ICE restart');
  const figures = `5 upgrades with 3 data channels in two former processes: words of all reached all ${took.join(', ')} ms after it, `
    + `memory of the first one ${sizes.join(', ')} MB`;
  expect(Math.max(...took) <= call.limit(channelWithin), figures);
  // Each ends with its participants.
  await all[2].leave();
  await until('the second process ends with its participant', 30000, () => !lives(pids[1]), 100);
  expect(lives(pids[0]), 'the first process ended, too');
  await Promise.all([all[0].leave(), all[1].leave()]);
  await until('the first process ends with its participants', 30000, () => !lives(pids[0]), 100);
  const errors = stack.errors();
  expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
  return figures;
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
    about: 'the bridge is replaced 5 times: the data channels of browsers stay open in former processes, which end with their participants',
    stack: { split: true, channel: 'sctp' },
    run: dataChannels,
  },
};
