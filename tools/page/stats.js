// WebRTC's own statistics, by track.
import { connections } from './peer-connections.js';

const codecFields = (report, entry) => {
  const codec = report.get(entry.codecId);
  return { codec: codec?.mimeType.split('/')[1], payloadType: codec?.payloadType };
};

/**
 * Reads all open connections. Returns {inbound: Map(track id → figures), outbound: [figures per encoding],
 * cameras: [what is captured], pairs: [the paths in use]}. Bytes are totals, durations are seconds.
 */
export async function readStats() {
  const inbound = new Map();
  const outbound = [], cameras = [], pairs = [];
  for (const { pc, p2p, session } of connections) {
    if (pc.connectionState === 'closed') continue;
    const report = await pc.getStats().catch(() => undefined);
    for (const entry of report?.values() ?? []) {
      if (entry.type === 'inbound-rtp') {
        const common = { p2p, ssrc: entry.ssrc, mid: entry.mid, bytes: entry.bytesReceived, packets: entry.packetsReceived, lost: entry.packetsLost, ...codecFields(report, entry) };
        inbound.set(entry.trackIdentifier, entry.kind === 'video' ? {
          ...common,
          framesDecoded: entry.framesDecoded ?? 0,
          frameWidth: entry.frameWidth ?? 0,
          frameHeight: entry.frameHeight ?? 0,
          freezeCount: entry.freezeCount ?? 0,
          totalFreezesDuration: entry.totalFreezesDuration ?? 0,
          keyFramesDecoded: entry.keyFramesDecoded ?? 0,
          pliCount: entry.pliCount ?? 0,
          nackCount: entry.nackCount ?? 0,
          framesPerSecond: entry.framesPerSecond ?? 0,
          framesDropped: entry.framesDropped ?? 0,
          retransmitted: entry.retransmittedPacketsReceived ?? 0,
          bufferDelay: entry.jitterBufferDelay ?? 0,
          bufferEmitted: entry.jitterBufferEmittedCount ?? 0,
          playout: entry.estimatedPlayoutTimestamp,
        } : {
          ...common,
          energy: entry.totalAudioEnergy ?? 0,
          level: entry.audioLevel ?? 0,
          samples: entry.totalSamplesReceived ?? 0,
          concealed: entry.concealedSamples ?? 0,
          silentConcealed: entry.silentConcealedSamples ?? 0,
          bufferDelay: entry.jitterBufferDelay ?? 0,
          bufferEmitted: entry.jitterBufferEmittedCount ?? 0,
          playout: entry.estimatedPlayoutTimestamp,
        });
      } else if (entry.type === 'outbound-rtp') {
        outbound.push({
          kind: entry.kind, p2p, session, bytes: entry.bytesSent, packets: entry.packetsSent, frames: entry.framesEncoded,
          width: entry.frameWidth, height: entry.frameHeight, ...codecFields(report, entry),
          fps: entry.framesPerSecond, active: entry.active, rid: entry.rid, ssrc: entry.ssrc,
          targetBitrate: entry.targetBitrate, scalability: entry.scalabilityMode,
          limited: entry.qualityLimitationReason, limitedDurations: entry.qualityLimitationDurations,
        });
      } else if (entry.type === 'media-source' && entry.kind === 'video') {
        cameras.push({ p2p, session, width: entry.width, height: entry.height, fps: entry.framesPerSecond, frames: entry.frames });
      } else if (entry.type === 'candidate-pair' && entry.nominated) {
        pairs.push({
          p2p, session, rtt: entry.currentRoundTripTime, availableOutgoing: entry.availableOutgoingBitrate,
          remote: report.get(entry.remoteCandidateId)?.port,
        });
      }
    }
  }
  return { inbound, outbound, cameras, pairs };
}
