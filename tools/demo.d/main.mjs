// tools/demo: runs the demo, or with --check the end-to-end check.
import { existsSync, writeFileSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Background, sleep } from '../lib/process.mjs';
import { prepare, Stack } from '../lib/stack.mjs';

const usage = `Usage: tools/demo [--io uring|mmsg]
       tools/demo --check [--participants N] [--seconds S] [--codec vp8|vp9|h264|av1] [--asymmetric] [--p2p]
                  [--io uring|mmsg] [--disable-rewriting] [--scripted K] [--size WxH] [--fps N]
                  [--channel websocket|sctp] [--client FOLDER [--mixed]] [--ssrc-rewriting] [--ssrcs N] [--light]
                  [--bridges N [--strategy split|region-based|intra-region] [--relay-channel websocket|sctp]]
       tools/demo --screenshot FILE.png

Without --check: installs what is missing, builds, starts Prosody and ringbridge, serves a conference page and prints
its address. Ctrl-C stops everything. Logs and configuration are under target/demo.

  --check              run headless Chromium participants, measure, print a matrix and one JSON object; the exit code
                       is 0 only if every participant decodes everybody's video and hears everybody
  --participants N     2 to 50, default 3; with more than 4, two are browsers and the others are scripted
  --seconds S          length of the measurement, default 10; from 120 on, memory, freezes and logged errors are judged as well
  --codec NAME         the video codec that everybody prefers, and the only one of the scripted participants; the check fails if
                       another one is used
  --firefox N          the last N browsers are Firefox; then everybody also has to decode the full height that is sent
  --asymmetric         the first participant uses different payload types and header-extension ids
  --p2p                allow peer to peer; with two participants media must use it
  --io NAME            the bridge's I/O backend; by default the bridge chooses
  --channel NAME       what the bridge channel runs over, default websocket; with sctp the bridge offers no WebSocket;
                       the check fails unless messages used it, and only it
  --client FOLDER      use the lib-jitsi-meet.min.js in this folder, a current one, with SSRC rewriting; lib-jitsi-meet's
                       releases have it in dist/umd (lib-jitsi-meet.tgz). The check fails unless all received
                       SSRCs are the bridge's own
  --mixed              with --client: the first participant keeps the packaged library
  --ssrcs N            number of SSRCs of each kind for a client with SSRC rewriting, default 50
  --disable-rewriting  test only: the bridge forwards numbers unchanged, so --asymmetric must fail
  --scripted K         number of participants that are scripted
  --light              the scripted participants send 5 frames and 10 audio packets a second instead of 15 and 50, so that
                       two cores carry 20 of them
  --ssrc-rewriting     the scripted participants ask for SSRC rewriting, and count only what arrives on SSRCs that the
                       bridge announced
  --bridges N          a focus and N bridges as processes of their own, each in a region of its own, linked by relays
  --strategy NAME      how the focus spreads the conference over them, default split; the check fails unless each of them has
                       participants, if there are enough
  --relay-channel NAME what the bridges talk with each other over, default sctp; the check fails unless all of them do
  --size WxH, --fps N  the fake camera of the check, default 320x180 at 15
  --screenshot FILE    take a screenshot of a call of three
`;

function arguments_() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        check: { type: 'boolean' }, help: { type: 'boolean', short: 'h' },
        participants: { type: 'string' }, seconds: { type: 'string' }, codec: { type: 'string' },
        firefox: { type: 'string' },
        asymmetric: { type: 'boolean' }, p2p: { type: 'boolean' }, io: { type: 'string' },
        'disable-rewriting': { type: 'boolean' }, scripted: { type: 'string' },
        size: { type: 'string' }, fps: { type: 'string' }, channel: { type: 'string' }, client: { type: 'string' }, mixed: { type: 'boolean' },
        'ssrc-rewriting': { type: 'boolean' }, light: { type: 'boolean' },
        ssrcs: { type: 'string' }, screenshot: { type: 'string' }, bridges: { type: 'string' }, strategy: { type: 'string' },
        'relay-channel': { type: 'string' },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const number = (name, fallback, min, max) => {
    if (values[name] === undefined) return fallback;
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new UsageError(`--${name} ${values[name]}: give a whole number from ${min} to ${max}`);
    }
    return value;
  };
  const choice = (name, ...choices) => {
    if (values[name] !== undefined && !choices.includes(values[name])) {
      throw new UsageError(`--${name} ${values[name]}: choose one of ${choices.join(', ')}`);
    }
    return values[name];
  };
  if (values.size !== undefined && !/^\d+x\d+$/.test(values.size)) throw new UsageError(`--size ${values.size}: give WIDTHxHEIGHT`);
  if (values.client !== undefined && !existsSync(join(values.client, 'lib-jitsi-meet.min.js'))) {
    throw new UsageError(`--client ${values.client}: there is no lib-jitsi-meet.min.js in it`);
  }
  if (values.mixed && !values.client) throw new UsageError('--mixed needs --client');
  const bridges = number('bridges', 1, 1, 9);
  const strategy = choice('strategy', 'split', 'region-based', 'intra-region') ?? (bridges > 1 ? 'split' : undefined);
  if (strategy && bridges === 1) throw new UsageError('--strategy needs --bridges, two or more');
  const relayChannel = choice('relay-channel', 'websocket', 'sctp');
  if (relayChannel && bridges === 1) throw new UsageError('--relay-channel needs --bridges, two or more');
  if (relayChannel === 'websocket' && values.channel === 'sctp') throw new UsageError('--relay-channel websocket: with --channel sctp the bridges have no WebSocket');
  const participants = number('participants', 3, 2, 50);
  return {
    ...values,
    participants,
    bridges,
    strategy,
    relayChannel,
    seconds: number('seconds', 10, 1, 86400),
    firefox: number('firefox', 0, 0, participants),
    scripted: number('scripted', undefined, 0, participants - 1),
    fps: number('fps', undefined, 1, 60),
    codec: choice('codec', 'vp8', 'vp9', 'h264', 'av1'),
    channel: choice('channel', 'websocket', 'sctp'),
    io: choice('io', 'auto', 'uring', 'mmsg'),
    ssrcs: number('ssrcs', undefined, 1, 1000),
    disableRewriting: values['disable-rewriting'],
    ssrcRewriting: values['ssrc-rewriting'],
  };
}

class UsageError extends Error {}

/** Waits for Ctrl-C or SIGTERM. */
const interrupted = new Promise(done => {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => done(name));
});

async function screenshot(stack, file) {
  const { Browser } = await import('../lib/browsers.mjs');
  const { everybodyMeets } = await import('../lib/measure.mjs');
  const browser = await Browser.launch();
  try {
    const size = { size: '640x360', fps: 15 };
    const names = ['Ada', 'Grace', 'Edsger'];
    const participants = [];
    for (const name of names) {
      participants.push(await browser.join(stack.page.address, 'lounge', name, size, { width: 1280, height: 760 }));
    }
    if (!await everybodyMeets(participants, 45000)) throw new Error('the three did not meet; no picture taken');
    // The first seconds are at a low rate while bandwidth is probed.
    const first = participants[0];
    await first.hook("ringbridge.showBandwidth(true)");
    await first.hook("ringbridge.want({ stage: ['Grace'], height: 180 })");
    await sleep(20000);
    mkdirSync(dirname(resolve(file)), { recursive: true });
    writeFileSync(file, await participants[0].page.screenshot({ type: 'png' }));
  } finally {
    await browser.close();
  }
}

async function main() {
  const options = arguments_();
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const scripted = options.check && (options.scripted ?? (options.participants > 4 ? options.participants - 2 : 0)) > 0;
  const { clientFolder } = await prepare({ browser: options.check || Boolean(options.screenshot), load: scripted, firefox: options.check && options.firefox > 0 });
  const stack = new Stack({ clientFolder, folder: options.check || options.screenshot ? 'check' : 'run', io: options.io, disableRewriting: options.disableRewriting,
    split: options.bridges > 1, bridges: options.bridges, strategy: options.strategy,
    relayChannel: options.relayChannel, channel: options.channel, ssrcs: options.ssrcs, currentClientFolder: options.client && resolve(options.client) });
  try {
    const work = (async () => {
      await stack.start();
      if (options.check) {
        const { check } = await import('./check.mjs');
        const { ok, ...result } = await check(stack, options);
        console.log(JSON.stringify(result));
        return ok ? 0 : 1;
      }
      if (options.screenshot) {
        await screenshot(stack, options.screenshot);
        console.log(options.screenshot);
        return 0;
      }
      console.log(`\nOpen  ${stack.page.address}  in two or three browser tabs.\n\nLogs: ${stack.folder}\nCtrl-C stops everything.`);
      for (const one of [...stack.processes(), stack.prosody]) {
        one.process.ended.then(result => {
          if (!stopping) console.error(`${one.process.name} ended by itself (${result}):\n${one.process.tail()}`);
        });
      }
      await interrupted;
      return 0;
    })();
    return await Promise.race([work, interrupted.then(() => 130)]);
  } finally {
    stopping = true;
    await stack.stop();
  }
}

let stopping = false;
try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${usage}`);
    process.exitCode = 2;
  } else {
    console.error(`tools/demo: ${error.message}`);
    process.exitCode = 1;
  }
}
await Promise.all([...Background.all].map(child => child.stop(1000)));
process.exit();
