// What comments and documents cite of docs/protocol is there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { read, tracked } from './repository.mjs';

// All but the examples here.
const citing = tracked.filter(path => /\.(rs|mjs|js|md)$|^tools\//.test(path) && path !== 'tools/unit/citations.test.mjs');

/** The numbers of a document's numbered sections. */
function sections(document) {
  return new Set([...read(document).matchAll(/^#{2,3} (\d+(?:\.\d+)?)\.? /gm)].map((match) => match[1]));
}

/** The sections that a text cites, as `docs/protocol/bridge.md 2.1, 2.2` or `docs/protocol/focus.md 5.4 to 5.7`: [file, number]. */
function citations(text) {
  // A citation may go on in the next line of a comment.
  const joined = text.replace(/\n\s*(?:\/\/[/!]?|\*|#)\s*/g, ' ');
  const list = /(docs\/protocol\/\w+\.md)((?:(?: |, | and | to )\d+(?:\.\d+)?)+)/g;
  return [...joined.matchAll(list)].flatMap(([, file, numbers]) => numbers.match(/\d+(?:\.\d+)?/g).map((number) => [file, number]));
}

test('a citation is read with all its numbers', () => {
  assert.deepEqual(citations('/// (docs/protocol/focus.md 5, 7.6\n    /// and 11).'),
    [['docs/protocol/focus.md', '5'], ['docs/protocol/focus.md', '7.6'], ['docs/protocol/focus.md', '11']]);
});

test('every section that is cited exists', () => {
  const known = new Map();
  let found = 0;
  for (const path of citing) {
    for (const [file, number] of citations(read(path))) {
      if (!known.has(file)) known.set(file, sections(file));
      assert.ok(known.get(file).has(number), `${path} cites ${file} ${number}, which has no such section`);
      found += 1;
    }
  }
  assert.ok(found > 60, `${found} citations found: are they written in another way?`);
});

test('every citation says its section, and no document outside the repository is cited', () => {
  for (const path of citing.filter(one => one.endsWith('.rs'))) {
    const text = read(path);
    assert.doesNotMatch(text, /(?:bridge|focus|relay)-protocol/, path);
    for (const [whole] of text.matchAll(/docs\/protocol\/\w+\.md(?!\s*(?:\/\/[/!]?)?\s*\d)/g)) assert.fail(`${path} cites ${whole} without a section`);
  }
});

test('sections that the protocol documents refer to exist', () => {
  for (const [file, other] of [['bridge.md', 'focus.md'], ['focus.md', 'bridge.md']]) {
    const text = read(`docs/protocol/${file}`);
    const own = sections(`docs/protocol/${file}`);
    const theirs = sections(`docs/protocol/${other}`);
    for (const [, elsewhere, number] of text.matchAll(/(?:\b(focus|bridge)\.md|\bsections?) (\d+(?:\.\d+)?)/g)) {
      assert.ok((elsewhere ? theirs : own).has(number), `docs/protocol/${file} refers to ${elsewhere ?? 'section'} ${number}`);
    }
  }
});
