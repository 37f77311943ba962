// What an attack may do to others at most, and what is said of it.

/** Usual time between two frames and two audio packets of a witness, milliseconds. */
const frame = 67;
const packet = 20;

export const limits = {
  freeze_ms: 200,
  audio_lost_percent: 1,
  health_ms: 1000,
  /** Resident memory that may stay, and that may come and go, MiB. */
  memory_mib: 24,
  peak_mib: 128,
  /** Whose health may fail: what was taken away from them on purpose. */
  unhealthy: /** @type {string[]} */ ([]),
};

const mib = bytes => bytes / 1024 / 1024;
const round = (value, digits = 0) => Number(value.toFixed(digits));

/**
 * Compares what was seen with the limits. `seen`: {witnesses, health, memory, held, alive, errors, newcomer}; `own`
 * overrides limits. Returns [{what, value, limit, unit, ok}].
 * @param {any} seen
 * @param {Record<string, any>} [own]
 */
export function judge(seen, own = {}) {
  const limit = { ...limits, ...own };
  const checks = [];
  const most = (what, value, most_, unit, digits) => checks.push({ what, value: round(value, digits), limit: `at most ${most_}`, unit, ok: value <= most_ });
  const yes = (what, ok, value = ok ? 'yes' : 'no') => checks.push({ what, value, ok: Boolean(ok) });
  for (const [name, alive] of Object.entries(seen.alive)) yes(`${name} alive`, alive);
  if (seen.witnesses) {
    const { witnesses } = seen;
    yes('witnesses connected, all pairs', witnesses.connected && !witnesses.missing && witnesses.pairs > 0);
    most('video frozen', Math.max(0, witnesses.video_gap_ms - frame), limit.freeze_ms, 'ms');
    most('audio silent', Math.max(0, witnesses.audio_gap_ms - packet), limit.freeze_ms, 'ms');
    most('audio lost', witnesses.audio_lost_percent, limit.audio_lost_percent, '%', 2);
  } else if (seen.witnesses === null) {
    yes('witnesses report', false);
  }
  for (const [name, { worst_ms, failures, asked }] of Object.entries(seen.health)) {
    most(`health of the ${name}`, worst_ms, limit.health_ms, 'ms');
    if (failures.length && !limit.unhealthy.includes(name)) yes(`health of the ${name} is 200`, false, failures.join('; '));
    if (!asked && !failures.length) yes(`health of the ${name} was asked`, false);
  }
  for (const [name, { before, after, peak }] of Object.entries(seen.memory)) {
    most(`memory kept by the ${name}`, mib(Math.max(0, after - before)), limit.memory_mib, 'MiB', 1);
    most(`memory at most of the ${name}`, mib(Math.max(0, peak - before)), limit.peak_mib, 'MiB', 1);
  }
  if (seen.held) yes('held as before', seen.held.length === 0, seen.held.length ? seen.held.join(', ') : 'yes');
  if (seen.newcomer) yes('newcomers meet', seen.newcomer.ok, seen.newcomer.ok ? `after ${seen.newcomer.seconds.toFixed(1)} s` : seen.newcomer.error);
  yes('no error logged', seen.errors.length === 0, seen.errors.length ? `${seen.errors.length}: ${seen.errors[0].slice(0, 160)}` : 'yes');
  return checks;
}

/** Whether all that failed could be a busy host: then it is tried once more. */
export const couldBeTheHost = checks => {
  const failed = checks.filter(one => !one.ok);
  return failed.length > 0 && failed.every(one => /^(video frozen|audio silent|audio lost)$/.test(one.what));
};

/** The gauges of a metrics text that must be as before: by name with labels. */
export function heldOf(text) {
  const held = {};
  for (const line of text.split('\n')) {
    const match = /^(ringbridge_(?:control_)?held(?:\{[^}]*\})?) (\S+)$/.exec(line);
    // Timers come and go with every packet.
    if (match && !/timer/.test(match[1])) held[match[1]] = Number(match[2]);
  }
  return held;
}

/** What is held beyond what was, in words. */
export const heldMore = (before, after) => Object.entries(after).filter(([name, value]) => value > (before[name] ?? 0))
  .map(([name, value]) => `${name} ${before[name] ?? 0} → ${value}`);
