import { atLeast, atMost, bufferDelay, reached, round, series, syncDrift, syncStep, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair, watcher } from './call.mjs';

const asks = [360, 180, 720, 180, 360, 720, 360, 180, 360, 720];
/** Before these count: the receiver learns what a keyframe costs, and lengthens its buffer of video for it, sound or not. */
const learning = [360, 720, 180, 720, 360, 720, 180, 720];

export const sync = {
  about: 'the distance between audio and video over ten switches of the layer',
  async run(rig) {
    const call = await pair(rig, { receiver: { 'lip-sync': true } });
    if (!call.ready) return notReady(call);
    const { tx, rx } = call;
    const hold = await rig.join('hold', { ...watcher, period: 1000 });
    await rig.want(hold, { stage: ['tx'], stageHeight: 720 });
    // It also brings audio and video together slowly.
    for (const height of learning) {
      await rig.want(rx, { stageHeight: height });
      await sleep(2500);
    }
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
    const unexplained = syncDrift(samples, 'tx', { buffers: true });
    const buffers = kind => [begin, times.at(-1).at].map(at => bufferDelay(within(series(samples, 'tx', kind), at, at + 4000)));
    const steps = times.map(({ at }) => syncStep(samples, 'tx', at));
    return {
      figures: {
        audio_before_video_ms: drift.first, windows: drift.windows, steps_ms: steps,
        video_buffer_ms: buffers('video'), audio_buffer_ms: buffers('audio'), idle_percent: round(busy),
      },
      checks: [
        atLeast('switches seen', switched, asks.length, 'switches'),
        atMost('step between audio and video at a switch, worst', steps.includes(null) ? null : Math.max(...steps.map(Math.abs)), 40, 'ms'),
        atMost('drift between audio and video', drift.drift, 40, 'ms'),
        atMost("the same without the receiver's buffers", unexplained.drift, 20, 'ms'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
