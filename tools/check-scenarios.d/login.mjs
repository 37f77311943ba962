// Users who log in by the focus, with their account on the same server.
import { expect } from './call.mjs';
import { outcome, pageConference } from './recorder.mjs';
import { until } from '../lib/process.mjs';

/** What a stack has whose conferences are begun by `host` alone. */
export const loginStack = { accounts: ['host'], environment: { RINGBRIDGE_LOGIN_TYPE: 'xmpp', RINGBRIDGE_LOGIN_DOMAIN: 'auth.meet.test' } };

/** The focus asks a guest for a login. */
export async function askedToLogIn(guest) {
  // The packaged library has no name for this event, and a handler of its own stumbles over it: it is known by its log.
  await until('the guest is asked to log in', 20000, async () =>
    [...guest.console, JSON.stringify(await guest.hook('ringbridge.events'))].some(text => /authenticationRequired|Unauthorized to start/.test(text)));
}

/** A guest logs in as `host`, enters the room, and owns it. */
export async function logIn(guest, call) {
  const password = JSON.stringify(call.stack.passwords.host);
  const upgraded = await guest.hook(outcome(`${pageConference}.authenticateAndUpgradeRole({ id: 'host@auth.meet.test', password: ${password} })`));
  expect(/^ok/.test(upgraded), `the login failed: ${upgraded}`);
  // As the web interface does.
  await guest.hook(`${pageConference}.join()`);
  await until('the host is in the room and owns it', 45000, async () => { const state = await guest.state(); return state.state === 'joined' && state.owner; });
}
