// A scripted Jibri: in its brewery, and as the participant that records.
import { expect } from './call.mjs';
import { until } from '../lib/process.mjs';
import { attribute, XmppAccount } from '../lib/xmpp-account.mjs';

const recorders = 'jibribrewery@internal.auth.meet.test';
const jibriNs = 'http://jitsi.org/protocol/jibri';

/** What a stack with a recorder has. */
export const recorderStack = { accounts: ['jibri', 'recorder'], environment: { RINGBRIDGE_JIBRI_BREWERY: recorders } };

export const pageConference = 'ringbridge.session.conference';

/** What a promise in the page came to, as a text: what it resolved to, or the error. */
export const outcome = expression => `Promise.resolve(${expression}).then(value => 'ok ' + JSON.stringify(value ?? null),
  error => 'error ' + (error?.nodeType === 1 ? error.outerHTML : error?.message ?? JSON.stringify(error)))`;

/** An account of the call's server that is logged in; see XmppAccount. */
export async function account(call, user, onRequest) {
  const one = new XmppAccount({ port: call.stack.prosody.clientPort, user, password: call.stack.passwords[user] });
  await one.start(onRequest);
  return one;
}

export async function focusStats(call) { return (await fetch(call.stack.focus.focusUrl('/stats'))).json(); }

export class Recorder {
  /** The last order to begin. */
  order;
  /** @type {XmppAccount} */
  jibri;
  /** The participant that records. @type {XmppAccount} */
  participant;

  constructor(call) { this.call = call; }

  #status(busy) {
    return `<jibri-status xmlns='${jibriNs}'><busy-status xmlns='${jibriNs}' status='${busy}'/>`
      + `<health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>`;
  }

  /** Enters the brewery. */
  async start() {
    this.jibri = await account(this.call, 'jibri', xml => {
      if (!xml.includes(jibriNs)) return '';
      const inside = /<jibri[^>]*>/.exec(xml)[0];
      const begins = attribute(inside, 'action') === 'start';
      if (begins) this.order = inside;
      return `<jibri xmlns='${jibriNs}' status='${begins ? 'pending' : 'off'}'/>`;
    });
    await this.jibri.enter(recorders, 'jibri-1', this.#status('idle'));
    await until('the focus knows the Jibri', 20000, async () => (await focusStats(this.call)).jibri.available === 1);
  }

  /** A moderator has its room recorded; the session's id. `pending` runs before the Jibri says that it records. */
  async record(moderator, pending = async () => {}) {
    const begun = await moderator.hook(outcome(`${pageConference}.startRecording({ mode: 'file', appData: '{}' }).then(session => session.getID?.() ?? session._sessionID)`));
    expect(/^ok "/.test(begun), `the recording did not begin: ${begun}`);
    const id = JSON.parse(begun.slice(3));
    expect(attribute(this.order, 'session_id') === id, `the Jibri was given ${this.order}`);
    await pending();
    await this.jibri.ask(`${recorders}/focus`, `<jibri xmlns='${jibriNs}' status='on'/>`);
    this.jibri.send(`<presence to='${recorders}/jibri-1'>${this.#status('busy')}</presence>`);
    this.participant = await account(this.call, 'recorder', xml => xml.includes('disco#info') ? `<query xmlns='http://jabber.org/protocol/disco#info'/>` : '');
    await this.participant.enter(attribute(this.order, 'room'), 'recorder', `<features><feature var='${jibriNs}'/></features><session_id>${id}</session_id><mode>FILE</mode>`);
    return id;
  }

  /** Whether the participant was removed from the room. */
  get removed() { return this.participant.received.some(xml => xml.startsWith('<presence') && /status code=['"]307['"]/.test(xml)); }

  /** Whether the Jibri was asked to end. */
  get ended() { return this.jibri.received.some(xml => /action=['"]stop['"]/.test(xml)); }

  stop() { for (const one of [this.jibri, this.participant]) one?.stop(); }
}
