// What the documents name is there: files, links, metrics, tools, and the log lines that troubleshooting starts from.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { read, root, tracked } from './repository.mjs';

const folders = new Set(tracked.flatMap(path => path.split('/').slice(0, -1).map((_, index, parts) => parts.slice(0, index + 1).join('/'))));
// Records of the past name what was there then.
const documents = tracked.filter(path => path.endsWith('.md') && path !== 'CHANGELOG.md' && !path.startsWith('docs/bench/') && path !== 'docs/decisions.md' && !path.startsWith('docs/probes/'));
const sources = tracked.filter(path => path.endsWith('.rs')).map(read).join('\n');
const withoutBlocks = text => text.replace(/^```[\s\S]*?^```/gm, '');

test('links lead to files', () => {
  for (const path of tracked.filter(one => one.endsWith('.md'))) {
    for (const [, target] of withoutBlocks(read(path)).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const file = normalize(join(dirname(path), target)).replace(/\/$/, '');
      assert.ok(tracked.includes(file) || folders.has(file), `${path} links to ${target}, which is not there`);
    }
  }
});

test('files that are named exist', () => {
  let found = 0;
  for (const path of documents) {
    for (const [, name] of withoutBlocks(read(path)).matchAll(/`([\w.*-]+(?:\/[\w.*-]+)+\.(?:rs|mjs|js|json|toml|yml|md|sh))`/g)) {
      // Of other programs, and what tools write.
      if (/^(target|node_modules)\/|^(etc|usr|config)\/|NAME/.test(name)) continue;
      const pattern = new RegExp(`(^|/)${name.replace(/[.]/g, '\\.').replace(/\*/g, '[^/]*')}$`);
      assert.ok(tracked.some(one => pattern.test(one)), `${path} names ${name}, which is not there`);
      found += 1;
    }
  }
  assert.ok(found > 30, `only ${found} files are named`);
});

test('tools that are named exist', () => {
  for (const path of documents) {
    for (const [, name] of read(path).matchAll(/\btools\/([a-z][\w.-]*)/g)) {
      const plain = name.replace(/\.$/, '');
      assert.ok(existsSync(join(root, 'tools', plain)), `${path} names tools/${plain}, which is not there`);
    }
  }
});

test('metrics that are named exist', () => {
  let found = 0;
  for (const path of [...documents, 'packaging/alerts.yml', 'packaging/grafana-dashboard.json']) {
    for (const [whole, prefix, name] of read(path).matchAll(/\b(ringbridge|jitsi_jvb)_([a-z0-9_]+[a-z0-9])\b(?![\w{]*::)/g)) {
      // Crates and libraries of ours are named alike.
      if (prefix === 'ringbridge' && /^(bench|load|step|dataplane|controlplane|fuzz)(_peers)?$/.test(name)) continue;
      const plain = name.replace(/_total$/, '');
      // Names of several kinds are put together from parts.
      const parts = [plain, plain.replace(/^focus_/, ''), plain.replace(/^ice_restarts_?/, ''), plain.replace(/^(endpoints|control|channel|http|rest|xmpp)_/, '')];
      assert.ok(parts.some(part => new RegExp(`["_{}]${part}["_{}(]`).test(sources)), `${path} names the metric ${whole}, which is not there`);
      found += 1;
    }
  }
  assert.ok(found > 50, `only ${found} metrics are named`);
});

test('constants and types that docs/security.md names exist', () => {
  const names = [...new Set([...read('docs/security.md').matchAll(/`((?:[A-Z]\w+::)?[A-Z][A-Za-z0-9_]{3,})`/g)].map(match => match[1].replace(/^.*::/, '')))]
    .filter(name => /^[A-Z][A-Z0-9]*_[A-Z0-9_]+$/.test(name) || /^[A-Z][a-z]+[A-Z]/.test(name))
    // Names of protocols and other programs.
    .filter(name => !['EndpointMessage', 'EndpointStats', 'SourceInfo', 'LimitCORE', 'ProcSubset'].includes(name));
  for (const name of names) assert.ok(new RegExp(`\\b${name}\\b`).test(sources), `docs/security.md names ${name}, which is not there`);
  assert.ok(names.length > 50, `only ${names.length} are named`);
});

test('troubleshooting starts from log lines that are logged', () => {
  const text = read('docs/troubleshooting.md');
  const flat = sources.replace(/\\\n\s*/g, '').replace(/\s+/g, ' ');
  let found = 0;
  for (const [, quoted] of text.matchAll(/(?:log|health): ((?:`[^`]+`(?:, )?)+)/g)) {
    for (const [, line] of quoted.matchAll(/`([^`]+)`/g)) {
      // Dots stand for what differs from case to case, and so do capitals.
      for (const part of line.split(/…|\b[A-Z]{2,}\b/).map(one => one.trim().replace(/^[:,.]+|[:,.]+$/g, '').trim()).filter(one => one.split(' ').length > 1)) {
        assert.ok(flat.includes(part), `docs/troubleshooting.md quotes '${part}', which no source says`);
        found += 1;
      }
    }
  }
  assert.ok(found > 8, `only ${found} lines are quoted`);
});

test('decisions are dated entries', () => {
  const [, ...entries] = read('docs/decisions.md').split(/^### /m);
  assert.ok(entries.length > 90, `only ${entries.length} decisions`);
  for (const entry of entries) {
    assert.match(entry, /^[^\n]+\n\n\d{4}-\d\d-\d\d · /, entry.split('\n')[0]);
    assert.match(entry, /^- (Context|Decision): /m, entry.split('\n')[0]);
    assert.doesNotMatch(entry, /^\| /m, `${entry.split('\n')[0]}: a row of a table, not an entry`);
  }
});
