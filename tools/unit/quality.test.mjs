import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  atLeast, atMost, concealedPercent, freezes, frozenPercent, grown, queueSettled, reached, senderTrouble, series, syncDrift, syncStep, throughput,
} from '../quality.d/figures.mjs';
import { expectedSet } from '../quality.d/scenarios/lastn.mjs';

/**
 * Readings every 100 ms, 1.5 frames each; `at(index)` gives further fields.
 * @param {number} count
 * @param {(index: number) => object} [at]
 */
const readings = (count, at = () => ({})) => Array.from({ length: count }, (_, index) =>
  ({ at: index * 100, framesDecoded: Math.floor(index * 1.5), freezeCount: 0, totalFreezesDuration: 0, ...at(index) }));

test('series leaves out readings without the sender', () => {
  const samples = [{ at: 1, remote: {} }, { at: 2, remote: { a: { video: { framesDecoded: 3 } } } }];
  assert.deepEqual(series(samples, 'a'), [{ at: 2, framesDecoded: 3 }]);
});

test('a counter that starts over goes on counting', () => {
  assert.equal(grown([{ x: 5 }, { x: 9 }, { x: 2 }, { x: 3 }], 'x'), 7);
});

test('a height is reached when fresh frames hold it', () => {
  const rising = readings(60, index => ({ frameHeight: index < 22 ? 360 : 720 }));
  assert.equal(reached(rising, 1000, one => one.frameHeight === 720), 1200);
  const flickers = readings(60, index => ({ frameHeight: index === 20 || index > 40 ? 720 : 360 }));
  assert.equal(reached(flickers, 1000, one => one.frameHeight === 720), 3100);
  const stands = readings(60, index => ({ frameHeight: index < 22 ? 360 : 720, framesDecoded: Math.min(index, 22) }));
  assert.equal(reached(stands, 1000, one => one.frameHeight === 720), null, 'a picture that stands still proves nothing');
  assert.equal(reached(rising, 1000, one => one.frameHeight === 180), null);
});

test('freezes have a length, and one that goes on counts', () => {
  const two = readings(50, index => ({ freezeCount: index < 10 ? 0 : index < 30 ? 1 : 2, totalFreezesDuration: index < 10 ? 0 : index < 30 ? 0.25 : 0.75 }));
  assert.deepEqual(freezes(two), { count: 2, total: 750, longest: 500 });
  const stuck = readings(50, index => ({ framesDecoded: Math.min(index, 29) }));
  assert.deepEqual(freezes(stuck), { count: 1, total: 2000, longest: 2000 });
  assert.equal(frozenPercent(stuck), 40.82);
  assert.deepEqual(freezes([]), { count: 0, total: 0, longest: 0 });
  assert.equal(frozenPercent([]), null);
});

test('silence is not concealment', () => {
  assert.equal(concealedPercent([{ samples: 0, concealed: 0, silentConcealed: 0 }, { samples: 48000, concealed: 2400, silentConcealed: 1920 }]), 1);
  assert.equal(concealedPercent([]), null);
});

test('a queue settles when it stays short', () => {
  const reports = Array.from({ length: 60 }, (_, index) => ({ at: index * 100, down: { kbps: 400, queue_p99_ms: index < 20 || index === 25 ? 300 : 40, bytes: index * 5000 } }));
  assert.equal(queueSettled(reports, 0, 100), 2600);
  assert.equal(queueSettled(reports, 0, 20), null);
  assert.equal(throughput(reports), 400);
  assert.equal(queueSettled([], 0, 100), null);
});

test('drift is what changes between audio and video', () => {
  const samples = Array.from({ length: 100 }, (_, index) => ({ at: index * 100,
    remote: { a: { audio: { playout: index * 100 + 20 }, video: { playout: index * 100 - (index > 50 ? 30 : 0) } } } }));
  assert.deepEqual(syncDrift(samples, 'a'), { first: 20, drift: 30, windows: 9 });
  assert.equal(syncStep(samples, 'a', 5050), 30);
  assert.equal(syncStep(samples, 'a', 3000), 0);
  assert.equal(syncStep(samples, 'a', 20000), null);
  assert.equal(syncDrift([], 'a').drift, null);
});

test("drift that the receiver's buffers explain is theirs", () => {
  // The video's buffer grows from 10 to 40 ms halfway; 15 pictures and 50 packets a second pass through.
  const samples = Array.from({ length: 100 }, (_, index) => {
    const emitted = index * 1.5, late = Math.max(0, index - 50) * 1.5;
    return { at: index * 100, remote: { a: {
      audio: { playout: index * 100 + 20, bufferDelay: index * 5 * 0.03, bufferEmitted: index * 5 },
      video: { playout: index * 100 - (index > 50 ? 30 : 0), bufferDelay: emitted * 0.01 + late * 0.03, bufferEmitted: emitted },
    } } };
  });
  assert.equal(syncDrift(samples, 'a').drift, 30);
  assert.ok((syncDrift(samples, 'a', { buffers: true }).drift ?? Infinity) <= 3);
});

test('a slow sender is distinguished from a slow bridge', () => {
  const sender = (cpu, frames, captured = 15) => Array.from({ length: 11 }, (_, second) => ({
    at: second * 1000, cameras: [{ frames: captured * second }],
    outbound: [{ kind: 'video', ssrc: 1, frames: frames * second, limitedDurations: { cpu: cpu * second } }],
  }));
  assert.equal(senderTrouble(sender(0, 15), 15, 40), undefined);
  assert.match(senderTrouble(sender(0.5, 15), 15, 40) ?? '', /processor for 50 %/);
  assert.match(senderTrouble(sender(0, 15, 8), 15, 40) ?? '', /camera gave 8 /);
  assert.match(senderTrouble(sender(0, 8), 15, 40) ?? '', /encoded 8 instead of 15/);
  assert.match(senderTrouble(sender(0, 15), 15, 1) ?? '', /busy/);
});

test('what could not be measured does not pass', () => {
  assert.equal(atMost('x', null, 5).ok, false);
  assert.equal(atLeast('x', undefined, 5).ok, false);
  assert.deepEqual([atMost('x', 5, 5).ok, atMost('x', 6, 5).ok, atLeast('x', 4, 5).ok], [true, false, false]);
});

test('the forwarded set is the stage, then the last speakers', () => {
  assert.deepEqual(expectedSet('s', ['a', 's', 'b', 'me', 'c', 'd'], 'me', 4), ['s', 'a', 'b', 'c']);
});

test('the plot scales to round numbers and moves left', async () => {
  const { ceiling, points } = await import('../page/bandwidth.js');
  assert.deepEqual([100000, 100001, 640000, 2500000].map(ceiling), [100000, 200000, 1000000, 5000000]);
  const history = [{ at: 0, bits: 5 }, { at: 60000, bits: 50 }, { at: 120000, bits: 100 }, { at: 120000, bits: undefined }];
  assert.equal(points(history, 120000, 100, 300, 90), '0.0,85.5 150.0,45.0 300.0,0.0');
  assert.equal(points(history, 180000, 100, 300, 90), '0.0,45.0 150.0,0.0');
});
