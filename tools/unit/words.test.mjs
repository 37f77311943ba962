// One word, one meaning: words that only this project would use for something are not in comments, messages and documents.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { read, tracked } from './repository.mjs';

/** What is not written, what is written instead, and the ending of the files where that holds. @type {[RegExp, string, string?][]} */
const private_ = [
  [/\b(told|tells?|telling)\b/i, 'signal, announce, report, send, ask, distinguish: what happens'],
  [/\berrands?\b/i, 'task, request'],
  [/\bwish(es)?\b/i, 'constraints, demand, target, request'],
  [/\bsurroundings\b/i, 'context, environment'],
  [/\bnotes (that|it|an?|the|what|which|whether|when|how|one|anew)\b/i, 'records, counts'],
  [/\bthe reference\b/i, 'Jitsi Videobridge, Jicofo', '.rs'],
];

/** The comments and texts of a line of Rust or JavaScript; of a document, the line. */
function prose(path, line) {
  if (path.endsWith('.md')) return line.replace(/`[^`]*`/g, '');
  const comment = /(?:^|\s)\/\/[/!]?(?:\s(.*))?$|^\s*\/?\*+(?:\s(.*))?$/.exec(line);
  const texts = [...line.matchAll(/"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`([^`]*)`/g)].map(([, a, b, c]) => (a ?? b ?? c).replace(/\{[^{}]*\}/g, ''));
  // A word alone is a name.
  return [comment?.[1] ?? comment?.[2] ?? '', ...texts.filter(text => text.includes(' '))].join('\n');
}

const found = (path, line) => private_.filter(([word, , ending = '']) => path.endsWith(ending) && word.test(prose(path, line))).map(([, instead]) => instead);

test('words are found in comments, messages and documents, and not in code', () => {
  for (const line of ['/// Tells the client.', '    // the client is told', 'panic!("the client was told");', "fail('nobody was told of it')", ' * What it tells.'])
    assert.equal(found('a.rs', line).length, 1, line);
  for (const line of ['let told = client.told();', 'fn tell(&mut self) {', '"told" => 1,', 'tell(&json!({})); // see https://a.example/tell.html#b'.replace('tell.html', 'a.html')])
    assert.deepEqual(found('a.rs', line), [], line);
  assert.equal(found('a.md', 'The client is told.').length, 1);
});

test('nobody needs this project\'s own words to read it', () => {
  // Records of the past are as they were.
  const scanned = tracked.filter(path => /\.(rs|mjs|js|md)$/.test(path) && !/^docs\/(bench|probes)\/|^tools\/unit\/words\.test\.mjs$/.test(path));
  const lines = scanned.flatMap(path => read(path).split('\n').flatMap((line, index) =>
    found(path, line).map(instead => `${path}:${index + 1}: ${line.trim()}\n    write instead: ${instead}`)));
  assert.deepEqual(lines, []);
});
