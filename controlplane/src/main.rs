//! `ringbridge`: the bridge, the focus, or both.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use ringbridge_controlplane::bridge::{Ended, Upgrading};
use ringbridge_controlplane::cli::{self, CliError, Request};
use ringbridge_controlplane::config::Config;
use ringbridge_controlplane::notify::Notifier;
use ringbridge_controlplane::upgrade::{self, Beside, BesideHeir, Program, command};
use ringbridge_controlplane::{bridge, focus, host, logging, public_address, rest, top, xmpp};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// Configuration that cannot be used.
const EXIT_CONFIG: u8 = 2;

/// Sent for a write beyond the limit of a file's size; by default it ends the process (signal(7): 25 on x86 and Arm).
const SIGXFSZ: i32 = 25;

/// Threads of the control plane beside its doors. A second one, so that no part keeps the others waiting.
const RUNTIME_THREADS: usize = 2;

/// Programs that end, or start their child anew, when that ends, whoever has taken over from it; systemd learns it from us.
const SUPERVISORS: [&str; 9] = [
    "tini",
    "docker-init",
    "podman-init",
    "catatonit",
    "dumb-init",
    "s6-supervise",
    "runsv",
    "supervise",
    "supervisord",
];

/// How long the parts may take to leave rooms and close connections.
const GOODBYE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // Before its file may be replaced.
    let program = Program::own();
    match cli::parse(std::env::args_os()) {
        Ok(Request::ShowConfig(table, connect)) => {
            let printed = logging::print(table.as_bytes());
            connect.map_or(printed, |config| try_connections(&config))
        }
        Ok(Request::Run(config)) => {
            let log = logging::start(&config.logging);
            let process = rest::Process { host_names: config.rest_names.clone(), log: log.counters() };
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let (code, keeping) = runtime.block_on(run(*config, process, program));
                    // Everything else ends here.
                    drop(runtime);
                    if let Some(keeping) = keeping {
                        let _ = keeping.join();
                    }
                    code
                }
                Err(error) => {
                    logging::complain(format_args!(
                        "ringbridge: cannot start its runtime: {error}; look at the limits of this user (ulimit -a)"
                    ));
                    ExitCode::FAILURE
                }
            }
        }
        Ok(Request::Top(options)) => match top::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                logging::complain(format_args!("ringbridge top: {error}"));
                ExitCode::FAILURE
            }
        },
        Ok(Request::Upgrade(options)) => upgrade_running(&options),
        Ok(Request::Print(text)) => logging::print(&text),
        Err(CliError::Usage(error)) => error.exit(),
        Err(CliError::Config(errors)) => {
            for error in &errors {
                logging::complain(format_args!("ringbridge: {error}"));
            }
            refuse_upgrade(&errors.first().map(ToString::to_string).unwrap_or_default());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Asks a running bridge to hand over.
fn upgrade_running(options: &command::Options) -> ExitCode {
    let answer = command::run(options);
    match &answer {
        command::Answer::Done(text) => logging::print(format!("{text}\n").as_bytes()),
        command::Answer::Failed(_) | command::Answer::WouldLose(_) => {
            logging::complain(format_args!("ringbridge upgrade: {answer}"));
            ExitCode::from(answer.exit_code())
        }
    }
}

/// Informs the process that this one was to take over from, if there is one, why it does not.
fn refuse_upgrade(why: &str) {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(upgrade::refuse(format!("its configuration cannot be used: {why}")));
    }
}

/// Logs in with every XMPP account once, and looks for the public address; a line each.
fn try_connections(config: &Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            logging::complain(format_args!("ringbridge: cannot start its runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let bridge = config.bridge.iter().flat_map(|bridge| &bridge.connections).map(|connection| &connection.xmpp);
    let nodes = config.focus.iter().filter_map(|focus| focus.visitors.as_ref()).flat_map(|visitors| &visitors.nodes);
    let accounts = bridge.chain(config.focus.iter().map(|focus| &focus.xmpp)).chain(nodes.map(|node| &node.xmpp));
    let mut code = ExitCode::SUCCESS;
    for account in accounts {
        match runtime.block_on(xmpp::probe(account)) {
            Ok(()) => {
                let line = format!("{} logs in at {}:{}\n", account.jid, account.host, account.port);
                if logging::print(line.as_bytes()) != ExitCode::SUCCESS {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                logging::complain(format_args!("ringbridge: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    if let Some(bridge) = &config.bridge {
        let hosts = host::resolve(&bridge.local_addresses);
        let named = bridge.public_addresses.iter().any(|public| public.base(&hosts).is_some());
        for finding in runtime.block_on(public_address::survey(&bridge.discovery, &hosts, bridge.port)) {
            if finding.is_warning() {
                logging::complain(format_args!("ringbridge: {finding}"));
            } else if logging::print(format!("{finding}\n").as_bytes()) != ExitCode::SUCCESS {
                code = ExitCode::FAILURE;
            }
            if finding.is_failure() && !named {
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Why a process cannot hand its calls over, if so.
fn not_upgradable(program: &std::io::Result<Program>) -> Option<String> {
    if let Err(error) = program {
        return Some(format!("it does not know its own program: {error}; is /proc mounted?"));
    }
    let remedy = "drain it and start another container or service beside it";
    if std::process::id() == 1 {
        return Some(format!("its container would end with this process, which is the first one in it; {remedy}"));
    }
    let parent =
        std::fs::read_to_string(format!("/proc/{}/comm", std::os::unix::process::parent_id())).unwrap_or_default();
    if let Some(supervisor) = SUPERVISORS.iter().find(|name| **name == parent.trim_end()) {
        return Some(format!(
            "{supervisor}, which started this process, would take its end for that of the service; {remedy}"
        ));
    }
    None
}

/// Runs the parts until one fails or a signal comes; then ends the others in order. A thread is left where another process has taken
/// over, but not its data channels.
async fn run(
    config: Config,
    process: rest::Process,
    program: std::io::Result<Program>,
) -> (ExitCode, Option<JoinHandle<()>>) {
    let mut terminations = Terminations::catch();
    // Caught, so that such a write fails and the log goes on.
    let _ = signal(SignalKind::from_raw(SIGXFSZ));
    let from = match upgrade::inherited() {
        Ok(from) => from,
        Err(error) => {
            tracing::error!(%error, "ringbridge stops");
            return (ExitCode::FAILURE, None);
        }
    };
    if let Some(wire) = &from
        && config.bridge.is_none()
    {
        let why = "the running process is a bridge, and this one is configured to be none";
        tracing::error!("ringbridge stops: {why}");
        upgrade::refuse_over(wire, why.to_owned()).await;
        return (ExitCode::FAILURE, None);
    }
    let objection = not_upgradable(&program);
    let (stop, stopped) = watch::channel(false);
    let (serving, served) = oneshot::channel();
    // Until it has taken over, another process speaks for the service.
    let speaks = Cell::new(from.is_none());
    let mut parts = tokio::task::JoinSet::new();
    // The focus goes along with the bridge.
    let both = config.bridge.is_some() && config.focus.is_some();
    let (beside, beside_requests) = both.then(Beside::new).unzip();
    let (beside_heir, heritage) = (both && from.is_some()).then(BesideHeir::new).unzip();
    if let Some(settings) = config.bridge {
        let (process, stopped) = (process.clone(), stopped.clone());
        let program = program.unwrap_or_else(|_| Program::new("", []));
        let upgrading = Upgrading { program, from, objection, serving, beside, beside_heir };
        parts.spawn(async move {
            bridge::run_upgradable(settings, process, upgrading, stopped).await.map_err(|error| error.to_string())
        });
    }
    if let Some(settings) = config.focus {
        parts.spawn(async move {
            let handing = focus::Handing { from: heritage, to: beside_requests };
            let ended = focus::run_handing(settings, process, handing, stopped).await;
            ended.map(|()| Ended::Stopped).map_err(|error| error.to_string())
        });
    }
    let mut code = ExitCode::SUCCESS;
    let notifier = Notifier::from_environment();
    let notifies = async {
        if !speaks.get() && served.await.is_err() {
            return std::future::pending().await;
        }
        speaks.set(true);
        if let Some(notifier) = &notifier {
            notifier.ready();
        }
        watchdog(notifier.as_ref()).await
    };
    tokio::select! {
        () = notifies => {}
        () = terminations.next() => tracing::info!("signal received; shutting down"),
        Some(ended) = parts.join_next() => match ended {
            Ok(Ok(Ended::HandedOver(keeping))) => return (ExitCode::SUCCESS, keeping),
            ended => code = report(ended),
        }
    }
    if let Some(notifier) = notifier.as_ref().filter(|_| speaks.get()) {
        notifier.stopping();
    }
    let _ = stop.send(true);
    let others = async {
        while let Some(ended) = parts.join_next().await {
            if report(ended) != ExitCode::SUCCESS {
                code = ExitCode::FAILURE;
            }
        }
    };
    tokio::select! {
        () = others => return (code, None),
        () = terminations.next() => tracing::warn!("second signal; exiting now"),
        () = tokio::time::sleep(GOODBYE) => tracing::error!(seconds = GOODBYE.as_secs(), "shutdown took too long; exiting now"),
    }
    (ExitCode::FAILURE, None)
}

/// Notifies systemd's watchdog for as long as the runtime makes progress.
async fn watchdog(notifier: Option<&Notifier>) {
    let Some((notifier, interval)) = notifier.and_then(|notifier| Some((notifier, notifier.interval()?))) else {
        return std::future::pending().await;
    };
    loop {
        notifier.alive();
        tokio::time::sleep(interval).await;
    }
}

fn report(ended: Result<Result<Ended, String>, tokio::task::JoinError>) -> ExitCode {
    let error = match ended {
        Ok(Ok(_)) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(error) => error.to_string(),
    };
    tracing::error!(%error, "ringbridge stopped");
    ExitCode::FAILURE
}

/// The signals that end the process in order: SIGTERM, SIGINT and SIGHUP.
struct Terminations(Vec<Signal>);

impl Terminations {
    /// Catches them from now on; before, each of them ends the process at once.
    fn catch() -> Self {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let caught = kinds.into_iter().filter_map(|kind| {
            signal(kind)
                .inspect_err(
                    |error| tracing::warn!(%error, ?kind, "cannot handle a signal; it would end the process without a shutdown"),
                )
                .ok()
        });
        Self(caught.collect())
    }

    /// Ends when the next of them comes.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            if self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
