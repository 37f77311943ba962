// Who decodes whom, by WebRTC's own statistics.
import { sleep, until } from './process.mjs';

/** A pair's video counts when it decodes at least this many frames a second over the measurement, where its sender makes enough. */
export const minimumFrameRate = 3;

/** The least frames in `seconds` of a sender that makes `sent` a second: the lowest of three temporal layers has each fourth, and one is no video. */
export const minimumFrames = (seconds, sent = Infinity) => Math.max(2, Math.min(minimumFrameRate, sent / 4) * seconds);

/** What a browser sent of video a second between two readings of its statistics: `frames` of the encoding that has most, `kbits` of all, and what `limited` them. */
export function sentVideo(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const grown = (one, field) => {
    const earlier = before.outbound?.find(other => other.ssrc === one.ssrc)?.[field] ?? 0;
    // A new encoder starts its counts again.
    return ((one[field] ?? 0) - (one[field] >= earlier ? earlier : 0)) / seconds;
  };
  const video = seconds > 0 ? (after.outbound ?? []).filter(one => one.kind === 'video') : [];
  return {
    frames: Math.max(0, ...video.map(one => grown(one, 'frames'))),
    kbits: video.reduce((sum, one) => sum + grown(one, 'bytes'), 0) * 8 / 1000,
    limited: video.map(one => one.limited).find(reason => reason && reason !== 'none'),
  };
}

/** What of receiver's statistics changed between two readings, for one sender, which makes `sent` frames a second. */
export function difference(before, after, sender, sent = Infinity) {
  const [from, to] = [before?.remote[sender], after?.remote[sender]];
  const seconds = (after.at - (before?.at ?? after.at)) / 1000;
  // A track that was replaced meanwhile starts its counters again.
  const grown = (kind, field) => {
    const [a, b] = [from?.[kind]?.[field] ?? 0, to?.[kind]?.[field] ?? 0];
    return b >= a ? b - a : b;
  };
  const frames = grown('video', 'framesDecoded');
  const energy = grown('audio', 'energy');
  return {
    seconds, frames, energy,
    audioPackets: grown('audio', 'packets'),
    packets: grown('video', 'packets'),
    keyframes: grown('video', 'keyFramesDecoded'),
    requests: grown('video', 'pliCount'),
    freezes: grown('video', 'freezeCount'),
    frozen: grown('video', 'totalFreezesDuration'),
    video: to?.video, audio: to?.audio,
    videoOk: seconds > 0 && frames >= minimumFrames(seconds, sent),
    audioOk: energy > 0 && grown('audio', 'packets') > 0,
  };
}

/** Whether `participant` has decoded video and heard something of all `names`. */
export async function meets(participant, names) {
  const { remote } = await participant.stats();
  return names.every(name => remote[name]?.video?.framesDecoded > 0 && remote[name]?.audio?.energy > 0);
}

/** Waits until all pairs decode; false when it takes longer than `timeout` milliseconds. */
export async function everybodyMeets(participants, timeout) {
  try {
    await Promise.all(participants.map(one => until(`${one.name} decodes all`, timeout,
      () => meets(one, participants.filter(other => other !== one).map(other => other.name)), 250)));
    return true;
  } catch {
    return false;
  }
}

/** What changed between two readings of the statistics of all: one entry per (sender, receiver). */
export function pairsBetween(participants, before, after, senders = participants.map(one => one.name)) {
  const pairs = [];
  const rates = new Map(participants.map((one, index) => [one.name, sentVideo(before[index], after[index]).frames]));
  for (const [index, receiver] of participants.entries()) {
    for (const sender of senders) {
      if (sender === receiver.name) continue;
      pairs.push({ sender, receiver: receiver.name, ...difference(before[index], after[index], sender, rates.get(sender)) });
    }
  }
  return pairs;
}

/** Reads the statistics of all, waits, reads again; `pairs` has one entry per (sender, receiver). */
export async function measure(participants, milliseconds, senders = participants.map(one => one.name)) {
  const before = await Promise.all(participants.map(one => one.stats()));
  await sleep(milliseconds);
  const after = await Promise.all(participants.map(one => one.stats()));
  return { pairs: pairsBetween(participants, before, after, senders), before, after };
}

/**
 * Measures again until every pair decodes, for `patience` milliseconds at most: a downlink has to be measured before it carries that
 * many, which takes a busy machine longer. Returns the last measurement, and how many there were.
 */
export async function measureUntilAll(participants, milliseconds, senders, patience) {
  const end = Date.now() + patience;
  for (let measurements = 1; ; measurements++) {
    const measured = await measure(participants, milliseconds, senders);
    if (measured.pairs.every(one => one.videoOk && one.audioOk) || Date.now() >= end) return { ...measured, measurements };
  }
}

/** A matrix sender × receiver for people. */
export function matrix(pairs, senders, receivers) {
  const cell = (sender, receiver) => {
    if (sender === receiver) return '-';
    const pair = pairs.find(one => one.sender === sender && one.receiver === receiver);
    if (!pair) return '?';
    const mark = ok => ok ? '' : ' NO';
    return `${pair.frames} fr${mark(pair.videoOk)}, ${pair.energy.toExponential(1)}${mark(pair.audioOk)}`;
  };
  const rows = [['sender \\ receiver', ...receivers], ...senders.map(sender => [sender, ...receivers.map(receiver => cell(sender, receiver))])];
  const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)));
  return rows.map(row => row.map((text, column) => text.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

/** The lower median; null of nothing. */
export const median = values => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
};

/** Milliseconds from the later one's page start to the first frame, per pair of browsers. */
export async function setupTimes(participants) {
  const states = await Promise.all(participants.map(one => one.state()));
  const times = [];
  for (const receiver of states) {
    for (const remote of receiver.participants) {
      const sender = states.find(one => one.name === remote.name);
      if (sender && remote.firstFrameAt) times.push(remote.firstFrameAt - Math.max(sender.startedAt, receiver.startedAt));
    }
  }
  return times;
}
