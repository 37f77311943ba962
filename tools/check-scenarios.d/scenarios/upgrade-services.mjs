// Focus and bridge are one process, which is replaced while others have to do with the focus: recorders, gateways, visitors, users who log in.
import { allMoving, expect } from '../call.mjs';
import { askedToLogIn, loginStack, logIn } from '../login.mjs';
import { focusStats } from '../recorder.mjs';
import { everybodyMeets } from '../../lib/measure.mjs';
import { until } from '../../lib/process.mjs';

/** Replaces the process of a call; for how many milliseconds nothing was sent. */
async function upgrade(call) {
  const service = call.stack.bridges[0];
  const before = service.successor ?? service.process.pid;
  const { code, pid, said, frozen } = await service.upgrade();
  expect(code === 0 && pid !== before, `the upgrade: ${said}`);
  return frozen;
}

/** name → scenario, see index.mjs. */
export const scenarios = {
  'upgrade-login': {
    about: 'focus and bridge are one process, replaced before a guest logs in, in its call and after it: guests wait as before, and the login holds',
    stack: loginStack,
    async run(call) {
      const frozen = [];
      const host = await call.join('p1');
      await askedToLogIn(host);
      frozen.push(await upgrade(call));
      await logIn(host, call);
      const guest = await call.join('p2');
      expect(await everybodyMeets([host, guest], 45000), 'the two did not meet');
      await until('the login is counted', 20000, async () => (await focusStats(call)).login.sessions === 1);
      frozen.push(await upgrade(call));
      await allMoving([host, guest], 10000);
      expect((await host.state()).owner && !(await guest.state()).owner, 'the host does not own the room alone');
      expect((await focusStats(call)).login.sessions === 1, 'the login is not known any more');
      await guest.leave();
      call.all.splice(call.all.indexOf(guest), 1);
      await host.hook('ringbridge.hangUp()');
      await until('the conference is over', 45000, async () => (await focusStats(call)).conferences === 0);
      frozen.push(await upgrade(call));
      // Who has logged in begins another conference, a guest does not.
      const stranger = await call.join('p3', {}, `${call.room}-other`);
      await askedToLogIn(stranger);
      await host.reload();
      await until('the host begins another conference', 45000, async () => { const state = await host.state(); return state.state === 'joined' && state.owner; });
      await until('the conference is counted', 20000, async () => (await focusStats(call)).conferences === 1);
      const stats = await focusStats(call);
      expect(stats.login.sessions === 1, JSON.stringify(stats.login));
      const errors = call.stack.errors();
      expect(!errors.length, `the logs have errors:\n${errors.slice(0, 5).join('\n')}`);
      return `nothing sent for ${frozen.join(', ')} ms; a login holds over two upgrades, ${stats.refused.login} requests of guests were refused`;
    },
  },
};
