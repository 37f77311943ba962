// The impairment relay as a child process: commands go in, reports come out.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Running } from './process.mjs';
import { loadBinary } from './ringbridge.mjs';

export class Impairment extends Running {
  /** Reports by relay: {at (Date.now() milliseconds), relay, up, down, refused}. @type {any[]} */
  reports = [];
  /** Where the relays listen. @type {string[]} */
  addresses = [];

  /** Starts `relays` relays in front of the bridge's media port; resolves once they listen. */
  static async start({ mediaPort, relays = 1, reportMs = 100, seed = 1, log }) {
    const output = openSync(log, 'a');
    const one = new Impairment('impair', spawn(loadBinary(), ['impair', '--bridge', `127.0.0.1:${mediaPort}`, '--relays', String(relays),
      '--report-ms', String(reportMs), '--seed', String(seed)], { stdio: ['pipe', 'pipe', output], detached: true }));
    closeSync(output);
    one.child.stdin.on('error', () => {});
    one.addresses = await new Promise((resolve, reject) => {
      createInterface({ input: one.child.stdout }).on('line', line => {
        const value = JSON.parse(line);
        if (value.listening) resolve(value.listening);
        else one.reports.push({ ...value, at: Date.now() });
      });
      one.ended.then(result => reject(new Error(`${loadBinary()} impair ended: ${result}, see ${log}`)));
    });
    return one;
  }

  /** Sends a command, see docs/quality.md; returns the time at which it went out. */
  command(command) {
    this.child.stdin.write(JSON.stringify(command) + '\n');
    return Date.now();
  }

  /** Reports of one relay from `from` to `to` (Date.now() milliseconds). */
  between(from, to = Infinity, relay = 0) {
    return this.reports.filter(one => one.relay === relay && one.at >= from && one.at <= to);
  }
}
