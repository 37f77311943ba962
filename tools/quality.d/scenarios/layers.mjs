import { atMost, freezes, reached, round, series, usual, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps, notReady, pair, watcher } from './call.mjs';

const asks = [360, 180, 360, 720];
/** Page options per codec; H.264 is asked for simulcast, VP9 and AV1 for scalable layers. */
const codecs = {
  vp8: {},
  vp9: { codec: 'vp9', simulcast: 0, scalability: 'L3T3_KEY' },
  av1: { codec: 'av1', scalability: 'L3T3_KEY' },
  h264: { codec: 'h264', simulcast: 1 },
};

async function script(rig, codec) {
  const call = await pair(rig, { sender: codecs[codec], receiver: { codec: codecs[codec].codec } });
  if (!call.ready) return notReady(call);
  const { tx, rx } = call;
  // Another one that looks at full size keeps all layers alive: this is about the bridge's switches, not the sender's.
  const hold = await rig.join('hold', { ...watcher, codec: codecs[codec].codec, period: 1000 });
  await rig.want(hold, { stage: ['tx'], stageHeight: 720 });
  await rig.seen(hold, 'tx', 720);
  const idle = rig.idle();
  const start = Date.now();
  const times = [];
  for (const height of asks) {
    times.push({ height, at: await rig.want(rx, { stageHeight: height }) });
    await sleep(5000);
  }
  const busy = idle();
  const readings = within(series(await rig.samples(rx), 'tx'), start);
  const checks = [];
  for (const [index, { height, at }] of times.entries()) {
    const until = times[index + 1]?.at ?? Infinity;
    checks.push(atMost(`${codec}: ${height} after the ask`, reached(within(readings, at, until), at, one => one.frameHeight === height), 1500, 'ms'));
  }
  const frozen = freezes(readings);
  checks.push(atMost(`${codec}: longest freeze`, frozen.longest, 300, 'ms'));
  return {
    figures: { codec: readings.at(-1)?.codec, freezes: frozen.count, frozen_ms: frozen.total, fps: usual(readings, 'framesPerSecond'), idle_percent: round(busy) },
    checks,
    excuse: await rig.trouble(tx, fps, start, busy),
  };
}

export const layers = {
  about: 'a receiver asks for 720, 360, 180, 360, 720 in turn, in every codec',
  async run(rig, { codec }) {
    const figures = {}, checks = [], invalid = [];
    for (const name of codec ? [codec] : Object.keys(codecs)) {
      const one = await script(rig, name);
      figures[name] = one.figures;
      checks.push(...one.checks);
      if (one.excuse && one.checks.some(check => !check.ok)) invalid.push(`${name}: ${one.excuse}`);
      await rig.clear();
    }
    return { figures, checks, invalid: invalid.join('; ') || undefined };
  },
};
