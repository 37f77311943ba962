// Packets that this host drops for a while, by nftables. Needs root and Debian's `nftables`.
import { run } from './process.mjs';

let tables = 0;

/**
 * Drops what comes in and matches one of `matches` (nft's expressions, as `udp dport 10000`) while `during` runs.
 * @template T
 * @param {string[]} matches
 * @param {() => Promise<T>} during
 */
export async function dropping(matches, during) {
  const table = `ringbridge_${process.pid}_${++tables}`;
  await run('nft', [[`add table inet ${table}`, `add chain inet ${table} input { type filter hook input priority 0; }`,
    ...matches.map(match => `add rule inet ${table} input ${match} drop`)].join('; ')]);
  try {
    return await during();
  } finally {
    await run('nft', [`delete table inet ${table}`]);
  }
}
