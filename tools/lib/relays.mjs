// The links between the bridges of a stack, as the bridges' debug pages show them.

/**
 * Every relay of every conference: the names of the two bridges, and what the first one says of the link.
 * @param {import('./stack.mjs').Stack} stack
 * @returns {Promise<{ from: string, to: string, channel: boolean, carrier: string | null, endpoints: Record<string, any> }[]>}
 */
export async function relays(stack) {
  const pages = await Promise.all(stack.bridges.map(one => one.debug(true)));
  return pages.flatMap((page, index) => Object.values(page.conferences ?? {}).flatMap(conference =>
    Object.entries(conference.relays ?? {}).map(([to, relay]) => ({ from: stack.bridges[index].options.nickname, to, ...relay }))));
}

/**
 * How many participants each bridge has itself, by the statistics of all of them; the others are behind its relays.
 * @param {{ endpoints: number, octo_endpoints: number }[]} stats
 */
export const ownParticipants = stats => stats.map(one => one.endpoints - one.octo_endpoints);

/**
 * What a bridge counted: the sum over its workers, 0 where it names no such reason.
 * @param {import('./ringbridge.mjs').Ringbridge} bridge
 * @param {string} name of the metric, without `_total`
 * @param {string} [reason]
 */
export async function counter(bridge, name, reason) {
  const text = await (await fetch(bridge.bridgeUrl('/metrics'))).text();
  const line = new RegExp(`^${name}(?:_total)?(\\{[^}]*\\})? (\\S+)$`, 'gm');
  const values = [...text.matchAll(line)].filter(([, labels]) => !reason || labels?.includes(`reason="${reason}"`));
  return values.reduce((sum, [, , value]) => sum + Number(value), 0);
}

/**
 * The bridge that each participant is on.
 * @template {{ state(): Promise<any> }} P
 * @param {import('./stack.mjs').Stack} stack
 * @param {P[]} participants
 * @returns {Promise<Map<P, import('./ringbridge.mjs').Ringbridge>>}
 */
export async function homes(stack, participants) {
  const pages = await Promise.all(stack.bridges.map(one => one.debug()));
  const places = new Map();
  for (const participant of participants) {
    const { id } = await participant.state();
    const index = pages.findIndex(page => Object.values(page.conferences ?? {}).some(conference => id in conference.endpoints));
    if (index >= 0) places.set(participant, stack.bridges[index]);
  }
  return places;
}
