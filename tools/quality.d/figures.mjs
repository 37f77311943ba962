// Figures out of a page's readings. Pure functions: times are Date.now() milliseconds, readings as the page's `samples`.

/** One sender's figures of `kind` over time: [{at, ...figures}]. */
export function series(samples, sender, kind = 'video') {
  return samples.flatMap(({ at, remote }) => remote[sender]?.[kind] ? [{ at, ...remote[sender][kind] }] : []);
}

/** The part from `from` to `to`. */
export const within = (readings, from, to = Infinity) => readings.filter(one => one.at >= from && one.at <= to);

/** Growth of a counter over readings; a counter that started over counts from zero. */
export function grown(readings, field) {
  let sum = 0;
  for (let index = 1; index < readings.length; index++) {
    const [before, now] = [readings[index - 1][field] ?? 0, readings[index][field] ?? 0];
    sum += now >= before ? now - before : now;
  }
  return sum;
}

const span = readings => readings.length > 1 ? readings.at(-1).at - readings[0].at : 0;

/** A counter's growth per second, or null without two readings. */
export function perSecond(readings, field) {
  const milliseconds = span(readings);
  return milliseconds > 0 ? grown(readings, field) * 1000 / milliseconds : null;
}

/**
 * Milliseconds from `from` to the first reading with `matches` that fresh frames confirm and that holds for `hold`
 * milliseconds; null when there is none. Readings must reach beyond the hold.
 */
export function reached(readings, from, matches, hold = 400) {
  const later = within(readings, from);
  for (const [index, one] of later.entries()) {
    if (!matches(one)) continue;
    const held = later.slice(index).filter(other => other.at <= one.at + hold);
    const confirmed = later.at(-1).at >= one.at + hold && held.at(-1).framesDecoded > one.framesDecoded;
    if (confirmed && held.every(matches)) return one.at - from;
  }
  return null;
}

/**
 * Freezes as WebRTC counts them, in milliseconds: {count, total, longest}. Two freezes between two readings are split
 * evenly; a picture that stands still at the end counts as well once it does so for 300 ms.
 */
export function freezes(readings) {
  let count = 0, total = 0, longest = 0;
  for (let index = 1; index < readings.length; index++) {
    const pair = [readings[index - 1], readings[index]];
    const more = grown(pair, 'freezeCount');
    const time = grown(pair, 'totalFreezesDuration') * 1000;
    count += more;
    total += time;
    if (more > 0) longest = Math.max(longest, time / more);
  }
  const end = readings.at(-1);
  const moving = readings.find(one => one.framesDecoded === end?.framesDecoded);
  const still = end && moving ? end.at - moving.at : 0;
  if (still > 300) {
    count++;
    total += still;
    longest = Math.max(longest, still);
  }
  return { count, total: Math.round(total), longest: Math.round(longest) };
}

/** Percent of the time in which the picture stood still; null without readings. */
export function frozenPercent(readings) {
  const milliseconds = span(readings);
  return milliseconds > 0 ? round(freezes(readings).total * 100 / milliseconds, 2) : null;
}

/** Percent of audio that was made up because packets were missing, silence excepted; null without readings. */
export function concealedPercent(readings) {
  const samples = grown(readings, 'samples');
  return samples > 0 ? round((grown(readings, 'concealed') - grown(readings, 'silentConcealed')) * 100 / samples, 2) : null;
}

/** The time that packets or frames spent in the receiver's buffer, mean milliseconds. */
export function bufferDelay(readings) {
  const emitted = grown(readings, 'bufferEmitted');
  return emitted > 0 ? Math.round(grown(readings, 'bufferDelay') * 1000 / emitted) : null;
}

export const median = values => {
  const sorted = values.filter(value => value !== null && value !== undefined && !Number.isNaN(value)).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
};

export const round = (value, digits = 0) => value === null || value === undefined ? null : Number(value.toFixed(digits));

/** The usual value of a field. */
export const usual = (readings, field) => median(readings.map(one => one[field]));

/**
 * Milliseconds from `from` until a link's queue stays under `limit` milliseconds for a second; null when it does not.
 * `direction` is 'up' or 'down'. Reports without packets say nothing.
 */
export function queueSettled(reports, from, limit, direction = 'down') {
  const later = within(reports, from).filter(one => one[direction].kbps > 0);
  for (const [index, one] of later.entries()) {
    const next = later.slice(index).filter(other => other.at <= one.at + 1000);
    if (later.at(-1).at < one.at + 1000) return null;
    if (next.every(other => other[direction].queue_p99_ms < limit)) return one.at - from;
  }
  return null;
}

/** Kilobits per second that passed a link. */
export function throughput(reports, direction = 'down') {
  const milliseconds = span(reports);
  if (milliseconds <= 0) return null;
  return round((reports.at(-1)[direction].bytes - reports[0][direction].bytes) * 8 / milliseconds);
}

/** Distances of the estimated playout times of audio and video: [{at, offset}] in milliseconds. */
const syncOffsets = (samples, sender) => samples.flatMap(({ at, remote }) => {
  const [audio, video] = [remote[sender]?.audio?.playout, remote[sender]?.video?.playout];
  return audio && video ? [{ at, offset: audio - video }] : [];
});

/** How far that distance jumped at `at`: its median in the two seconds after it against those before; null without readings. */
export function syncStep(samples, sender, at) {
  const offsets = syncOffsets(samples, sender);
  const [before, after] = [within(offsets, at - 2000, at), within(offsets, at + 500, at + 2500)].map(part => median(part.map(one => one.offset)));
  return before === null || after === null ? null : round(after - before);
}

/**
 * How far the distance between audio and video moved, milliseconds: {first, drift, windows}. The distance is that of
 * the estimated playout times, its median over each window; the first window is the reference. With `buffers` the time in
 * the receiver's buffers does not count: what is left came out of step before it.
 */
export function syncDrift(samples, sender, { window = 1000, buffers = false } = {}) {
  const waited = (from, kind) => bufferDelay(within(series(samples, sender, kind), from, from + window)) ?? 0;
  const offsets = syncOffsets(samples, sender);
  if (!offsets.length) return { first: null, drift: null, windows: 0 };
  const medians = [];
  for (let start = offsets[0].at; start + window <= offsets.at(-1).at; start += window) {
    const value = median(within(offsets, start, start + window).map(one => one.offset));
    if (value !== null) medians.push(buffers ? value - waited(start, 'video') + waited(start, 'audio') : value);
  }
  if (!medians.length) return { first: null, drift: null, windows: 0 };
  return {
    first: round(medians[0]),
    drift: round(Math.max(...medians.map(value => Math.abs(value - medians[0])))),
    windows: medians.length,
  };
}

/**
 * Why a sender and its machine, not the bridge, would be to blame; undefined when they are not. `samples` are the
 * sender's own readings, `fps` what its camera is asked for, `idle` the percent of the processors that was idle.
 */
export function senderTrouble(samples, fps, idle) {
  if (idle !== undefined && idle < 3) return `the machine was busy: ${round(idle, 1)} % idle`;
  const cameras = samples.flatMap(({ at, cameras: sent }) => sent?.length ? [{ at, frames: Math.max(...sent.map(one => one.frames ?? 0)) }] : []);
  const captured = perSecond(cameras, 'frames');
  if (captured !== null && captured < 0.8 * fps) return `the sender's camera gave ${round(captured, 1)} instead of ${fps} frames a second`;
  const encodings = new Map();
  for (const { at, outbound } of samples) {
    for (const one of outbound ?? []) {
      if (one.kind !== 'video') continue;
      if (!encodings.has(one.ssrc)) encodings.set(one.ssrc, []);
      encodings.get(one.ssrc).push({ at, cpu: one.limitedDurations?.cpu ?? 0, frames: one.frames ?? 0, fps: one.fps ?? 0, limited: one.limited });
    }
  }
  for (const readings of encodings.values()) {
    const milliseconds = span(readings);
    const limited = milliseconds > 0 ? grown(readings, 'cpu') * 1000 / milliseconds : 0;
    if (limited > 0.1) return `the sender's encoder was held back by its processor for ${round(limited * 100)} % of the time`;
  }
  const fastest = Math.max(0, ...[...encodings.values()].map(readings => perSecond(readings, 'frames') ?? 0));
  if (encodings.size && fastest < 0.7 * fps) return `the sender encoded ${round(fastest, 1)} instead of ${fps} frames a second`;
  return undefined;
}

/** One condition. `value` null, which means that it could not be measured, does not meet it. */
export function atMost(what, value, limit, unit) {
  return { what, value, limit: `at most ${limit}`, unit, ok: value !== null && value !== undefined && value <= limit };
}

export function atLeast(what, value, limit, unit) {
  return { what, value, limit: `at least ${limit}`, unit, ok: value !== null && value !== undefined && value >= limit };
}
