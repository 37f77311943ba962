import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deadCandidate, deadCandidates, inOneStream, preferCodec, renumber, throughRelay, withMixedExtensions, withoutCandidates } from '../page/sdp.js';

const offer = [
  'v=0', 'o=- 1 3 IN IP4 0.0.0.0', 's=-', 't=0 0', 'a=group:BUNDLE audio video',
  'm=audio 9 UDP/TLS/RTP/SAVPF 112 111 126',
  'a=rtpmap:112 red/48000/2', 'a=fmtp:112 111/111',
  'a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10;useinbandfec=1', 'a=rtcp-fb:111 transport-cc',
  'a=rtpmap:126 telephone-event/8000',
  'a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level', 'a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:mid',
  'm=video 9 UDP/TLS/RTP/SAVPF 41 100 42 96',
  'a=rtpmap:41 AV1/90000', 'a=rtpmap:100 VP8/90000', 'a=rtcp-fb:100 nack pli',
  'a=rtpmap:42 rtx/90000', 'a=fmtp:42 apt=41', 'a=rtpmap:96 rtx/90000', 'a=fmtp:96 apt=100',
  'a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01',
  'a=extmap:3/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
  'a=candidate:1 1 udp 2130706431 192.0.2.7 10000 typ host generation 0',
  'a=mid:video', '',
].join('\r\n');

test('renumbering goes by codec name and follows apt and red', () => {
  const lines = renumber(offer).split('\r\n');
  for (const line of [
    'm=audio 9 UDP/TLS/RTP/SAVPF 63 109 110', 'a=rtpmap:63 red/48000/2', 'a=fmtp:63 109/109', 'a=rtpmap:109 opus/48000/2',
    'a=rtcp-fb:109 transport-cc', 'm=video 9 UDP/TLS/RTP/SAVPF 45 96 46 97', 'a=rtpmap:96 VP8/90000', 'a=rtcp-fb:96 nack pli',
    'a=rtpmap:97 rtx/90000', 'a=fmtp:97 apt=96', 'a=fmtp:46 apt=45',
    'a=extmap:8 urn:ietf:params:rtp-hdrext:ssrc-audio-level', 'a=extmap:9/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
    'a=mid:video',
  ]) assert.ok(lines.includes(line), `${line} in\n${lines.join('\n')}`);
});

test('renumbering twice changes nothing more', () => {
  assert.equal(renumber(renumber(offer)), renumber(offer));
});

test('no number is used twice in a section', () => {
  for (const section of renumber(offer).split('m=').slice(1)) {
    for (const kind of [/^a=rtpmap:(\d+)/gm, /^a=extmap:(\d+)/gm]) {
      const numbers = [...section.matchAll(kind)].map(match => match[1]);
      assert.equal(new Set(numbers).size, numbers.length);
    }
  }
});

test('the preferred codec and its rtx come first, in video only', () => {
  const lines = preferCodec(offer, 'vp8').split('\r\n');
  assert.ok(lines.includes('m=video 9 UDP/TLS/RTP/SAVPF 100 96 41 42'));
  assert.ok(lines.includes('m=audio 9 UDP/TLS/RTP/SAVPF 112 111 126'));
  assert.equal(preferCodec(offer, 'nothing'), offer);
});

test('dead candidates keep their form', () => {
  assert.equal(deadCandidate('candidate:1 1 udp 5 192.0.2.7 10000 typ host'), 'candidate:1 1 udp 5 127.0.0.1 65535 typ host');
  assert.match(deadCandidates(offer), /a=candidate:1 1 udp 2130706431 127\.0\.0\.1 65535 typ host generation 0/);
  assert.equal(deadCandidates(offer).split('\n').length, offer.split('\n').length);
});

test('a relay takes the place of the UDP candidates, once', () => {
  const two = offer.replace('a=mid:video', 'a=candidate:2 1 udp 5 192.0.2.8 10000 typ host\r\na=candidate:3 1 tcp 5 192.0.2.7 443 typ host\r\na=mid:video');
  const lines = throughRelay(two, '127.0.0.1:20000').split('\r\n').filter(line => line.startsWith('a=candidate:'));
  assert.deepEqual(lines, ['a=candidate:1 1 udp 2130706431 127.0.0.1 20000 typ host generation 0']);
  assert.equal(throughRelay(throughRelay(two, '127.0.0.1:20000'), '127.0.0.1:20000'), throughRelay(two, '127.0.0.1:20000'));
});

test('without candidates nothing else is missing', () => {
  const kept = offer.split('\r\n').filter(line => !line.startsWith('a=candidate:'));
  assert.deepEqual(withoutCandidates(offer).split('\r\n'), kept);
});

test('audio and video of one participant share a stream, others do not', () => {
  const sdp = 'a=ssrc:1 msid:ab12-audio-0-1 t1\r\na=ssrc:2 msid:ab12-video-0-1 t2\r\na=msid:cd34-video-0-1 t3\r\n';
  assert.equal(inOneStream(sdp), 'a=ssrc:1 msid:ab12-av-0-1 t1\r\na=ssrc:2 msid:ab12-av-0-1 t2\r\na=msid:cd34-av-0-1 t3\r\n');
});

test('mixed header extensions are allowed once, for the whole session', () => {
  const once = withMixedExtensions(offer);
  assert.match(once.split('m=')[0], /\r\na=extmap-allow-mixed\r\n/);
  assert.equal(withMixedExtensions(once), once);
  assert.equal(once.replace('a=extmap-allow-mixed\r\n', ''), offer);
});
