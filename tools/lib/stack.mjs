// Everything that a call needs: Prosody, ringbridge (one process or several), the page.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { demoFolder } from './paths.mjs';
import { freePort } from './ports.mjs';
import { clientInstalled, fakeClock, installClient, installDebian, missingDebian, requireNodeModules } from './install.mjs';
import { Prosody } from './prosody.mjs';
import { heapEnvironment } from './heap.mjs';
import { binary, build, loadBinary, Ringbridge } from './ringbridge.mjs';
import { servePage } from './page-server.mjs';
import { until } from './process.mjs';

const password = () => randomBytes(18).toString('base64url');

/** Minutes that one core takes for the first build with optimisations. */
const buildCoreMinutes = 16;

/** Bridge N opens links to others from ports 100 N above this one. */
const relayPort = 21000;
/** All of them, as nft writes a range. */
export const relayPorts = `${relayPort}-${relayPort + 999}`;

/** What has to be done before a stack can start, with about how long it takes; a list of lines. */
function steps(packages, load) {
  const lines = [];
  const missing = missingDebian(...packages);
  if (missing.length) lines.push(`install the Debian packages ${missing.join(', ')}: about a minute`);
  if (!clientInstalled()) lines.push('fetch the client library lib-jitsi-meet from npm into target/demo: seconds');
  if (!process.env.RINGBRIDGE) {
    const cores = availableParallelism();
    const built = existsSync(binary()) && (!load || existsSync(loadBinary()));
    lines.push(built ? 'build what has changed since the last build'
      : `build ringbridge with optimisations: about ${Math.ceil(buildCoreMinutes / cores)} minutes on ${cores} cores, once`);
  }
  return lines;
}

/** Installs and builds what a stack needs, and says so before. */
export async function prepare({ browser = false, load = false, firefox = false } = {}) {
  requireNodeModules();
  const packages = ['prosody', ...(browser ? ['chromium'] : []), ...(firefox ? ['firefox-esr'] : [])];
  const lines = steps(packages, load);
  if (lines.length) console.error(`Before it can start:\n${lines.map(line => `  - ${line}`).join('\n')}`);
  await installDebian(...packages);
  const clientFolder = await installClient();
  await build('ringbridge-controlplane', ...(load ? ['ringbridge-load'] : []));
  return { clientFolder };
}

export class Stack {
  /** @type {Prosody} */
  prosody;
  /** The one process of focus and bridge, unless they are split. @type {Ringbridge | undefined} */
  all;
  /** @type {Ringbridge} */
  focus;
  /** @type {Ringbridge[]} */
  bridges = [];
  /** By user of auth.meet.test. @type {Record<string, string>} */
  passwords = {};
  /** Where the page is served. @type {Awaited<ReturnType<typeof servePage>>} */
  page;

  /**
   * `split` runs the focus and `bridges` bridges as processes of their own instead of one `ringbridge all`.
   * `strategy`: how the focus spreads a conference over the bridges, which then have relays and a region each.
   * `relayChannel`: what these talk with each other over, by default SCTP.
   * `io`, `disableRewriting`, `ssrcs`: handed to the bridges. `currentClientFolder` has another client library for the page.
   * `clock`: the processes' clock can be set, see `setClock`. `resumption`: see Prosody.
   * `heap`: the processes record their allocations in files, see `heapFile` and heap.mjs.
   * `launcher`: program and arguments that start the processes, such as prlimit. `logFolder`: where their logs lie.
   * `site`: what Prosody has beside rooms.
   * `mediaAddress`: where the bridges receive media instead of on loopback.
   * `more`: asked for further options of each bridge, given those that it has.
   * `accounts`: more users of auth.meet.test; `passwords` has theirs.
   * `state`: the focus keeps what it needs after a restart.
   * `relay`: asked for the port that leads to Prosody's, for the processes. `environment`: more variables of theirs.
   * @param {{ clientFolder: string, currentClientFolder?: string, folder?: string, split?: boolean, bridges?: number, strategy?: string, relayChannel?: string, io?: string, disableRewriting?: boolean,
   *   channel?: string, ssrcs?: number, clock?: boolean, resumption?: number, heap?: boolean, launcher?: string[], logFolder?: string,
   *   relay?: (port: number) => Promise<number>, environment?: Record<string, string>, mediaAddress?: string, state?: boolean, site?: import('./prosody.mjs').Site, accounts?: string[],
   *   more?: (options: Record<string, any>) => Promise<Record<string, any>> }} options
   */
  constructor({ clientFolder, currentClientFolder, folder = 'run', split = false, bridges = 1, strategy, relayChannel, io, disableRewriting, channel, ssrcs, clock, resumption, heap,
    launcher, logFolder, relay, environment, mediaAddress, state, site, accounts, more }) {
    this.clientFolder = clientFolder;
    this.currentClientFolder = currentClientFolder;
    this.split = split;
    this.bridgeCount = bridges;
    this.strategy = strategy;
    this.relayChannel = relayChannel;
    this.io = io;
    this.disableRewriting = disableRewriting;
    this.channel = channel;
    this.ssrcs = ssrcs;
    this.clock = clock;
    this.resumption = resumption;
    this.heap = heap;
    this.launcher = launcher;
    this.logFolder = logFolder;
    this.relay = relay;
    this.environment = environment;
    this.mediaAddress = mediaAddress;
    this.state = state;
    this.accounts = accounts ?? [];
    this.more = more;
    this.site = site;
    this.folder = join(demoFolder, folder);
  }

  async start() {
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder, { recursive: true });
    const accounts = Object.fromEntries(['focus', 'jvb', ...this.accounts].map(user => [user, password()]));
    this.passwords = accounts;
    this.prosody = new Prosody({
      folder: this.folder,
      clientPort: await freePort(5222),
      httpPort: await freePort(5280),
      accounts,
      resumption: this.resumption,
      site: this.site,
    });
    await this.prosody.start();
    const focusRestPort = await freePort(8888);
    const state = this.state ? { RINGBRIDGE_FOCUS_STATE_DIRECTORY: join(this.folder, 'state') } : {};
    const environment = { ...this.clock ? this.clockEnvironment() : {}, ...state, ...this.environment };
    const xmppPort = this.relay ? await this.relay(this.prosody.clientPort) : this.prosody.clientPort;
    const options = async number => ({
      launcher: this.launcher,
      logFolder: this.logFolder,
      xmppPort,
      bridgePassword: accounts.jvb,
      focusPassword: accounts.focus,
      nickname: `jvb${number}`,
      region: `region${number}`,
      strategy: this.strategy,
      relayChannel: this.relayChannel,
      relayPorts: [relayPort + 100 * number, relayPort + 100 * number + 99],
      mediaAddress: this.mediaAddress,
      mediaPort: await freePort(10000, 'udp'),
      websocketPort: await freePort(9090),
      bridgeRestPort: await freePort(8081),
      focusRestPort,
      io: this.io,
      disableRewriting: this.disableRewriting,
      channel: this.channel,
      ssrcs: this.ssrcs,
      visitors: this.site?.visitors,
      environment: this.environmentOf(environment, this.split ? `bridge${number}` : 'ringbridge'),
    });
    if (this.split) {
      this.bridges = [];
      for (let number = 1; number <= this.bridgeCount; number++) {
        const own = await options(number);
        this.bridges.push(new Ringbridge('bridge', `bridge${number}`, this.folder, { ...own, ...await this.more?.(own) }));
      }
      this.focus = new Ringbridge('focus', 'focus', this.folder, { ...this.bridges[0].options, environment: this.environmentOf(environment, 'focus') });
      await Promise.all([this.focus, ...this.bridges].map(process => process.start()));
    } else {
      this.all = new Ringbridge('all', 'ringbridge', this.folder, await options(1));
      this.bridges = [this.all];
      this.focus = this.all;
      await this.all.start();
    }
    await until('the focus is healthy', 20000, async () => {
      for (const one of this.processes()) one.process.check();
      return await this.focus.focusHealth() === 200;
    }).catch(error => {
      throw new Error(`${error.message}\n${this.focus.process.tail()}`);
    });
    this.page = await servePage({
      port: await freePort(8080),
      clientFolder: this.clientFolder,
      currentClientFolder: this.currentClientFolder,
      settings: () => ({
        websocketUrl: this.prosody.websocketUrl,
        domain: 'meet.test',
        muc: 'conference.meet.test',
        focus: 'focus@auth.meet.test/focus',
        current: Boolean(this.currentClientFolder),
        channel: this.channel,
      }),
      bandwidth: () => this.bandwidth(),
    });
  }

  /** Where the process of this name records its allocations. */
  heapFile(name) { return join(this.folder, `${name}.heap`); }

  /** Variables of the process of this name: those of all, and where it records its allocations. */
  environmentOf(environment, name) {
    return { ...environment, ...this.heap ? heapEnvironment(this.heapFile(name)) : {} };
  }

  /** Lets libfaketime set the time of day that the processes see; the monotonic clock stays the kernel's. */
  clockEnvironment() {
    this.setClock('+0');
    return {
      LD_PRELOAD: fakeClock(),
      FAKETIME_TIMESTAMP_FILE: join(this.folder, 'clock'),
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  /** Sets the processes' clock, as an offset that faketime understands: '+1d', '-30d'. */
  setClock(offset) {
    const path = join(this.folder, 'clock');
    // In one step: the file is read at every look at the clock.
    writeFileSync(`${path}.new`, `${offset}\n`);
    renameSync(`${path}.new`, path);
  }

  /** What each bridge says of itself. */
  bridgeStats() { return Promise.all(this.bridges.map(one => one.bridgeStats())); }

  /** What the bridges say of the bandwidth of every receiver; of a bridge that does not answer, nothing. */
  async bandwidth() {
    return (await Promise.all(this.bridges.map(one => one.bandwidth().catch(() => [])))).flat();
  }

  /** TCP ports on loopback that a client uses. */
  ports() {
    const websockets = this.bridges.map(one => one.options.websocketPort);
    return [this.page.port, this.prosody.httpPort, ...websockets];
  }

  processes() { return this.all ? [this.all] : [this.focus, ...this.bridges].filter(Boolean); }

  errors() { return this.processes().flatMap(one => one.errors().map(line => `${one.name}: ${line}`)); }

  async stop() {
    await this.page?.stop();
    await Promise.all(this.processes().map(one => one.stop()));
    await this.prosody?.stop();
  }
}
