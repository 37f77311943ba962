// Headless Firefox participants, driven over Marionette: its own remote protocol, which every version speaks.
import { connect } from 'node:net';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Background, sleep } from './process.mjs';
import { freePort } from './ports.mjs';

const preferences = port => ({
  'marionette.port': port,
  // A camera and a microphone of its own, and nobody asked.
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  // Everything here is on loopback.
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.gmp-manager.updateEnabled': false,
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'datareporting.healthreport.uploadEnabled': false,
  'toolkit.telemetry.reportingpolicy.firstRun': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'extensions.getAddons.cache.enabled': false,
  'services.settings.server': 'data:,',
  'dom.disable_beforeunload': true,
});

/** The remote protocol: messages [0, id, command, parameters] and [1, id, error, result], each after its length and a colon. */
class Marionette {
  static async open(port, patience) {
    const end = Date.now() + patience;
    for (;;) {
      const socket = connect(port, '127.0.0.1');
      const error = await new Promise(done => socket.once('connect', () => done(undefined)).once('error', done));
      if (!error) return new Marionette(socket);
      if (Date.now() > end) throw new Error(`Firefox does not answer on port ${port}: ${error.message}`);
      await sleep(200);
    }
  }

  constructor(socket) {
    this.socket = socket;
    this.waiting = new Map();
    this.last = 0;
    let bytes = Buffer.alloc(0);
    socket.on('data', chunk => {
      bytes = Buffer.concat([bytes, chunk]);
      for (;;) {
        const colon = bytes.indexOf(0x3a);
        if (colon < 0) return;
        const length = Number(bytes.subarray(0, colon).toString());
        if (bytes.length < colon + 1 + length) return;
        const message = JSON.parse(bytes.subarray(colon + 1, colon + 1 + length).toString());
        bytes = bytes.subarray(colon + 1 + length);
        // The first one says who it is.
        if (!Array.isArray(message)) continue;
        const [, id, error, result] = message;
        const { resolve, reject } = this.waiting.get(id) ?? {};
        this.waiting.delete(id);
        if (error) reject?.(new Error(`Firefox: ${error.error}: ${error.message}`));
        else resolve?.(result);
      }
    });
    const gone = () => {
      for (const { reject } of this.waiting.values()) reject(new Error('Firefox closed its connection'));
      this.waiting.clear();
    };
    socket.on('close', gone).on('error', gone);
  }

  send(command, parameters = {}) {
    const id = ++this.last;
    const text = JSON.stringify([0, id, command, parameters]);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.write(`${Buffer.byteLength(text)}:${text}`);
    });
  }
}

/** One Firefox process with one participant: tabs that are not in front are slowed down. */
export class Firefox {
  /** Its folder. @type {string} */
  profile;
  /** @type {Background} */
  process;
  /** @type {Marionette | undefined} */
  marionette;

  /** Opens the page at `url` as `name`. */
  static async join(url, name, folder) {
    const browser = new Firefox();
    browser.profile = mkdtempSync(join(tmpdir(), 'ringbridge-firefox-'));
    const port = await freePort();
    const lines = Object.entries(preferences(port)).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});`);
    writeFileSync(join(browser.profile, 'user.js'), lines.join('\n'));
    browser.process = new Background(`firefox-${name}`, process.env.FIREFOX ?? '/usr/bin/firefox-esr',
      ['--headless', '--no-remote', '--marionette', '--profile', browser.profile],
      { log: join(folder, `firefox-${name}.log`), env: { ...process.env, MOZ_HEADLESS: '1', HOME: browser.profile } });
    try {
      browser.marionette = await Marionette.open(port, 60000);
      await browser.marionette.send('WebDriver:NewSession', {});
      await browser.marionette.send('WebDriver:SetTimeouts', { script: 60000, pageLoad: 60000 });
      await browser.marionette.send('WebDriver:Navigate', { url });
    } catch (error) {
      await browser.close();
      throw error;
    }
    return new FirefoxParticipant(name, browser);
  }

  async close() {
    this.marionette?.socket.destroy();
    await this.process.stop(3000);
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** What the checks need of a participant, as that of Chromium. */
class FirefoxParticipant {
  constructor(name, browser) {
    this.name = name;
    this.browser = browser;
    this.console = [];
    this.kind = 'firefox';
  }

  /** Evaluates in the page with its test hook as the argument. */
  async hook(expression) {
    const script = `return (async ringbridge => JSON.stringify(await (${expression})))(window.wrappedJSObject?.__ringbridge ?? window.__ringbridge)`;
    const { value } = await this.browser.marionette.send('WebDriver:ExecuteScript', { script, args: [], sandbox: null });
    return value === undefined || value === null ? undefined : JSON.parse(value);
  }

  state() { return this.hook('ringbridge.state()'); }
  stats() { return this.hook('ringbridge.stats()'); }

  async ready() {
    for (let tries = 0; !await this.hook('Boolean(ringbridge)'); tries++) {
      if (tries > 150) throw new Error(`${this.name}: the page's program does not run in Firefox`);
      await sleep(200);
    }
  }

  async leave() {
    await this.hook('ringbridge.hangUp()').catch(() => {});
    await this.browser.close();
  }
}
