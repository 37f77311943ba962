// The program under test: its configuration file, its processes, its statistics.
import { spawn } from 'node:child_process';
import { readFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository, targetFolder } from './paths.mjs';
import { Background, run, sleep, until } from './process.mjs';

export const binary = () => process.env.RINGBRIDGE ?? join(targetFolder, 'release/ringbridge');
export const loadBinary = () => process.env.RINGBRIDGE_LOAD ?? join(targetFolder, 'release/ringbridge-load');

/** Builds what the demo runs, unless RINGBRIDGE names a binary. Cargo says what it does: a first build takes minutes. */
export async function build(...packages) {
  if (process.env.RINGBRIDGE) return;
  await run('cargo', ['build', '--release', ...packages.flatMap(name => ['-p', name])], { cwd: repository });
}

/** The focus's settings of a visitor node on the same server. */
const visitorNode = o => `  visitors {
    enabled = true
    notification-interval = "1 s"
    nodes.v1 {
      hostname = "127.0.0.1"
      port = ${o.xmppPort}
      use-tls = false
      domain = "auth.v1.meet.test"
      password = ${JSON.stringify(o.focusPassword)}
      conference-service = "conference.v1.meet.test"
    }
  }
`;

/** Writes the configuration file (HOCON) of one process and returns its path. */
function writeConfiguration(path, o) {
  const text = value => JSON.stringify(value);
  writeFileSync(path, `# Written by tools/demo at every start.
xmpp {
  host = "127.0.0.1"
  port = ${o.xmppPort}
  security = "disabled"
}
brewery = "jvbbrewery@internal.auth.meet.test"
bridge {
  jid = "jvb@auth.meet.test"
  password = ${text(o.bridgePassword)}
  nickname = ${text(o.nickname)}
  listen-addresses = [${text(o.mediaAddress ?? '127.0.0.1')}]
  port = ${o.mediaPort}
  workers = ${o.workers ?? 1}
  io = ${text(o.io ?? 'auto')}
  websocket {
    enabled = ${o.channel !== 'sctp'}
    listen = "127.0.0.1:${o.websocketPort}"
    base-url = "ws://127.0.0.1:${o.websocketPort}"
    server-id = ${text(o.nickname)}
  }
  rest { listen = "127.0.0.1:${o.bridgeRestPort}" }
${o.strategy ? `  region = ${text(o.region)}
  relay { enabled = true, id = ${text(o.nickname)}, min-port = ${o.relayPorts[0]}, max-port = ${o.relayPorts[1]} }
${o.relayUrl ? `  relay.websocket-url = ${text(o.relayUrl)}
` : ''}${o.publicAddress ? `  public-addresses = [${text(o.publicAddress)}]
` : ''}` : ''}  disable-rewriting = ${o.disableRewriting ?? false}
  ssrc-limit { audio = ${o.ssrcs ?? 50}, video = ${o.ssrcs ?? 50} }
}
focus {
  jid = "focus@auth.meet.test"
  password = ${text(o.focusPassword)}
  conference-muc = "conference.meet.test"
  rest { listen = "127.0.0.1:${o.focusRestPort}" }
${o.strategy ? `  relay.enabled = true
  relay.sctp = ${o.relayChannel !== 'websocket'}
  selection.strategy = ${text(o.strategy)}
` : ''}${o.visitors ? visitorNode(o) : ''}}
`, { mode: 0o600 });
  return path;
}

/** One ringbridge process: `kind` is bridge, focus or all. */
export class Ringbridge {
  /** Once started. @type {Background} */
  process;
  /** The process that took over from that one, if one did: nobody's child. @type {number | undefined} */
  successor;

  constructor(kind, name, folder, options) {
    this.kind = kind;
    this.name = name;
    this.options = options;
    this.log = join(options.logFolder ?? folder, `${name}.log`);
    this.configuration = writeConfiguration(join(folder, `${name}.conf`), options);
  }

  async start() {
    const [program, ...args] = [...this.options.launcher ?? [], binary(), this.kind, '--config', this.configuration];
    this.process = new Background(this.name, program, args,
      { log: this.log, env: { RUST_LOG: process.env.RUST_LOG ?? 'info', ...this.options.environment } });
    await until(`${this.name} answers on its REST port`, 15000, async () => {
      this.process.check();
      if (this.kind !== 'focus') await fetch(this.bridgeUrl('/about/health'));
      if (this.kind !== 'bridge') await fetch(this.focusUrl('/about/health'));
      return true;
    });
  }

  bridgeUrl(path) { return `http://127.0.0.1:${this.options.bridgeRestPort}${path}`; }
  focusUrl(path) { return `http://127.0.0.1:${this.options.focusRestPort}${path}`; }

  async bridgeStats() { return (await fetch(this.bridgeUrl('/colibri/stats'))).json(); }
  async focusStats() { return (await fetch(this.focusUrl('/stats'))).json(); }
  async bandwidth() { return (await fetch(this.bridgeUrl('/debug/bandwidth'))).json(); }
  async debug(full = false) { return (await fetch(this.bridgeUrl(`/debug?full=${full}`))).json(); }
  async bridgeHealth() { return (await fetch(this.bridgeUrl('/about/health'))).status; }
  async focusHealth() { return (await fetch(this.focusUrl('/about/health'))).status; }

  /** Has the bridge replaced by a new process with these options changed; what the command says. */
  async upgrade(changes = {}, args = []) {
    Object.assign(this.options, changes);
    writeConfiguration(this.configuration, this.options);
    const command = spawn(binary(), ['upgrade', `127.0.0.1:${this.options.bridgeRestPort}`, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [command.stdout, command.stderr]) stream.on('data', data => { said += data; });
    const code = await new Promise((resolve, reject) => command.on('close', resolve).on('error', reject));
    const { pid, frozen_millis: frozen } = await (await fetch(this.bridgeUrl('/colibri/upgrade'))).json();
    if (pid !== this.process.pid) this.successor = pid;
    return { code, said: said.trim(), pid, frozen };
  }

  /** Ends the process that took over, if there is one. */
  async endSuccessor(signal) {
    const pid = this.successor;
    if (!pid) return;
    this.successor = undefined;
    try {
      process.kill(pid, signal);
      for (let waited = 0; waited < 5000; waited += 50) {
        process.kill(pid, 0);
        await sleep(50);
      }
      process.kill(pid, 'SIGKILL');
    } catch { /* gone */ }
  }

  async stop() {
    await this.endSuccessor('SIGTERM');
    await this.process?.stop();
  }
  async kill() {
    await this.endSuccessor('SIGKILL');
    await this.process?.kill();
  }

  /** Error-level lines of the log so far. */
  errors() {
    if (!existsSync(this.log)) return [];
    // eslint-disable-next-line no-control-regex -- that is what colours are made of. Colours are for terminals; the level is the first upper-case word of a line of `tracing`.
    return readFileSync(this.log, 'utf8').replace(/\x1b\[[0-9;]*m/g, '').split('\n')
      .filter(line => /^\S*\s*ERROR\b|"level":"ERROR"|panicked at/.test(line));
  }
}
