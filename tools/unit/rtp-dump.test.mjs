import assert from 'node:assert/strict';
import test from 'node:test';
import { parse, rtpdump } from '../demo.d/rtp-dump.mjs';

const line = (direction, bytes) => `[1:2:VERBOSE1:x.cc(1)] ${direction} 10:00:01.500000 000000 ${bytes} # RTP_DUMP`;
const rtp = '80 60 00 01 00 00 00 02 00 00 00 03 aa bb';

test('outgoing RTP is kept, the rest is not', () => {
  const packet = parse(line('O', rtp));
  assert.equal(packet.at, 36_001_500);
  assert.equal(packet.bytes.toString('hex'), rtp.replaceAll(' ', ''));
  assert.equal(parse(line('I', rtp)), null);
  assert.equal(parse(line('O', '80 c8 00 01 00 00 00 02 00 00 00 03')), null);
  assert.equal(parse('something else'), null);
});

test('the file has a record for each packet', () => {
  const packet = parse(line('O', rtp));
  const file = rtpdump([packet, { ...packet, at: packet.at + 20 }]);
  const start = file.indexOf('\n') + 1 + 16;
  assert.equal(file.length, start + 2 * (8 + 14));
  assert.equal(file.readUInt16BE(start), 22);
  assert.equal(file.readUInt32BE(start + 22 + 4), 20);
});
