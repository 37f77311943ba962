import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leakIn, leastHeap, mostGrowth, readHeap } from '../lib/heap.mjs';

test('the least heap in use of a time, and before the first change in it', () => {
  const readings = readHeap('#\nsnapshot=0\ntime=0.5\nmem_heap_B=100\nmem_heap_extra_B=0\ntime=2\nmem_heap_B=70\ntime=3\nmem_heap_B=900\n');
  assert.deepEqual(readings, [[0.5, 100], [2, 70], [3, 900]]);
  assert.equal(leastHeap(readings, 1, 1.5), 100);
  assert.equal(leastHeap(readings, 1, 2.5), 70);
  assert.equal(leastHeap(readings, 3.5, 4), 900);
});

test('a leak is what the last round leaves above all that came before', () => {
  const rest = (heap, more = {}) => ({ heap, files: 20, threads: 5, ...more });
  const judge = (...rests) => leakIn(rests, { settled: 2, most: 3e6, took: 1e6 }) ?? '';
  assert.equal(judge(rest(1e6), rest(1.2e6), rest(1.2e6 + mostGrowth)), '', 'caches fill at first');
  // 36 endpoints, each of which leaves 3,000 bytes.
  assert.match(judge(rest(1e6), rest(1.2e6), rest(1.2e6 + 36 * 3000)), /105 kB more are in use/);
  assert.match(judge(rest(1e6), rest(1e6), rest(1e6, { files: 21 })), /more is open/);
  assert.match(judge(rest(1e6), rest(1e6), rest(1e6, { threads: 6 })), /more is open/);
  assert.equal(judge(rest(1e6), rest(1e6), rest(1e6, { files: 19 })), '');
  assert.match(judge(rest(1e6), rest(1e6), rest(4e5)), /only 400000 bytes/);
  assert.match(leakIn([rest(1e6), rest(1e6), rest(1e6)], { settled: 2, most: 1.5e6, took: 1e6 }) ?? '', /took only 500000/);
});
