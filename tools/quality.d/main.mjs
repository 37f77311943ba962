// tools/quality: runs scenarios and says whether their limits are kept.
import { parseArgs } from 'node:util';
import { Background, endOnSignals } from '../lib/process.mjs';
import { prepare } from '../lib/stack.mjs';
import { Rig } from './rig.mjs';
import { scenarios } from './scenarios/index.mjs';

const usage = `Usage: tools/quality --scenario NAME [--codec vp8|vp9|av1|h264] [--json]

Real Chromium participants send and receive over impaired links, and what they decode is measured.
docs/quality.md explains the results. All readings are under target/demo/quality-NAME.

  --scenario NAME  one of these, or all:
${Object.entries(scenarios).map(([name, { about }]) => `                     ${name.padEnd(11)} ${about}`).join('\n')}
  --codec NAME     run layers with this codec only
  --json           one JSON object per scenario

Exit code: 0 if all limits were kept, 1 if one was not, 2 for wrong usage or a stack that does not start, 3 if every failure is
invalid (the sender or the machine was too slow, so the result says nothing about the bridge).
`;

class UsageError extends Error {}

function options() {
  let values;
  try {
    ({ values } = parseArgs({ options: {
      scenario: { type: 'string' }, codec: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' },
    } }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (values.help) return values;
  const names = values.scenario === 'all' ? Object.keys(scenarios) : [values.scenario];
  if (!scenarios[names[0]]) throw new UsageError(`--scenario ${values.scenario ?? ''}: choose one of ${Object.keys(scenarios).join(', ')}, all`);
  if (values.codec && !['vp8', 'vp9', 'av1', 'h264'].includes(values.codec)) throw new UsageError(`--codec ${values.codec}: choose one of vp8, vp9, av1, h264`);
  return { ...values, names };
}

/** Runs one scenario; the object that is printed. */
async function runOne(name, { clientFolder, codec, say }) {
  const { relays, run } = scenarios[name];
  const start = Date.now();
  const rig = await Rig.open(name, { clientFolder, relays, say });
  try {
    const { figures, checks, excuse, invalid } = await run(rig, { codec });
    const pass = checks.length > 0 && checks.every(check => check.ok);
    const errors = rig.stack.errors();
    return {
      scenario: name,
      pass,
      ...(!pass && (invalid ?? excuse) && { invalid: invalid ?? excuse }),
      figures,
      checks,
      ...(errors.length && { error_log_lines: errors.slice(0, 5) }),
      seconds: Math.round((Date.now() - start) / 1000),
    };
  } finally {
    await rig.read().catch(() => {});
    await rig.save();
    await rig.close();
  }
}

function print(result) {
  const word = result.pass ? 'PASS' : result.invalid ? 'INVALID' : 'FAIL';
  console.log(`${word} ${result.scenario} (${result.seconds} s)${result.invalid ? `: ${result.invalid}` : ''}`);
  for (const { what, value, limit, unit, ok } of result.checks ?? []) {
    console.log(`  ${ok ? 'ok  ' : 'FAIL'}  ${what}: ${value ?? 'not measured'}${unit ? ` ${unit}` : ''}${limit ? `, ${limit}` : ''}`);
  }
  console.log(`  ${JSON.stringify(result.figures)}`);
  for (const line of result.error_log_lines ?? []) console.log(`  log: ${line}`);
}

endOnSignals();
let code = 0;
try {
  const { names, codec, json, help } = options();
  if (help) {
    process.stdout.write(usage);
    process.exit(0);
  }
  const { clientFolder } = await prepare({ browser: true, load: true });
  const results = [];
  for (const name of names) {
    const result = await runOne(name, { clientFolder, codec, say: console.error });
    results.push(result);
    if (json) console.log(JSON.stringify(result));
    else print(result);
  }
  const failed = results.filter(one => !one.pass);
  if (failed.length) code = failed.every(one => one.invalid) ? 3 : 1;
} catch (error) {
  console.error(`tools/quality: ${error.message}${error instanceof UsageError ? `\n\n${usage}` : ''}`);
  code = 2;
}
await Promise.all([...Background.all].map(child => child.stop(1000)));
process.exit(code);
