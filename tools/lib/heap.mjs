// What a process has allocated, over time: heaptrack records every allocation. Resident memory does not show that: the
// allocator keeps pages in which a little is in use.
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';

const library = '/usr/lib/heaptrack';

/** Variables that make a process record its allocations in the file `raw`. */
export const heapEnvironment = raw => ({ LD_PRELOAD: `${library}/libheaptrack_preload.so`, DUMP_HEAPTRACK_OUTPUT: raw });

/** Reads, and removes, what an ended process recorded: bytes in use as [seconds since its start, bytes], in order. */
export async function heapOverTime(raw) {
  const [interpreted, massif] = [`${raw}.interpreted`, `${raw}.massif`];
  const [input, output] = [openSync(raw, 'r'), openSync(interpreted, 'w')];
  await new Promise((resolve, reject) => spawn(`${library}/libexec/heaptrack_interpret`, [], { stdio: [input, output, 'ignore'] })
    .on('error', reject).on('close', code => code === 0 ? resolve(undefined) : reject(new Error(`heaptrack_interpret: exit code ${code}`))));
  for (const file of [input, output]) closeSync(file);
  execFileSync('heaptrack_print', ['-p', '0', '-a', '0', '-T', '0', '-l', '0', '-f', interpreted, '-M', massif, '--massif-threshold', '100'], { stdio: 'ignore' });
  const readings = readHeap(readFileSync(massif, 'utf8'));
  for (const file of [raw, interpreted, massif]) rmSync(file);
  if (!readings.length) throw new Error(`heaptrack recorded nothing in ${raw}`);
  return readings;
}

/** The times and sizes in a text of massif's form. */
export function readHeap(text) {
  const readings = [];
  let seconds;
  for (const line of text.split('\n')) {
    const [name, value] = line.split('=');
    if (name === 'time') seconds = Number(value);
    else if (name === 'mem_heap_B') readings.push([seconds, Number(value)]);
  }
  return readings;
}

/** The least that was in use from `from` to `to` seconds after the start; what was in use before counts until it changed. */
export function leastHeap(readings, from, to) {
  const before = readings.findLast(([seconds]) => seconds < from);
  const within = readings.filter(([seconds]) => seconds >= from && seconds <= to);
  return Math.min(...[before, ...within].filter(Boolean).map(([, bytes]) => bytes));
}

/** Bytes by which memory in use may differ between two rests: a page that is being read, queues that grew once. */
export const mostGrowth = 96 * 1024;

/**
 * What is wrong with how one process stood after each round: more memory, files or threads than after the first `settled` ones, which
 * fill caches and tables. A rest is { heap, files, threads }; `most` is the most that was ever in use, `took` what the rounds must have
 * taken at least. A heap that nobody recorded would stand still, too.
 * @param {{ heap: number, files: number, threads: number }[]} rests
 * @returns {string | undefined}
 */
export function leakIn(rests, { settled, most, took }) {
  const words = rests.map(one => `${(one.heap / 1024).toFixed(0)} kB, ${one.files} files, ${one.threads} threads`).join('; ');
  const [first, last] = [rests[settled - 1], rests[rests.length - 1]];
  if (last.files > first.files || last.threads > first.threads) return `more is open after the last round: ${words}`;
  const grown = last.heap - Math.max(...rests.slice(0, settled).map(one => one.heap));
  if (grown > mostGrowth) return `${(grown / 1024).toFixed(0)} kB more are in use after the last round: ${words}`;
  // The reading after the last round is not one of the end.
  if (last.heap <= first.heap / 2) return `only ${last.heap} bytes are in use after the last round: ${words}`;
  if (most <= first.heap + took) return `the rounds took only ${most - first.heap} bytes: ${words}`;
  return undefined;
}
