import { atLeast, atMost, round, series, within } from '../figures.mjs';
import { sleep } from '../rig.mjs';
import { until } from '../../lib/process.mjs';
import { watcher } from './call.mjs';

const others = 11, lastN = 4, turn = 3;

/** Endpoints that the bridge is to forward: the stage, then those who spoke last. */
export function expectedSet(stage, speakers, self, size) {
  return [...new Set([stage, ...speakers])].filter(one => one && one !== self).slice(0, size);
}

/** Endpoint of a source name. */
const owner = source => source.replace(/-[av]\d+$/, '');

export const lastn = {
  about: '12 participants, last-n 4, another one speaks every 3 s',
  async run(rig) {
    rig.scripted(others, 150, ['--speak-seconds', String(turn)]);
    const rx = await rig.join('rx', { ...watcher, period: 100 });
    let stage;
    await until('the scripted participants are in the room', 60000, async () => {
      const { participants } = await rx.state();
      stage = participants.find(one => one.name === 'scripted 1');
      return participants.length === others && stage;
    }, 500);
    await rig.want(rx, { lastN, stage: ['scripted 1'], stageHeight: 720, height: 180 });
    const self = (await rx.state()).id;
    await sleep(8000);
    const idle = rig.idle();
    const begin = Date.now();
    await sleep(40000);
    const busy = idle();
    const messages = await rig.messages(rx);
    const samples = await rig.samples(rx);
    const speaks = messages.filter(one => one.colibriClass === 'DominantSpeakerEndpointChangeEvent' && one.at >= begin);
    const forwarded = messages.filter(one => one.colibriClass === 'ForwardedSources');
    const setAt = time => (forwarded.filter(one => one.at <= time).at(-1)?.forwardedSources ?? []).map(owner);

    // After every change of the speaker: how long until the set is the right one.
    const delays = [];
    for (const [index, speech] of speaks.entries()) {
      const next = speaks[index + 1]?.at ?? Date.now();
      const expected = expectedSet(stage.id, [speech.dominantSpeakerEndpoint, ...speech.previousSpeakers ?? []], self, lastN);
      const right = time => {
        const set = setAt(time);
        return set.length === lastN && expected.every(one => set.includes(one));
      };
      const times = [speech.at, ...forwarded.map(one => one.at).filter(at => at > speech.at && at < next)];
      const found = times.find(right);
      // Messages of one moment may come in either order.
      delays.push(found === undefined ? null : found - speech.at);
    }
    // For every source that enters: how long until its picture moves.
    const entries = [];
    for (const [index, one] of forwarded.entries()) {
      if (one.at < begin) continue;
      const before = (forwarded[index - 1]?.forwardedSources ?? []).map(owner);
      for (const id of one.forwardedSources.map(owner)) {
        if (before.includes(id)) continue;
        const name = Object.entries(samples.at(-1).remote).find(([, remote]) => remote.id === id)?.[0];
        const readings = name ? series(samples, name) : [];
        const at = readings.filter(reading => reading.at <= one.at).at(-1);
        const moved = within(readings, one.at, one.at + 3000).find(reading => reading.framesDecoded > (at?.framesDecoded ?? 0));
        entries.push(moved ? moved.at - one.at : null);
      }
    }
    const worst = list => !list.length || list.includes(null) ? null : Math.max(...list);
    return {
      figures: {
        speaker_changes: speaks.length, sets_missed: delays.filter(one => one === null).length,
        entries: entries.length, entries_without_picture: entries.filter(one => one === null).length, idle_percent: round(busy),
      },
      checks: [
        // A speaker every three seconds for forty: fewer changes mean that speakers are not found.
        atLeast('changes of the speaker found', speaks.length, Math.floor(40 / turn) - 2, 'changes'),
        atMost('forwarded set is stage and last speakers, worst change', worst(delays), 500, 'ms'),
        atMost('picture of a source that enters, worst entry', worst(entries), 500, 'ms'),
      ],
      excuse: busy < 3 ? `the machine was busy: ${round(busy, 1)} % idle` : undefined,
    };
  },
};
