// The files of the repository, for tests that read them as text.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** Text of a file, by its path below the root. */
export const read = path => readFileSync(join(root, path), 'utf8');

/** Paths of all files that are there and not ignored. */
export const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n').filter(path => path && existsSync(join(root, path)));
