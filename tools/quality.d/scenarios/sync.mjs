import { atLeast, atMost, reached, round, series, syncDrift, syncStep, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair, watcher } from './call.mjs';

const asks = [360, 180, 720, 180, 360, 720, 360, 180, 360, 720];

export const sync = {
  about: 'the distance between audio and video over ten switches of the layer',
  async run(rig) {
    const call = await pair(rig, { receiver: { 'lip-sync': true } });
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    const hold = await rig.join('hold', { ...watcher, period: 1000 });
    await rig.want(hold, { stage: ['tx'], stageHeight: 720 });
    // The browser brings audio and video together slowly; that is not what is measured.
    await sleep(15000);
    const idle = rig.idle();
    const begin = Date.now();
    await sleep(4000);
    const times = [];
    for (const height of asks) {
      times.push({ height, at: await rig.want(rx, { stageHeight: height }) });
      await sleep(4000);
    }
    const busy = idle();
    const samples = (await rig.samples(rx)).filter(one => one.at >= begin);
    const readings = series(samples, 'tx');
    const switched = times.filter(({ height, at }, index) =>
      reached(within(readings, at, times[index + 1]?.at ?? Infinity), at, one => one.frameHeight === height) !== null).length;
    const drift = syncDrift(samples, 'tx');
    const steps = times.map(({ at }) => syncStep(samples, 'tx', at));
    return {
      figures: { audio_before_video_ms: drift.first, windows: drift.windows, steps_ms: steps, idle_percent: round(busy) },
      checks: [
        atLeast('switches seen', switched, asks.length, 'switches'),
        atMost('step between audio and video at a switch, worst', steps.includes(null) ? null : Math.max(...steps.map(Math.abs)), 40, 'ms'),
        atMost('drift between audio and video', drift.drift, 40, 'ms'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
