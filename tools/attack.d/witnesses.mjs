// A call of scripted participants that notices what happens to it.
import { join } from 'node:path';
import { lastJson } from '../lib/scripted.mjs';
import { loadBinary } from '../lib/ringbridge.mjs';
import { sleep, until } from '../lib/process.mjs';
import { Talker } from './talker.mjs';

/** The options of `ringbridge-load` for participants in a stack's room. */
export const loadArguments = (stack, room, count, seconds, more = []) => ['participants',
  '--xmpp-host', '127.0.0.1', '--xmpp-port', String(stack.prosody.clientPort), '--domain', 'meet.test',
  '--muc', 'conference.meet.test', '--focus', 'focus@auth.meet.test/focus', '--room', room,
  '--participants', String(count), '--seconds', String(seconds), '--orders', ...more];

/** What several reports of one call say together; only what members send each other counts. */
export function summary(reports) {
  const members = reports.map(one => one.endpoint);
  const streams = reports.flatMap(({ endpoint, received }) => members.filter(other => other !== endpoint).map(other => received[other]));
  const present = streams.filter(Boolean);
  const audio = present.reduce((sum, one) => sum + one.audio_packets, 0);
  const lost = present.reduce((sum, one) => sum + one.audio_lost, 0);
  return {
    pairs: present.length, missing: streams.length - present.length,
    connected: reports.every(one => one.connected),
    video_gap_ms: Math.max(0, ...present.map(one => one.video_gap_ms)),
    audio_gap_ms: Math.max(0, ...present.map(one => one.audio_gap_ms)),
    audio_lost: lost, audio_packets: audio,
    video_frames: present.reduce((sum, one) => sum + one.video_frames, 0),
    video_broken: present.reduce((sum, one) => sum + one.video_broken, 0),
  };
}

/** The figures of a window: counters as differences, gaps and losses as the later report has them. */
export function window(before, after) {
  const grown = name => after[name] - before[name];
  const packets = grown('audio_packets');
  return {
    video_gap_ms: after.video_gap_ms, audio_gap_ms: after.audio_gap_ms,
    audio_lost_percent: packets + after.audio_lost > 0 ? 100 * after.audio_lost / (packets + after.audio_lost) : 100,
    audio_packets: packets, video_frames: grown('video_frames'), video_broken: grown('video_broken'),
    pairs: after.pairs, missing: after.missing, connected: after.connected,
  };
}

export class Witnesses {
  constructor(stack, room, { count = 3, seconds = 3600, nice = 0, more = [], name = 'witnesses' } = {}) {
    this.stack = stack;
    this.room = room;
    this.count = count;
    this.talker = new Talker(name, loadBinary(), loadArguments(stack, room, count, seconds, more),
      { log: join(stack.folder, `${name}.log`), nice });
  }

  /** Their sessions, as `--orders` prints them. */
  get sessions() { return this.talker.lines.filter(line => line.session).map(line => line.session); }

  /** Reports of all, and counts gaps and losses anew. */
  async reports(timeout = 5000) {
    const reports = this.talker.next('reports', line => line.report, { count: this.count, timeout });
    this.talker.order({ do: 'report' });
    return reports;
  }

  /** Waits until all receive all. */
  async meet(timeout = 30000) {
    await until(`${this.talker.name} meet`, timeout, async () => {
      if (!this.talker.alive) throw Object.assign(new Error(`${this.talker.name} ended: ${this.talker.result}`), { final: true });
      const { pairs, missing, connected, video_frames } = summary(await this.reports(2000));
      return connected && !missing && pairs === this.count * (this.count - 1) && video_frames >= 5 * pairs;
    }, 300);
  }

  /** Begins a window of measurement. */
  async begin() { this.before = summary(await this.reports()); }

  /** Ends it. */
  async end() { return window(this.before, summary(await this.reports())); }

  async leave() {
    this.talker.order({ do: 'leave' });
    await Promise.race([this.talker.ended, sleep(3000)]);
    await this.talker.stop();
    return lastJson(JSON.stringify(this.talker.lines.at(-1) ?? {}));
  }
}
