// What scenarios do with a call: participants join and meet, and their pictures are watched.
import { everybodyMeets, matrix, minimumFrameRate, pairsBetween } from '../lib/measure.mjs';
import { sleep, until } from '../lib/process.mjs';

/** Throws unless `condition`; the message says what was found. */
export function expect(condition, message) {
  if (!condition) throw new Error(message);
}

export const seconds = milliseconds => `${(milliseconds / 1000).toFixed(1)} s`;

/** Waits for something true and returns after how many milliseconds it came. */
export async function timed(what, timeout, condition) {
  const start = Date.now();
  await until(what, timeout, condition, 100);
  return Date.now() - start;
}

/**
 * All of `participants` decode fresh video of all others, counted from now on.
 * @param {import('../lib/browsers.mjs').Participant[]} participants
 * @param {number} timeout
 * @param {{ p2p?: boolean }} options
 */
export async function allMoving(participants, timeout, { p2p } = {}) {
  const names = participants.map(one => one.name);
  const base = await Promise.all(participants.map(one => one.stats()));
  return timed(`video moves between ${names.join(', ')}${p2p === undefined ? '' : p2p ? ' peer to peer' : ' over the bridge'}`, timeout, async () => {
    const now = await Promise.all(participants.map(one => one.stats()));
    return participants.every((receiver, index) => names.filter(name => name !== receiver.name).every(name => {
      const [from, to] = [base[index].remote[name]?.video, now[index].remote[name]?.video];
      if (!to || (p2p !== undefined && to.p2p !== p2p)) return false;
      // Another track or connection starts its count again.
      const frames = to.framesDecoded >= (from?.framesDecoded ?? 0) ? to.framesDecoded - (from?.framesDecoded ?? 0) : to.framesDecoded;
      return frames >= 5;
    }));
  });
}

/** How much of every pair counts as decoding: what a healthy call has in two seconds. */
const decodedFrames = 2 * minimumFrameRate;

/** Every pair decodes both kinds, counted from now on; else the error holds the matrix of what they decoded within `timeout`. */
export async function allDecode(participants, timeout = 15000) {
  const names = participants.map(one => one.name);
  const before = await Promise.all(participants.map(one => one.stats()));
  let pairs = [];
  const decode = async () => {
    // A slow machine decodes slowly: what counts is that pictures come, not at which rate.
    pairs = pairsBetween(participants, before, await Promise.all(participants.map(one => one.stats())))
      .map(one => ({ ...one, videoOk: one.frames >= decodedFrames }));
    return pairs.every(one => one.videoOk && one.audioOk);
  };
  await until('all decode', timeout, decode, 250).catch(() => expect(false, `not all pairs decode:\n${matrix(pairs, names, names)}`));
  return pairs;
}

export class Call {
  constructor(stack, browser) {
    this.stack = stack;
    this.browser = browser;
    this.room = `s-${Math.random().toString(36).slice(2, 10)}`;
    this.all = [];
    /** How long the first who met took for it: what this machine needs for a call to begin. */
    this.slowness = 0;
  }
  /** A limit of so many milliseconds; more on a machine on which even the first call takes longer than that to begin. */
  limit(milliseconds) { return Math.max(milliseconds, this.slowness); }
  async join(name, query = {}, room = this.room, browser = this.browser) {
    const participant = await browser.join(this.stack.page.address, room, name, query);
    this.all.push(participant);
    return participant;
  }
  meet(...names) { return this.meetAs({}, ...names); }

  /** Waits for media of all, 10 s at most, and returns after how many milliseconds it was back. */
  async mediaBack(all) {
    const start = Date.now();
    await allMoving(all, 30000);
    const back = Date.now() - start;
    expect(back <= this.limit(10000), `media back only after ${seconds(back)}`);
    await allDecode(all);
    return back;
  }

  /** Everybody joins with these parameters of the page, and meets the others. */
  async meetAs(query, ...names) {
    const participants = [];
    for (const name of names) participants.push(await this.join(name, query));
    const start = Date.now();
    expect(await everybodyMeets(participants, 45000), `${names.join(', ')} did not meet within 45 s`);
    this.slowness ||= Date.now() - start;
    return participants;
  }
}

/** Watches fresh pictures of all pairs until `stop`: the longest pause of each in milliseconds, and the last time that one came. */
export function watchPictures(participants) {
  const pairs = new Map();
  const state = { watching: true };
  const watch = async one => {
    while (state.watching) {
      const { at, remote } = await one.stats();
      for (const [sender, { video }] of Object.entries(remote)) {
        const key = `${sender} at ${one.name}`;
        const pair = pairs.get(key) ?? { frames: 0, last: at, longest: 0 };
        pairs.set(key, pair);
        // Also up to the picture that ends a pause: a sender whose session ends is not in the statistics until it has another one.
        pair.longest = Math.max(pair.longest, at - pair.last);
        if (video && video.framesDecoded !== pair.frames) Object.assign(pair, { frames: video.framesDecoded, last: at });
      }
      await sleep(30);
    }
  };
  const all = Promise.all(participants.map(watch));
  // Whoever does not wait for it has something worse to report.
  all.catch(() => {});
  return { pairs, stop: async () => { state.watching = false; await all; return pairs; } };
}

/** What the bridge counted of ICE restarts under a name. */
export async function iceRestarts(stack, name) {
  const text = await (await fetch(stack.bridges[0].bridgeUrl('/metrics'))).text();
  return Number(new RegExp(`^jitsi_jvb_ice_restarts_${name}(?:_total)? (\\S+)$`, 'm').exec(text)?.[1]);
}
