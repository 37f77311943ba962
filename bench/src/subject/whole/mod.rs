//! A whole bridge in this process: workers, and the control plane that an operator runs, on threads of its own. The benchmark is
//! its XMPP server and its focus, and the clients open their bridge channels.

mod channels;
mod server;
pub(super) mod signalling;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ringbridge_controlplane::bridge::{self, BridgeError, BridgeSettings, OpenConnections};
use ringbridge_controlplane::cli::{self, Request};
use ringbridge_controlplane::rest::Process;
use ringbridge_controlplane::xmpp::{XmppEvent, XmppSender};
use ringbridge_dataplane::stats::Counter;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;

use self::channels::Channels;
pub use self::server::{Reply, Request as Asking, serve};
use super::in_process::own_counters;
use super::{OwnCounters, Subject, SubjectError, pages};
use crate::cores;
use crate::cpu::{self, CpuTime};
use crate::generator::world::{ClientId, World};

/// Threads of the control plane, as in the program.
const CONTROL_THREADS: usize = 2;
/// Their names; those of the workers begin with `rb-worker`.
const CONTROL: &str = "rb-control";
const WORKER: &str = "rb-worker";
/// Where it announces itself, and as what.
const ROOM: &str = "brewery@internal.auth.bench";
const NICK: &str = "ringbridge";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How it is to run.
#[derive(Debug, Clone)]
pub struct WholeOptions {
    /// Cores of the workers, one each.
    pub cores: Vec<usize>,
    /// Cores of the control plane's threads.
    pub control_cores: Vec<usize>,
    /// Value of `--io`.
    pub io: &'static str,
    /// Whether clients open their bridge channels.
    pub channels: bool,
    /// Its relay id, where it is to be linked with others.
    pub relay: Option<String>,
}

/// A request that has not been answered.
#[derive(Debug, Clone, Copy)]
struct Asked {
    of: Option<(ClientId, usize)>,
    at: Instant,
}

/// A running bridge.
pub struct Whole {
    options: WholeOptions,
    /// Threads that were there before it.
    others: Vec<u32>,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    bridge: JoinHandle<Result<(), BridgeError>>,
    events: mpsc::Sender<(usize, XmppEvent)>,
    stanzas: mpsc::Receiver<Stanza>,
    channels: Channels,
    /// Where its pages are.
    rest: SocketAddr,
    rooms: BTreeSet<usize>,
    asked: HashMap<String, Asked>,
    ids: u64,
    /// How long answers to requests for endpoints took.
    answers: Vec<Duration>,
    /// How long answers to pings took.
    pongs: Vec<Duration>,
}

impl Whole {
    /// Starts it, and waits until it is in the brewery.
    pub fn start(options: &WholeOptions) -> Result<Self, SubjectError> {
        let channels = Channels::start().map_err(failed)?;
        let others = cpu::tasks_of(std::process::id()).map_err(SubjectError::Cpu)?;
        let mut whole = cores::freely(|| Self::spawn(options, channels, others))??;
        whole.wait_for_brewery()?;
        for (task, _) in whole.tasks()?.into_iter().filter(|(_, name)| name == CONTROL) {
            cores::pin_task(task, &options.control_cores)?;
        }
        Ok(whole)
    }

    /// Its threads and their names.
    fn tasks(&self) -> Result<Vec<(u32, String)>, SubjectError> {
        let pid = std::process::id();
        let tasks = cpu::tasks_of(pid).map_err(SubjectError::Cpu)?;
        let own = tasks.into_iter().filter(|task| !self.others.contains(task));
        // A thread that has ended meanwhile does not count.
        let name = |task: u32| std::fs::read_to_string(format!("/proc/{pid}/task/{task}/comm")).ok();
        Ok(own.filter_map(|task| Some((task, name(task)?.trim().to_owned()))).collect())
    }

    fn spawn(options: &WholeOptions, channels: Channels, others: Vec<u32>) -> Result<Self, SubjectError> {
        let settings = settings(options)?;
        let rest = settings.rest_listen;
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(CONTROL_THREADS).thread_name(CONTROL).enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let (events, received) = mpsc::channel(4096);
        let (sender, stanzas) = XmppSender::detached();
        let connect = move |_: &BridgeSettings, _: &watch::Receiver<bool>| OpenConnections {
            senders: vec![sender],
            events: received,
        };
        let bridge = runtime.spawn(bridge::run_over(settings, Process::default(), connect, stopped));
        Ok(Self {
            options: options.clone(),
            others,
            runtime: Some(runtime),
            stop,
            bridge,
            events,
            stanzas,
            channels,
            rest,
            rooms: BTreeSet::new(),
            asked: HashMap::new(),
            ids: 0,
            answers: Vec::new(),
            pongs: Vec::new(),
        })
    }

    fn wait_for_brewery(&mut self) -> Result<(), SubjectError> {
        let jid = format!("jvb@auth.bench/{NICK}").parse().map_err(failed)?;
        self.deliver(XmppEvent::Online { jid, resumed: false })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stanzas.try_recv() {
                Ok(Stanza::Presence(_)) => break,
                _ if self.bridge.is_finished() => return Err(self.ended()),
                _ if Instant::now() > deadline => return Err(failed("the bridge does not join its brewery")),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        for (nick, item) in [("focus", "jid='focus@auth.bench/focus'"), (NICK, "")] {
            let me = if nick == NICK { "<status code='110'/>" } else { "" };
            let presence = format!(
                "<presence xmlns='jabber:client' from='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 <item role='participant' affiliation='none' {item}/>{me}</x></presence>"
            );
            let presence: Element = presence.parse().map_err(failed)?;
            let presence = Presence::try_from(presence).map_err(failed)?;
            self.deliver(XmppEvent::Stanza(Stanza::Presence(presence)))?;
        }
        Ok(())
    }

    /// Ends it as a crash would, and starts another one in its place. Nobody is in it.
    pub fn restart(&mut self) -> Result<(), SubjectError> {
        self.shut_down();
        *self = Self::start(&self.options.clone())?;
        Ok(())
    }

    fn shut_down(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            // It says goodbye until its connection is gone.
            self.events = mpsc::channel(1).0;
            let deadline = Instant::now() + Duration::from_secs(6);
            while !self.bridge.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }

    /// Why it has ended.
    fn ended(&mut self) -> SubjectError {
        let Some(runtime) = &self.runtime else { return failed("the bridge has been shut down") };
        failed(match runtime.block_on(&mut self.bridge) {
            Ok(Ok(())) => "the bridge has ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }

    fn deliver(&self, event: XmppEvent) -> Result<(), SubjectError> {
        self.events.try_send((0, event)).map_err(|error| failed(format!("the bridge takes no stanzas: {error}")))
    }

    fn ask(&mut self, payload: Element, of: Option<(ClientId, usize)>, set: bool) -> Result<String, SubjectError> {
        self.ids += 1;
        let id = format!("bench{}", self.ids);
        let iq = stanza(id.clone(), payload, set)?;
        self.asked.insert(id.clone(), Asked { of, at: Instant::now() });
        self.deliver(XmppEvent::Stanza(iq))?;
        Ok(id)
    }

    /// Asks for an endpoint. The client begins to connect when the answer is there, at some later [`Subject::poll`] with
    /// [`Whole::serve`].
    pub fn invite(&mut self, client: ClientId, room: usize) -> Result<(), SubjectError> {
        let first = self.rooms.insert(room);
        let request = signalling::create(room, client, first).map_err(failed)?;
        self.ask(request, Some((client, room)), true)?;
        Ok(())
    }

    /// Sends a request that costs nothing; how long its answer takes shows how busy the control plane is.
    pub fn ping(&mut self) -> Result<(), SubjectError> {
        let ping = Element::builder("ping", "urn:xmpp:ping").build();
        self.ask(ping, None, false).map(|_| ())
    }

    /// Takes what the bridge answered, and lets those that were invited begin.
    pub fn serve(&mut self, world: &mut World) -> Result<(), SubjectError> {
        loop {
            match self.stanzas.try_recv() {
                Ok(Stanza::Iq(Iq::Result { id, payload, .. })) => self.answered(world, &id, payload)?,
                Ok(Stanza::Iq(Iq::Error { id, error, .. })) if self.asked.contains_key(&id) => {
                    return Err(failed(format!("the bridge refused a request: {error:?}")));
                }
                Ok(_) => {}
                Err(_) if self.bridge.is_finished() => return Err(self.ended()),
                Err(_) => return Ok(()),
            }
        }
    }

    fn answered(&mut self, world: &mut World, id: &str, payload: Option<Element>) -> Result<(), SubjectError> {
        let Some(Asked { of, at }) = self.asked.remove(id) else { return Ok(()) };
        let Some((client, room)) = of else {
            self.pongs.push(at.elapsed());
            return Ok(());
        };
        // The answer to the client's own transport says nothing that is not known.
        let Some(modified) = payload.filter(|_| !world.is_signalled(client)) else { return Ok(()) };
        self.answers.push(at.elapsed());
        let (remote, channel) = signalling::read(&modified).map_err(failed)?;
        let (numbers, streams) = (world.numbers_of(client), world.streams_of(client));
        world.set_remote(client, remote, false);
        let update = world.describe(client, |local| signalling::update(room, client, local, numbers, &streams));
        self.ask(update.map_err(failed)?, Some((client, room)), true)?;
        if let Some(url) = channel.filter(|_| self.options.channels) {
            self.channels.open(*world.clients()[client].address.ip(), url);
        }
        Ok(())
    }

    /// How long requests for endpoints, and pings, took to be answered since the last call.
    pub fn take_answers(&mut self) -> (Vec<Duration>, Vec<Duration>) {
        (std::mem::take(&mut self.answers), std::mem::take(&mut self.pongs))
    }

    /// Bridge channels that are open.
    pub fn open_channels(&self) -> usize {
        self.channels.open_now()
    }

    /// Processor time of its threads by name.
    pub fn by_thread(&self) -> Result<BTreeMap<String, CpuTime>, SubjectError> {
        let pid = std::process::id();
        let mut sums = BTreeMap::<String, CpuTime>::new();
        for (task, name) in self.tasks()? {
            sums.entry(name).or_default().add(cpu::of_tasks(pid, &[task]).map_err(SubjectError::Cpu)?);
        }
        Ok(sums)
    }

    fn sum(&self, workers: bool) -> Result<CpuTime, SubjectError> {
        let mut sum = CpuTime::default();
        let counts = |name: &str| name.starts_with(WORKER) == workers;
        self.by_thread()?.into_iter().filter(|(name, _)| counts(name)).for_each(|(_, time)| sum.add(time));
        Ok(sum)
    }
}

/// A request of the focus.
fn stanza(id: String, payload: Element, set: bool) -> Result<Stanza, SubjectError> {
    let from = Some(format!("{ROOM}/focus").parse().map_err(failed)?);
    let to = Some(format!("{ROOM}/{NICK}").parse().map_err(failed)?);
    Ok(Stanza::Iq(match set {
        true => Iq::Set { from, to, id, payload },
        false => Iq::Get { from, to, id, payload },
    }))
}

fn failed(what: impl ToString) -> SubjectError {
    SubjectError::Peer { name: "whole bridge".to_owned(), what: what.to_string() }
}

/// As from the command line, on loopback and free ports.
fn settings(options: &WholeOptions) -> Result<BridgeSettings, SubjectError> {
    let cores = options.cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut arguments = vec![
        "ringbridge bridge --bridge-jid jvb@auth.bench --bridge-password none --local-address 127.0.0.1 --nickname",
        NICK,
        "--brewery",
        ROOM,
        "--io",
        options.io,
        "--cores",
        &cores,
    ];
    let relay = options.relay.as_ref().map(|id| format!("--relay --region bench --relay-id {id}"));
    arguments.extend(relay.as_deref());
    let words = arguments.iter().flat_map(|words| words.split(' '));
    let config = match cli::parse(words) {
        Ok(Request::Run(config)) => config,
        Ok(_) => return Err(failed("the bridge's command line is read as another one")),
        Err(cli::CliError::Config(errors)) => {
            return Err(failed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")));
        }
        Err(cli::CliError::Usage(error)) => return Err(failed(error)),
    };
    let mut settings = config.bridge.ok_or_else(|| failed("the bridge has no settings"))?;
    let (channel, pages) = (free_address()?, free_address()?);
    settings.port = 0;
    settings.websocket_listen = Some(channel);
    settings.websocket_base_url = format!("ws://{channel}");
    settings.relay_websocket_base_url.clone_from(&settings.websocket_base_url);
    settings.rest_listen = pages;
    Ok(settings)
}

fn free_address() -> Result<SocketAddr, SubjectError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.local_addr().map_err(failed)
}

impl Subject for Whole {
    fn name(&self) -> &str {
        "whole bridge"
    }

    fn join(&mut self, world: &mut World, client: ClientId, room: usize) -> Result<(), SubjectError> {
        self.invite(client, room)?;
        let deadline = Instant::now() + PATIENCE;
        while !world.is_signalled(client) {
            let now = Instant::now();
            if now > deadline {
                return Err(failed(format!("client {client} got no answer within {} s", PATIENCE.as_secs())));
            }
            self.serve(world)?;
            world.step_or_pause(now, Duration::from_micros(50))?;
        }
        Ok(())
    }

    fn poll(&mut self, _now: Instant) -> Result<(), SubjectError> {
        // Presence and late answers.
        while let Ok(stanza) = self.stanzas.try_recv() {
            if let Stanza::Iq(Iq::Result { id, .. } | Iq::Error { id, .. }) = stanza {
                self.asked.remove(&id);
            }
        }
        if self.bridge.is_finished() { Err(self.ended()) } else { Ok(()) }
    }

    fn cpu(&self) -> Result<CpuTime, SubjectError> {
        self.sum(true)
    }

    fn control_cpu(&self) -> Result<Option<CpuTime>, SubjectError> {
        self.sum(false).map(Some)
    }

    fn counters(&self) -> Option<OwnCounters> {
        None
    }

    fn counters_at_rest(&self) -> Option<OwnCounters> {
        let values = pages::by_reason(&pages::get(self.rest, "/metrics").ok()?);
        let get = |counter: Counter| values.get(&(counter.metric().to_owned(), counter.reason().to_owned()));
        Some(own_counters(|counter| get(counter).copied().unwrap_or(0)))
    }

    fn resident(&self) -> Result<u64, SubjectError> {
        cpu::resident(std::process::id()).map_err(SubjectError::Cpu)
    }

    fn translates(&self) -> bool {
        true
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.shut_down();
    }
}
