import { atMost, bufferDelay, concealedPercent, freezes, frozenPercent, round, series, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair } from './call.mjs';

/** Percent of packets lost each way, and percent of the time that may be frozen. */
const steps = [[2, 1], [5, 3], [10, 8]];

/** Milliseconds from `from` until the picture moves again for good: half a second with frames in every fifth of it. */
function moves(readings, from) {
  const later = within(readings, from);
  for (const one of later) {
    const next = within(later, one.at, one.at + 600);
    const counts = [200, 400, 600].map(time => within(next, one.at, one.at + time).at(-1)?.framesDecoded);
    if (counts[0] > one.framesDecoded && counts[1] > counts[0] && counts[2] > counts[1]) return one.at - from;
  }
  return null;
}

export const loss = {
  about: '2, 5 and 10 % of the packets are lost each way, then everything for 300 ms',
  relays: 1,
  async run(rig) {
    rig.relay.command({ relay: 0, both: { delay_ms: 25 } });
    // A participant that sends nothing at all does not learn its round trip, and asks for what it misses too late. One that
    // sends its voice does; that costs its processor next to nothing.
    const call = await pair(rig, { receiver: { relay: 0, send: 'audio' } });
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    await sleep(3000);
    const idle = rig.idle();
    const begin = Date.now();
    const periods = [];
    for (const [percent] of steps) {
      const from = rig.relay.command({ relay: 0, both: { loss: percent } });
      await sleep(20000);
      periods.push([from, Date.now()]);
      rig.relay.command({ relay: 0, both: { loss: 0 } });
      await sleep(4000);
    }
    const outage = rig.relay.command({ relay: 0, both: { outage_ms: 300 } });
    await sleep(5000);
    const busy = idle();
    const samples = await rig.samples(rx);
    const figures = { idle_percent: round(busy) };
    const checks = steps.map(([percent, limit], index) => {
      const [video, audio] = ['video', 'audio'].map(kind => within(series(samples, 'tx', kind), ...periods[index]));
      const frozen = freezes(video);
      figures[`loss_${percent}`] = {
        freezes: frozen.count, longest_freeze_ms: frozen.longest,
        audio_concealed_percent: concealedPercent(audio),
        video_buffer_ms: bufferDelay(video),
        heights: [...new Set(video.map(one => one.frameHeight))],
      };
      return atMost(`frozen at ${percent} % loss`, frozenPercent(video), limit, '% of the time');
    });
    const after = within(series(samples, 'tx'), outage);
    figures.outage = { longest_freeze_ms: freezes(after).longest };
    checks.push(atMost('picture moves again after the outage', moves(after, outage + 300), 1000, 'ms'));
    return { figures, checks, excuse: await rig.trouble(tx, fps, begin, busy) };
  },
};
