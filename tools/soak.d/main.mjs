// tools/soak: participants, channels, bridges and Prosody come and go by a seed, and nothing may stay.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadArguments } from '../attack.d/witnesses.mjs';
import { Talker } from '../attack.d/talker.mjs';
import { lightPace } from '../lib/scripted.mjs';
import { untilAtRest } from '../lib/at-rest.mjs';
import { heapOverTime, leastHeap } from '../lib/heap.mjs';
import { installDebian } from '../lib/install.mjs';
import { Background, endOnSignals, resident, sleep, until } from '../lib/process.mjs';
import { loadBinary } from '../lib/ringbridge.mjs';
import { prepare, Stack } from '../lib/stack.mjs';
import { judge, plan, withoutCause } from './plan.mjs';

const usage = `Usage: tools/soak [--seconds N] [--seed S] [--json] [--no-heap] [--plan]

Scripted participants join, leave, crash, mute, change their address and reopen their channel; one of two bridges and Prosody
are killed and restarted. The seed determines all of it. After each round of 45 s everybody leaves; then nothing may be held,
and memory, descriptors and threads of the focus and of the bridge that is never killed must not grow.

  --seconds N  length, default 600, at least 240: four rounds are compared
  --seed S     default 1
  --no-heap    without heaptrack, which records every allocation; only resident memory is judged then
  --plan       only print what would happen
  --json       one JSON object instead of the table

Exit code: 0 if nothing remained, 1 if something did, 2 for wrong usage or a stack that does not start.
`;

class UsageError extends Error {}

function options() {
  let values;
  try {
    ({ values } = parseArgs({ options: { seconds: { type: 'string' }, seed: { type: 'string' }, json: { type: 'boolean' }, 'no-heap': { type: 'boolean' }, plan: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const number = (name, fallback, least, most) => {
    const value = values[name] === undefined ? fallback : Number(values[name]);
    if (!Number.isInteger(value) || value < least || value > most) throw new UsageError(`--${name} ${values[name]}: give a whole number from ${least} to ${most}`);
    return value;
  };
  return { ...values, seconds: number('seconds', 600, 240, 864000), seed: number('seed', 1, 0, 4294967295), heap: !values['no-heap'] };
}

class Soak {
  constructor({ seed, seconds, heap, say }) {
    this.seed = seed;
    this.seconds = seconds;
    this.heap = heap;
    this.say = say;
    this.groups = new Map();
    this.faults = [];
    this.counts = {};
    this.reports = { sessions: 0, groups: 0 };
  }

  async run() {
    const folder = 'soak';
    if (this.heap) await installDebian('heaptrack');
    this.stack = new Stack({ folder, split: true, bridges: 2, resumption: 2, heap: this.heap });
    const start = Date.now();
    await this.stack.start();
    this.lasting = { focus: this.stack.focus, bridge2: this.stack.bridges[1] };
    const rests = [];
    const rounds = plan(this.seed, this.seconds);
    for (const [number, events] of rounds.entries()) {
      if (rests.length >= 4 && (Date.now() - start) / 1000 > this.seconds) break;
      await this.round(number, events);
      rests.push(await this.rest());
      const { focus, bridge2 } = rests.at(-1).processes;
      this.say(`round ${number + 1} of ${rounds.length}: focus ${(focus.rss / 1048576).toFixed(1)} MiB, ${focus.files} files; bridge ${(bridge2.rss / 1048576).toFixed(1)} MiB, ${bridge2.files} files`);
    }
    const errors = withoutCause(this.stack.errors(), this.faults);
    await sleep(2000);
    await Promise.all(this.stack.processes().map(one => one.stop()));
    if (this.heap) for (const [name, one] of Object.entries(this.lasting)) await this.readHeap(name, this.stack.heapFile(one.name), rests);
    const checks = judge(rests, { errors });
    checks.push({ what: 'sessions of participants', value: this.reports.sessions, limit: 'at least one per group', ok: this.reports.sessions >= this.reports.groups });
    return { seed: this.seed, seconds: Math.round((Date.now() - start) / 1000), rounds: rests.length, events: this.counts, ...this.reports, pass: checks.every(one => one.ok), checks, rests };
  }

  async readHeap(name, file, rests) {
    const heap = await heapOverTime(file);
    for (const rest of rests) {
      const one = rest.processes[name];
      one.heap = leastHeap(heap, one.at - 1, one.at);
    }
  }

  async round(number, events) {
    const start = Date.now();
    for (const event of events) {
      await sleep(Math.max(0, start + event.at * 1000 - Date.now()));
      for (const one of this.stack.processes()) one.process.check();
      this.counts[event.what] = (this.counts[event.what] ?? 0) + 1;
      await this[event.what.replace(/-(\w)/, (_, letter) => letter.toUpperCase())](event, number);
    }
    await Promise.all([...this.groups.values()].map(one => this.ends(one, 'leave')));
    this.groups.clear();
  }

  join({ group, room, size, rewriting }, number) {
    const name = `group-${group}`;
    const talker = new Talker(name, loadBinary(), loadArguments(this.stack, `soak-${number}-${room}`, size, 120, [...lightPace, ...rewriting ? ['--ssrc-rewriting'] : []]),
      { log: join(this.stack.folder, 'participants.log') });
    this.groups.set(group, talker);
    this.reports.groups++;
  }

  async ends(talker, how) {
    if (how === 'crash') talker.signal('SIGKILL');
    else talker.order({ do: 'leave' });
    await Promise.race([talker.ended, sleep(5000)]);
    await talker.kill();
    this.reports.sessions += talker.lines.filter(line => line.session).length;
  }

  async gone({ group }, how) {
    const talker = this.groups.get(group);
    this.groups.delete(group);
    if (talker) await this.ends(talker, how);
  }

  leave(event) { return this.gone(event, 'leave'); }
  crash(event) { return this.gone(event, 'crash'); }
  order({ group, participant, what }) { this.groups.get(group)?.order({ do: what, participant }); }
  mute(event) { this.order(event); }
  unmute(event) { this.order(event); }
  move(event) { this.order(event); }
  reconnect(event) { this.order(event); }

  async restartBridge() {
    const [bridge] = this.stack.bridges;
    this.faults.push(Date.now());
    await bridge.kill();
    await sleep(1500);
    await bridge.start();
    this.faults.push(Date.now());
  }

  async restartProsody() {
    this.faults.push(Date.now());
    await this.stack.prosody.kill();
    await sleep(1500);
    await this.stack.prosody.start();
    this.faults.push(Date.now());
    for (const talker of this.groups.values()) await this.ends(talker, 'crash');
    this.groups.clear();
    await until('the focus is healthy again', 60000, async () => await this.stack.focus.focusHealth() === 200);
  }

  /** Waits until nothing is held, and reads. */
  async rest() {
    await untilAtRest(this.stack);
    await sleep(1500);
    const processes = Object.fromEntries(Object.entries(this.lasting).map(([name, one]) => [name, {
      at: (Date.now() - one.process.started) / 1000, rss: resident(one.process.pid), ...one.process.held(),
    }]));
    return { processes };
  }

  async close() {
    await Promise.all([...this.groups.values()].map(one => one.kill()));
    await this.stack?.stop();
  }
}

function table(result) {
  console.log(`seed ${result.seed}: ${result.rounds} rounds in ${result.seconds} s, ${result.groups} groups with ${result.sessions} sessions; ${Object.entries(result.events).map(([what, count]) => `${what} ${count}`).join(', ')}`);
  console.log('rest  process   heap KiB   resident MiB   files   threads');
  for (const [number, { processes }] of result.rests.entries()) {
    for (const [name, one] of Object.entries(processes)) {
      console.log(`${String(number + 1).padStart(4)}  ${name.padEnd(8)} ${one.heap === undefined ? '       -' : (one.heap / 1024).toFixed(0).padStart(8)}   ${(one.rss / 1048576).toFixed(1).padStart(12)}   ${String(one.files).padStart(5)}   ${String(one.threads).padStart(7)}`);
    }
  }
  for (const { what, value, limit, unit, ok } of result.checks) console.log(`${ok ? 'ok  ' : 'FAIL'}  ${what}: ${value}${unit ? ` ${unit}` : ''}${limit ? `, ${limit}` : ''}`);
  console.log(result.pass ? 'PASS' : 'FAIL');
}

endOnSignals();
let code = 0;
let soak;
try {
  const { seconds, seed, heap, json, help, plan: show } = options();
  if (help) process.stdout.write(usage);
  else if (show) for (const [number, events] of plan(seed, seconds).entries()) for (const event of events) console.log(JSON.stringify({ round: number + 1, ...event }));
  else {
    await prepare({ load: true });
    soak = new Soak({ seed, seconds, heap, say: console.error });
    const result = await soak.run();
    if (json) console.log(JSON.stringify(result));
    else table(result);
    code = result.pass ? 0 : 1;
  }
} catch (error) {
  console.error(`tools/soak: ${error.message}${error instanceof UsageError ? `\n\n${usage}` : ''}`);
  for (const line of soak?.stack?.errors().slice(0, 5) ?? []) console.error(`  log: ${line}`);
  code = error instanceof UsageError ? 2 : 1;
}
await soak?.close();
await Promise.all([...Background.all].map(child => child.stop(1000)));
process.exit(code);
