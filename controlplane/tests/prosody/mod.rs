//! A private Prosody for tests: loopback, random ports, its own configuration and data under `target/`.
//!
//! Virtual hosts `meet.test` (anonymous) and `auth.meet.test` (accounts focus, jvb, jvb2, all with [`PASSWORD`]),
//! rooms at `conference.meet.test` and `internal.auth.meet.test`, as in docs/protocol/focus.md 1.1. Conferences have meeting ids of
//! their own, as with Jitsi's modules: `meeting-of-` and the room's name.

#![allow(dead_code)] // Each test binary uses its own part of the harness.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringbridge_controlplane::bridge::{BridgeSettings, ShutdownSettings, XmppConnectionSettings};
use ringbridge_controlplane::xmpp::{Security, XmppSettings};
use ringbridge_dataplane::io::IoChoice;

#[path = "../ports/mod.rs"]
mod ports;
pub use ports::{free_port, loopback};

/// Password of every account.
pub const PASSWORD: &str = "secret-of-the-test";
/// The brewery room.
pub const BREWERY: &str = "jvbbrewery@internal.auth.meet.test";

/// What publishes the meeting ids.
const MEETING_IDS: &str = r#"
local jid = require "util.jid";
module:hook("muc-disco#info", function (event)
    local value = "meeting-of-" .. jid.node(event.room.jid);
    table.insert(event.form, { name = "muc#roominfo_meetingId"; type = "text-single"; value = value });
end);
"#;

/// A running server; killed when dropped.
pub struct Prosody {
    directory: PathBuf,
    child: Option<Child>,
    /// c2s port on 127.0.0.1.
    pub port: u16,
    /// HTTP port (BOSH at `/http-bind`, WebSocket at `/xmpp-websocket`).
    pub http_port: u16,
}

/// In the additional configuration: no stream management.
pub const WITHOUT_SMACKS: &str = "-- without smacks";

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Prosody {
    /// Starts a server, or says why the test is skipped and returns `None`.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// As [`Prosody::start`], with what Jitsi's modules add: breakout rooms, moderation and metadata.
    pub fn start_with_meetings() -> Option<Self> {
        Self::start_with(
            r#"
VirtualHost "meet.test"
    modules_enabled = { "test_components", "test_rooms" }
    test_components = {
        breakout_rooms = "breakout.meet.test", av_moderation = "avmoderation.meet.test", room_metadata = "metadata.meet.test"
    }

Component "breakout.meet.test" "muc"
    restrict_room_creation = true
    muc_room_locking = false
    muc_room_default_public_jids = true
    admins = { "focus@auth.meet.test" }

Component "avmoderation.meet.test" "test_meeting_component"

Component "metadata.meet.test" "test_meeting_component"
"#,
        )
    }

    /// As [`Prosody::start`], with two visitor nodes, v1 and v2, on the same server: hosts, rooms and an account of the focus each.
    pub fn start_with_visitors() -> Option<Self> {
        let node = |name: &str| {
            format!(
                r#"
VirtualHost "{name}.meet.test"
    authentication = "anonymous"

VirtualHost "auth.{name}.meet.test"
    authentication = "internal_plain"

Component "conference.{name}.meet.test" "muc"
    modules_enabled = {{ "test_visitors_room" }}
    restrict_room_creation = true
    muc_room_locking = false
    muc_room_default_public_jids = true
    muc_room_default_presence_broadcast = {{ visitor = false, participant = true, moderator = true }}
    admins = {{ "focus@auth.{name}.meet.test" }}
"#
            )
        };
        Self::start_with(&format!(
            r#"
VirtualHost "meet.test"
    modules_enabled = {{ "test_components" }}
    test_components = {{ visitors = "visitors.meet.test" }}
{}{}
Component "visitors.meet.test" "test_visitors_component"
    admins = {{ "focus@auth.meet.test" }}
"#,
            node("v1"),
            node("v2")
        ))
    }

    /// As [`Prosody::start`], with additional global configuration (Lua).
    pub fn start_with(global: &str) -> Option<Self> {
        // Not asked for its version: it would start.
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|directory| directory.join("prosody").is_file()) {
            eprintln!("skipped: prosody is not installed (apt-get install prosody)");
            return None;
        }
        let name = format!("prosody-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        for host in ["auth", "auth%2ev1", "auth%2ev2"] {
            let accounts = directory.join(format!("data/{host}%2emeet%2etest/accounts"));
            std::fs::create_dir_all(&accounts).expect("a data directory under target/");
            for account in ["focus", "jvb", "jvb2"] {
                let text = format!("return {{ [\"password\"] = \"{PASSWORD}\"; }};\n");
                std::fs::write(accounts.join(format!("{account}.dat")), text).expect("an account file");
            }
        }
        let plugins = directory.join("plugins");
        std::fs::create_dir_all(&plugins).expect("a directory for modules");
        let modules = [
            ("mod_test_meeting_id.lua", MEETING_IDS),
            ("mod_test_rooms.lua", include_str!("../../../tools/lib/prosody-modules/mod_test_rooms.lua")),
            ("mod_test_components.lua", include_str!("../../../tools/lib/prosody-modules/mod_test_components.lua")),
            (
                "mod_test_visitors_component.lua",
                include_str!("../../../tools/lib/prosody-modules/mod_test_visitors_component.lua"),
            ),
            (
                "mod_test_visitors_room.lua",
                include_str!("../../../tools/lib/prosody-modules/mod_test_visitors_room.lua"),
            ),
            (
                "mod_test_meeting_component.lua",
                include_str!("../../../tools/lib/prosody-modules/mod_test_meeting_component.lua"),
            ),
        ];
        for (name, text) in modules {
            std::fs::write(plugins.join(name), text).expect("a module");
        }
        let mut server = Self { directory, child: None, port: free_port(), http_port: free_port() };
        std::fs::write(server.directory.join("prosody.cfg.lua"), server.configuration(global))
            .expect("a configuration");
        server.run();
        Some(server)
    }

    fn configuration(&self, global: &str) -> String {
        let dir = self.directory.display();
        let (port, http) = (self.port, self.http_port);
        // Without a certificate there is no TLS.
        let encryption = global.contains("ssl =");
        let (on, off) = if encryption { ("\"tls\", ", "") } else { ("", "\"tls\", ") };
        let smacks = if global.contains(WITHOUT_SMACKS) { "" } else { "\"smacks\", " };
        format!(
            r#"
run_as_root = true
daemonize = false
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
plugin_paths = {{ "{dir}/plugins" }}
log = {{ debug = "{dir}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ }}
http_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {http} }}
https_ports = {{ }}
modules_enabled = {{ {on}"roster", "saslauth", "disco", "ping", {smacks}"version", "bosh", "websocket" }}
modules_disabled = {{ "s2s", {off}"offline", "posix" }}
c2s_require_encryption = {encryption}
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
consider_bosh_secure = true
http_cors_override = {{ bosh = {{ enabled = true }}; websocket = {{ enabled = true }} }}
{global}

VirtualHost "meet.test"
    authentication = "anonymous"

VirtualHost "auth.meet.test"
    authentication = "internal_plain"

Component "conference.meet.test" "muc"
    modules_enabled = {{ "test_meeting_id" }}
    muc_room_locking = false
    muc_room_default_public_jids = true
    admins = {{ "focus@auth.meet.test" }}

Component "internal.auth.meet.test" "muc"
    muc_room_locking = false
    muc_room_default_public_jids = true
    admins = {{ "focus@auth.meet.test" }}
"#
        )
    }

    /// Starts the process, on the same ports and data as before; returns when it accepts connections.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "prosody already runs");
        let output = std::fs::File::create(self.directory.join("output.log")).expect("a log file");
        let child = Command::new("prosody")
            .args(["-F", "--config"])
            .arg(self.directory.join("prosody.cfg.lua"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("prosody starts");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "prosody does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the process at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        read("output.log") + &read("prosody.log")
    }

    /// Settings of a bridge on loopback that this server knows as `jvb`, with ports of its own for its pages and WebSockets;
    /// everything else as it is where nothing is configured.
    pub fn bridge(&self, nickname: &str) -> BridgeSettings {
        let websocket = loopback();
        BridgeSettings {
            connections: vec![XmppConnectionSettings {
                id: "xmpp".to_owned(),
                xmpp: self.account("jvb", None),
                breweries: vec![BREWERY.parse().expect("a room")],
                nickname: nickname.to_owned(),
                trusted: Vec::new(),
            }],
            local_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            chosen_by: None,
            public_addresses: Vec::new(),
            discovery: Default::default(),
            advertise_private: true,
            port: 10_000,
            workers: 1,
            spill_endpoints: 50,
            audio_ssrcs: 50,
            video_ssrcs: 50,
            congestion_control: true,
            loudest_only: None,
            start_bitrate: 2_500_000,
            cores: Vec::new(),
            io: IoChoice::Auto,
            io_options: Default::default(),
            websocket_listen: Some(websocket),
            websocket_base_url: "ws://meet.test".to_owned(),
            relay_websocket_base_url: format!("ws://{websocket}"),
            websocket_server_id: nickname.to_owned(),
            rest_listen: loopback(),
            sctp: true,
            ice_restart: true,
            region: None,
            drain: false,
            shutdown: ShutdownSettings::default(),
            shutdown_over_rest: true,
            shutdown_over_xmpp: false,
            relay: None,
            disable_rewriting: false,
        }
    }

    /// Settings of a connection for one of the accounts of a visitor node.
    pub fn account_on(&self, node: &str, user: &str, resource: Option<&str>) -> XmppSettings {
        XmppSettings {
            jid: format!("{user}@auth.{node}.meet.test").parse().expect("a JID"),
            ..self.account(user, resource)
        }
    }

    /// Settings of an account on `auth.meet.test`.
    pub fn account(&self, user: &str, resource: Option<&str>) -> XmppSettings {
        XmppSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            jid: format!("{user}@auth.meet.test").parse().expect("a JID"),
            password: PASSWORD.to_owned(),
            resource: resource.map(str::to_owned),
            security: Security::Disabled,
            verify_certificate: true,
            ca_file: None,
            resumption: true,
        }
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
