import { atLeast, atMost, freezes, queueSettled, reached, round, series, throughput, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair } from './call.mjs';

const wide = 3000, narrow = 400;

export const squeeze = {
  about: 'the downlink goes from 3 Mbit/s to 400 kbit/s and back',
  relays: 1,
  async run(rig) {
    // More is wanted than the narrow link carries, in steps that are small enough to fill it.
    rig.scripted(2, 180);
    rig.relay.command({ relay: 0, both: { delay_ms: 20 }, down: { rate_kbps: wide, queue_ms: 600 } });
    const call = await pair(rig, { receiver: { relay: 0 } });
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    await sleep(4000);
    const idle = rig.idle();
    const begin = Date.now();
    await sleep(5000);
    const squeezed = rig.relay.command({ relay: 0, down: { rate_kbps: narrow } });
    await sleep(20000);
    const back = rig.relay.command({ relay: 0, down: { rate_kbps: wide } });
    await sleep(14000);
    const busy = idle();
    const all = series(await rig.samples(rx), 'tx');
    const low = within(all, squeezed, back);
    const frozen = freezes(low);
    const flowed = throughput(rig.relay.between(squeezed + 8000, back));
    const before = within(all, squeezed - 1000, squeezed);
    // A layer that was low already does not become lower.
    const wasHigh = before.length > 0 && before.every(one => one.frameHeight === 720);
    const link = rig.relay.between(squeezed, back);
    const told = await rig.bandwidth(rx, squeezed + 8000, back);
    const mean = field => told.length ? round(told.reduce((sum, one) => sum + one[field], 0) / told.length / 1000) : null;
    return {
      figures: {
        wide_kbps: throughput(rig.relay.between(begin, squeezed)),
        narrow_kbps: flowed,
        when_narrow: { estimate_kbps: mean('estimate_bps'), target_kbps: mean('target_bps'), sent_kbps: mean('sent_bps') },
        heights_before: [...new Set(within(all, begin, squeezed).map(one => one.frameHeight))],
        worst_queue_ms: round(Math.max(0, ...link.map(one => one.down.queue_p99_ms))),
        queue_dropped: link.length ? link.at(-1).down.queue_dropped - link[0].down.queue_dropped : null,
        freezes: frozen.count, frozen_ms: frozen.total,
        heights_when_narrow: [...new Set(low.map(one => one.frameHeight))],
        idle_percent: round(busy),
      },
      checks: [
        atMost('lower layer after the squeeze', wasHigh ? reached(low, squeezed, one => one.frameHeight < 720) : null, 2000, 'ms'),
        atMost('longest freeze', freezes(within(all, squeezed)).longest, 1000, 'ms'),
        atMost('queue under 100 ms again', queueSettled(link, squeezed, 100), 3000, 'ms'),
        atMost('720 again after the link is back', reached(all, back, one => one.frameHeight === 720), 10000, 'ms'),
        atLeast('use of the narrow link', round(flowed * 100 / narrow, 1), 85, '%'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
