// Wraps RTCPeerConnection so that the page sees every connection of the client library and can change descriptions.
import { deadCandidate, deadCandidates, preferCodec, renumber } from './sdp.js';

/** All connections that were ever made: {pc, p2p, session}. */
export const connections = [];

/**
 * Replaces window.RTCPeerConnection. `options`: codec (lower case) to put first, asymmetric (other numbers on the
 * bridge connection), blockP2p (peer-to-peer candidates lead nowhere). `session()` says which session is being set up.
 */
export function wrapPeerConnections({ codec, asymmetric, blockP2p, session }) {
  const Native = window.RTCPeerConnection;
  const change = (record, description) => {
    let { sdp } = description;
    if (!sdp) return description;
    if (codec) sdp = preferCodec(sdp, codec);
    if (asymmetric && !record.p2p) sdp = renumber(sdp);
    return { type: description.type, sdp };
  };
  class Wrapped extends Native {
    #record;
    constructor(configuration, ...rest) {
      super(configuration, ...rest);
      // The page gives this policy to peer-to-peer connections only (main.js), which tells them apart from the start.
      this.#record = { pc: this, p2p: configuration?.iceTransportPolicy === 'all', session: session() };
      connections.push(this.#record);
    }
    setRemoteDescription(description, ...rest) {
      let changed = change(this.#record, description);
      if (this.#record.p2p && blockP2p) changed = { ...changed, sdp: deadCandidates(changed.sdp) };
      return super.setRemoteDescription(changed, ...rest);
    }
    setLocalDescription(description, ...rest) {
      return super.setLocalDescription(description ? change(this.#record, description) : description, ...rest);
    }
    addIceCandidate(candidate, ...rest) {
      if (this.#record.p2p && blockP2p && candidate?.candidate) {
        const { sdpMid, sdpMLineIndex } = candidate;
        candidate = { sdpMid, sdpMLineIndex, candidate: deadCandidate(candidate.candidate) };
      }
      return super.addIceCandidate(candidate, ...rest);
    }
  }
  window.RTCPeerConnection = Wrapped;
  window.webkitRTCPeerConnection = Wrapped;
}
