// A network namespace with two links to this host, "Wi-Fi" and "phone": programs in it reach the media port over the link that is up,
// and the loopback ports of this host always, as a client whose signalling has survived a change of network.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Background, until } from './process.mjs';

const ip = (...args) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const quiet = step => { try { step(); } catch { /* not there */ } };

const links = ['wifi', 'phone'];

export class Namespace {
  /** Needs root. `folder` is for sockets and logs. */
  constructor({ folder }) {
    this.folder = resolve(folder);
    // Several checks may run on one host at a time.
    this.number = process.pid % 200;
    this.name = `ringbridge-${process.pid}`;
    this.mediaAddress = `10.231.${this.number}.1`;
    this.servers = [];
    this.given = 1;
    this.gone = false;
  }

  device(link) { return `rb${this.number}${link}`; }
  /** Ends of a link: here, and from 2 on in the namespace. */
  address(link, end) { return `10.${232 + links.indexOf(link)}.${this.number}.${end}`; }

  create() {
    mkdirSync(this.folder, { recursive: true });
    // An interrupted check leaves nothing on the host.
    process.once('exit', () => this.#dismantle());
    ip('netns', 'add', this.name);
    ip('-n', this.name, 'link', 'set', 'lo', 'up');
    ip('address', 'add', `${this.mediaAddress}/32`, 'dev', 'lo');
    for (const link of links) {
      ip('link', 'add', this.device(link), 'type', 'veth', 'peer', 'name', link, 'netns', this.name);
      ip('address', 'add', `${this.address(link, 1)}/24`, 'dev', this.device(link));
      ip('link', 'set', this.device(link), 'up');
    }
    this.bringUp('wifi');
  }

  /** The link gets an address that nobody had before, and everything goes over it. */
  bringUp(link) {
    const inside = (...args) => ip('-n', this.name, ...args);
    inside('link', 'set', link, 'up');
    inside('address', 'add', `${this.address(link, ++this.given)}/24`, 'dev', link);
    inside('route', 'replace', 'default', 'via', this.address(link, 1));
  }

  /** The link loses its address: nothing comes over it any more. */
  takeDown(link) {
    ip('-n', this.name, 'address', 'flush', 'dev', link);
    ip('-n', this.name, 'link', 'set', link, 'down');
  }

  /** Makes ports of this host's loopback interface ports of the namespace's. */
  async forward(ports) {
    for (const port of ports) {
      const path = join(this.folder, `${port}.socket`);
      rmSync(path, { force: true });
      this.servers.push(await pipe({ path }, { port, host: '127.0.0.1' }));
    }
    const log = join(this.folder, 'forward.log');
    const program = [process.execPath, fileURLToPath(import.meta.url), this.folder, ...ports.map(String)];
    const forwarder = this.forwarder = new Background('forward', 'ip', ['netns', 'exec', this.name, ...program], { log });
    await until('ports are forwarded', 10000, () => {
      forwarder.check();
      return forwarder.tail().includes('ready');
    });
  }

  /** A program that runs Chromium in the namespace. */
  chromium() {
    const path = join(this.folder, 'chromium');
    writeFileSync(path, `#!/bin/sh\nexec ip netns exec ${this.name} "\${CHROMIUM:-/usr/bin/chromium}" "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  async remove() {
    await this.forwarder?.stop();
    for (const server of this.servers) server.close();
    this.#dismantle();
  }

  #dismantle() {
    if (this.gone) return;
    this.gone = true;
    for (const link of links) quiet(() => ip('link', 'delete', this.device(link)));
    quiet(() => ip('address', 'delete', `${this.mediaAddress}/32`, 'dev', 'lo'));
    quiet(() => ip('netns', 'delete', this.name));
  }
}

/** Connections to one end go on to the other. */
function pipe(from, to) {
  const server = createServer(incoming => {
    const outgoing = connect(to);
    for (const [one, other] of [[incoming, outgoing], [outgoing, incoming]]) {
      one.on('error', () => other.destroy());
      one.pipe(other);
    }
  });
  return new Promise((done, failed) => {
    server.once('error', failed);
    server.listen(from, () => done(server));
  });
}

// The part that runs in the namespace.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder, ...ports] = process.argv.slice(2);
  await Promise.all(ports.map(port => pipe({ port: Number(port), host: '127.0.0.1' }, { path: join(folder, `${port}.socket`) })));
  console.log('ready');
}
