// The call that most scenarios begin with: one sender of a 720p camera, receivers that only look.
export const fps = 15;
/** The rates per layer are those of Jitsi Meet's own configuration. */
export const camera = { size: '1280x720', fps, bitrates: '200,500,1500' };
/** Receives only, so that its processor is free to decode. */
export const watcher = { send: 'none' };

/**
 * A sender 'tx' with a camera and a receiver 'rx' that asks for it at 720; resolves when it sees that. Of `receiver` and
 * `sender` are the pages' options. `tx` and `rx` are pages; `ready` is false when 720 did not come.
 */
export async function pair(rig, { sender = {}, receiver = {}, height = 720 } = {}) {
  const tx = await rig.join('tx', { ...camera, ...sender });
  // The sender's processor is for its encoder.
  await rig.want(tx, { lastN: 0 });
  const rx = await rig.join('rx', { ...watcher, ...receiver });
  await rig.want(rx, { stage: ['tx'], stageHeight: height });
  const sent = await rig.sends(tx, height);
  const ready = sent && await rig.seen(rx, 'tx', height);
  return { tx, rx, sent, ready };
}

/** The result of a scenario that could not begin. */
export function notReady({ sent }, what = '720p') {
  return sent
    ? { figures: {}, checks: [{ what: `the receiver sees ${what} before anything is impaired`, value: false, ok: false }] }
    : { figures: {}, checks: [{ what: `the sender sends ${what}`, value: false, ok: false }], excuse: `the sender did not get to ${what} within a minute: its own estimate or its processor` };
}
