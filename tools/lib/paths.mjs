// Where things lie.
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const toolsFolder = resolve(dirname(fileURLToPath(import.meta.url)), '..');
export const repository = dirname(toolsFolder);
/** Cargo's output folder. */
export const targetFolder = resolve(process.env.CARGO_TARGET_DIR ?? join(repository, 'target'));
/** Everything that the demo writes, but what Cargo builds. */
export const demoFolder = join(repository, 'target', 'demo');
