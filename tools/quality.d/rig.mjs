// What a quality scenario works with: a stack, a browser with a camera, relays, scripted participants, readings.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Browser } from '../lib/browsers.mjs';
import { startScripted } from '../lib/scripted.mjs';
import { Impairment } from '../lib/impair.mjs';
import { sleep, until } from '../lib/process.mjs';
import { Stack } from '../lib/stack.mjs';
import { cameraClip } from './clip.mjs';
import { grown, senderTrouble } from './figures.mjs';

/** Idle and total processor time so far, ticks. */
function processors() {
  const [idle, wait, ...rest] = (words => [words[3], words[4], words[0], words[1], words[2], words[5], words[6], words[7]])(
    readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1).map(Number));
  return { idle: idle + wait, total: idle + wait + rest.reduce((sum, one) => sum + one, 0) };
}

export class Rig {
  /** @type {Stack} */
  stack;
  /** @type {Browser} */
  browser;
  /** Only with impaired participants. @type {Impairment} */
  relay;
  /** What the bridges said of every receiver, with the time. @type {any[]} */
  bandwidths = [];
  /** @type {NodeJS.Timeout | undefined} */
  poll;
  /** @type {any[]} */
  pages = [];
  /** @type {any[]} */
  load = [];
  room = '';
  /** @type {Map<string, any[]>} */
  readings = new Map();

  /** Starts everything; `relays` is the number of impaired participants. */
  static async open(name, { clientFolder, relays = 0, say }) {
    const rig = new Rig();
    Object.assign(rig, { name, say });
    rig.stack = new Stack({ clientFolder, folder: `quality-${name}` });
    try {
      await rig.stack.start();
      if (relays) {
        rig.relay = await Impairment.start({
          mediaPort: rig.stack.bridges[0].options.mediaPort, relays, log: join(rig.stack.folder, 'impair.log'),
        });
      }
      rig.browser = await Browser.launch({ video: cameraClip() });
      rig.newRoom();
      rig.poll = setInterval(async () => {
        for (const one of await rig.stack.bandwidth()) rig.bandwidths.push({ at: Date.now(), ...one });
      }, 500);
      return rig;
    } catch (error) {
      await rig.close();
      throw error;
    }
  }

  newRoom() { this.room = `q-${Math.random().toString(36).slice(2, 10)}`; }

  /**
   * Opens a page whose readings are kept, one every `period` milliseconds. `relay` is the number of its relay;
   * `query` as of the page.
   * @param {string} name
   * @param {{ relay?: number, period?: number, [parameter: string]: any }} [options]
   */
  async join(name, { relay, period = 100, ...query } = {}) {
    const page = await this.browser.join(this.stack.page.address, this.room, name,
      { poll: 5000, ...query, relay: relay === undefined ? undefined : this.relay.addresses[relay] },
      // Nobody looks: painting the tiles would take the processor from the encoder.
      { width: 160, height: 120 });
    this.pages.push(page);
    this.readings.set(name, []);
    await page.hook(`ringbridge.watch(${period})`);
    await until(`${name} is in the room`, 30000, async () => (await page.state()).state === 'joined');
    return page;
  }

  async leave(page) {
    await this.read();
    this.pages = this.pages.filter(one => one !== page);
    await page.leave();
  }

  /** Everybody leaves; the next scenario starts in another room. */
  async clear() {
    await this.read();
    await this.save(`-${this.parts = (this.parts ?? 0) + 1}`);
    await Promise.all(this.pages.map(page => page.leave()));
    await Promise.all(this.load.map(one => one.stop()));
    this.pages = [];
    this.load = [];
    this.readings = new Map();
    this.newRoom();
  }

  scripted(count, seconds, more = []) {
    const one = startScripted({ stack: this.stack, room: this.room, count, seconds, more, name: `scripted${this.load.length}` });
    this.load.push(one);
    return one;
  }

  /** Asks the bridge for something in the name of a page; returns when. */
  async want(page, constraints) {
    await page.hook(`ringbridge.want(${JSON.stringify(constraints)})`);
    return Date.now();
  }

  /** Fetches the readings of all pages; `samples` has them. */
  async read() {
    for (const page of this.pages) this.readings.get(page.name)?.push(...await page.hook('ringbridge.samples()'));
  }

  async samples(page) {
    await this.read();
    return this.readings.get(page.name) ?? [];
  }

  /** Waits until the page's latest reading meets `condition`; false when it takes longer than `timeout` milliseconds. */
  async waitFor(page, timeout, condition) {
    try {
      await until('', timeout, async () => {
        const latest = (await this.samples(page)).at(-1);
        return latest && condition(latest);
      }, 200);
      return true;
    } catch (error) {
      if (/** @type {{ final?: boolean }} */ (error).final) throw error;
      return false;
    }
  }

  /** Waits until `receiver` decodes `sender` at `height`. */
  seen(receiver, sender, height, timeout = 40000) {
    return this.waitFor(receiver, timeout, ({ remote }) => {
      const video = remote[sender]?.video;
      return video?.framesDecoded > 0 && (height === undefined || video.frameHeight === height);
    });
  }

  /** Waits until the sender encodes at `height`: its estimate of the way to the bridge starts low. */
  sends(sender, height, timeout = 60000) {
    return this.waitFor(sender, timeout, ({ outbound }) => outbound.some(one => one.kind === 'video' && one.height === height && one.fps > 0));
  }

  /** Starts to watch the processors; the function that it returns gives the percent that was idle. */
  idle() {
    const before = processors();
    return () => {
      const after = processors();
      return 100 * (after.idle - before.idle) / Math.max(1, after.total - before.total);
    };
  }

  /** Why the sender or the machine would be to blame for what was measured from `from` on; undefined when they are not. */
  async trouble(sender, fps, from, idle) {
    return senderTrouble((await this.samples(sender)).filter(one => one.at >= from), fps, idle);
  }

  /** What the bridge said of a page's bandwidth, twice a second, from `from` to `to`. */
  async bandwidth(page, from, to = Infinity) {
    const { id } = await page.state();
    return this.bandwidths.filter(one => one.endpoint === id && one.at >= from && one.at <= to);
  }

  /** Messages of the bridge to a page since `from`. */
  async messages(page, from = 0) {
    return page.hook(`ringbridge.bridgeMessages.filter(one => one.at >= ${from})`);
  }

  /** Leaves what was read beside the logs; `suffix` distinguishes the parts of a scenario. */
  async save(suffix = '') {
    const messages = {};
    for (const page of this.pages) messages[page.name] = await this.messages(page).catch(() => []);
    writeFileSync(join(this.stack.folder, `readings${suffix}.json`), JSON.stringify({
      readings: Object.fromEntries(this.readings), messages, bandwidth: this.bandwidths, relay: this.relay?.reports ?? [],
    }));
    for (const page of this.pages) writeFileSync(join(this.stack.folder, `${page.name}.console.log`), page.console.join('\n') + '\n');
  }

  async close() {
    clearInterval(this.poll);
    await Promise.all(this.load.map(one => one.stop()));
    await this.browser?.close();
    await this.relay?.stop();
    await this.stack.stop();
  }
}

export { grown, sleep };
