import { atLeast, atMost, perSecond, round, series, throughput, usual } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { watcher } from './call.mjs';

// One encoding cannot be thinned out: it has to fit the link, or no bridge could keep its height and its frames.
const cameras = 5, fps = 8, screenBitrate = '1200';

export const share = {
  about: 'a screen of 1080p beside five cameras on a downlink of 2 Mbit/s',
  relays: 1,
  async run(rig) {
    rig.relay.command({ relay: 0, both: { delay_ms: 20 }, down: { rate_kbps: 2000, queue_ms: 600 } });
    rig.scripted(cameras, 150);
    const tx = await rig.join('tx', { size: '320x180', fps: 15, simulcast: 0, screen: `1920x1080@${fps}`, bitrates: screenBitrate });
    // A slide is worth more than its thumbnails: one encoding, as Jitsi Meet sends a screen at a low frame rate.
    await tx.hook('ringbridge.shareScreen()');
    await rig.want(tx, { lastN: 0 });
    const rx = await rig.join('rx', { ...watcher, relay: 0 });
    await rig.want(rx, { stage: ['tx'], stageHeight: 2160, height: 360 });
    if (!await rig.sends(tx, 1080)) {
      return { figures: {}, checks: [{ what: 'the sender sends 1080p', value: false, ok: false }], excuse: await rig.trouble(tx, fps, 0) ?? 'the sender did not get to 1080p within a minute' };
    }
    await sleep(10000);
    const idle = rig.idle();
    const begin = Date.now();
    await sleep(20000);
    const busy = idle();
    const samples = (await rig.samples(rx)).filter(one => one.at >= begin);
    const screen = series(samples, 'tx');
    const names = Object.keys(samples.at(-1).remote).filter(name => name !== 'tx');
    const link = rig.relay.between(begin);
    return {
      figures: {
        link_kbps: throughput(link),
        cameras: Object.fromEntries(names.map(name => [name, round(perSecond(series(samples, name), 'framesDecoded'), 1)])),
        worst_queue_ms: round(Math.max(0, ...link.map(one => one.down.queue_p99_ms))),
        idle_percent: round(busy),
      },
      checks: [
        atLeast('frame rate of the screen', round(perSecond(screen, 'framesDecoded'), 1), 5, 'frames/s'),
        atLeast('height of the screen', usual(screen, 'frameHeight'), 1080, 'pixels'),
        atMost('time below 1080', screen.length ? round(screen.filter(one => one.frameHeight < 1080).length * 100 / screen.length, 1) : null, 0, '% of the time'),
      ],
      excuse: await rig.trouble(tx, fps, begin, busy),
    };
  },
};
