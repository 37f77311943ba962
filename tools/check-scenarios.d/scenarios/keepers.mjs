// The data channels of many participants, in the process that the bridge was before.
import { readFileSync } from 'node:fs';
import { expect } from '../call.mjs';
import { endpoints, lives, metric } from '../upgraded.mjs';
import { resident, sleep, until } from '../../lib/process.mjs';
import { lastJson, lightPace, startScripted } from '../../lib/scripted.mjs';

/** Ticks of the kernel's clock in a second. */
const ticks = 100;
/** How long a keeper is watched, milliseconds. */
const watched = 20000;

/** What of a process is where: resident bytes, those of its own, and seconds of processor time so far. */
function figures(pid) {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).map(Number);
  return { resident: resident(pid), own: resident(pid, 'RssAnon'), seconds: (user + system) / ticks };
}

/** Waits until so many endpoints have their data channel open; throws when one of `loads` has ended meanwhile. */
const allOpen = (bridge, loads, count) => until(`${count} data channels are open`, 180000, async () => {
  for (const load of loads) load.check();
  return (await endpoints(bridge)).filter(one => one.channel.data_channel).length === count;
}, 100);

/** Ends scripted participants; throws unless each of `count` was connected throughout, with one session and one data channel. */
async function endWell(loads, count) {
  for (const load of loads) load.signal('SIGTERM');
  await Promise.all(loads.map(load => load.ended));
  const reports = loads.flatMap(load => lastJson(load.tail(400))?.reports ?? []);
  const well = one => one.connected && !one.error && one.sessions === 1 && one.data_channels === 1 && one.encrypted.not_opened === 0;
  expect(reports.length === count && reports.every(well), `not all were well: ${JSON.stringify(reports.filter(one => !well(one)).slice(0, 3))}`);
}

const megabytes = bytes => (bytes / 2 ** 20).toFixed(1);

/** So many rooms of so many, all with data channels, and two upgrades: what the former process needs for them. */
async function manyDataChannels(call, { rooms, each, more }) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const loads = Array.from({ length: rooms }, (_, index) => startScripted({
    stack, room: `${call.room}-${index}`, count: each, seconds: 600, name: `channels${index}`, more: ['--data-channel', ...more],
  }));
  const count = rooms * each;
  await allOpen(bridge, loads, count);
  const keeper = bridge.process.pid;
  const before = figures(keeper);
  const outcome = await bridge.upgrade();
  expect(outcome.code === 0 && outcome.pid !== keeper, `upgrade: ${outcome.said}`);
  await sleep(3000);
  const start = figures(keeper);
  await sleep(watched);
  const end = figures(keeper);
  const [keepers, kept, lost] = await Promise.all(['keepers', 'kept_channels', 'upgrade_lost'].map(name => metric(bridge, `ringbridge_${name}`)));
  expect(keepers === 1 && kept === count && lost === 0, `${keepers} keepers of ${kept} data channels, ${lost} lost`);
  // The next process had none.
  const next = await bridge.upgrade();
  expect(next.code === 0 && await metric(bridge, 'ringbridge_keepers') === 1, `the second upgrade: ${next.said}`);
  await sleep(1000);
  await endWell(loads, count);
  await until('the keeper ends with its last participant', 30000, () => !lives(keeper), 100);
  const errors = stack.errors();
  expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
  const share = 100 * (end.seconds - start.seconds) / (watched / 1000);
  return `${count} data channels in one former process: nothing sent for ${outcome.frozen} ms, ${megabytes(before.resident)} MB resident before and ${megabytes(end.resident)} MB as their keeper `
    + `(${megabytes(end.own)} MB of it its own), ${share.toFixed(1)} % of a core`;
}

/** Former processes that a bridge may have. */
const most = 32;

/** A room of two with data channels before each upgrade, until there may be no further former process. */
async function tooManyKeepers(call) {
  const { stack } = call;
  const bridge = stack.bridges[0];
  const loads = [], pids = [], frozen = [];
  const join = () => loads.push(startScripted({
    stack, room: `${call.room}-${loads.length}`, count: 2, seconds: 900, name: `keeper${loads.length}`, more: ['--data-channel', '--senders', '0'],
  }));
  for (let number = 1; number <= most; number++) {
    join();
    await allOpen(bridge, loads, 2 * number);
    pids.push(bridge.successor ?? bridge.process.pid);
    const outcome = await bridge.upgrade();
    expect(outcome.code === 0 && await metric(bridge, 'ringbridge_keepers') === number, `upgrade ${number}: ${outcome.said}`);
    frozen.push(outcome.frozen);
  }
  join();
  await allOpen(bridge, loads, 2 * most + 2);
  for (const [args, code] of [[['--check'], 3], [[], 1]]) {
    const refused = await bridge.upgrade({}, args);
    expect(refused.code === code && refused.said.includes(`${most} former processes stay already`), `one too many: ${refused.code} ${refused.said}`);
  }
  await allOpen(bridge, loads, 2 * most + 2);
  const sizes = pids.map(pid => figures(pid));
  const sum = key => megabytes(sizes.reduce((all, one) => all + one[key], 0));
  // Whoever leaves makes room.
  await endWell(loads.splice(0, 1), 2);
  await until('the first keeper ends', 30000, () => !lives(pids[0]), 100);
  const outcome = await bridge.upgrade();
  expect(outcome.code === 0 && await metric(bridge, 'ringbridge_keepers') === most, `once there is room: ${outcome.said}`);
  await endWell(loads, 2 * most);
  const errors = stack.errors();
  expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
  return `${most} former processes of 2 data channels each: ${sum('resident')} MB resident in all, of which ${sum('own')} MB are their own; one more was refused until somebody left; `
    + `nothing sent for ${frozen[0]} ms at first, ${frozen.at(-1)} ms at last`;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  'upgrade-keeper': {
    about: '30 scripted participants with data channels, which stay open in the former process; what it needs for them',
    stack: { split: true, channel: 'sctp' },
    scripted: true,
    run: call => manyDataChannels(call, { rooms: 3, each: 10, more: lightPace }),
  },
  'upgrade-keepers': {
    about: 'as many former processes with data channels as there may be: one more is refused, and nobody loses anything',
    stack: { split: true, channel: 'sctp' },
    scripted: true,
    run: tooManyKeepers,
  },
};
