import { atLeast, perSecond, round, series, throughput, usual, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { fps } from './call.mjs';

const names = ['a', 'b', 'c'];
const length = 15000;

export const neighbours = {
  about: 'one of four has a downlink of 300 kbit/s; the other three must not notice',
  relays: 1,
  async run(rig) {
    rig.relay.command({ relay: 0, both: { delay_ms: 20 } });
    const pages = new Map();
    for (const name of names) pages.set(name, await rig.join(name, { size: name === 'a' ? '640x360' : '320x180', fps, period: 250 }));
    const slow = await rig.join('slow', { size: '320x180', fps, relay: 0, period: 250 });
    const pairs = names.flatMap(receiver => [...names, 'slow'].filter(sender => sender !== receiver).map(sender => [receiver, sender]));
    const meeting = await Promise.all(pairs.map(([receiver, sender]) => rig.seen(pages.get(receiver), sender, sender === 'a' ? 360 : 180, 60000)));
    if (meeting.includes(false)) {
      const missing = pairs.filter((_, index) => !meeting[index]).map(([receiver, sender]) => `${sender} at ${receiver}`);
      return { figures: {}, checks: [{ what: `full resolution before anything is impaired (missing: ${missing.join(', ')})`, value: false, ok: false }],
        excuse: await rig.trouble(pages.get('a'), fps, 0) };
    }
    await sleep(3000);
    const idle = rig.idle();
    const good = Date.now();
    await sleep(length);
    const bad = rig.relay.command({ relay: 0, down: { rate_kbps: 300 } });
    await sleep(length);
    const end = Date.now();
    const busy = idle();
    let worstRate = null, worstHeight = null;
    const figures = { pairs: {} };
    for (const [receiver, sender] of pairs) {
      const readings = series(await rig.samples(pages.get(receiver)), sender);
      const [before, after] = [within(readings, good, bad), within(readings, bad, end)];
      const [was, is] = [before, after].map(part => perSecond(part, 'framesDecoded'));
      const rate = was > 0 && is !== null ? is / was * 100 : 0;
      const height = usual(before, 'frameHeight') ? Math.min(...after.map(one => one.frameHeight)) / usual(before, 'frameHeight') * 100 : 0;
      worstRate = Math.min(worstRate ?? Infinity, rate);
      worstHeight = Math.min(worstHeight ?? Infinity, height);
      figures.pairs[`${sender} at ${receiver}`] = { fps_before: round(was, 2), fps_after: round(is, 2), height_after: usual(after, 'frameHeight') };
    }
    const own = await rig.samples(slow);
    const link = rig.relay.between(bad + 5000, end);
    figures.slow = {
      kbps: throughput(link), queue_p99_ms: round(Math.max(0, ...link.map(one => one.down.queue_p99_ms))),
      fps: Object.fromEntries(names.map(name => [name, round(perSecond(within(series(own, name), bad + 5000, end), 'framesDecoded'), 1)])),
    };
    figures.idle_percent = round(busy);
    const begins = await Promise.all([...pages.values()].map(page => rig.trouble(page, fps, good, busy)));
    return {
      figures,
      checks: [
        atLeast('frame rate of the others, worst pair', round(worstRate, 1), 98, '% of unimpaired'),
        atLeast('resolution of the others, worst pair', round(worstHeight, 1), 98, '% of unimpaired'),
      ],
      excuse: begins.find(Boolean),
    };
  },
};
