import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge, mostParticipants, plan, withoutCause } from '../soak.d/plan.mjs';

test('a seed is a plan', () => {
  assert.deepEqual(plan(7, 600), plan(7, 600));
  assert.notDeepEqual(plan(7, 600), plan(8, 600));
  assert.equal(plan(7, 600).length, 10);
});

test('everything happens, to groups that are there, and never to too many', () => {
  const seen = new Set();
  for (const seed of [1, 2, 3]) {
    for (const events of plan(seed, 600)) {
      const alive = new Map();
      let last = 0;
      for (const event of events) {
        seen.add(event.what);
        assert.ok(event.at >= last);
        last = event.at;
        if (event.what === 'restart-prosody') alive.clear();
        else if (event.what === 'join') alive.set(event.group, event.size);
        else if (event.what !== 'restart-bridge') {
          assert.ok(alive.has(event.group), JSON.stringify(event));
          if (['leave', 'crash'].includes(event.what)) alive.delete(event.group);
          else assert.ok(event.participant < alive.get(event.group));
        }
        assert.ok([...alive.values()].reduce((a, b) => a + b, 0) <= mostParticipants);
      }
    }
  }
  assert.deepEqual([...seen].sort(), ['crash', 'join', 'leave', 'move', 'mute', 'reconnect', 'restart-bridge', 'restart-prosody', 'unmute']);
});

const rest = (change = {}) => ({ processes: { focus: { heap: 1e6, rss: 2e7, files: 20, threads: 5, ...change } } });

test('what grows fails, each by itself', () => {
  const calm = [rest(), rest({ heap: 1.02e6 }), rest(), rest(), rest()];
  assert.ok(judge(calm).every(one => one.ok));
  for (const change of [{ heap: 1.2e6 }, { rss: 4e7 }, { files: 25 }, { threads: 6 }]) {
    assert.equal(judge([...calm, rest(change)]).filter(one => !one.ok).length, 1, JSON.stringify(change));
  }
  assert.ok(!judge([rest()]).every(one => one.ok), 'too few rests say nothing');
  assert.ok(!judge(calm, { errors: ['x'] }).every(one => one.ok));
});

test('errors after a fault have a cause', () => {
  const fault = Date.parse('2026-11-29T01:00:00Z');
  const lines = ['bridge1: 2026-11-29T01:00:05.123456Z ERROR gone', 'bridge1: 2026-11-29T01:00:35Z ERROR late', 'panicked at x'];
  assert.deepEqual(withoutCause(lines, [fault]), lines.slice(1));
});
