// Changes to session descriptions below the client library: codec order, and other numbers for formats and extensions.
// Everything goes by codec name and extension URI, so applying a change twice changes nothing more.

/** Payload types of the participant that numbers differently; rtx follows the codec that it repairs. */
const payloadTypes = { VP8: 96, VP9: 98, H264: 102, AV1: 45, OPUS: 109, 'TELEPHONE-EVENT': 110, RED: 63 };
const rtxTypes = { VP8: 97, VP9: 99, H264: 103, AV1: 46 };

/** Header-extension ids of the same participant. */
const extensionIds = {
  'urn:ietf:params:rtp-hdrext:ssrc-audio-level': 8,
  'urn:ietf:params:rtp-hdrext:toffset': 6,
  'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time': 9,
  'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id': 13,
  'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01': 3,
  'http://www.webrtc.org/experiments/rtp-hdrext/video-content-type': 2,
  'urn:ietf:params:rtp-hdrext:sdes:mid': 4,
  'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension': 7,
  'http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00': 12,
};

/**
 * Splits a description into its session part and one part per m-line, each an array of lines.
 * @param {string} sdp
 * @returns {string[][]}
 */
function sections(sdp) {
  /** @type {string[][]} */
  const parts = [[]];
  for (const line of sdp.split(/\r?\n/)) {
    if (line.startsWith('m=')) parts.push([]);
    if (line) parts[parts.length - 1].push(line);
  }
  return parts;
}

const joined = parts => parts.flat().join('\r\n') + '\r\n';

/** Formats of an m-line: payload type → {name, apt}. */
function formats(lines) {
  const found = new Map();
  for (const line of lines) {
    const map = /^a=rtpmap:(\d+) ([^/]+)/.exec(line);
    if (map) found.set(map[1], { name: map[2].toUpperCase() });
  }
  for (const line of lines) {
    const apt = /^a=fmtp:(\d+) .*\bapt=(\d+)/.exec(line);
    if (apt && found.has(apt[1])) found.get(apt[1]).apt = apt[2];
  }
  return found;
}

/** Puts `codec` (lower case) and its rtx first in every video m-line. */
export function preferCodec(sdp, codec) {
  return joined(sections(sdp).map(lines => {
    if (!lines[0]?.startsWith('m=video')) return lines;
    const known = formats(lines);
    const wanted = id => {
      const format = known.get(id);
      return (format?.apt ? known.get(format.apt)?.name : format?.name)?.toLowerCase() === codec;
    };
    const words = lines[0].split(' ');
    const ids = words.slice(3);
    const ordered = [...ids.filter(wanted), ...ids.filter(id => !wanted(id))];
    return [[...words.slice(0, 3), ...ordered].join(' '), ...lines.slice(1)];
  }));
}

/** Gives formats and header extensions the numbers of the tables above. */
export function renumber(sdp) {
  return joined(sections(sdp).map(lines => {
    if (!/^m=(audio|video)/.test(lines[0] ?? '')) return lines;
    const known = formats(lines);
    const number = id => {
      const format = known.get(id);
      if (!format) return id;
      const own = format.name === 'RTX' ? rtxTypes[known.get(format.apt)?.name] : payloadTypes[format.name];
      return own === undefined ? id : String(own);
    };
    return lines.map((line, index) => {
      if (index === 0) {
        const words = line.split(' ');
        return [...words.slice(0, 3), ...words.slice(3).map(number)].join(' ');
      }
      const extension = /^a=extmap:(\d+)(\/\S+)? (\S+)(.*)$/.exec(line);
      if (extension) {
        const [, id, direction = '', uri, rest] = extension;
        return `a=extmap:${extensionIds[uri] ?? id}${direction} ${uri}${rest}`;
      }
      return line
        .replace(/^a=(rtpmap|fmtp|rtcp-fb):(\d+)/, (_, name, id) => `a=${name}:${number(id)}`)
        .replace(/\bapt=(\d+)/, (_, id) => `apt=${number(id)}`)
        .replace(/^(a=fmtp:\d+ )(\d+(?:\/\d+)+)$/, (_, head, list) => head + list.split('/').map(number).join('/'));
    });
  }));
}

/** The same candidate line with an address where nobody listens, so that connectivity checks fail. */
export function deadCandidate(candidate) {
  const words = candidate.split(' ');
  if (words.length > 5) {
    words[4] = '127.0.0.1';
    // Chromium ignores candidates with ports below 1024.
    words[5] = '65535';
  }
  return words.join(' ');
}

/** A description whose candidates all lead nowhere. */
export const deadCandidates = sdp => sdp.replace(/^a=candidate:.*$/gm, line => deadCandidate(line.trimEnd()));

/** A description whose UDP candidates all lead to `relay` ("address:port"); candidates of other protocols are left out. */
export function throughRelay(sdp, relay) {
  const [address, port] = relay.split(':');
  let first = true;
  return joined(sections(sdp).map(lines => lines.flatMap(line => {
    if (!line.startsWith('a=candidate:')) return [line];
    const words = line.split(' ');
    // One is enough: all of them would be the same.
    if (words[2]?.toLowerCase() !== 'udp' || words[1] !== '1' || !first) return [];
    first = false;
    words[4] = address;
    words[5] = port;
    return [words.join(' ')];
  })));
}

/** A description without candidates: the other side can only answer on the path that we choose. */
export const withoutCandidates = sdp => joined(sections(sdp).map(lines =>
  lines.filter(line => !line.startsWith('a=candidate:') && !line.startsWith('a=end-of-candidates'))));

/** A description in which a participant's audio and video belong to one stream, so that the browser keeps them in step. */
export const inOneStream = sdp => sdp.replace(/(msid:[^\s-]+)-(?:audio|video)-/g, '$1-av-');

/**
 * A description that allows one- and two-byte header extensions on one connection, as the offer of the focus does. The client
 * library of this page is older than that element and drops it; without it a sender cannot attach a dependency descriptor
 * whose structure is above 16 bytes, as that of AV1 with three spatial layers is.
 */
export const withMixedExtensions = sdp => {
  const parts = sections(sdp);
  if (!parts[0].includes('a=extmap-allow-mixed')) parts[0].push('a=extmap-allow-mixed');
  return joined(parts);
};
