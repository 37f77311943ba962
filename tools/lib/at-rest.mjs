// A stack at rest: no process of it holds anything of any conference.
import { until } from './process.mjs';

/** What the bridges and the focus still hold of any conference, as lines. */
async function leftOver(stack) {
  const left = [];
  for (const bridge of stack.bridges) {
    const text = await (await fetch(bridge.bridgeUrl('/metrics'))).text();
    left.push(...text.split('\n').filter(line => /^ringbridge_(control_)?held\b/.test(line) && !line.endsWith(' 0')).map(line => `${bridge.name} ${line}`));
  }
  const focus = await (await fetch(stack.focus.focusUrl('/colibri/stats'))).json();
  for (const [name, value] of Object.entries(focus)) if (/conferences|participants/.test(name) && !/total/.test(name) && value) left.push(`focus ${name} ${value}`);
  return left;
}

/** Waits until nothing of any conference is held; an error says what is. */
export async function untilAtRest(stack) {
  let left = [];
  await until('nothing is held', 90000, async () => {
    left = await leftOver(stack);
    return left.length === 0;
  }, 500).catch(error => { throw new Error(`${error.message}: ${left}`); });
}
