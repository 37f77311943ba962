//! Janus with its videoroom plugin: started with a configuration of its own, asked over its Unix socket. One handle per
//! participant; publishers `joinandconfigure`, subscribers `join` and `start`.
//!
//! Janus leaves out the loopback interface when it gathers candidates, and libnice ties its sockets to the interface of
//! their address (`IP_UNICAST_IF`), from where clients on 127.0.0.0/8 cannot be reached. So it gets an interface of its
//! own, with a second route to 127.0.0.0/8 over it that only counts for sockets tied like that. The kernel still carries
//! packets between local addresses over the loopback device, as with all other peers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use ringbridge_bench_peers::{Reply, Request, pin, reply, serve};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

/// Of the interface: for benchmarks (RFC 2544).
const ADDRESS: &str = "198.18.0.1";
/// How long Janus may take to start, to answer, or to know a publisher whose handshake has just ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// The plugin's `JANUS_VIDEOROOM_ERROR_NO_SUCH_FEED`.
const NO_SUCH_FEED: u64 = 428;

fn main() -> ExitCode {
    let mut hub = match Hub::start() {
        Ok(hub) => hub,
        Err(error) => {
            reply(&Reply::Missing(error.to_string()));
            return ExitCode::FAILURE;
        }
    };
    let version = format!("Janus {}, videoroom", hub.janus.version);
    for request in serve(&[hub.janus.process.0.id()], &version, || {}) {
        let (Request::Publish { id, .. } | Request::Subscribe { id, .. } | Request::Answer { id, .. }) = request;
        match hub.handle(request) {
            Ok(answer) => reply(&answer),
            Err(error) => reply(&Reply::Failed { id, error: error.to_string() }),
        }
    }
    ExitCode::SUCCESS
}

/// Maps participants to Janus's handles.
struct Hub {
    janus: Janus,
    handles: HashMap<usize, u64>,
    /// Participants that publish, by room.
    feeds: HashMap<usize, Vec<usize>>,
    /// What makes rooms.
    maker: u64,
    // These go last.
    _interface: Interface,
    _folder: Folder,
}

impl Hub {
    fn start() -> Result<Self, Error> {
        let libraries = libraries().ok_or(
            "Janus with its videoroom plugin and its Unix socket transport is not installed; on Debian: \
             apt-get install --no-install-recommends janus",
        )?;
        let interface = Interface::add()?;
        let folder = Folder::make(&libraries, &interface.name)?;
        // Its transport's thread may look whether it is wanted before that is said, and Janus ends for want of a
        // transport: on one core always, so that it is moved later, and on a busy host now and then.
        let deadline = Instant::now() + PATIENCE;
        let mut janus = loop {
            match Janus::start(&folder) {
                Ok(janus) => break janus,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(error) => eprintln!("once more: {error}"),
            }
        };
        pin(janus.process.0.id());
        let (handles, feeds, maker) = (HashMap::new(), HashMap::new(), janus.attach()?);
        Ok(Self { janus, handles, feeds, maker, _interface: interface, _folder: folder })
    }

    /// Makes a room, if it is not there; Janus numbers them from 1.
    fn room(&mut self, room: usize) -> Result<u64, JanusError> {
        let number = room as u64 + 1;
        if let Entry::Vacant(entry) = self.feeds.entry(room) {
            let body = json!({
                "request": "create", "room": number, "publishers": 1000, "bitrate": 0, "videocodec": "vp8", "audiocodec": "opus",
            });
            self.janus.message(self.maker, body, None)?;
            entry.insert(Vec::new());
        }
        Ok(number)
    }

    fn handle(&mut self, request: Request) -> Result<Reply, Error> {
        match request {
            Request::Publish { id, room, sdp } => {
                let number = self.room(room)?;
                let handle = self.attach(id)?;
                let body = json!({ "request": "joinandconfigure", "ptype": "publisher", "room": number, "id": id + 1 });
                let answer = self.janus.message(handle, body, Some(("offer", &sdp)))?;
                self.feeds.entry(room).or_default().push(id);
                Ok(Reply::Answer { id, sdp: description(&answer)? })
            }
            Request::Subscribe { id, room } => {
                let number = self.room(room)?;
                let handle = self.attach(id)?;
                let feeds = self.feeds.get(&room).map(Vec::as_slice).unwrap_or_default();
                let streams: Vec<_> = feeds.iter().map(|feed| json!({ "feed": feed + 1 })).collect();
                let body = json!({ "request": "join", "ptype": "subscriber", "room": number, "streams": streams });
                let deadline = Instant::now() + PATIENCE;
                let offer = loop {
                    match self.janus.message(handle, body.clone(), None) {
                        Err(JanusError::Refused { code: NO_SUCH_FEED, .. }) if Instant::now() < deadline => {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        other => break other?,
                    }
                };
                Ok(Reply::Offer { id, sdp: description(&offer)? })
            }
            Request::Answer { id, sdp } => {
                let handle = *self.handles.get(&id).ok_or("nobody subscribed")?;
                self.janus.message(handle, json!({ "request": "start" }), Some(("answer", &sdp)))?;
                Ok(Reply::Accepted { id })
            }
        }
    }

    fn attach(&mut self, id: usize) -> Result<u64, JanusError> {
        let handle = self.janus.attach()?;
        self.handles.insert(id, handle);
        Ok(handle)
    }
}

/// The description in a reply.
fn description(reply: &Value) -> Result<String, Error> {
    Ok(reply["jsep"]["sdp"].as_str().ok_or_else(|| format!("no description in {reply}"))?.to_owned())
}

#[derive(Debug)]
enum JanusError {
    Io(io::Error),
    /// An error of the API, or of the plugin.
    Refused {
        code: u64,
        reason: String,
    },
}

impl std::fmt::Display for JanusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "Janus does not answer: {error}; set PEER_LOG=1 to see its log"),
            Self::Refused { code, reason } => write!(f, "Janus refused: {reason} ({code})"),
        }
    }
}

impl std::error::Error for JanusError {}

/// Janus itself; ends when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process, and a session of its API.
struct Janus {
    version: String,
    socket: UnixStream,
    session: u64,
    transactions: u64,
    process: Process,
}

impl Janus {
    fn start(folder: &Folder) -> Result<Self, Error> {
        let child = Command::new("janus")
            .args(["--config", &folder.file("janus.jcfg"), "--configs-folder", &folder.file("")])
            .stdin(Stdio::null())
            .stdout(Stdio::from(io::stderr()))
            .spawn()
            .map_err(|error| format!("cannot start janus: {error}"))?;
        let mut process = Process(child);
        let socket = connected(&folder.0.join("api"), &mut process.0)?;
        let mut janus = Self { version: String::new(), socket, session: 0, transactions: 0, process };
        let info = janus.ask(json!({ "janus": "info" }))?;
        info["version_string"].as_str().unwrap_or("").clone_into(&mut janus.version);
        janus.session = janus.ask(json!({ "janus": "create" }))?["data"]["id"].as_u64().ok_or("no session")?;
        Ok(janus)
    }

    fn attach(&mut self) -> Result<u64, JanusError> {
        let session = self.session;
        let reply =
            self.ask(json!({ "janus": "attach", "session_id": session, "plugin": "janus.plugin.videoroom" }))?;
        reply["data"]["id"].as_u64().ok_or_else(|| refused(&reply))
    }

    /// Asks the plugin, with a description where there is one.
    fn message(&mut self, handle: u64, body: Value, jsep: Option<(&str, &str)>) -> Result<Value, JanusError> {
        let mut request = json!({ "janus": "message", "session_id": self.session, "handle_id": handle, "body": body });
        if let Some((kind, sdp)) = jsep {
            request["jsep"] = json!({ "type": kind, "sdp": sdp });
        }
        self.ask(request)
    }

    /// Sends a request and waits for its reply; acknowledgements and events of other handles are passed over.
    fn ask(&mut self, mut request: Value) -> Result<Value, JanusError> {
        self.transactions += 1;
        let transaction = self.transactions.to_string();
        request["transaction"] = json!(transaction);
        self.socket.write_all(request.to_string().as_bytes()).map_err(JanusError::Io)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = match self.socket.read(&mut buffer).map_err(JanusError::Io)? {
                0 => return Err(JanusError::Io(io::ErrorKind::UnexpectedEof.into())),
                len => len,
            };
            let reply: Value = serde_json::from_slice(&buffer[..len]).map_err(|e| JanusError::Io(e.into()))?;
            if reply["transaction"] != transaction.as_str() || reply["janus"] == "ack" {
                continue;
            }
            let failed = reply["janus"] == "error" || !reply["plugindata"]["data"]["error_code"].is_null();
            return if failed { Err(refused(&reply)) } else { Ok(reply) };
        }
    }
}

fn refused(reply: &Value) -> JanusError {
    let (api, plugin) = (&reply["error"], &reply["plugindata"]["data"]);
    let code = api["code"].as_u64().or(plugin["error_code"].as_u64()).unwrap_or(0);
    let reason = api["reason"].as_str().or(plugin["error"].as_str());
    JanusError::Refused { code, reason: reason.map_or_else(|| reply.to_string(), str::to_owned) }
}

/// Connects once Janus listens. Its socket keeps messages apart, so that one `read` is one message.
fn connected(path: &Path, child: &mut Child) -> Result<UnixStream, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(format!("janus ended: {status}; set PEER_LOG=1 to see its log").into());
        }
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        let stream = UnixStream::from(fd);
        match connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &UnixAddr::new(path)?) {
            Ok(()) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => {
                return Err(format!("janus did not open its socket: {error}; set PEER_LOG=1 to see its log").into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Where the plugins and transports are.
fn libraries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join("janus"));
    let own = ["/usr/lib/janus", "/usr/local/lib/janus", "/opt/janus/lib/janus"].map(PathBuf::from);
    own.into_iter().chain(debian).find(|folder| {
        ["plugins/libjanus_videoroom.so", "transports/libjanus_pfunix.so"].iter().all(|file| folder.join(file).exists())
    })
}

/// A temporary folder with Janus's configuration.
struct Folder(PathBuf);

impl Folder {
    fn make(libraries: &Path, interface: &str) -> Result<Self, Error> {
        let folder = Self(std::env::temp_dir().join(format!("ringbridge-janus-{}", std::process::id())));
        fs::DirBuilder::new().mode(0o700).create(&folder.0)?;
        for file in ["plugins/libjanus_videoroom.so", "transports/libjanus_pfunix.so"] {
            let link = folder.0.join(file);
            fs::create_dir_all(link.parent().unwrap_or(&folder.0))?;
            symlink(libraries.join(file), link)?;
        }
        let level = if std::env::var_os("PEER_LOG").is_some() { 4 } else { 1 };
        let path = folder.file("");
        // One core: one event loop for all handles, where the default is a thread for each.
        let janus = format!(
            "general: {{\n configs_folder = \"{path}\"\n plugins_folder = \"{path}plugins\"\n \
             transports_folder = \"{path}transports\"\n events_folder = \"{path}\"\n loggers_folder = \"{path}\"\n \
             debug_level = {level}\n session_timeout = 0\n event_loops = 1\n}}\n\
             media: {{\n no_media_timer = 0\n}}\n\
             nat: {{\n ice_lite = true\n ice_enforce_list = \"{interface}\"\n}}\n"
        );
        let socket = format!(
            "general: {{\n enabled = true\n json = \"compact\"\n path = \"{path}api\"\n type = \"SOCK_SEQPACKET\"\n}}\n"
        );
        fs::write(folder.0.join("janus.jcfg"), janus)?;
        fs::write(folder.0.join("janus.transport.pfunix.jcfg"), socket)?;
        fs::write(folder.0.join("janus.plugin.videoroom.jcfg"), "general: {\n}\n")?;
        Ok(folder)
    }

    /// A file in it; "" is the folder with a slash at its end.
    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The interface that Janus gathers its candidate from; see the module.
struct Interface {
    name: String,
}

impl Interface {
    /// Kinds that carry nothing by themselves; not every kernel has the first.
    const KINDS: [&str; 2] = ["dummy", "bridge"];

    fn add() -> Result<Self, Error> {
        const REMEDY: &str = "run the benchmark in a network namespace of its own: unshare --map-root-user --net sh -c \
                              'ip link set lo up && ringbridge-bench compare'";
        if !alone()? {
            return Err(format!("Janus needs an interface and a route that this host should not get; {REMEDY}").into());
        }
        let name = format!("rbjanus{}", std::process::id());
        let added = Self::KINDS.iter().map(|kind| ip(&["link", "add", &name, "type", kind]));
        added.reduce(Result::or).unwrap_or(Ok(())).map_err(|refused| {
            format!(
                "Janus takes no candidates from the loopback interface, and none can be added ({refused}); {REMEDY}"
            )
        })?;
        let interface = Self { name };
        let name = interface.name.as_str();
        ip(&["address", "add", &format!("{ADDRESS}/32"), "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        let route = ["route", "add", "local", "127.0.0.0/8", "dev", name, "table", "local"];
        ip(&[&route[..], &["metric", "100", "src", ADDRESS]].concat())?;
        Ok(interface)
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        // Its address and route go with it.
        if let Err(error) = ip(&["link", "delete", &self.name]) {
            eprintln!("{error}; remove it with: ip link delete {}", self.name);
        }
    }
}

/// Whether loopback is the only interface of this network namespace, so that nobody else's routes are touched.
fn alone() -> Result<bool, Error> {
    let table = fs::read_to_string("/proc/self/net/dev")?;
    Ok(table.lines().skip(2).filter_map(|line| line.split_once(':')).all(|(name, _)| name.trim() == "lo"))
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run ip (Debian: apt-get install iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
