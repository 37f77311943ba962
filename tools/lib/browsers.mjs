// Headless Chromium participants.
import { chromium } from 'playwright-core';

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required', '--allow-loopback-in-peer-connection',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

/** The fake camera of the checks: small, so that two cores carry four encoding browsers. */
export const camera = { size: '320x180', fps: 15 };

/** The page's address for `name` in `room`; `query` adds parameters. */
export function pageAddress(address, room, name, query = {}) {
  const url = new URL(address);
  const defaults = { room, name, size: camera.size, fps: camera.fps, log: process.env.PAGE_LOG ?? 'warn' };
  for (const [key, value] of [...Object.entries(defaults), ...Object.entries(query)]) {
    // What is not said leaves the default; false switches off.
    if (value === false) url.searchParams.delete(key);
    else if (value !== undefined) url.searchParams.set(key, value === true ? '1' : value);
  }
  return url.href;
}

/** One browser process for all participants: it shares the fake camera and the GPU process. */
export class Browser {
  /** @type {import('playwright-core').Browser} */
  chromium;

  /**
   * `video` is a Y4M file for the fake camera, `more` further flags, `program` another one that runs Chromium.
   * @param {{ video?: string, more?: string[], program?: string }} [options]
   */
  static async launch({ video, more = [], program } = {}) {
    const browser = new Browser();
    browser.chromium = await chromium.launch({
      executablePath: program ?? process.env.CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      args: [...flags, ...video ? [`--use-file-for-fake-video-capture=${video}`] : [], ...more],
      ignoreDefaultArgs: ['--mute-audio'],
      // Ctrl-C is handled by us, in order.
      handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false,
    });
    return browser;
  }

  /** Opens the page as `name` in `room`; `query` adds parameters of the page's address. */
  async join(address, room, name, query = {}, { width = 640, height = 400 } = {}) {
    const context = await this.chromium.newContext({ viewport: { width, height }, permissions: ['camera', 'microphone'] });
    const page = await context.newPage();
    const participant = new Participant(name, page, context);
    page.on('console', message => participant.console.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', error => participant.console.push(`exception: ${error.message}`));
    await page.goto(pageAddress(address, room, name, query));
    await participant.ready();
    return participant;
  }

  async close() { await this.chromium?.close(); }
}

export class Participant {
  constructor(name, page, context) {
    this.name = name;
    this.page = page;
    this.context = context;
    this.console = [];
  }

  /** Evaluates in the page with its test hook as the argument. */
  hook(expression) { return this.page.evaluate(`(ringbridge => ${expression})(window.__ringbridge)`); }

  state() { return this.hook('ringbridge.state()'); }
  stats() { return this.hook('ringbridge.stats()'); }

  /** The page's program runs some time after the page has loaded. */
  ready() { return this.page.waitForFunction('window.__ringbridge'); }

  async reload() {
    await this.page.reload();
    await this.ready();
  }

  async leave() {
    await this.hook('ringbridge.hangUp()').catch(() => {});
    await this.context.close();
  }
}
