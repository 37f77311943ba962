// Listens in on the bridge channel: what the bridge said, and when.

/** {at, ...message} of every message of a bridge that the page's connections carried; the oldest ones are dropped. */
export const bridgeMessages = [];
const most = 5000;

/** Replaces window.WebSocket by one that notes down what comes over bridge channels; `heard` gets each message. */
export function wrapWebSocket(heard) {
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(url, ...rest) {
      super(url, ...rest);
      if (!String(url).includes('/colibri-ws/')) return;
      this.addEventListener('message', event => {
        let message;
        try { message = JSON.parse(event.data); } catch { return; }
        const noted = { at: Date.now(), ...message };
        bridgeMessages.push(noted);
        if (bridgeMessages.length > most) bridgeMessages.splice(0, most / 2);
        heard(noted);
      });
    }
  };
}
