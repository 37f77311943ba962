// tools/check-scenarios: calls in which something happens, each with its own fresh stack.
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Browser } from './browsers.mjs';
import { everybodyMeets, lastJson, lightPace, measure, matrix, startScripted } from './check.mjs';
import { heapOverTime, leastHeap } from './heap.mjs';
import { Background, sleep, until } from './process.mjs';
import { installDebian } from './install.mjs';
import { demoFolder } from './paths.mjs';
import { Namespace } from './namespace.mjs';
import { prepare, Stack } from './stack.mjs';

/** Throws unless `condition`; the message says what was found. */
function expect(condition, message) {
  if (!condition) throw new Error(message);
}

const seconds = milliseconds => `${(milliseconds / 1000).toFixed(1)} s`;

/** Waits for something true and returns after how many milliseconds it came. */
async function timed(what, timeout, condition) {
  const start = Date.now();
  await until(what, timeout, condition, 100);
  return Date.now() - start;
}

/** All of `participants` decode fresh video of all others, counted from now on. */
async function allMoving(participants, timeout, { p2p } = {}) {
  const names = participants.map(one => one.name);
  const base = await Promise.all(participants.map(one => one.stats()));
  return timed(`video moves between ${names.join(', ')}${p2p === undefined ? '' : p2p ? ' peer to peer' : ' over the bridge'}`, timeout, async () => {
    const now = await Promise.all(participants.map(one => one.stats()));
    return participants.every((receiver, index) => names.filter(name => name !== receiver.name).every(name => {
      const [from, to] = [base[index].remote[name]?.video, now[index].remote[name]?.video];
      if (!to || (p2p !== undefined && to.p2p !== p2p)) return false;
      // Another track or connection starts its count again.
      const frames = to.framesDecoded >= (from?.framesDecoded ?? 0) ? to.framesDecoded - (from?.framesDecoded ?? 0) : to.framesDecoded;
      return frames >= 5;
    }));
  });
}

/** Every pair decodes both kinds over two seconds; else the error holds the matrix. */
async function allDecode(participants) {
  const { pairs } = await measure(participants, 2000);
  const names = participants.map(one => one.name);
  expect(pairs.every(one => one.videoOk && one.audioOk), `not all pairs decode:\n${matrix(pairs, names, names)}`);
  return pairs;
}

class Call {
  constructor(stack, browser) {
    Object.assign(this, { stack, browser, room: `s-${Math.random().toString(36).slice(2, 10)}`, all: [] });
  }
  async join(name, query = {}, room = this.room, browser = this.browser) {
    const participant = await browser.join(this.stack.page.address, room, name, query);
    this.all.push(participant);
    return participant;
  }
  async meet(...names) {
    const participants = [];
    for (const name of names) participants.push(await this.join(name));
    expect(await everybodyMeets(participants, 45000), `${names.join(', ')} did not meet within 45 s`);
    return participants;
  }
}

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

/** name → {stack: options of Stack, scripted: scripted participants instead of a browser, run(call) → figures in words}. */
const scenarios = {
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
      const restart = async watched => {
        const asked = Date.now();
        await mobile.hook('ringbridge.session.conference.restartJvbIce()');
        const pairs = () => [...watched.pairs].filter(([key]) => key.includes('p1'));
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
      expect(moved <= 5000, `all on the bridge only after ${seconds(moved)}`);
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
      const later = await timed('another is owner', 10000, async () =>
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

  'kill-bridge': {
    about: 'SIGKILL of the bridge mid-call; media is back for all within 10 s of a bridge being there',
    stack: { split: true },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const bridge = call.stack.bridges[0];
      await bridge.kill();
      await sleep(3000);
      await bridge.start();
      const start = Date.now();
      await allMoving(all, 30000);
      const back = Date.now() - start;
      expect(back <= 10000, `media back only after ${seconds(back)}`);
      await allDecode(all);
      return `media back for three ${seconds(back)} after the bridge was`;
    },
  },

  'kill-one-of-two': {
    about: 'SIGKILL of the bridge that has the call; the other bridge takes over within 10 s',
    stack: { split: true, bridges: 2 },
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      const counts = () => Promise.all(call.stack.bridges.map(one => one.bridgeStats().then(stats => stats.conferences)));
      await until('one bridge has the conference', 15000, async () => (await counts()).reduce((a, b) => a + b, 0) === 1);
      const index = (await counts()).indexOf(1);
      await call.stack.bridges[index].kill();
      const start = Date.now();
      await allMoving(all, 30000);
      const back = Date.now() - start;
      expect(back <= 10000, `media back only after ${seconds(back)}`);
      await allDecode(all);
      await until('the other bridge reports the conference', 15000, async () =>
        (await call.stack.bridges[1 - index].bridgeStats()).conferences === 1);
      return `media back for three ${seconds(back)} after the kill`;
    },
  },

  'kill-prosody': {
    about: 'Prosody dies mid-call: media keeps flowing meanwhile; it returns and signalling recovers',
    async run(call) {
      const all = await call.meet('p1', 'p2', 'p3');
      await call.stack.prosody.kill();
      await sleep(1000);
      const { pairs } = await measure(all, 6000);
      const names = all.map(one => one.name);
      expect(pairs.every(one => one.videoOk && one.audioOk), `media stopped while Prosody was away:\n${matrix(pairs, names, names)}`);
      await call.stack.prosody.start();
      const health = await timed('the focus is healthy again', 60000, async () => await call.stack.focus.focusHealth() === 200);
      const rejoined = await timed('all are in the room again', 60000, async () =>
        (await Promise.all(all.map(one => one.state()))).every(state => state.state === 'joined' && state.session > 1 && state.participants.length === 2));
      expect(await everybodyMeets(all, 45000), 'they did not meet again');
      await sleep(1000);
      await allDecode(all);
      const fourth = await call.join('p4');
      expect(await everybodyMeets([...all, fourth], 45000), 'a newcomer was not let in');
      return `media flowed for 7 s without Prosody; focus healthy ${seconds(health)}, all back ${seconds(health + rejoined)} after its return; a newcomer joined`;
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
      const counts = () => Promise.all(call.stack.bridges.map(one => one.bridgeStats().then(stats => stats.conferences)));
      const first = [await call.join('p1'), await call.join('p2')];
      expect(await everybodyMeets(first, 45000), 'the first two did not meet');
      await until('one bridge has the first conference', 15000, async () => (await counts()).reduce((a, b) => a + b, 0) === 1);
      const before = await counts();
      const second = [await call.join('q1', {}, `${call.room}-b`), await call.join('q2', {}, `${call.room}-b`)];
      expect(await everybodyMeets(second, 45000), 'the second two did not meet');
      await until('two conferences', 15000, async () => (await counts()).reduce((a, b) => a + b, 0) === 2);
      const after = await counts();
      expect(after.every(count => count === 1), `conferences per bridge: ${before} and then ${after}`);
      return `conferences per bridge: ${before}, then ${after}`;
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
        const { pairs } = await measure(all, 12000);
        const names = all.map(one => one.name);
        expect(pairs.every(one => one.videoOk && one.audioOk), `media stopped after ${jump}:\n${matrix(pairs, names, names)}`);
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

  screen: {
    about: 'a screen is shared beside the camera: two sources of video of one participant',
    current: true,
    async run(call) {
      const p1 = await call.join('p1', { size: '640x360', screen: '1280x720@8' });
      const p2 = await call.join('p2');
      await allMoving([p1, p2], 45000);
      await p1.hook('ringbridge.shareScreen()');
      const start = Date.now();
      const seen = async () => {
        const { remote } = await p2.stats();
        return { camera: remote.p1?.video, screen: remote.p1?.screen };
      };
      await until('p2 decodes the screen', 20000, async () => (await seen()).screen?.framesDecoded >= 5, 50);
      const shown = Date.now() - start;
      const base = await seen();
      await until('camera and screen both move', 10000, async () => {
        const now = await seen();
        return ['camera', 'screen'].every(one => now[one].framesDecoded >= base[one].framesDecoded + 5);
      });
      await p2.hook(`ringbridge.want(${JSON.stringify({ stage: ['p1’s screen'], stageHeight: 2160, height: 180 })})`);
      await until('the screen comes at 720', 30000, async () => (await seen()).screen.frameHeight === 720);
      await until('the camera comes at 180', 30000, async () => (await seen()).camera.frameHeight <= 180);
      await p1.hook('ringbridge.session.stopScreen()');
      await until('the screen is gone', 10000, async () => (await p2.state()).participants[0].muted.screen);
      const after = await seen();
      await until('the camera goes on', 10000, async () => (await seen()).camera.framesDecoded >= after.camera.framesDecoded + 5);
      return `beside the camera after ${seconds(shown)}`;
    },
  },
  remap: {
    about: 'SSRC rewriting with one SSRC of each kind: the stage changes, a participant leaves, another comes',
    stack: { ssrcs: 1 },
    current: true,
    async run(call) {
      const [viewer, b, c] = await Promise.all(['p1', 'p2', 'p3'].map(name => call.join(name)));
      await until('all are in the room', 30000, async () => (await viewer.state()).participants.length === 2);
      const seen = new Set();
      // The packets come on the same SSRC, and the library has moved the track to its new owner.
      const shows = async name => {
        await viewer.hook(`ringbridge.want(${JSON.stringify({ stage: [name], stageHeight: 180, height: 0 })})`);
        const figures = async () => {
          const { remote } = await viewer.stats();
          const others = Object.keys(remote).filter(other => other !== name && remote[other].video);
          return others.length === 0 ? remote[name]?.video : undefined;
        };
        const start = Date.now();
        await until(`p1 has the track of ${name} alone`, 15000, figures, 50);
        const base = (await figures())?.framesDecoded ?? 0;
        await until(`p1 decodes ${name}`, 15000, async () => (await figures())?.framesDecoded >= base + 5, 50);
        seen.add((await figures()).ssrc);
        return Date.now() - start;
      };
      const times = [];
      for (const name of ['p2', 'p3', 'p2', 'p3', 'p2']) times.push(await shows(name));
      await b.leave();
      times.push(await shows('p3'));
      const d = await call.join('p4');
      await until('p4 is seen', 20000, async () => (await viewer.state()).participants.some(one => one.name === 'p4'));
      times.push(await shows('p4'), await shows('p3'));
      expect(seen.size === 1, `video came on the SSRCs ${[...seen]}`);
      const own = new Set((await Promise.all([c, d].map(one => one.stats()))).flatMap(one => one.outbound.map(stream => stream.ssrc)));
      expect(![...seen].some(ssrc => own.has(ssrc)), 'the SSRC is a sender\'s own');
      const { remote } = await viewer.stats();
      expect(Object.values(remote).filter(one => one.audio?.packets > 0).length === 1, 'one audio SSRC is not one voice');
      const worst = Math.max(...times.slice(1));
      expect(worst <= 5000, `another participant shown only after ${seconds(worst)}`);
      return `${times.length - 1} times another one on the same SSRC, shown within ${seconds(worst)}`;
    },
  },
};

/** Watches fresh pictures of all pairs until `stop`: the longest pause of each in milliseconds, and the last time that one came. */
function watchPictures(participants) {
  const pairs = new Map();
  let watching = true;
  const watch = async one => {
    while (watching) {
      const { at, remote } = await one.stats();
      for (const [sender, { video }] of Object.entries(remote)) {
        const key = `${sender} at ${one.name}`;
        const pair = pairs.get(key) ?? { frames: 0, last: at, longest: 0 };
        pairs.set(key, pair);
        if (video && video.framesDecoded !== pair.frames) Object.assign(pair, { frames: video.framesDecoded, last: at });
        pair.longest = Math.max(pair.longest, at - pair.last);
      }
      await sleep(30);
    }
  };
  const all = Promise.all(participants.map(watch));
  return { pairs, stop: async () => { watching = false; await all; return pairs; } };
}

/** What the bridge counted of ICE restarts under a name. */
async function iceRestarts(stack, name) {
  const text = await (await fetch(stack.bridges[0].bridgeUrl('/metrics'))).text();
  return Number(new RegExp(`^jitsi_jvb_ice_restarts_${name}(?:_total)? (\\S+)$`, 'm').exec(text)?.[1]);
}

let options;
try {
  options = parseArgs({ allowPositionals: true, options: { client: { type: 'string' }, help: { type: 'boolean', short: 'h' } } });
} catch (error) {
  console.error(`${error.message}; see tools/check-scenarios --help`);
  process.exit(2);
}
const currentClientFolder = options.values.client && resolve(options.values.client);
if (currentClientFolder && !existsSync(join(currentClientFolder, 'lib-jitsi-meet.min.js'))) {
  console.error(`--client ${options.values.client}: there is no lib-jitsi-meet.min.js in it`);
  process.exit(2);
}
const names = options.positionals;
if (options.values.help) {
  console.log('Usage: tools/check-scenarios [--client FOLDER] [NAME...]\n\nRuns the named scenarios, or all; --client as for tools/demo:');
  for (const [name, { about }] of Object.entries(scenarios)) console.log(`  ${name.padEnd(15)} ${about}`);
  console.log('\nA scenario that fails leaves what its pages said in target/demo/scenario-NAME; PAGE_LOG=debug makes them say more.');
  process.exit(0);
}
const wanting = names.filter(name => scenarios[name]?.current && !currentClientFolder);
if (wanting.length) {
  console.error(`${wanting.join(', ')}: needs a client library that knows SSRC rewriting, give its folder with --client`);
  process.exit(2);
}
const unknown = names.filter(name => !scenarios[name]);
if (unknown.length) {
  console.error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(scenarios).join(', ')}`);
  process.exit(2);
}

/** Runs one scenario; true when it passed. */
async function runOne(name, clientFolder) {
  const { stack: options, install = [], scripted, run, namespace: wantsNamespace } = scenarios[name];
  const namespace = wantsNamespace && new Namespace({ folder: join(demoFolder, `scenario-${name}-namespace`) });
  const mediaAddress = namespace?.mediaAddress;
  const stack = new Stack({ clientFolder, currentClientFolder, folder: `scenario-${name}`, mediaAddress, ...options });
  let browser, inside, call;
  const start = Date.now();
  try {
    await installDebian(...install);
    namespace?.create();
    await stack.start();
    browser = scripted ? undefined : await Browser.launch();
    call = new Call(stack, browser);
    if (namespace) {
      await namespace.forward(stack.ports());
      inside = await Browser.launch({ program: namespace.chromium() });
      Object.assign(call, { namespace, inside });
    }
    const figures = await run(call);
    console.log(`PASS ${name}: ${figures} (${seconds(Date.now() - start)})`);
    return true;
  } catch (error) {
    console.log(`FAIL ${name}: ${error.message} (${seconds(Date.now() - start)})`);
    for (const line of stack.errors().slice(0, 5)) console.log(`  log: ${line}`);
    for (const one of call?.all ?? []) {
      const state = await one.state().catch(() => undefined);
      if (state) console.log(`  ${one.name}: ${state.state}, '${state.notice}', ${JSON.stringify(state.connections)}`);
      for (const line of one.console.filter(text => /^(error|exception)/.test(text)).slice(-3)) console.log(`    ${line.slice(0, 400)}`);
      writeFileSync(join(stack.folder, `${one.name}.console.log`), one.console.join('\n') + '\n');
    }
    return false;
  } finally {
    await inside?.close();
    await browser?.close();
    await stack.stop();
    await namespace?.remove();
  }
}

let failed = 0;
let passed = 0;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
try {
  const root = process.getuid() === 0;
  const possible = Object.keys(scenarios).filter(name => (currentClientFolder || !scenarios[name].current) && (root || !scenarios[name].namespace));
  const chosen = names.length ? names : possible;
  const scripted = name => scenarios[name].scripted;
  const { clientFolder } = await prepare({ browser: !chosen.every(scripted), bench: chosen.some(scripted) });
  for (const name of chosen) {
    if (await runOne(name, clientFolder)) passed++;
    else failed++;
  }
  console.log(`scenarios: ${passed} passed, ${failed} failed`);
} catch (error) {
  console.error(`tools/check-scenarios: ${error.message}`);
  failed++;
}
await Promise.all([...Background.all].map(child => child.stop(1000)));
process.exit(failed ? 1 : 0);
