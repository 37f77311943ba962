// What the page finds at, and puts into, `window` beside the browser's own.
interface Window {
  /** The client library (lib-jitsi-meet), which has no types of its own here. */
  JitsiMeetJS: any;
  /** For tests: the figures behind what is shown. */
  __ringbridge: Record<string, any>;
  webkitRTCPeerConnection: typeof RTCPeerConnection;
}
