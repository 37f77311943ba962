import { atMost, round, series, reached, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair } from './call.mjs';

/** Milliseconds from `from` until the sender's encoding of `height` stands still for good. */
function stops(samples, from, height) {
  const high = samples.filter(one => one.at >= from)
    .map(({ at, outbound }) => ({ at, packets: outbound.filter(one => one.kind === 'video' && one.height === height).reduce((sum, one) => sum + one.packets, 0) }));
  if (high.length < 2) return null;
  // Readings without that height show that it is off as well.
  const last = high.findLastIndex((one, index) => index > 0 && one.packets > high[index - 1].packets && high[index - 1].packets > 0);
  if (last < 0) return 0;
  return high.at(-1).at - high[last].at < 1500 ? null : high[last].at - from;
}

export const saves = {
  about: 'nobody looks at full size any more: the sender stops encoding it',
  async run(rig) {
    const call = await pair(rig);
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    const idle = rig.idle();
    const begin = Date.now();
    await sleep(2000);
    const small = await rig.want(rx, { stageHeight: 180 });
    await sleep(8000);
    const large = await rig.want(rx, { stageHeight: 720 });
    await sleep(12000);
    const busy = idle();
    const own = await rig.samples(tx);
    const readings = series(await rig.samples(rx), 'tx');
    const quiet = own.filter(one => one.at < large);
    const rate = (from, to) => {
      const part = own.filter(one => one.at >= from && one.at <= to);
      const bytes = one => one.outbound.filter(out => out.kind === 'video').reduce((sum, out) => sum + out.bytes, 0);
      return part.length > 1 ? round((bytes(part.at(-1)) - bytes(part[0])) * 8 / (part.at(-1).at - part[0].at)) : null;
    };
    return {
      figures: {
        sent_kbps_at_720: rate(begin, small), sent_kbps_at_180: rate(small + 4000, large),
        seen_180_ms: reached(within(readings, small, large), small, one => one.frameHeight === 180),
        seen_720_again_ms: reached(readings, large, one => one.frameHeight === 720),
        idle_percent: round(busy),
      },
      checks: [
        atMost('720 no longer sent', stops(quiet, small, 720), 3000, 'ms'),
        atMost('360 no longer sent', stops(quiet, small, 360), 3000, 'ms'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
