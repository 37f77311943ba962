// Records what Chromium sends, with `ringbridge-bench record` as the other side of a peer connection.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Browser } from '../lib/browsers.mjs';
import { targetFolder } from '../lib/paths.mjs';

const usage = `tools/record [options] FILE

Records what Chromium's camera and microphone send, decrypted, as an rtpdump file for
ringbridge-bench replay --capture FILE.

  --codec vp8|vp9|av1|h264   (vp8)
  --size WIDTHxHEIGHT        of the camera (1280x720)
  --seconds N                (10)
  --simulcast N              encodings, each half the size of the next (vp8 and h264: 3, others: 1)
  --svc MODE                 scalability mode of each encoding (vp9 and av1: L3T3_KEY, others: L1T3)
  --keyframes MS             ask for a keyframe of every encoding this often (0: never)

FILE.sdp gets the description that the packets go by: payload types and header extensions.
`;

let parsed;
try {
  parsed = parseArgs({
    allowPositionals: true,
    options: {
      codec: { type: 'string', default: 'vp8' }, size: { type: 'string', default: '1280x720' },
      seconds: { type: 'string', default: '10' }, simulcast: { type: 'string' }, svc: { type: 'string' },
      keyframes: { type: 'string', default: '0' },
      help: { type: 'boolean' },
    },
  });
} catch (error) {
  fail(`${error.message}\n\n${usage}`);
}
const { values, positionals: [file] } = parsed;
if (values.help) { process.stdout.write(usage); process.exit(0); }
const [width, height] = values.size.split('x').map(Number);
const svcByDefault = ['vp9', 'av1'].includes(values.codec);
const encodings = Number(values.simulcast ?? (svcByDefault ? 1 : 3));
const svc = values.svc ?? (svcByDefault ? 'L3T3_KEY' : 'L1T3');
const codecs = { vp8: 'VP8', vp9: 'VP9', av1: 'AV1', h264: 'H264' };
if (!file || !codecs[values.codec] || !(width > 0 && height > 0) || !(encodings >= 1 && encodings <= 3)) fail(usage);

function fail(text) { process.stderr.write(`${text}\n`); process.exit(2); }

/** Runs in the page: sends camera and microphone, returns the offer with all candidates. */
async function offer(camera) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: camera.width, height: camera.height, frameRate: 30 } });
  const connection = new RTCPeerConnection();
  window.connection = connection;
  connection.addTransceiver(stream.getAudioTracks()[0], { direction: 'sendonly' });
  const sendEncodings = Array.from({ length: camera.encodings }, (_, i) => ({
    ...(camera.encodings > 1 ? { rid: String(i), scaleResolutionDownBy: 2 ** (camera.encodings - 1 - i) } : {}), scalabilityMode: camera.svc,
  }));
  const video = connection.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly', sendEncodings });
  const known = RTCRtpSender.getCapabilities('video').codecs;
  const wanted = known.filter(c => c.mimeType === `video/${camera.codec}`);
  if (wanted.length === 0) throw new Error(`this Chromium does not encode ${camera.codec}`);
  // Chromium does not offer it by itself.
  const extensions = video.getHeaderExtensionsToNegotiate();
  for (const extension of extensions) {
    if (extension.uri.includes('dependency-descriptor')) extension.direction = 'sendrecv';
  }
  video.setHeaderExtensionsToNegotiate(extensions);
  video.setCodecPreferences([...wanted, ...known.filter(c => c.mimeType === 'video/rtx')]);
  await connection.setLocalDescription();
  if (connection.iceGatheringState !== 'complete') {
    await new Promise(done => {
      connection.addEventListener('icegatheringstatechange', () => connection.iceGatheringState === 'complete' && done());
    });
  }
  return connection.localDescription.sdp;
}

const bench = process.env.RINGBRIDGE_BENCH ?? join(targetFolder, 'release', 'ringbridge-bench');
const recorder = spawn(bench, ['record', '--seconds', values.seconds, '--keyframes', values.keyframes, file], { stdio: ['pipe', 'pipe', 'inherit'] });
recorder.on('error', error => fail(`cannot start ${bench}: ${error.message}; cargo build --release -p ringbridge-bench`));
const lines = createInterface({ input: recorder.stdout })[Symbol.asyncIterator]();
const ended = once(recorder, 'exit');
const reply = async () => JSON.parse((await lines.next()).value ?? '{}');

const browser = await Browser.launch();
let status;
try {
  const context = await browser.chromium.newContext({ permissions: ['camera', 'microphone'] });
  const page = await context.newPage();
  // Cameras are for secure pages only; this one needs no server.
  await page.route('https://record.invalid/', route => route.fulfill({ contentType: 'text/html', body: '' }));
  await page.goto('https://record.invalid/');
  const sdp = await page.evaluate(offer, { codec: codecs[values.codec], width, height, encodings, svc });
  writeFileSync(`${file}.sdp`, sdp);
  recorder.stdin.write(`${JSON.stringify({ publish: { id: 0, sdp } })}\n`);
  const { answer } = await reply();
  if (answer) {
    await page.evaluate(text => window.connection.setRemoteDescription({ type: 'answer', sdp: text }), answer.sdp);
    const { recorded } = await reply();
    // Which numbers `replay --payload-types` has to know.
    const names = [...sdp.matchAll(/^a=rtpmap:(\d+) (\w+)/gm)].map(([, number, name]) => [Number(number), name]);
    const numbers = names.filter(([number]) => Object.values(recorded?.streams ?? {}).some(s => s.payload_type === number));
    const types = numbers.filter(([, name]) => name !== 'rtx').map(([number, name]) => `${number}=${name}`).join(',');
    if (recorded) console.log(JSON.stringify({ file, codec: values.codec, svc, payload_types: types, ...recorded }));
  }
  recorder.stdin.end();
  [status] = await ended;
} finally {
  await browser.close();
  recorder.kill();
}
process.exit(status);
