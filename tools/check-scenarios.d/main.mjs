// tools/check-scenarios: calls in which something happens, each with its own fresh stack.
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Browser } from '../lib/browsers.mjs';
import { installDebian, missingDebian } from '../lib/install.mjs';
import { Namespace } from '../lib/namespace.mjs';
import { demoFolder } from '../lib/paths.mjs';
import { Background, endOnSignals } from '../lib/process.mjs';
import { prepare, Stack } from '../lib/stack.mjs';
import { Call, seconds } from './call.mjs';
import { scenarios } from './scenarios/index.mjs';

let parsed;
try {
  parsed = parseArgs({ allowPositionals: true, options: { client: { type: 'string' }, help: { type: 'boolean', short: 'h' } } });
} catch (error) {
  console.error(`${error.message}; see tools/check-scenarios --help`);
  process.exit(2);
}
const currentClientFolder = parsed.values.client && resolve(parsed.values.client);
if (currentClientFolder && !existsSync(join(currentClientFolder, 'lib-jitsi-meet.min.js'))) {
  console.error(`--client ${parsed.values.client}: there is no lib-jitsi-meet.min.js in it`);
  process.exit(2);
}
const names = parsed.positionals;
if (parsed.values.help) {
  console.log('Usage: tools/check-scenarios [--client FOLDER] [NAME...]\n\nRuns the named scenarios, or all; --client as for tools/demo:');
  for (const [name, { about }] of Object.entries(scenarios)) console.log(`  ${name.padEnd(15)} ${about}`);
  console.log('\nA scenario that fails leaves what its pages said in target/demo/scenario-NAME; PAGE_LOG=debug makes them say more.'
    + '\n\nExit code: 0 if all that ran passed, 1 if one failed, 2 for wrong usage, 77 if all were skipped.');
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

/** What a scenario needs that is not there; root can install the packages. */
function lacking(name) {
  const { current, namespace, root, install = [] } = scenarios[name];
  const isRoot = process.getuid() === 0;
  return [...current && !currentClientFolder ? ['--client'] : [], ...(namespace || root) && !isRoot ? ['root'] : [], ...isRoot ? [] : missingDebian(...install)];
}

let failed = 0;
let passed = 0;
let onlySkipped = false;
endOnSignals();
try {
  const wanted = names.length ? names : Object.keys(scenarios);
  const skipped = wanted.filter(name => lacking(name).length);
  const chosen = wanted.filter(name => !skipped.includes(name));
  const scripted = name => scenarios[name].scripted;
  const { clientFolder } = chosen.length === 0 ? {} : await prepare({ browser: !chosen.every(scripted), load: chosen.some(name => scripted(name) || scenarios[name].load) });
  for (const name of chosen) {
    if (await runOne(name, clientFolder)) passed++;
    else failed++;
  }
  console.log(`scenarios: ${passed} passed, ${failed} failed${skipped.length ? `, ${skipped.length} skipped` : ''}`);
  for (const name of skipped) console.log(`SKIP ${name}: needs ${lacking(name).join(' and ')}`);
  onlySkipped = !passed && !failed;
} catch (error) {
  console.error(`tools/check-scenarios: ${error.message}`);
  failed++;
}
await Promise.all([...Background.all].map(child => child.stop(1000)));
// Another exit code than that of a pass: tools/test counts it as skipped, with the last line as the reason.
process.exit(failed ? 1 : onlySkipped ? 77 : 0);
