// What the focus does with others: recorders, gateways to telephones, users who log in. The clients are browsers, the others scripted.
import { expect, seconds, timed } from '../call.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { until } from '../../lib/process.mjs';
import { attribute } from '../../lib/xmpp-account.mjs';
import { calling, gateways, gatewayStack, gatewayStatus } from '../gateway.mjs';
import { askedToLogIn, loginStack, logIn } from '../login.mjs';
import { account, focusStats, outcome, pageConference, Recorder, recorderStack } from '../recorder.mjs';

/** Has the page record what it hears of recordings. */
const noteRecordings = one => one.hook(`{
  window.recordings = [];
  ${pageConference}.on(window.JitsiMeetJS.events.conference.RECORDER_STATE_CHANGED, session =>
    window.recordings.push({ id: session.getID?.() ?? session._sessionID, status: session.getStatus?.() ?? session._status, mode: session.getMode?.() ?? session._mode }));
}`.replace(/^\{/, '(() => {').replace(/\}$/, '})()'));
const recordings = one => one.page.evaluate('window.recordings');
const last = async one => (await recordings(one)).at(-1)?.status;

/** name → scenario, see index.mjs. */
export const scenarios = {
  recording: {
    about: 'a moderator records with a scripted Jibri, the focus is killed meanwhile, the recording is known again and is stopped',
    stack: { split: true, ...recorderStack },
    async run(call) {
      const recorder = new Recorder(call);
      await recorder.start();
      const [a, b] = await call.meetAs({ renew: true }, 'p1', 'p2');
      await Promise.all([a, b].map(noteRecordings));
      const guest = await b.hook(outcome(`${pageConference}.startRecording({ mode: 'file', appData: '{}' })`));
      expect(/^error/.test(guest), `a guest records: ${guest}`);
      const id = await recorder.record(a);
      await until('both see it', 20000, async () => (await Promise.all([a, b].map(last))).every(one => one === 'on'));
      await call.stack.focus.kill();
      await call.stack.focus.start();
      await until('the focus is healthy', 20000, async () => await call.stack.focus.focusHealth() === 200);
      // Its clients come back by themselves; then the room hears of it.
      const shown = await timed('the focus knows of the recording', 45000, async () => (await focusStats(call)).jibri.recording_active === 1);
      await until('both are back', 45000, async () => (await Promise.all([a, b].map(one => one.state()))).every(state => state.state === 'joined'));
      expect(await everybodyMeets([a, b], 45000), 'they did not meet again');
      await until('somebody moderates', 20000, async () => (await Promise.all([a, b].map(one => one.state()))).some(state => state.owner));
      const moderator = (await a.state()).owner ? a : b;
      const stopped = await moderator.hook(outcome(`${pageConference}.stopRecording('${id}')`));
      expect(/^ok/.test(stopped), `the recording was not stopped: ${stopped}`);
      await until('the recorder is put out', 20000, async () => recorder.removed);
      await until('the focus records no more', 20000, async () => (await focusStats(call)).jibri.recording_active === 0);
      recorder.stop();
      return `known again ${seconds(shown)} after the focus was healthy; stopped by removing the recorder`;
    },
  },

  'dial-out': {
    about: 'a moderator calls out by a scripted Jigasi; one that fails is passed over; a guest may not',
    stack: gatewayStack,
    async run(call) {
      const calls = [];
      const failing = await account(call, 'jigasi', () => undefined);
      const fails = xml => failing.send(`<iq type='error' id='${attribute(xml, 'id')}' to='${attribute(xml, 'from')}'><error type='wait'>`
        + `<internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`);
      failing.onRequest = xml => { if (xml.includes('rayo')) fails(xml); return undefined; };
      const works = await account(call, 'jigasi', xml => {
        if (!xml.includes('rayo')) return '';
        calls.push(/<dial[^>]*>/.exec(xml)[0]);
        return calling;
      });
      await failing.enter(gateways, 'jigasi-1', gatewayStatus(0));
      await works.enter(gateways, 'jigasi-2', gatewayStatus(5));
      await until('the focus knows the gateways', 20000, async () => (await focusStats(call)).jigasi.sip_count === 2);
      const [a, b] = await call.meet('p1', 'p2');
      const supported = await a.hook(`${pageConference}.isSIPCallingSupported()`);
      expect(String(supported) === 'true', `the client says that calls are not supported: ${supported}`);
      const guest = await b.hook(outcome(`${pageConference}.dial('+4930123')`));
      expect(/^error/.test(guest), `a guest calls out: ${guest}`);
      const called = await a.hook(outcome(`${pageConference}.dial('+4930123')`));
      expect(/^ok/.test(called), `the call failed: ${called}`);
      expect(calls.length === 1 && attribute(calls[0], 'to') === '+4930123', `the gateway was asked ${calls}`);
      await until('the failure is counted', 20000, async () => {
        const counted = (await focusStats(call)).jigasi;
        return counted.retries === 1 && counted.instance_errors === 1;
      });
      for (const one of [failing, works]) one.stop();
      return 'called by the second gateway after the first failed; the guest was refused';
    },
  },

  login: {
    about: 'guests wait until somebody logs in (authenticateAndUpgradeRole), who then owns the room',
    stack: loginStack,
    async run(call) {
      const a = await call.join('p1');
      await askedToLogIn(a);
      expect((await focusStats(call)).conferences === 0, 'a guest began a conference');
      const wrong = await a.hook(outcome(`${pageConference}.authenticateAndUpgradeRole({ id: 'host@auth.meet.test', password: 'wrong' })`));
      expect(/^error/.test(wrong), `a wrong password: ${wrong}`);
      await logIn(a, call);
      const b = await call.join('p2');
      expect(await everybodyMeets([a, b], 45000), 'the two did not meet');
      expect(!(await b.state()).owner, 'the guest owns the room');
      await until('the login is counted', 20000, async () => (await focusStats(call)).login.sessions === 1);
      const stats = await focusStats(call);
      expect(stats.login.sessions === 1 && stats.refused.login >= 1, JSON.stringify([stats.login, stats.refused]));
      return `${stats.refused.login} requests of guests refused before the login`;
    },
  },

  'conference-request': {
    about: 'POST /conference-request/v1 begins a conference and answers as the IQ does; malformed ones are refused',
    async run(call) {
      const url = `http://127.0.0.1:${call.stack.focus.options.focusRestPort}/conference-request/v1`;
      const post = body => fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.7' }, body });
      const room = `${call.room}@conference.meet.test`;
      const answer = await post(JSON.stringify({ room, machineUid: 'm', properties: { rtcstatsEnabled: false } }));
      const found = await answer.json();
      expect(answer.status === 200 && found.ready === true && found.focusJid === 'focus@auth.meet.test' && found.room === room, JSON.stringify(found));
      for (const wrong of ['', '{', '[]', '{}', JSON.stringify({ room: 'x@elsewhere.test' }), JSON.stringify({ room: 1 })]) {
        expect((await post(wrong)).status === 400, `${wrong} was not refused`);
      }
      const statuses = await Promise.all(Array.from({ length: 20 }, (_, n) => post(JSON.stringify({ room: `r${n}@conference.meet.test` })).then(one => one.json())));
      const ready = statuses.filter(one => one.ready).length;
      expect(ready >= 1 && ready < 10, `one client began ${ready} of 20 conferences at once`);
      const all = await call.meet('p1', 'p2');
      expect((await Promise.all(all.map(one => one.state()))).some(state => state.owner), 'nobody owns the room');
      return `ready at once; of 20 more conferences of one client ${ready} began`;
    },
  },
};
