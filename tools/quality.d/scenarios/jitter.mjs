import { atMost, freezes, grown, round, series, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair } from './call.mjs';

export const jitter = {
  about: '50 ms of jitter and 2 % reordering: no layer is given up, and nothing is retransmitted needlessly',
  relays: 1,
  async run(rig) {
    rig.relay.command({ relay: 0, both: { delay_ms: 20 } });
    const call = await pair(rig, { receiver: { relay: 0 } });
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    await sleep(3000);
    const idle = rig.idle();
    const begin = rig.relay.command({ relay: 0, both: { jitter_ms: 50, reorder: 2, reorder_ms: 20 } });
    await sleep(25000);
    const busy = idle();
    const readings = within(series(await rig.samples(rx), 'tx'), begin);
    const packets = grown(readings, 'packets');
    const retransmitted = grown(readings, 'retransmitted');
    const lower = readings.filter(one => one.frameHeight < 720).length;
    return {
      figures: {
        packets, retransmitted, nacks: grown(readings, 'nackCount'), freezes: freezes(readings).count,
        relay_reordered: rig.relay.between(begin).at(-1)?.down.reordered ?? null, idle_percent: round(busy),
      },
      checks: [
        atMost('time below 720', readings.length ? round(lower * 100 / readings.length, 1) : null, 0, '% of the time'),
        atMost('retransmitted', packets ? round(retransmitted * 100 / packets, 2) : null, 2, '% of packets'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
