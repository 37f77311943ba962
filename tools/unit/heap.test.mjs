import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leastHeap, readHeap } from '../lib/heap.mjs';

test('the least heap in use of a time, and before the first change in it', () => {
  const readings = readHeap('#\nsnapshot=0\ntime=0.5\nmem_heap_B=100\nmem_heap_extra_B=0\ntime=2\nmem_heap_B=70\ntime=3\nmem_heap_B=900\n');
  assert.deepEqual(readings, [[0.5, 100], [2, 70], [3, 900]]);
  assert.equal(leastHeap(readings, 1, 1.5), 100);
  assert.equal(leastHeap(readings, 1, 2.5), 70);
  assert.equal(leastHeap(readings, 3.5, 4), 900);
});
