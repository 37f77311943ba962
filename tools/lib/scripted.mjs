// Scripted participants: `ringbridge-load participants` beside the browsers, and its report.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { minimumFrames } from './measure.mjs';
import { Background } from './process.mjs';
import { loadBinary } from './ringbridge.mjs';

/** Slower than speech and cameras are, see --light. */
export const lightPace = ['--video-fps', '5', '--audio-interval', '100'];

/**
 * Scripted participants beside the browsers; `more` are further options of `ringbridge-load participants`.
 * @param {{ stack: import('./stack.mjs').Stack, room: string, count: number, seconds: number, more?: string[], name?: string }} options
 */
export function startScripted({ stack, room, count, seconds, more = [], name = 'scripted' }) {
  const help = spawnSync(loadBinary(), ['participants', '--help'], { encoding: 'utf8' });
  if (help.status !== 0) {
    throw new Error(`scripted participants need '${loadBinary()}', which is not built; use --scripted 0 to use browsers only`);
  }
  return new Background(name, loadBinary(), ['participants',
    '--xmpp-host', '127.0.0.1', '--xmpp-port', String(stack.prosody.clientPort), '--domain', 'meet.test',
    '--muc', 'conference.meet.test', '--focus', 'focus@auth.meet.test/focus', '--room', room,
    '--participants', String(count), '--seconds', String(seconds), ...more], { log: join(stack.folder, `${name}.log`) });
}

/** The last line of a log that is a JSON object. */
export function lastJson(text) {
  for (const line of text.trim().split('\n').reverse()) {
    try { return JSON.parse(line.trim()); } catch { /* not it */ }
  }
  return undefined;
}

/**
 * Pairs of which a scripted participant is the receiver and got enough in `seconds`; undefined without a report.
 * It counts whole frames and audio packets by sender; `audio` packets a second are enough. `sent`: frames a second of those
 * senders of which it is known, by endpoint id.
 * @param {any} report
 * @param {number} seconds
 * @param {{ audio?: number, sent?: Map<string, number> }} options
 */
export function scriptedPairs(report, seconds, { audio = 10, sent = new Map() } = {}) {
  if (!Array.isArray(report?.reports)) return undefined;
  const streams = report.reports.flatMap(({ endpoint, received }) =>
    Object.entries(received).filter(([sender]) => sender !== endpoint).map(([sender, figures]) => ({ ...figures, sent: sent.get(sender) })));
  return {
    video: streams.filter(one => one.video_frames >= minimumFrames(seconds, one.sent)).length,
    audio: streams.filter(one => one.audio_packets >= audio * seconds).length,
  };
}
