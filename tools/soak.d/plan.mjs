// What happens in a soak, by a seed: the same seed gives the same plan.

/** A small generator of numbers from 0 to 1 (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Participants at one time, at most: what two cores carry beside everything else. */
export const mostParticipants = 10;
/** Rooms at one time, at most. */
export const mostRooms = 3;
/** Length of a round, seconds; after each everybody leaves, and what is held is read. */
export const roundSeconds = 45;

/** What may happen, with its weight. */
/** @type {[string, number][]} */
const kinds = [['join', 10], ['leave', 5], ['crash', 4], ['mute', 8], ['unmute', 6], ['move', 6], ['reconnect', 6]];

/**
 * Rounds of [{at, what, …}] in seconds from the round's begin. Groups of participants have numbers; `join` has a room, a
 * size and whether SSRCs are rewritten. Every third round the first bridge is killed and started again, every fifth Prosody.
 */
export function plan(seed, seconds) {
  const next = random(seed);
  const pick = list => list[Math.floor(next() * list.length)];
  const total = kinds.reduce((sum, [, weight]) => sum + weight, 0);
  const kind = () => {
    let at = next() * total;
    return (kinds.find(([, weight]) => (at -= weight) < 0) ?? kinds[0])[0];
  };
  const rounds = [];
  let group = 0;
  // A round, its rest and the way there take about 60 s.
  for (let round = 0; round < Math.max(3, Math.floor(seconds / 60)); round++) {
    const events = [];
    let alive = [];
    const count = () => alive.reduce((sum, one) => sum + one.size, 0);
    let at = 0.5;
    const fault = round % 5 === 3 ? 'restart-prosody' : round % 3 === 1 ? 'restart-bridge' : undefined;
    const faultAt = 15 + next() * 10;
    let faulted = false;
    while (at < roundSeconds) {
      if (fault && !faulted && at >= faultAt) {
        events.push({ at, what: fault });
        faulted = true;
        // Who is scripted does not survive a server that forgets its streams.
        if (fault === 'restart-prosody') alive = [];
        at += 6;
        continue;
      }
      let what = alive.length ? kind() : 'join';
      if (what === 'join' && count() > mostParticipants - 2) what = 'leave';
      if (what === 'join') {
        const size = 2 + Math.floor(next() * Math.min(3, mostParticipants - count() - 1));
        const one = { group: group++, room: Math.floor(next() * mostRooms), size, rewriting: false };
        one.rewriting = next() < 0.3;
        alive.push(one);
        events.push({ at, what, ...one });
      } else {
        const one = pick(alive);
        if (what === 'leave' || what === 'crash') alive = alive.filter(other => other !== one);
        events.push({ at, what, group: one.group, ...!['leave', 'crash'].includes(what) && { participant: Math.floor(next() * one.size) } });
      }
      at = Number((at + 0.5 + next() * 3).toFixed(2));
    }
    rounds.push(events);
  }
  return rounds;
}

/** What is read at rests, judged: growth after the first `settled` rests. [{what, value, limit, unit, ok}]. */
export function judge(rests, /** @type {{ settled?: number, errors?: string[], heapKib?: number, rssMib?: number, files?: number }} */ { settled = 3, errors = [], heapKib = 96, rssMib = 12, files = 4 } = {}) {
  const checks = [];
  const usable = rests.length > settled;
  checks.push({ what: 'rests', value: rests.length, limit: `at least ${settled + 1}`, ok: usable });
  if (!usable) return checks;
  const early = rests.slice(0, settled);
  const last = rests.at(-1);
  for (const name of Object.keys(last.processes)) {
    const grown = field => {
      // A process that was started anew has no past.
      const before = early.map(one => one.processes[name]?.[field]).filter(value => value !== undefined);
      return before.length && last.processes[name][field] !== undefined ? last.processes[name][field] - Math.max(...before) : undefined;
    };
    const most = (what, field, limit, unit, scale) => {
      const value = grown(field);
      if (value !== undefined) checks.push({ what: `${name}: more ${what} at the last rest than at the first ${settled}`, value: Number((value / scale).toFixed(1)), limit: `at most ${limit}`, unit, ok: value / scale <= limit });
    };
    most('heap in use', 'heap', heapKib, 'KiB', 1024);
    most('resident memory', 'rss', rssMib, 'MiB', 1024 * 1024);
    most('descriptors', 'files', files, '', 1);
    most('threads', 'threads', 0, '', 1);
  }
  checks.push({ what: 'errors logged without cause', value: errors.length ? `${errors.length}: ${errors[0].slice(0, 160)}` : 0, ok: errors.length === 0 });
  return checks;
}

/** Error lines that no fault explains: later than `grace` seconds after each. Lines begin with their time in UTC. */
export function withoutCause(lines, faults, grace = 20) {
  return lines.filter(line => {
    const at = Date.parse(/\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(line)?.[0] ?? '');
    return Number.isNaN(at) || !faults.some(fault => at >= fault - 1000 && at <= fault + grace * 1000);
  });
}
