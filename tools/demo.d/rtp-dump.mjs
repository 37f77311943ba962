// Turns what Chromium logs of its RTP (field trial WebRTC-Debugging-RtpDump) into an rtpdump file.
import { createReadStream, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

// "O 10:11:12.131415 000000 80 60 ... # RTP_DUMP": direction, time of day, offset, bytes.
const LINE = /\bO (\d+):(\d+):(\d+)\.(\d+) 000000 ([0-9a-f ]+?)\s*# RTP_DUMP/;

/** One packet that the browser sent, before it was sealed: milliseconds of the day and bytes; null for other lines. */
export function parse(line) {
  const match = LINE.exec(line);
  if (!match) return null;
  const [, hours, minutes, seconds, fraction, hex] = match;
  const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  // RTCP (payload type field 192 to 223) is not media.
  if (bytes.length < 12 || bytes[0] >> 6 !== 2 || (bytes[1] >= 192 && bytes[1] <= 223)) return null;
  const whole = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000;
  return { at: whole + Number(`0.${fraction}`) * 1000, bytes };
}

/** The file of rtptools: a line, a header of 16 bytes, a record for each packet. */
export function rtpdump(packets) {
  const first = packets[0]?.at ?? 0;
  const records = packets.map(({ at, bytes }) => {
    const head = Buffer.alloc(8);
    head.writeUInt16BE(bytes.length + 8, 0);
    head.writeUInt16BE(bytes.length, 2);
    head.writeUInt32BE(Math.max(0, Math.round(at - first)), 4);
    return Buffer.concat([head, bytes]);
  });
  return Buffer.concat([Buffer.from('#!rtpplay1.0 127.0.0.1/5000\n'), Buffer.alloc(16), ...records]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , log, out] = process.argv;
  const packets = [];
  for await (const line of createInterface({ input: createReadStream(log) })) {
    const packet = parse(line);
    if (packet) packets.push(packet);
  }
  if (packets.length === 0) {
    console.error(`no RTP in ${log}: this Chromium does not log packets`);
    process.exit(1);
  }
  writeFileSync(out, rtpdump(packets));
  console.log(`${packets.length} packets in ${out}`);
}
