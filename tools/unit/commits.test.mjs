// Subjects of commits are short enough for one line of a log (CONTRIBUTING.md).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { root } from './repository.mjs';

/** The rule is older, but was not tested before this day. */
const since = '2026-11-30T00:00:00Z';

const tooLong = subjects => subjects.filter(subject => subject.length >= 72);

test('72 characters are too many', () => {
  assert.deepEqual(tooLong(['x'.repeat(71), 'y'.repeat(72)]), ['y'.repeat(72)]);
});

test('subjects of commits are under 72 characters', () => {
  const log = execFileSync('git', ['log', '--no-merges', '--format=%s', `--since=${since}`], { cwd: root, encoding: 'utf8' });
  assert.deepEqual(tooLong(log.split('\n')), []);
});
