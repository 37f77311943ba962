// A stack with witnesses, on which attack after attack is played.
import { readFileSync } from 'node:fs';
import { resident, sleep, until } from '../lib/process.mjs';
import { Stack } from '../lib/stack.mjs';
import { couldBeTheHost, heldMore, heldOf, judge } from './verdict.mjs';
import { Watch } from './watch.mjs';
import { Witnesses } from './witnesses.mjs';
import { Guest } from './xmpp.mjs';

/** How long what an attack left may take to go, milliseconds. */
const patience = 30000;

const short = () => Math.random().toString(36).slice(2, 8);

export class Rig {
  /** `rate`: the share of the attacks' packet rates that is played. */
  constructor(folder, rate = 1) {
    this.folder = folder;
    this.rate = rate;
  }

  async open({ stack: options = {}, witnesses = true } = {}) {
    this.stack = new Stack({ folder: this.folder, split: true, ...options });
    await this.stack.start();
    this.focusJid = 'focus@auth.meet.test/focus';
    await this.learnNames();
    this.seenErrors = 0;
    if (witnesses) {
      this.room = `witness-${short()}`;
      this.witnesses = new Witnesses(this.stack, this.room, { nice: process.getuid() === 0 ? -5 : 0 });
      await this.witnesses.meet();
      // The control plane's gauges are refreshed every few seconds.
      await until('the bridges say that they hold the witnesses', 20000, async () =>
        Object.entries(await this.held()).some(([name, value]) => /control_held.*endpoints/.test(name) && value >= 3), 500);
    }
    return this;
  }

  get bridge() { return this.stack.bridges[0]; }
  get focus() { return this.stack.focus; }
  /** Address of the bridge's media port. */
  get media() { return `127.0.0.1:${this.bridge.options.mediaPort}`; }
  get channelPort() { return this.bridge.options.websocketPort; }
  freshRoom() { return `attack-${short()}`; }

  /** The bridge's full JID: what anybody in the brewery sees, else what Prosody's log says. */
  async learnNames() {
    const log = readFileSync(`${this.stack.folder}/prosody.log`, 'utf8');
    const guest = new Guest(this);
    try {
      await guest.login();
      const seen = guest.wait('the bridge in the brewery', stanza => stanza.name === 'presence' && stanza.find('item')?.attributes.jid?.startsWith('jvb@'), 1500);
      guest.send("<presence to='jvbbrewery@internal.auth.meet.test/looker'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
      const presence = await seen.catch(() => undefined);
      this.bridgeJid = presence?.find('item').attributes.jid;
      this.bridgeOccupant = presence?.attributes.from;
      guest.send("<presence type='unavailable' to='jvbbrewery@internal.auth.meet.test/looker'/>");
    } finally {
      setTimeout(() => guest.close(), 200);
    }
    this.bridgeJid ??= /(jvb@auth\.meet\.test\/\S+)/.exec(log)?.[1];
    this.bridgeOccupant ??= 'jvbbrewery@internal.auth.meet.test/jvb1';
    if (!this.bridgeJid) throw new Error('nobody says the full JID of the bridge');
  }

  /** Held objects of all bridges together, whichever has them, and conferences of the focus. */
  async held() {
    const held = {};
    for (const bridge of this.stack.bridges) {
      const text = await (await fetch(bridge.bridgeUrl('/metrics'), { signal: AbortSignal.timeout(5000) })).text();
      for (const [name, value] of Object.entries(heldOf(text))) held[name] = (held[name] ?? 0) + value;
    }
    const focus = await (await fetch(this.focus.focusUrl('/colibri/stats'), { signal: AbortSignal.timeout(5000) })).json();
    for (const [name, value] of Object.entries(focus)) {
      if (/conferences|participants/.test(name) && !/total|largest/.test(name) && typeof value === 'number') held[`focus ${name}`] = value;
    }
    return held;
  }

  processes() {
    return { bridge: this.bridge.process, focus: this.focus.process };
  }

  newErrors(expected) {
    const all = this.stack.errors();
    const fresh = all.slice(this.seenErrors);
    this.seenErrors = all.length;
    return expected ? fresh.filter(line => !expected.test(line)) : fresh;
  }

  /** Two who were not there before meet in a room of their own. */
  async newcomer() {
    const start = Date.now();
    const two = new Witnesses(this.stack, `newcomers-${short()}`, { count: 2, seconds: 60, name: 'newcomers' });
    try {
      await two.meet(15000);
      return { ok: true, seconds: (Date.now() - start) / 1000 };
    } catch (error) {
      return { ok: false, error: error.message };
    } finally {
      await two.leave();
    }
  }

  /** Plays one attack; {pass, checks, figures}. */
  async play(name, scenario, opened) {
    const start = Date.now();
    let result = await this.playOnce(scenario, opened);
    if (!result.pass && couldBeTheHost(result.checks) && this.healthy()) {
      // Two processor cores that others use, too: once is chance.
      const first = result.checks.filter(one => !one.ok);
      await sleep(1000);
      result = await this.playOnce(scenario, opened);
      result.again = first.map(({ what, value, unit }) => `${what} ${value} ${unit ?? ''}`.trim());
    }
    return { scenario: name, guards: scenario.guards, ...result, seconds: Math.round((Date.now() - start) / 1000) };
  }

  healthy() { return Object.values(this.processes()).every(one => one.alive) && (!this.witnesses || this.witnesses.talker.alive); }

  async playOnce(scenario, opened) {
    const processes = this.processes();
    const targets = [
      { name: 'bridge', url: this.bridge.bridgeUrl('/about/health'), pid: processes.bridge.pid },
      { name: 'focus', url: this.focus.focusUrl('/about/health'), pid: processes.focus.pid },
    ];
    const before = Object.fromEntries(targets.map(({ name, pid }) => [name, resident(pid)]));
    const heldBefore = await this.held();
    this.newErrors();
    await this.witnesses?.begin();
    const watch = new Watch(targets);
    let figures = {}, own;
    try {
      const outcome = await Promise.race([
        scenario.run(this, opened),
        sleep(scenario.timeout ?? 90000).then(() => { throw new Error('the attack itself did not end'); }),
      ]) ?? {};
      ({ figures = {}, checks: own = [] } = outcome);
    } catch (error) {
      own = [{ what: 'the attack was carried out', value: error.message, ok: false }];
    }
    // What follows late is seen, too.
    await sleep(scenario.aftermath ?? 1500);
    const newcomer = scenario.newcomer === false ? undefined : await this.newcomer();
    const witnesses = this.witnesses ? await this.witnesses.end().catch(() => null) : undefined;
    const health = await watch.stop();
    const alive = Object.fromEntries(Object.entries(this.processes()).map(([name, one]) => [name, one.alive]));
    const after = await this.settle(before, heldBefore, targets);
    const seen = {
      witnesses, health, alive, newcomer, held: after.held,
      memory: Object.fromEntries(targets.map(({ name }) => [name, { before: before[name], after: after.memory[name], peak: health[name].peak }])),
      errors: this.newErrors(scenario.expectedErrors),
    };
    const checks = [...judge(seen, scenario.limits), ...own];
    return { pass: checks.every(one => one.ok), checks, figures };
  }

  /** Waits until memory and held objects are as they were, or patience ends. */
  async settle(before, heldBefore, targets) {
    const read = async () => ({
      memory: Object.fromEntries(targets.map(({ name, pid }) => [name, resident(pid)])),
      held: await this.held().then(now => heldMore(heldBefore, now), error => [error.message]),
    });
    let last = await read();
    if (!this.healthy()) return last;
    await until('it settles', patience, async () => {
      last = await read();
      return last.held.length === 0 && targets.every(({ name }) => last.memory[name] - before[name] < 24 * 1024 * 1024);
    }, 500).catch(() => { /* the checks say it */ });
    return last;
  }

  async close() {
    await this.witnesses?.talker.kill();
    await this.stack?.stop();
  }
}
