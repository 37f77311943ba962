// How tools/joins judges growth.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { growth } from '../joins.d/growth.mjs';

const room = (participants, sent, focus) => ({ participants, focus: { sent_per_join: sent }, cpu_ms_per_join: { focus } });

test('what grows as the room does is fair', () => {
  const [step] = growth([room(50, 50, 1), room(100, 100, 2)]);
  assert.deepEqual([step.focus_stanzas, step.focus_cpu, step.fair], [1, 1, true]);
  assert.equal(growth([room(50, 8, 1), room(100, 8, 1)])[0].focus_stanzas, 0);
});

test('what grows as its square is not, in stanzas or in time', () => {
  assert.equal(growth([room(50, 50, 1), room(100, 200, 1)])[0].fair, false);
  assert.equal(growth([room(50, 50, 1), room(100, 100, 4)])[0].fair, false);
  const steps = growth([room(50, 50, 1), room(100, 100, 2), room(200, 300, 4)]);
  assert.deepEqual(steps.map(step => step.fair), [true, false]);
});

test('times too small to be measured do not count', () => {
  assert.equal(growth([room(50, 5, 0.01), room(100, 5, 0.15)])[0].fair, true);
});
