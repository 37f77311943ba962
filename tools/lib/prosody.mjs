// A private Prosody: own configuration, data and pid file under the demo folder, loopback only, no TLS.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Background, until } from './process.mjs';

/** Modules that say and do what Jitsi's own do; see the head of each. */
const modules = join(dirname(fileURLToPath(import.meta.url)), 'prosody-modules');

/** Hosts beside the usual ones, for breakout rooms, moderation and metadata. */
const components = `
Component "breakout.meet.test" "muc"
    storage = "memory"
    restrict_room_creation = true
    admins = { "focus@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true

Component "avmoderation.meet.test" "test_component"

Component "metadata.meet.test" "test_component"
`;

/** Prosody stores a host's data in a folder with its name percent-encoded, `%` excepted: `auth%2emeet%2etest`. */
const encoded = name => name.replace(/[^A-Za-z0-9]/g, c => '%' + c.charCodeAt(0).toString(16).padStart(2, '0'));

export class Prosody {
  /**
   * `accounts` maps user names on auth.meet.test to passwords; a lost stream can be resumed for `resumption` seconds.
   * `meetings`: with what Jitsi's modules add: breakout rooms, moderation, metadata.
   * @param {{ folder: string, clientPort: number, httpPort: number, accounts: Record<string, string>, resumption?: number, meetings?: boolean }} options
   */
  constructor({ folder, clientPort, httpPort, accounts, resumption = 60, meetings = false }) {
    this.folder = folder;
    this.clientPort = clientPort;
    this.httpPort = httpPort;
    this.configuration = join(folder, 'prosody.cfg.lua');
    const data = join(folder, 'prosody-data');
    rmSync(data, { recursive: true, force: true });
    const store = join(data, encoded('auth.meet.test'), 'accounts');
    mkdirSync(store, { recursive: true });
    for (const [user, password] of Object.entries(accounts)) {
      writeFileSync(join(store, `${encoded(user)}.dat`), `return { ["password"] = "${password}" };\n`, { mode: 0o600 });
    }
    writeFileSync(this.configuration, `-- Written by tools/demo at every start.
run_as_root = true
daemonize = false
pidfile = "${join(folder, 'prosody.pid')}"
data_path = "${data}"
plugin_paths = { "${modules}" }
log = { { levels = { min = "info" }, to = "file", filename = "${join(folder, 'prosody.log')}" } }

interfaces = { "127.0.0.1" }
local_interfaces = { "127.0.0.1" }
c2s_ports = { ${clientPort} }
c2s_direct_tls_ports = { }
legacy_ssl_ports = { }
s2s_ports = { }
s2s_direct_tls_ports = { }
component_ports = { }
http_ports = { ${httpPort} }
http_interfaces = { "127.0.0.1" }
https_ports = { }
http_default_host = "meet.test"

-- Loopback only, hence no TLS.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
http_cors_override = { websocket = { enabled = true, origins = "*" } }

modules_enabled = { "saslauth", "disco", "ping", "version", "smacks", "websocket" }
modules_disabled = { "s2s", "tls", "offline" }
smacks_hibernation_time = ${resumption}
muc_room_cache_size = 10000

VirtualHost "meet.test"
    authentication = "anonymous"
    ${meetings ? 'modules_enabled = { "test_rooms" }' : ''}

VirtualHost "auth.meet.test"
    authentication = "internal_plain"

Component "conference.meet.test" "muc"
    storage = "memory"
    admins = { "focus@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true

Component "internal.auth.meet.test" "muc"
    storage = "memory"
    muc_room_locking = false
    muc_room_default_public_jids = true
${meetings ? components : ''}`);
  }

  get websocketUrl() { return `ws://127.0.0.1:${this.httpPort}/xmpp-websocket`; }

  async start() {
    const server = this.process = new Background('prosody', '/usr/bin/prosody', ['--config', this.configuration, '-F'], { log: join(this.folder, 'prosody.out') });
    await until('Prosody accepts connections', 20000, () => {
      server.check();
      return Promise.all([accepts(this.clientPort), accepts(this.httpPort)]).then(both => both.every(Boolean));
    });
  }

  async stop() { await this.process?.stop(); }
  async kill() { await this.process?.kill(); }
}

function accepts(port) {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
}
