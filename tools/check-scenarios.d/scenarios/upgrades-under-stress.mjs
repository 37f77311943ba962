// The bridge is replaced by another process while others come and go, and while it has more to do than it can.
import { expect } from '../call.mjs';
import { endpoints, metric, open, sparedScripted } from '../upgraded.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { lastJson, lightPace, startScripted } from '../../lib/scripted.mjs';

/** Newcomers at any time: between two of their rooms, and how long one lasts, milliseconds. */
const nextRoom = 900, stay = 6000;
const upgradesDuringJoins = 8;

/** Upgrades while participants join and leave all the time, so that handshakes are always under way. */
async function duringJoins(call) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const settled = startScripted({ stack, room: call.room, count: 3, seconds: 120, name: 'settled', more: lightPace });
  await until('three have their channel', 30000, async () => open(await endpoints(bridge)) === 3, 250);
  const rooms = [];
  const state = { coming: true };
  const come = async () => {
    for (let number = 0; state.coming; number++) {
      const load = startScripted({ stack, room: `${call.room}-${number}`, count: 2, seconds: 60, name: `newcomers${number}`, more: lightPace });
      const left = sleep(stay).then(() => load.signal('SIGTERM')).then(() => load.ended);
      rooms.push({ load, left });
      await sleep(nextRoom);
    }
  };
  const comes = come();
  await sleep(3000);
  const frozen = [];
  for (let time = 0; time < upgradesDuringJoins; time++) {
    const outcome = await bridge.upgrade({ io: time % 2 ? 'uring' : 'mmsg' });
    expect(outcome.code === 0, `upgrade ${time + 1}: ${outcome.said}`);
    frozen.push(outcome.frozen);
    await sleep(500);
  }
  state.coming = false;
  await comes;
  await Promise.all(rooms.map(one => one.left));
  const unwell = rooms.map(({ load }) => [load, lastJson(load.tail(100))?.reports])
    .filter(([, reports]) => !reports?.every(one => one.connected && !one.error && one.sessions === 1 && one.encrypted.not_opened === 0));
  expect(!unwell.length, `of ${rooms.length} rooms of newcomers, ${unwell.length} were not well: ${unwell.slice(0, 2).map(([load, reports]) => `${load.name} ${JSON.stringify(reports)}\n${load.tail(4)}`).join('\n')}`);
  await until('only those who stay are there', 20000, async () => (await endpoints(bridge)).length === 3, 250);
  const anew = await metric(bridge, 'ringbridge_upgrade_lost');
  settled.signal('SIGTERM');
  await settled.ended;
  const spared = sparedScripted(settled, upgradesDuringJoins);
  const errors = stack.errors();
  expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
  return `${upgradesDuringJoins} upgrades while ${rooms.length} rooms of two came and went: nothing sent for ${frozen.join(', ')} ms, ${anew} handshakes began anew, `
    + `those who stayed opened all of ${spared.opened} packets and lost ${spared.lost} of a sender's audio at most`;
}

/** Participants who send more than the bridge can forward in the processor time that it is given: milliseconds without, and with. */
const crowd = 16, stopped = 300, running = 200;

/** Takes processor time from the bridge, as a crowded host does, until `state.starved` is false. */
async function starve(bridge, state) {
  const send = (pid, signal) => { try { process.kill(pid, signal); } catch { /* it has handed over */ } };
  while (state.starved) {
    const pid = bridge.successor ?? bridge.process.pid;
    send(pid, 'SIGSTOP');
    await sleep(stopped);
    send(pid, 'SIGCONT');
    await sleep(running);
  }
}

/** Upgrades of a bridge that leaves out video because it has too much to do. */
async function overloaded(call) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const load = startScripted({ stack, room: call.room, count: crowd, seconds: 120, name: 'crowd', more: ['--video-fps', '60'] });
  await until('all have joined', 30000, async () => (await endpoints(bridge)).length === crowd, 250);
  const level = () => metric(bridge, 'ringbridge_shedding_level');
  const state = { starved: true };
  const starving = starve(bridge, state);
  let handedOver = 0;
  const outcomes = [], levels = [];
  try {
    for (let time = 0; time < 5; time++) {
      await until('the bridge sheds load', 20000, async () => await level() > 0, 50);
      const { pid: before } = await (await fetch(bridge.bridgeUrl('/colibri/upgrade'))).json();
      const outcome = await bridge.upgrade();
      levels.push(await level());
      // It happens, or it is refused and nothing has changed.
      if (outcome.code === 0) handedOver++;
      else expect(outcome.code === 1 && outcome.pid === before && /goes on as before/.test(outcome.said), `${outcome.code}: ${outcome.said}`);
      outcomes.push(outcome.code === 0 ? `${outcome.frozen} ms` : outcome.said);
      expect((await endpoints(bridge)).length === crowd, 'an endpoint was lost');
      await sleep(1000);
    }
  } finally {
    state.starved = false;
    await starving;
  }
  expect(handedOver > 0, `no upgrade at all: ${outcomes.join('; ')}`);
  load.signal('SIGTERM');
  await load.ended;
  const reports = lastJson(load.tail(100))?.reports;
  expect(reports?.length === crowd && reports.every(one => one.connected && !one.error && one.sessions === 1 && one.sources_removed === 0 && one.encrypted.not_opened === 0),
    `the crowd was not well: ${JSON.stringify(reports)}\n${load.tail(5)}`);
  return `${outcomes.length} upgrades under overload: ${outcomes.join(', ')}; shedding level ${levels.join(', ')} right after`;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  'upgrade-joins': {
    about: 'the bridge is replaced 8 times while participants join and leave all the time: all of them connect, at the first attempt',
    stack: { split: true },
    scripted: true,
    run: duringJoins,
  },
  'upgrade-overload': {
    about: 'the bridge is replaced while it sheds load: that happens, or is refused, and nobody is lost',
    stack: { split: true },
    scripted: true,
    run: overloaded,
  },
};
