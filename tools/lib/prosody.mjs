// A private Prosody: own configuration, data and pid file under the demo folder, loopback only, no TLS.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { toolsFolder } from './paths.mjs';
import { Background, until } from './process.mjs';

/** Hosts beside the usual ones, for breakout rooms, moderation and metadata. */
const meetingHosts = `
Component "breakout.meet.test" "muc"
    storage = "memory"
    restrict_room_creation = true
    admins = { "focus@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true

Component "avmoderation.meet.test" "test_meeting_component"

Component "metadata.meet.test" "test_meeting_component"
`;

/** A visitor node: hosts and rooms of its own, here on the same server. */
const visitorNode = `
VirtualHost "v1.meet.test"
    authentication = "anonymous"

VirtualHost "auth.v1.meet.test"
    authentication = "internal_plain"

Component "conference.v1.meet.test" "muc"
    storage = "memory"
    modules_enabled = { "test_visitors_room" }
    restrict_room_creation = true
    muc_room_locking = false
    muc_room_default_public_jids = true
    muc_room_default_presence_broadcast = { visitor = false, participant = true, moderator = true }
    admins = { "focus@auth.v1.meet.test" }

Component "visitors.meet.test" "test_visitors_component"
    admins = { "focus@auth.meet.test" }
`;

/** Prosody stores a host's data in a folder with its name percent-encoded, `%` excepted: `auth%2emeet%2etest`. */
const encoded = name => name.replace(/[^A-Za-z0-9]/g, c => '%' + c.charCodeAt(0).toString(16).padStart(2, '0'));

/**
 * What a site has beside rooms; the modules are our own and send what those of Jitsi Meet send.
 * `meetings`: breakout rooms, moderation, metadata. `visitors`: a visitor node, v1.
 * @typedef {{ lobby?: boolean, endConference?: boolean, maxOccupants?: number, meetings?: boolean, visitors?: boolean }} Site
 */

/** @param {string[]} names */
const quoted = names => names.map(name => `"${name}"`).join(', ');

/** Where clients send what ends a meeting for all. */
export const endConferenceAddress = 'endconference.meet.test';

export class Prosody {
  /**
   * `accounts` maps user names on auth.meet.test to passwords; a lost stream can be resumed for `resumption` seconds.
   * @param {{ folder: string, clientPort: number, httpPort: number, accounts: Record<string, string>, resumption?: number, site?: Site }} options
   */
  constructor({ folder, clientPort, httpPort, accounts, resumption = 60, site = {} }) {
    const components = [
      ...site.lobby ? ['lobbyrooms = "lobby.meet.test"'] : [],
      ...site.endConference ? [`end_conference = "${endConferenceAddress}"`] : [],
      ...site.visitors ? ['visitors = "visitors.meet.test"'] : [],
      ...site.meetings ? ['breakout_rooms = "breakout.meet.test"', 'av_moderation = "avmoderation.meet.test"', 'room_metadata = "metadata.meet.test"'] : [],
    ];
    const hostModules = ['test_components', ...site.meetings ? ['test_rooms'] : []];
    const roomModules = [...site.lobby ? ['test_lobby'] : [], ...site.maxOccupants ? ['test_max_occupants'] : []];
    this.folder = folder;
    this.clientPort = clientPort;
    this.httpPort = httpPort;
    this.configuration = join(folder, 'prosody.cfg.lua');
    const data = join(folder, 'prosody-data');
    rmSync(data, { recursive: true, force: true });
    for (const host of ['auth.meet.test', ...site.visitors ? ['auth.v1.meet.test'] : []]) {
      const store = join(data, encoded(host), 'accounts');
      mkdirSync(store, { recursive: true });
      for (const [user, password] of Object.entries(accounts)) {
        writeFileSync(join(store, `${encoded(user)}.dat`), `return { ["password"] = "${password}" };\n`, { mode: 0o600 });
      }
    }
    writeFileSync(this.configuration, `-- Written by tools/demo at every start.
run_as_root = true
daemonize = false
pidfile = "${join(folder, 'prosody.pid')}"
data_path = "${data}"
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

plugin_paths = { "${join(toolsFolder, 'lib/prosody-modules')}" }
modules_enabled = { "saslauth", "disco", "ping", "version", "smacks", "websocket" }
modules_disabled = { "s2s", "tls", "offline" }
smacks_hibernation_time = ${resumption}
muc_room_cache_size = 10000

VirtualHost "meet.test"
    authentication = "anonymous"
    modules_enabled = { ${quoted(hostModules)} }
    test_components = { ${components.join(', ')} }

VirtualHost "auth.meet.test"
    authentication = "internal_plain"

Component "conference.meet.test" "muc"
    storage = "memory"
    modules_enabled = { ${quoted(roomModules)} }
    lobby_muc = "lobby.meet.test"
    max_occupants = ${site.maxOccupants ?? 0}
    admins = { "focus@auth.meet.test" }
    muc_room_locking = false
    muc_room_default_public_jids = true

${site.lobby ? `Component "lobby.meet.test" "muc"
    storage = "memory"
    muc_room_locking = false
    muc_room_default_public_jids = true

` : ''}${site.endConference ? `Component "${endConferenceAddress}" "test_end_conference"
    end_conference_muc = "conference.meet.test"

` : ''}Component "internal.auth.meet.test" "muc"
    storage = "memory"
    muc_room_locking = false
    muc_room_default_public_jids = true
${site.meetings ? meetingHosts : ''}${site.visitors ? visitorNode : ''}`);
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
