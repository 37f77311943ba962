// tools/joins: rooms of several sizes fill within seconds, against a real Prosody, and what a join costs is compared.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { endOnSignals, sleep } from '../lib/process.mjs';
import { lastJson } from '../lib/scripted.mjs';
import { loadBinary } from '../lib/ringbridge.mjs';
import { prepare, Stack } from '../lib/stack.mjs';
import { growth } from './growth.mjs';

const usage = `Usage: tools/joins [--participants 50,100,200] [--over S] [--ssrc-rewriting] [--out FILE]

Starts Prosody, a focus and a bridge on loopback. Scripted participants without media join one room, evenly over S seconds
(20), each accepts its offer and acknowledges what is signalled to it; then the next size. Prints one JSON object: for each size the
stanzas, the time until everybody knew everybody, and the processor time of each process per join; and how stanzas and time
per join grew with the number of participants. A source-add to everybody who is there is what the protocol needs: stanzas
per join that grow as the participants do are growth 1, and more is too much.

  --ssrc-rewriting  the participants expect the bridge to announce sources: then a join costs the same in any room
  --delays TEXT     the focus's source-signaling-delays, e.g. 50=500,100=1000
  --out FILE        write the JSON there too

Against a site of your own: ringbridge-load joins --help. Exit code: 0, 1 if somebody did not learn of everybody or the focus's
cost grew faster than that, 2 for wrong usage.
`;

let values;
try {
  ({ values } = parseArgs({ options: {
    participants: { type: 'string', default: '50,100,200' }, over: { type: 'string', default: '20' }, 'ssrc-rewriting': { type: 'boolean', default: false },
    delays: { type: 'string' }, out: { type: 'string' }, help: { type: 'boolean', short: 'h' },
  } }));
} catch (error) {
  process.stderr.write(`${error.message}\n\n${usage}`);
  process.exit(2);
}
if (values.help) { process.stdout.write(usage); process.exit(0); }
const sizes = values.participants.split(',').map(Number);
if (!sizes.every(size => Number.isInteger(size) && size >= 2)) {
  process.stderr.write(`--participants ${values.participants}: give whole numbers from 2\n`);
  process.exit(2);
}

const { clientFolder } = await prepare({ load: true });
const environment = values.delays ? { RINGBRIDGE_SOURCE_SIGNALING_DELAYS: values.delays } : {};
const stack = new Stack({ clientFolder, folder: 'joins', split: true, environment });
endOnSignals(() => stack.stop());
const rooms = [];
try {
  await stack.start();
  for (const size of sizes) {
    const [bridge] = stack.bridges;
    const watched = { focus: stack.focus.process.pid, bridge: bridge.process.pid, prosody: stack.prosody.process.pid };
    console.error(`${size} participants join over ${values.over} s`);
    const ended = spawnSync(loadBinary(), ['joins', '--room', `large${size}`, '--xmpp-port', String(stack.prosody.clientPort),
      '--participants', String(size), '--over', values.over, ...values['ssrc-rewriting'] ? ['--ssrc-rewriting'] : [],
      '--focus-rest', `127.0.0.1:${stack.focus.options.focusRestPort}`,
      ...Object.entries(watched).flatMap(([name, pid]) => ['--watch', `${name}=${pid}`])], { encoding: 'utf8', maxBuffer: 1 << 26 });
    if (ended.stderr) console.error(ended.stderr.split('\n').slice(0, 5).join('\n'));
    const report = lastJson(ended.stdout);
    if (!report) throw new Error(`ringbridge-load joins failed: ${ended.stderr}`);
    rooms.push({ ...report, load: loadavg()[0] });
    console.error(JSON.stringify(rooms.at(-1)));
    await sleep(3000);
  }
} finally {
  await stack.stop();
}
const result = { cores: cpus().length, processor: cpus()[0]?.model, delays: values.delays ?? 'none', rooms, growth: growth(rooms) };
const text = JSON.stringify(result, null, 2);
console.log(text);
if (values.out) writeFileSync(values.out, `${text}\n`);
const whole = rooms.every(room => room.complete === room.participants && room.errors.length === 0);
process.exit(whole && result.growth.every(step => step.fair) ? 0 : 1);
