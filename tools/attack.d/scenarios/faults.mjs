// Faults of the machine and of the XMPP server. Each has a stack of its own.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { demoFolder } from '../../lib/paths.mjs';
import { sleep, until } from '../../lib/process.mjs';
import { Relay } from '../relay.mjs';
import { Channel } from '../websocket.mjs';
import { Guest } from '../xmpp.mjs';
import { summary } from '../witnesses.mjs';
import { scenarios as channel } from './channel.mjs';
import { scenarios as doors } from './doors.mjs';

const seconds = since => Number(((Date.now() - since) / 1000).toFixed(1));

/** Makes the bridge and the focus say something: channels that are refused, conferences that are odd. */
async function provokeLogs(rig) {
  const url = `ws://127.0.0.1:${rig.channelPort}/colibri-ws/jvb1/0123456789abcdef/abcd?pwd=`;
  for (let n = 0; n < 300; n++) (await Channel.open(url + n).catch(() => undefined))?.close();
  const guest = await new Guest(rig).login();
  for (let n = 0; n < 20; n++) await guest.conference(`odd ${n}@nowhere.test`).catch(() => {});
  guest.close();
}

/** A small file system that can be full. */
const disk = {
  folder: join(demoFolder, 'attack-disk'),
  mount() {
    this.unmount();
    mkdirSync(this.folder, { recursive: true });
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', this.folder], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`no small file system: ${stderr}`);
  },
  unmount() { if (existsSync(this.folder)) spawnSync('umount', ['-l', this.folder]); },
  fill() {
    const file = openSync(join(this.folder, 'filler'), 'w');
    try { for (;;) writeSync(file, Buffer.alloc(4096)); } catch { /* it is full */ }
    closeSync(file);
    // The page at the end of each log has room, too.
    for (const name of readdirSync(this.folder)) {
      const log = openSync(join(this.folder, name), 'a');
      try { for (;;) writeSync(log, '\n'); } catch { /* to the last byte */ }
      closeSync(log);
    }
  },
  empty() { rmSync(join(this.folder, 'filler'), { force: true }); },
};

const group = '/sys/fs/cgroup/memory/ringbridge-attack';

/** A shell that does something and becomes the program. */
const shell = words => ['bash', '-c', `${words} exec "$0" "$@"`];

async function newSessions(rig, run) {
  const before = rig.witnesses.sessions.length;
  const outcome = await run();
  return [rig.witnesses.sessions.length - before, outcome];
}

/** Waits until all witnesses see all again; milliseconds since `start`. */
async function back(rig, start, timeout) {
  let base;
  await until('media of all is back', timeout, async () => {
    const reports = await rig.witnesses.reports(1500);
    const now = summary(reports);
    const frames = Object.fromEntries(reports.flatMap(({ endpoint, received }) => Object.entries(received).map(([from, one]) => [`${endpoint} ${from}`, one.video_frames])));
    const members = reports.map(one => one.endpoint);
    base ??= frames;
    // A new session counts from 0.
    const fresh = pair => frames[pair] >= (base[pair] ?? 0) ? frames[pair] - (base[pair] ?? 0) : frames[pair];
    return now.connected && members.every(a => members.every(b => a === b || fresh(`${a} ${b}`) >= 5));
  }, 200);
  return Date.now() - start;
}

const relayed = () => {
  const relay = new Relay();
  return { relay, stack: { relay: port => relay.listen(port) } };
};

/** Limits under which nothing is said of the witnesses, who are meant to be hit. */
const anything = { freeze_ms: 60000, audio_lost_percent: 100, health_ms: 60000, unhealthy: ['bridge', 'focus'] };

export const scenarios = {
  'full-disk': {
    guards: 'the log disk is full while 320 lines are written, and then has room again',
    open: () => { disk.mount(); return { stack: { logFolder: disk.folder } }; },
    closed: () => disk.unmount(),
    async run(rig) {
      disk.fill();
      await provokeLogs(rig);
      await sleep(500);
      disk.empty();
      await provokeLogs(rig);
      return { figures: { log_bytes: rig.bridge.process.tail(1).length }, checks: [{ what: 'logs go on once there is room', value: rig.bridge.process.tail(1).slice(0, 60).trim(), ok: rig.bridge.process.tail(1).length > 0 }] };
    },
  },
  'full-disk-start': {
    guards: 'bridge and focus start while their log disk is full',
    open: () => { disk.mount(); return { witnesses: false, stack: { logFolder: disk.folder } }; },
    closed: () => disk.unmount(),
    limits: anything,
    async run(rig) {
      await Promise.all([rig.bridge.kill(), rig.focus.kill()]);
      disk.fill();
      await Promise.all([rig.bridge.start(), rig.focus.start()]);
      await until('the focus is healthy', 20000, async () => await rig.focus.focusHealth() === 200);
      return { figures: {} };
    },
  },
  'closed-output': {
    guards: 'standard output and error are closed from the start',
    open: () => ({ stack: { launcher: shell('exec >&- 2>&-;') } }),
    run: rig => provokeLogs(rig),
  },
  'broken-output': {
    guards: 'the reader of standard error has gone (EPIPE)',
    open: () => ({ stack: { launcher: shell('exec 2> >(head -c 300 > /dev/null) > /dev/null;') } }),
    run: rig => provokeLogs(rig),
  },
  'few-descriptors': {
    guards: '96 descriptors, and 600 half-sent requests on each listener',
    open: () => ({ stack: { launcher: ['prlimit', '--nofile=96'] } }),
    expectedErrors: /too many open files|os error 24/i,
    run: rig => doors['http-half'].run(rig).then(({ figures }) => ({ figures })),
  },
  'little-memory': {
    guards: 'a cgroup of 160 MiB while 12 MB of endpoint messages go to 30 who do not read',
    open: () => {
      mkdirSync(group, { recursive: true });
      writeFileSync(join(group, 'memory.limit_in_bytes'), String(160 * 1024 * 1024));
      return { stack: { launcher: shell(`echo $$ > ${group}/cgroup.procs;`) } };
    },
    closed: () => { try { rmdirSync(group); } catch { /* somebody is still in it */ } },
    skip: () => existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes') || existsSync(group) ? undefined : 'no cgroup of memory can be made here',
    timeout: 120000,
    run: rig => channel['endpoint-messages'].run(rig),
  },
  'bridge-paused': {
    guards: 'SIGSTOP of the bridge for 5 s: media recovers by itself, nobody gets a new session',
    open: () => ({}),
    limits: { freeze_ms: 6500, audio_lost_percent: 100, health_ms: 7000, unhealthy: ['bridge', 'focus'] },
    async run(rig) {
      const [fresh, after] = await newSessions(rig, async () => {
        rig.bridge.process.signal('SIGSTOP');
        await sleep(5000);
        rig.bridge.process.signal('SIGCONT');
        return back(rig, Date.now(), 10000);
      });
      return { figures: { back_after_ms: after, new_sessions: fresh }, checks: [{ what: 'media is back', value: after, limit: 'at most 3000', unit: 'ms', ok: after <= 3000 }, { what: 'new sessions', value: fresh, ok: fresh === 0 }] };
    },
  },
  'focus-paused': {
    guards: 'SIGSTOP of the focus for 5 s: media continues, nobody gets a new session',
    open: () => ({}),
    limits: { health_ms: 7000, unhealthy: ['focus'] },
    async run(rig) {
      const [fresh] = await newSessions(rig, async () => {
        rig.focus.process.signal('SIGSTOP');
        await sleep(5000);
        rig.focus.process.signal('SIGCONT');
        await sleep(1500);
      });
      return { figures: { new_sessions: fresh }, checks: [{ what: 'new sessions', value: fresh, ok: fresh === 0 }] };
    },
  },
  'prosody-slow': {
    guards: 'Prosody sends and accepts only 8 kB a second for 15 s: media continues, newcomers are served',
    open: relayed,
    closed: opened => opened?.relay.close(),
    async run(rig, { relay }) {
      const [fresh, newcomer] = await newSessions(rig, async () => {
        relay.rate = 8000;
        const served = rig.newcomer();
        await sleep(15000);
        relay.rate = undefined;
        return served;
      });
      return { figures: { new_sessions: fresh, newcomers_while_slow: newcomer }, checks: [{ what: 'new sessions', value: fresh, ok: fresh === 0 }, { what: 'newcomers meet while it is slow', value: newcomer.ok ? `after ${newcomer.seconds.toFixed(1)} s` : newcomer.error, ok: newcomer.ok }] };
    },
  },
  'prosody-silent': {
    guards: 'Prosody is silent for 20 s (SIGSTOP): media continues, newcomers are served',
    open: () => ({}),
    limits: { unhealthy: ['bridge', 'focus'] },
    async run(rig) {
      const [fresh] = await newSessions(rig, async () => {
        rig.stack.prosody.process.signal('SIGSTOP');
        await sleep(20000);
        rig.stack.prosody.process.signal('SIGCONT');
        await sleep(1500);
      });
      return { figures: { new_sessions: fresh }, checks: [{ what: 'new sessions', value: fresh, ok: fresh === 0 }] };
    },
  },
  'prosody-cut': {
    guards: 'the connections of focus and bridge to Prosody break, and are refused for 3 s: media continues',
    open: relayed,
    closed: opened => opened?.relay.close(),
    async run(rig, { relay }) {
      const [fresh, healthy] = await newSessions(rig, async () => {
        relay.refuses = true;
        relay.cut();
        await sleep(3000);
        relay.refuses = false;
        const start = Date.now();
        await until('the focus is healthy again', 30000, async () => await rig.focus.focusHealth() === 200);
        await sleep(2000);
        return seconds(start);
      });
      return { figures: { new_sessions: fresh, focus_healthy_after_s: healthy } };
    },
    limits: { freeze_ms: 2000, audio_lost_percent: 20, unhealthy: ['bridge', 'focus'] },
  },
  ...Object.fromEntries([['prosody-restarted', 60], ['prosody-restarted-no-resumption', 0]].map(([name, resumption]) => [name, {
    guards: `Prosody is killed and started again${resumption ? '' : ', and resumes no stream'}: newcomers are served within 30 s`,
    open: () => ({ witnesses: false, stack: { resumption } }),
    limits: anything,
    expectedErrors: /xmpp|stream|connect/i,
    async run(rig) {
      await rig.stack.prosody.kill();
      await sleep(2000);
      await rig.stack.prosody.start();
      const start = Date.now();
      await until('the focus is healthy again', 30000, async () => await rig.focus.focusHealth() === 200);
      return { figures: { focus_healthy_after_s: seconds(start) } };
    },
  }])),
  'dead-stream': {
    guards: 'one of two bridges is killed, Prosody keeps dead streams for 60 s: it leaves the brewery at once, media is back within 15 s',
    open: () => ({ stack: { bridges: 2, resumption: 60 } }),
    limits: anything,
    async run(rig) {
      const guest = await new Guest(rig).login();
      const room = 'jvbbrewery@internal.auth.meet.test';
      guest.send(`<presence to='${room}/looker'><x xmlns='http://jabber.org/protocol/muc'/></presence>`);
      await sleep(500);
      const counts = await Promise.all(rig.stack.bridges.map(one => one.bridgeStats().then(stats => stats.conferences)));
      const index = counts.indexOf(1);
      if (index < 0) throw new Error(`no bridge has the conference: ${counts}`);
      const gone = guest.wait('the dead bridge leaves the brewery', stanza => stanza.name === 'presence' && stanza.attributes.type === 'unavailable' && stanza.attributes.from === `${room}/jvb${index + 1}`, 45000);
      const start = Date.now();
      const left = gone.then(() => seconds(start), error => error.message);
      await rig.stack.bridges[index].kill();
      const media = await back(rig, start, 45000).then(ms => ms / 1000, error => error.message);
      const brewery = await left;
      guest.close();
      await rig.stack.bridges[index].start();
      return { figures: { left_the_brewery_after_s: brewery, media_back_after_s: media }, checks: [
        { what: 'the dead bridge left the brewery', value: brewery, limit: 'at most 10', unit: 's', ok: brewery <= 10 },
        { what: 'media of all is back', value: media, limit: 'at most 15', unit: 's', ok: media <= 15 }] };
    },
  },
};
