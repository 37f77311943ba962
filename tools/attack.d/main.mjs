// tools/attack: attack after attack on one stack, and what the others' call noticed.
import { parseArgs } from 'node:util';
import { Background, endOnSignals } from '../lib/process.mjs';
import { binary } from '../lib/ringbridge.mjs';
import { prepare } from '../lib/stack.mjs';
import { Rig } from './rig.mjs';
import { scenarios } from './scenarios/index.mjs';
import { limits } from './verdict.mjs';

const usage = `Usage: tools/attack [SCENARIO...] [--list] [--quick] [--json] [--rate R] [--io uring|mmsg]

Attacks its own stack (Prosody, focus, bridge) on loopback while three scripted participants are in a call, and reports how
the call was affected. An attack fails when one of these happens: more than ${limits.freeze_ms} ms without video or audio,
${limits.audio_lost_percent} % of audio lost, health not answered within ${limits.health_ms} ms, ${limits.memory_mib} MiB more kept, ${limits.peak_mib} MiB more at any time, objects still held,
newcomers without media, an error in a log, a process that exits. Logs are under target/demo/attack.

  SCENARIO...   these, or all
  --quick       a fast selection of the worst kinds, as in tools/test
  --list        names and descriptions
  --json        one JSON object per scenario
  --rate R      factor for packet rates; default 1, or 0.2 against a debug build
  --io NAME     the bridge's I/O backend; by default the bridge chooses

Exit code: 0 if every attack stayed within the limits, 1 if one did not, 2 for wrong usage or a stack that does not start.
`;

class UsageError extends Error {}

function arguments_() {
  let parsed;
  try {
    parsed = parseArgs({ allowPositionals: true, options: {
      list: { type: 'boolean' }, quick: { type: 'boolean' }, json: { type: 'boolean' }, io: { type: 'string' }, rate: { type: 'string' }, help: { type: 'boolean', short: 'h' },
    } });
  } catch (error) {
    throw new UsageError(error.message);
  }
  const unknown = parsed.positionals.filter(name => !scenarios[name]);
  if (unknown.length) throw new UsageError(`no scenario ${unknown.join(', ')}; --list names them`);
  if (parsed.values.io && !['uring', 'mmsg'].includes(parsed.values.io)) throw new UsageError(`--io ${parsed.values.io}: choose one of uring, mmsg`);
  const chosen = Object.keys(scenarios).filter(name => !parsed.values.quick || scenarios[name].quick);
  // A debug build carries a fraction of what an optimised one does.
  const rate = Number(parsed.values.rate ?? (binary().includes('/debug/') ? 0.2 : 1));
  if (!(rate > 0 && rate <= 10)) throw new UsageError(`--rate ${parsed.values.rate}: give a number above 0, at most 10`);
  return { ...parsed.values, rate, names: parsed.positionals.length ? parsed.positionals : chosen };
}

function print(result) {
  console.log(`${result.pass ? 'PASS' : 'FAIL'} ${result.scenario} (${result.seconds} s): ${result.guards}`);
  const words = result.checks.map(({ what, value, unit, ok }) => `${ok ? '' : 'FAIL '}${what} ${value}${unit ? ` ${unit}` : ''}`);
  const failed = words.filter(word => word.startsWith('FAIL'));
  for (const word of failed) console.log(`  ${word}`);
  console.log(`  ${words.filter(word => !word.startsWith('FAIL')).join('; ')}`);
  if (result.again) console.log(`  at first: ${result.again.join('; ')}`);
  console.log(`  ${JSON.stringify(result.figures)}`);
}

const open = ({ io, rate }, { stack, ...options } = {}) => {
  const rig = new Rig('attack', rate);
  return rig.open({ ...options, stack: { io, ...stack } }).catch(async error => {
    await rig.close();
    throw error;
  });
};

/** A scenario on a stack of its own. */
async function alone(name, scenario, options) {
  const start = Date.now();
  let rig, opened;
  try {
    opened = scenario.open();
    rig = await open(options, opened);
    return await rig.play(name, scenario, opened);
  } catch (error) {
    // Here a stack that does not start is the finding.
    const checks = [{ what: 'the stack runs', value: error.message.split('\n')[0], ok: false }];
    return { scenario: name, guards: scenario.guards, pass: false, checks, figures: {}, seconds: Math.round((Date.now() - start) / 1000) };
  } finally {
    await rig?.close();
    scenario.closed?.(opened);
  }
}

async function main() {
  const { names, list, json, io, rate, help } = arguments_();
  if (help) { process.stdout.write(usage); return 0; }
  if (list) {
    for (const name of names) console.log(`${name.padEnd(24)} ${scenarios[name].guards}`);
    return 0;
  }
  await prepare({ load: true });
  let rig, failed = 0, skipped = 0;
  for (const name of names) {
    const scenario = scenarios[name];
    const cannot = scenario.skip?.();
    if (cannot) {
      skipped++;
      console.error(`SKIP ${name}: ${cannot}`);
      continue;
    }
    let result;
    if (scenario.open) {
      await rig?.close();
      rig = undefined;
      result = await alone(name, scenario, { io, rate });
    } else {
      rig ??= await open({ io, rate });
      result = await rig.play(name, scenario);
    }
    if (json) console.log(JSON.stringify(result));
    else print(result);
    if (!result.pass) {
      failed++;
      // What one attack broke must not be blamed on the next.
      await rig?.close();
      rig = undefined;
    }
  }
  await rig?.close();
  if (!json && rate !== 1) console.log(`packet rates were ${rate} of the whole`);
  if (!json) console.log(`attacks: ${names.length - failed - skipped} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  return failed ? 1 : 0;
}

endOnSignals();
let code;
try {
  code = await main();
} catch (error) {
  console.error(`tools/attack: ${error.message}${error instanceof UsageError ? `\n\n${usage}` : `\n${error.stack}`}`);
  code = 2;
}
await Promise.all([...Background.all].map(child => child.stop(1000)));
process.exit(code);
