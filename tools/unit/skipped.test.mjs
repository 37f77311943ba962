import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../lib/skipped-tests', import.meta.url));

/** What is found in the output of cargo. */
function found(output) {
  const folder = mkdtempSync(join(tmpdir(), 'skipped-'));
  try {
    writeFileSync(join(folder, 'log'), output);
    return execFileSync(program, [join(folder, 'log')], { encoding: 'utf8' }).trim().split('\n').filter(Boolean);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const output = `     Running tests/io.rs (target/debug/deps/io-1)

running 3 tests
test rings ... ok
test both ... ok
test all ... ok

successes:

---- rings stdout ----
skipped: no io_uring here
skipped: no io_uring here

---- both stdout ----
skipped in part: no io_uring here

successes:
    all
    both
    rings

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/conformance.rs (target/debug/deps/conformance-1)
skipped: no recordings
   Doc-tests ringbridge_dataplane
`;

test('a test that returned early is found once, with its reason, and so is a program without a harness', () => {
  assert.deepEqual(found(output), ['io::rings: no io_uring here', 'program conformance: no recordings']);
});

test('a run in which nothing was skipped has none', () => {
  assert.deepEqual(found(output.replaceAll(/^skipped: .*\n/gm, '')), []);
});
