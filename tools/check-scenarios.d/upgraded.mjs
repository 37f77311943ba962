// What participants must not notice of an upgrade of their bridge.
import { readFileSync } from 'node:fs';
import { expect } from './call.mjs';
import { lastJson } from '../lib/scripted.mjs';

/** Audio packets that a receiver may miss of one sender, for each upgrade. */
export const lostPerUpgrade = 3;

/** All endpoints that the bridge knows. */
export async function endpoints(bridge) {
  const { conferences } = await bridge.debug(true);
  return Object.values(conferences).flatMap(one => Object.values(one.endpoints));
}

/** Of these endpoints, those whose bridge channel is open. */
export const open = all => all.filter(one => one.channel.used).length;

/** One of a bridge's metrics, the sum over its samples with these labels. */
export async function metric(bridge, name, labels = '') {
  const text = await (await fetch(bridge.bridgeUrl('/metrics'))).text();
  return [...text.matchAll(new RegExp(`^${name}(?:\\{.*${labels}.*\\})? (\\S+)$`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Whether a process is there, and no zombie. */
export function lives(pid) {
  try { return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')); } catch { return false; }
}

/** What scripted participants saw of so many upgrades, in words; throws when they were not spared. */
export function sparedScripted(load, times) {
  const reports = lastJson(load.tail(400))?.reports;
  const at = `${load.name}: ${JSON.stringify(reports)}`;
  expect(reports?.length && reports.every(one => one.connected && !one.error), `${load.name} was not well:\n${load.tail(5)}`);
  expect(reports.every(one => one.sessions === 1 && one.sources_removed === 0), `somebody was invited again, or saw a source removed: ${at}`);
  expect(reports.every(one => one.encrypted.rtp && one.encrypted.rtcp && one.encrypted.not_opened === 0), `packets were not opened: ${at}`);
  const streams = reports.flatMap(one => Object.values(one.received).filter(from => from.audio_packets));
  expect(streams.every(one => one.audio_lost <= lostPerUpgrade * times), `audio packets were lost: ${at}`);
  const most = key => Math.max(...streams.map(one => one[key]));
  const opened = reports.reduce((sum, one) => sum + one.encrypted.rtp + one.encrypted.rtcp, 0);
  return { opened, lost: most('audio_lost'), audioGap: most('audio_gap_ms'), videoGap: most('video_gap_ms') };
}
