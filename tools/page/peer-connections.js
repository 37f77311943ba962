// Wraps RTCPeerConnection so that the page sees every connection of the client library and can change descriptions.
import { deadCandidate, deadCandidates, inOneStream, preferCodec, renumber, throughRelay, withMixedExtensions, withoutCandidates } from './sdp.js';

/** All connections that were ever made: {pc, p2p, session}. */
export const connections = [];

/**
 * Replaces window.RTCPeerConnection. `options`: codec (lower case) to put first, asymmetric (other numbers on the
 * bridge connection), blockP2p (peer-to-peer candidates lead nowhere), relay ("address:port" in front of the bridge),
 * lipSync (audio and video of a participant in one stream), bitrates (most bits per second of each encoding, from low).
 * `session()` says which session is being set up.
 */
export function wrapPeerConnections({ codec, asymmetric, blockP2p, relay, lipSync, bitrates, session }) {
  const Native = /** @type {any} */ (window.RTCPeerConnection);
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
      // The page gives this policy to peer-to-peer connections only (main.js), which distinguishes them from the start.
      this.#record = { pc: this, p2p: configuration?.iceTransportPolicy === 'all', session: session() };
      connections.push(this.#record);
    }
    get #relayed() { return Boolean(relay) && !this.#record.p2p; }
    setRemoteDescription(description, ...rest) {
      let changed = change(this.#record, description);
      if (!this.#record.p2p && changed.sdp) changed = { type: changed.type, sdp: withMixedExtensions(changed.sdp) };
      if (lipSync && changed.sdp) changed = { type: changed.type, sdp: inOneStream(changed.sdp) };
      if (this.#relayed && changed.sdp) changed = { type: changed.type, sdp: throughRelay(changed.sdp, relay) };
      if (this.#record.p2p && blockP2p) changed = { ...changed, sdp: deadCandidates(changed.sdp) };
      return super.setRemoteDescription(changed, ...rest);
    }
    setLocalDescription(description, ...rest) {
      return super.setLocalDescription(description ? change(this.#record, description) : description, ...rest);
    }
    // The bridge must not hear of our own address, or its checks would find a way around the relay.
    get localDescription() {
      const description = super.localDescription;
      if (!description || !this.#relayed) return description;
      return new RTCSessionDescription({ type: description.type, sdp: withoutCandidates(description.sdp) });
    }
    get onicecandidate() { return super.onicecandidate; }
    set onicecandidate(handler) {
      super.onicecandidate = handler && (event => { if (!this.#relayed || !event.candidate) handler.call(this, event); });
    }
    addIceCandidate(candidate, ...rest) {
      if (this.#relayed && candidate?.candidate) return Promise.resolve();
      if (this.#record.p2p && blockP2p && candidate?.candidate) {
        const { sdpMid, sdpMLineIndex } = candidate;
        candidate = { sdpMid, sdpMLineIndex, candidate: deadCandidate(candidate.candidate) };
      }
      return super.addIceCandidate(candidate, ...rest);
    }
  }
  const setParameters = RTCRtpSender.prototype.setParameters;
  RTCRtpSender.prototype.setParameters = function (parameters, ...rest) {
    if (bitrates && this.track?.kind === 'video' && parameters.encodings.length === bitrates.length) {
      for (const [index, encoding] of parameters.encodings.entries()) {
        encoding.maxBitrate = Math.min(encoding.maxBitrate ?? Infinity, bitrates[index]);
      }
    }
    return setParameters.call(this, parameters, ...rest);
  };
  window.RTCPeerConnection = /** @type {any} */ (Wrapped);
  window.webkitRTCPeerConnection = /** @type {any} */ (Wrapped);
}
