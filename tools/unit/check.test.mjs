import assert from 'node:assert/strict';
import { test } from 'node:test';
import { roomMistakes, smallerPictures } from '../demo.d/check.mjs';
import { allDecode } from '../check-scenarios.d/call.mjs';
import { pageAddress } from '../lib/browsers.mjs';
import { difference, matrix, measureUntilAll, minimumFrames, pairsBetween, sentVideo } from '../lib/measure.mjs';
import { scriptedPairs } from '../lib/scripted.mjs';
import { freePort } from '../lib/ports.mjs';
import { createServer } from 'node:net';

const reading = (at, frames, energy, packets) => ({
  at,
  remote: { a: { video: { framesDecoded: frames, freezeCount: 0, totalFreezesDuration: 0 }, audio: { energy, packets } } },
});

test('a pair that stands still is not ok', () => {
  const still = difference(reading(0, 100, 1, 50), reading(10000, 100, 1, 50), 'a');
  assert.deepEqual([still.videoOk, still.audioOk], [false, false]);
  const moving = difference(reading(0, 100, 1, 50), reading(10000, 250, 1.5, 550), 'a');
  assert.deepEqual([moving.videoOk, moving.audioOk, moving.frames], [true, true, 150]);
});

test('a page is asked for the small camera, unless another one is wanted', () => {
  const parameters = query => Object.fromEntries(new URL(pageAddress('http://127.0.0.1:1/', 'room', 'p1', query)).searchParams);
  const { size, fps, p2p, codec } = parameters({ size: undefined, fps: undefined, p2p: true, codec: undefined });
  assert.deepEqual([size, fps, p2p, codec], ['320x180', '15', '1', undefined]);
  assert.deepEqual(parameters({ size: '640x360', log: false }), { room: 'room', name: 'p1', size: '640x360', fps: '15' });
});

test('a slow camera is measured by what it makes, a fast one by the floor', () => {
  assert.equal(minimumFrames(10), 30);
  assert.equal(minimumFrames(10, 15), 30);
  assert.equal(minimumFrames(10, 4), 10);
  assert.equal(minimumFrames(10, 0), 2, 'a still picture is no video');
  const at = (seconds, encoded, decoded) => ({
    ...reading(1000 * seconds, decoded, seconds + 1, 500 * seconds),
    outbound: [{ kind: 'audio', ssrc: 1 }, { kind: 'video', ssrc: 2, frames: encoded }, { kind: 'video', ssrc: 3 }],
  });
  const ok = (encoded, decoded) => {
    const [before, after] = [[at(0, 7, 0), at(0, 7, 0)], [at(10, 7 + encoded, decoded), at(10, 7 + encoded, decoded)]];
    return pairsBetween([{ name: 'a' }, { name: 'b' }], before, after).find(one => one.sender === 'a')?.videoOk;
  };
  assert.deepEqual([ok(40, 28), ok(40, 10), ok(40, 9), ok(150, 29), ok(150, 30), ok(0, 0)], [true, true, false, false, true, false]);
  assert.equal(sentVideo(at(0, 100, 0), at(10, 40, 0)).frames, 4, 'a new encoder starts its count again');
  assert.deepEqual(sentVideo(reading(0, 0, 0, 0), reading(10000, 0, 0, 0)), { frames: 0, kbits: 0, limited: undefined });
  const sent = (milliseconds, ...bytes) => ({ at: milliseconds, outbound: bytes.map((one, ssrc) => ({ kind: 'video', ssrc, bytes: one, frames: one / 100, limited: ssrc ? 'cpu' : 'none' })) });
  assert.deepEqual(sentVideo(sent(0, 1000, 0), sent(2000, 26000, 50000)), { frames: 250, kbits: 300, limited: 'cpu' });
});

test('silence with packets is not audio', () => {
  assert.equal(difference(reading(0, 0, 1, 50), reading(10000, 150, 1, 550), 'a').audioOk, false);
});

test('a sender that is missing is not ok', () => {
  const nobody = { at: 10000, remote: {} };
  assert.deepEqual([difference(nobody, nobody, 'a').videoOk, difference(nobody, nobody, 'a').audioOk], [false, false]);
});

test('a new track starts its count again', () => {
  assert.equal(difference(reading(0, 1000, 5, 900), reading(10000, 60, 0.2, 100), 'a').frames, 60);
});

test('a slow pair decodes after all, one that stands still never does', async () => {
  const participant = (name, other, step) => {
    let reads = 0;
    return { name, stats: async () => {
      const { a } = reading(0, reads * step, reads * step, reads * step).remote;
      return { at: 250 * reads++, remote: { [other]: a } };
    } };
  };
  assert.deepEqual((await allDecode([participant('a', 'b', 2), participant('b', 'a', 30)], 5000)).map(one => one.videoOk), [true, true]);
  await assert.rejects(allDecode([participant('a', 'b', 0), participant('b', 'a', 30)], 600), /not all pairs decode:[^]*0 fr NO, 0\.0e\+0 NO/);
});

test('what does not decode at first is measured again, and not without end', async () => {
  // Ten frames in each window from the third reading of the statistics on, that is, from the second window.
  const participant = (name, other, from) => {
    let reads = 0;
    return { name, stats: async () => {
      reads += 1;
      return { ...reading(1000 * reads, 0, 0, 0), remote: { [other]: reading(0, 10 * Math.max(0, reads - from), reads, reads).remote.a } };
    } };
  };
  const all = from => [participant('a', 'b', from), participant('b', 'a', 0)];
  const { pairs, measurements } = await measureUntilAll(all(3), 1, ['a', 'b'], 5000);
  assert.deepEqual([pairs.map(one => one.videoOk), measurements], [[true, true], 2]);
  assert.equal((await measureUntilAll(all(0), 1, ['a', 'b'], 5000)).measurements, 1);
  assert.equal((await measureUntilAll(all(3), 1, ['a', 'b'], 0)).pairs.every(one => one.videoOk), false, 'once where there is no patience');
  const never = await measureUntilAll(all(Infinity), 1, ['a', 'b'], 20);
  assert.ok(never.measurements > 1 && never.pairs.some(one => !one.videoOk));
});

test('the matrix marks what failed', () => {
  const text = matrix([{ sender: 'a', receiver: 'b', frames: 0, energy: 0, videoOk: false, audioOk: false }], ['a', 'b'], ['a', 'b']);
  assert.match(text, /a +- +0 fr NO, 0\.0e\+0 NO/);
});

test('a taken port is replaced', async () => {
  const server = createServer();
  await new Promise(done => server.listen(0, '127.0.0.1', () => done(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const chosen = await freePort(port);
  server.close();
  assert.notEqual(chosen, port);
});

test('scripted receivers count by sender, themselves excepted', () => {
  const received = { a: { video_frames: 150, audio_packets: 500 }, b: { video_frames: 2, audio_packets: 500 }, me: { video_frames: 150, audio_packets: 500 } };
  assert.deepEqual(scriptedPairs({ reports: [{ endpoint: 'me', received }] }, 10), { video: 1, audio: 2 });
  assert.deepEqual(scriptedPairs({ reports: [{ endpoint: 'me', received: { b: { video_frames: 12, audio_packets: 60 } } }] }, 10,
    { audio: 5, sent: new Map([['b', 4]]) }), { video: 1, audio: 1 });
  assert.equal(scriptedPairs(undefined, 10), undefined);
});

test('a room in which all agree has no mistakes, and each disagreement is named', () => {
  const media = { audio_packets: 1, video_frames: 0 };
  const report = () => ({ reports: [
    { endpoint: 'a', occupants: ['b', 'p'], owners: ['p'], received: { b: { ...media }, p: { ...media }, jvb: { audio_packets: 0, video_frames: 0 } } },
    { endpoint: 'b', occupants: ['a', 'p'], owners: ['p'], received: { a: { ...media }, p: { ...media } } },
  ] });
  const pages = [{ id: 'p', owner: true }];
  assert.deepEqual(roomMistakes(report(), pages), []);
  const wrong = (change, text) => {
    const changed = report();
    change(changed.reports);
    assert.match(roomMistakes(changed, pages).join(), text);
  };
  wrong(([a]) => a.occupants.pop(), /a saw 1 others instead of 2/);
  wrong(([a]) => { a.received.b.audio_packets = 0; }, /a received media of 1 instead of 2/);
  wrong(([, b]) => { b.owners = ['a']; }, /b saw the owners a/);
  wrong(([, b]) => b.owners.push('a'), /b saw the owners p,a/);
  assert.match(roomMistakes(report(), [{ id: 'p', owner: false }]).join(), /p says that it is no owner/);
  assert.deepEqual(roomMistakes(undefined, pages), ['the scripted participants left no report']);
});

test('a picture that is smaller than what is sent is named', () => {
  const stream = (height, more) => ({ kind: 'video', height, frames: 9, ...more });
  const sent = new Map([
    ['a', [stream(360), stream(180), stream(90), { kind: 'audio' }]],
    ['b', [stream(180), stream(720, { active: false }), stream(360, { frames: 0 })]],
  ]);
  const pair = (sender, receiver, frameHeight) => ({ sender, receiver, video: { frameHeight } });
  assert.deepEqual(smallerPictures(sent, [pair('a', 'b', 360), pair('b', 'a', 180), pair('scripted', 'a', 90)]), []);
  assert.deepEqual(smallerPictures(sent, [pair('a', 'b', 90), { sender: 'b', receiver: 'a' }]),
    ['b decodes 90 lines of a, which sends 360', 'a decodes no lines of b, which sends 180']);
});
