// Installs what the tools need and is missing: Debian packages, npm packages, the client library.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './process.mjs';
import { repository, toolsFolder } from './paths.mjs';

const client = {
  name: '@lyno/lib-jitsi-meet',
  version: '2.6726.2',
  integrity: 'sha512-cTrKBgy4ZHD6vyFTOAOx5ylyzjWs3ft6MLhmchu9zRq7uLr8omD4lE2fmSfoyoSqMjFc/3sU9XLYXiJ21hqQuw==',
};

/** Debian packages by the program that shows that they are there. */
const programs = {
  prosody: '/usr/bin/prosody', chromium: '/usr/bin/chromium', faketime: '/usr/bin/faketime', nftables: '/usr/sbin/nft', heaptrack: '/usr/bin/heaptrack', tcpdump: '/usr/bin/tcpdump',
  'firefox-esr': process.env.FIREFOX ?? '/usr/bin/firefox-esr',
};

/** Those of the named Debian packages that are missing. */
export const missingDebian = (...packages) => packages.filter(name => !existsSync(programs[name]));

/** Installs the named Debian packages that are missing. */
export async function installDebian(...packages) {
  const missing = missingDebian(...packages);
  if (!missing.length) return;
  console.error(`installing Debian packages: ${missing.join(' ')}`);
  if (process.getuid?.() !== 0) {
    throw new Error(`${missing.join(' and ')} missing and this is not root: run 'sudo apt-get install ${missing.join(' ')}' first`);
  }
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await run('apt-get', ['update', '-q'], { env: environment });
  await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], { env: environment });
}

/** The library of the package faketime that sets a process's clock. */
export function fakeClock() {
  const libraries = readdirSync('/usr/lib').map(name => join('/usr/lib', name, 'faketime/libfaketimeMT.so.1'));
  const library = libraries.find(path => existsSync(path));
  if (!library) throw new Error('libfaketimeMT.so.1 is not under /usr/lib: apt-get install faketime');
  return library;
}

const clientFolder = join(repository, 'target/demo/client');
const clientBundle = join(clientFolder, 'lib-jitsi-meet.min.js');

/** Whether `installClient` has been here. */
export const clientInstalled = () => existsSync(clientBundle);

/**
 * Puts the browser build of the client library under target/demo and returns its folder.
 * The package's own dependencies name git hosts and are not needed by that build, so it is unpacked, not installed.
 */
export async function installClient() {
  const folder = clientFolder;
  if (clientInstalled()) return folder;
  const work = join(repository, 'target/demo/client.new');
  rmSync(work, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  console.error(`fetching ${client.name} ${client.version}`);
  await run('npm', ['pack', `${client.name}@${client.version}`, '--silent', '--pack-destination', work], { cwd: work });
  const archive = readdirSync(work).find(name => name.endsWith('.tgz'));
  if (!archive) throw new Error(`npm pack ${client.name}@${client.version} wrote no archive`);
  const digest = 'sha512-' + createHash('sha512').update(readFileSync(join(work, archive))).digest('base64');
  if (digest !== client.integrity) {
    throw new Error(`${client.name} ${client.version}: digest ${digest} instead of ${client.integrity}; not used`);
  }
  await run('tar', ['xzf', archive, '--strip-components=1'], { cwd: work });
  renameSync(work, folder);
  return folder;
}

/** Whether the packages of tools/package-lock.json lie in tools/node_modules; tools/lib/launch installs them. */
export function requireNodeModules() {
  for (const name of ['playwright-core', 'jquery']) {
    if (!existsSync(join(toolsFolder, 'node_modules', name))) {
      throw new Error(`${name} is not installed: run 'npm ci' in ${toolsFolder}`);
    }
  }
}
