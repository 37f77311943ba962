// The packaged service, as systemd runs it, in the middle of calls with data channels: reloaded twice, left alone for longer than its watchdog waits, stopped.
// node calls.mjs ROOT LEADER: the root of a container that shares the network with this host, and its first process.
// RINGBRIDGE and RINGBRIDGE_LOAD name the programs of this host; 77: something is not there, and the last line says what.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { missingDebian } from '../lib/install.mjs';
import { demoFolder } from '../lib/paths.mjs';
import { Background, sleep, until } from '../lib/process.mjs';
import { loadBinary } from '../lib/ringbridge.mjs';
import { lastJson, lightPace, startScripted } from '../lib/scripted.mjs';
import { Stack } from '../lib/stack.mjs';

/** The watchdog of the unit, milliseconds, and some. */
const longerThanWatchdog = 25000;

const [root, leader] = process.argv.slice(2);
const missing = [...missingDebian('prosody'), ...existsSync(loadBinary()) ? [] : [loadBinary()]];
if (missing.length) {
  console.log(`skipped: calls under systemd need ${missing.join(', ')}`);
  process.exit(77);
}

/** Runs a command in the container; what it says. */
function inside(...command) {
  const { status, stdout, stderr } = spawnSync('nsenter', ['-t', leader, '-a', ...command], { encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}`.trim() };
}

function expect(condition, message) {
  if (!condition) throw new Error(`${message}\n${inside('journalctl', '-u', 'ringbridge', '--no-pager', '-n', '30').said}`);
}

/** What systemd knows of the service. */
function service() {
  const { said } = inside('systemctl', 'show', 'ringbridge', '-p', 'MainPID,ActiveState,Result,NRestarts,ControlGroup');
  const values = Object.fromEntries(said.split('\n').map(line => line.split(/=(.*)/s)));
  const processes = inside('sh', '-c', 'cat $(find /sys/fs/cgroup -path "*/ringbridge.service/cgroup.procs" | head -n 1)').said;
  return { ...values, processes: values.ActiveState === 'active' ? processes.split('\n').length : 0 };
}

const stack = new Stack({ clientFolder: demoFolder, folder: 'run-package', split: true, channel: 'sctp' });
try {
  await stack.start();
  const bridge = stack.bridges[0];
  // The service takes the place of this one, with the same configuration.
  await bridge.kill();
  writeFileSync(join(root, 'etc/ringbridge/ringbridge.conf'), readFileSync(bridge.configuration));
  const started = inside('systemctl', 'restart', 'ringbridge');
  expect(started.status === 0, `systemctl restart: ${started.said}`);
  await until('the service is healthy', 20000, async () => await bridge.bridgeHealth() === 200);
  await until('the focus has it', 30000, async () => await stack.focus.focusHealth() === 200);
  const channels = async count => {
    const { conferences } = await bridge.debug(true);
    return Object.values(conferences).flatMap(one => Object.values(one.endpoints)).filter(one => one.channel.data_channel).length === count;
  };
  const loads = [];
  /** Two more come, and the service is reloaded. */
  const reload = async turn => {
    loads.push(startScripted({ stack, room: `calls${turn}`, count: 2, seconds: 300, name: `calls${turn}`, more: ['--data-channel', ...lightPace] }));
    await until(`data channels of ${turn} rooms are open`, 60000, async () => {
      for (const load of loads) load.check();
      return channels(2 * turn);
    }, 250);
    const before = service();
    const { status, said } = inside('systemctl', 'reload', 'ringbridge');
    expect(status === 0, `reload ${turn}: ${said}`);
    const after = service();
    expect(after.ActiveState === 'active' && after.MainPID !== before.MainPID, `after reload ${turn}: ${JSON.stringify(after)}`);
    expect(after.processes === turn + 1, `after reload ${turn} there are ${after.processes} processes in its control group`);
    // The first look may find a connection that ended with the former process.
    await until(`no data channel is lost in reload ${turn}`, 5000, () => channels(2 * turn));
  };
  await reload(1);
  await reload(2);
  await sleep(longerThanWatchdog);
  const later = service();
  expect(later.ActiveState === 'active' && later.NRestarts === '0' && later.processes === 3, `later: ${JSON.stringify(later)}`);
  await until('no data channel is lost', 5000, () => channels(4));
  // One former process ends with its participants, the others with the service.
  loads[0].signal('SIGTERM');
  await loads[0].ended;
  await until('the first process ends', 20000, async () => service().processes === 2, 250);
  const reports = lastJson(loads[0].tail(50))?.reports ?? [];
  expect(reports.length === 2 && reports.every(one => one.connected && one.sessions === 1 && one.data_channels === 1 && one.encrypted.not_opened === 0),
    `participants: ${JSON.stringify(reports)}`);
  const begun = Date.now();
  const stopped = inside('systemctl', 'stop', 'ringbridge');
  const took = Date.now() - begun;
  const end = service();
  expect(stopped.status === 0 && end.ActiveState === 'inactive' && end.Result === 'success', `stopped: ${stopped.said} ${JSON.stringify(end)}`);
  expect(!/Killing process|SIGKILL/.test(inside('journalctl', '-u', 'ringbridge', '--no-pager').said), 'systemd had to kill a process');
  console.log(`reloaded twice with 4 data channels, watched for ${longerThanWatchdog / 1000} s, stopped within ${took} ms with a former process`);
} catch (error) {
  console.log(error.stack);
  process.exitCode = 1;
} finally {
  await stack.stop();
  await Promise.all([...Background.all].map(child => child.stop(1000)));
}
