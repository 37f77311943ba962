//! The command line: subcommands, and one flag per setting.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_complete::Shell;

use crate::config::keys::{KEYS, Key, Kind, Part};
use crate::config::{Config, ConfigError, Layers, Origin, Parts, listing, notes};
use crate::host;
use crate::top;
use crate::upgrade::command as upgrade;

/// What the unit of the package starts: `bridge`, `focus` or `all`.
const PARTS_VARIABLE: &str = "RINGBRIDGE_PARTS";

/// What the user asked for.
#[derive(Debug)]
pub enum Request {
    /// Run.
    Run(Box<Config>),
    /// Print every setting with its origin; with a configuration, try its XMPP connections.
    ShowConfig(String, Option<Box<Config>>),
    /// Show a running bridge.
    Top(top::Options),
    /// Have a running bridge replaced.
    Upgrade(upgrade::Options),
    /// Print this: a manual page, or completions for a shell.
    Print(Vec<u8>),
}

/// Why nothing runs.
#[derive(Debug)]
pub enum CliError {
    /// Wrong usage, `--help` or `--version`; clap prints it.
    Usage(clap::Error),
    /// Settings that cannot be used.
    Config(Vec<ConfigError>),
}

/// The whole command line.
pub fn command() -> Command {
    let both = Parts { bridge: true, focus: true };
    Command::new("ringbridge")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A media bridge for Jitsi conferences, with a focus of its own")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Examples:\n  ringbridge all --config /etc/ringbridge/ringbridge.conf\n  \
             ringbridge bridge --config bridge.conf --workers 2 --cores 2,3 --io uring\n  \
             ringbridge check-config --config ringbridge.conf\n  \
              ringbridge top\n  \
              ringbridge upgrade --check\n\n\
              Settings come from the file (HOCON), the environment (RINGBRIDGE_...) and flags; later ones take precedence.",
        )
        .subcommand(part(
            "bridge",
            "Run a media bridge for any focus that speaks colibri2, including Jicofo",
            Parts { bridge: true, focus: false },
        ))
        .subcommand(part(
            "focus",
            "Run the focus: joins rooms, selects a bridge, invites participants",
            Parts { bridge: false, focus: true },
        ))
        .subcommand(part("all", "Run a bridge and the focus in one process; they communicate over XMPP", both))
        .subcommand(
            part(
                "check-config",
                "Check the configuration and print every setting with its origin, without running anything",
                both,
            )
            .arg(
                Arg::new("connect")
                    .long("connect")
                    .action(ArgAction::SetTrue)
                    .help("Also log in to the XMPP servers and look up the public address"),
            ),
        )
        .subcommand(top_command())
        .subcommand(upgrade_command())
        .subcommand(Command::new("man").hide(true).about("Print the manual page"))
        .subcommand(
            Command::new("completions")
                .hide(true)
                .about("Print completions for a shell")
                .arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(Shell))),
        )
}

fn top_command() -> Command {
    Command::new("top")
        .about("Show workers, drops, conferences and endpoints of a running bridge, live")
        .arg(running_bridge())
        .arg(config_file())
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("SECONDS")
                .default_value("1")
                .value_parser(seconds)
                .help("Time between two readings"),
        )
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print everything once, as plain text"))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print everything once, as one JSON object"))
}

fn upgrade_command() -> Command {
    Command::new("upgrade")
        .about(
            "Have a running bridge on this host replaced by the program that is installed now, without ending a call",
        )
        .after_help(
            "Exit codes: 0 done, or all would be handed over; 1 the running process goes on as before, and why; \
             3 with --check: something would be lost.",
        )
        .arg(running_bridge())
        .arg(config_file())
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Only say what would be handed over, and what not"),
        )
}

fn running_bridge() -> Arg {
    Arg::new("address")
        .value_name("HOST:PORT")
        .help("Address of the bridge's statistics [default: bridge.rest.listen of the configuration, otherwise 127.0.0.1:8080]")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 0.1..=3600.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds between 0.1 and 3600"),
    }
}

/// The manual page, the subcommands' options included.
fn manual() -> Vec<u8> {
    let mut text = Vec::new();
    let whole = command();
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(whole.clone()).section("1").render(&mut text);
    for part in whole.get_subcommands().filter(|part| !part.is_hide_set()) {
        let name = format!("ringbridge {}", part.get_name());
        let man = clap_mangen::Man::new(part.clone().name(name.clone()).display_name(name));
        let _ = man.render_synopsis_section(&mut text);
        let _ = man.render_options_section(&mut text);
    }
    text
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .env("RINGBRIDGE_CONFIG")
        .hide_env_values(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file (HOCON)")
}

fn part(name: &'static str, about: &'static str, parts: Parts) -> Command {
    let wanted = |key: &&Key| match key.part {
        Part::Common => true,
        Part::Bridge => parts.bridge,
        Part::Focus => parts.focus,
    };
    let flags = KEYS.iter().filter(wanted).map(|key| {
        let heading = match key.part {
            Part::Common => "XMPP and logging",
            Part::Bridge => "Bridge",
            Part::Focus => "Focus",
        };
        let help = match key.default {
            "" => format!("{} [file: {}]", key.help, key.path),
            default => format!("{} [default: {default}] [file: {}]", key.help, key.path),
        };
        let arg = Arg::new(key.path)
            .long(key.flag)
            .env(key.variable())
            .hide_env(true)
            .help(help)
            .help_heading(heading)
            .hide(key.hidden)
            .action(ArgAction::Set);
        match key.kind {
            Kind::Switch => arg.num_args(0..=1).default_missing_value("true").value_name("true|false"),
            Kind::Choice(words) => arg.value_name(words.join("|")),
            Kind::File => arg.value_name("FILE"),
            Kind::IoOptions => arg.value_name("OPTIONS"),
            Kind::Jid => arg.value_name("JID"),
            Kind::Service => arg.value_name("DOMAIN"),
            Kind::Url => arg.value_name("URL"),
            Kind::Filter => arg.value_name("FILTER"),
            Kind::Socket => arg.value_name("ADDRESS:PORT"),
            Kind::Addresses | Kind::PublicAddresses => arg.value_name("ADDRESS,..."),
            Kind::StunServers => arg.value_name("HOST:PORT,..."),
            Kind::HostNames => arg.value_name("NAME,..."),
            Kind::Accounts => arg.value_name("ACCOUNT,..."),
            Kind::Cores => arg.value_name("CORE,..."),
            Kind::Number(..) => arg.value_name("NUMBER"),
            Kind::Duration => arg.value_name("DURATION"),
            Kind::Delays => arg.value_name("SIZE=DURATION,..."),
            Kind::RegionGroups => arg.value_name("REGION REGION,..."),
            Kind::Text | Kind::Secret => arg.value_name("TEXT"),
        }
    });
    Command::new(name).about(about).arg(config_file()).args(flags)
}

/// Reads arguments, environment and file.
pub fn parse<I, T>(arguments: I) -> Result<Request, CliError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = command().try_get_matches_from(arguments).map_err(CliError::Usage)?;
    let Some((name, matches)) = matches.subcommand() else {
        return Err(CliError::Usage(command().error(clap::error::ErrorKind::MissingSubcommand, "give a subcommand")));
    };
    match name {
        "man" => return Ok(Request::Print(manual())),
        "completions" => {
            let shell = matches.get_one::<Shell>("shell").copied().unwrap_or(Shell::Bash);
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "ringbridge", &mut text);
            return Ok(Request::Print(text));
        }
        "top" => return top_options(matches).map(Request::Top).map_err(CliError::Config),
        "upgrade" => return upgrade_options(matches).map(Request::Upgrade).map_err(CliError::Config),
        _ => {}
    }
    let (mut layers, mut errors) = layers(matches);
    if errors.iter().any(|error| matches!(error, ConfigError::File { .. })) {
        // What else is missing may well be in that file.
        return Err(CliError::Config(errors));
    }
    let parts = match name {
        "check-config" => configured(&layers),
        _ => Parts { bridge: name != "focus", focus: name != "bridge" },
    };
    layers.derive();
    let config = Config::new(&layers, parts);
    if let Err(more) = &config {
        errors.extend(more.iter().cloned());
    }
    match config {
        Ok(config) if errors.is_empty() => Ok(match name {
            "check-config" => {
                let text = table(&layers, parts) + &warnings(&config);
                Request::ShowConfig(text, matches.get_flag("connect").then(|| Box::new(config)))
            }
            _ => Request::Run(Box::new(config)),
        }),
        _ => Err(CliError::Config(errors)),
    }
}

/// Where the pages of the bridge are that is meant, and what is configured, where that has to be known for it.
fn pages(matches: &ArgMatches) -> Result<(String, Option<Parts>), Vec<ConfigError>> {
    if let Some(address) = matches.get_one::<String>("address") {
        return Ok((address.clone(), None));
    }
    let (mut layers, errors) = layers(matches);
    if !errors.is_empty() {
        return Err(errors);
    }
    let parts = configured(&layers);
    layers.derive();
    let address = layers.get("bridge.rest.listen").map(|raw| reachable(&raw.text)).unwrap_or_default();
    Ok((address, Some(parts)))
}

fn upgrade_options(matches: &ArgMatches) -> Result<upgrade::Options, Vec<ConfigError>> {
    let (address, parts) = pages(matches)?;
    // The service may run only one of the parts that are configured.
    let started = |part| std::env::var(PARTS_VARIABLE).is_ok_and(|parts| parts.trim() == part);
    let focus_alone = parts.is_some_and(|parts| !parts.bridge || started("focus"));
    Ok(upgrade::Options { address, check: matches.get_flag("check"), focus_alone })
}

fn top_options(matches: &ArgMatches) -> Result<top::Options, Vec<ConfigError>> {
    let (address, _) = pages(matches)?;
    let interval = matches.get_one::<Duration>("interval").copied().unwrap_or(Duration::from_secs(1));
    let output = match (matches.get_flag("json"), matches.get_flag("once")) {
        (true, _) => top::Output::Json,
        (false, true) => top::Output::Text,
        (false, false) => top::Output::Live,
    };
    Ok(top::Options { address, interval, output })
}

/// Where a service can be reached that listens at this address: on this host if it listens everywhere.
fn reachable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let host = if address.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            format!("{host}:{}", address.port())
        }
        _ => listen.to_owned(),
    }
}

/// The parts that somebody configured; both when there is nothing of either.
fn configured(layers: &Layers) -> Parts {
    let set = |part| {
        KEYS.iter()
            .filter(|key| key.part == part)
            .any(|key| layers.get(key.path).is_some_and(|raw| raw.origin != Origin::Default))
    };
    let (bridge, focus) = (set(Part::Bridge) || !layers.connections().is_empty(), set(Part::Focus));
    Parts { bridge: bridge || !focus, focus: focus || !bridge }
}

fn layers(matches: &ArgMatches) -> (Layers, Vec<ConfigError>) {
    let mut layers = Layers::defaults();
    let mut errors = Layers::check_environment(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        errors.extend(layers.add_file(path));
    }
    // Stronger than a file, weaker than our own variables.
    errors.extend(layers.add_docker(|name| std::env::var(name).ok(), Layers::docker_folder()));
    for key in KEYS {
        let Ok(Some(text)) = matches.try_get_one::<String>(key.path) else { continue };
        let origin = match matches.value_source(key.path) {
            // Compose files and units set variables that they have no value for.
            Some(ValueSource::EnvVariable) if text.is_empty() => continue,
            Some(ValueSource::EnvVariable) => Origin::Environment(key.variable()),
            _ => Origin::Flag(key.flag.to_owned()),
        };
        layers.set(key, text.clone(), origin);
    }
    (layers, errors)
}

/// What will not work although it can be read.
fn warnings(config: &Config) -> String {
    let Some(bridge) = &config.bridge else { return String::new() };
    let hosts = host::resolve(&bridge.local_addresses);
    let warnings = bridge.discovery.warnings(&bridge.public_addresses, &hosts);
    let lines: String = warnings.iter().map(|line| format!("WARNING {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn table(layers: &Layers, parts: Parts) -> String {
    let rows = listing(layers, parts);
    let width = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|(_, value, _)| value.len()).max().unwrap_or(0).min(60);
    let mut table: String =
        rows.iter().map(|(key, value, origin)| format!("{key:width$}  {value:value_width$}  {origin}\n")).collect();
    let notes = notes(layers);
    if !notes.is_empty() {
        table += "\nXMPP connections, and settings of Jitsi Videobridge and Jicofo:\n";
        table.extend(notes.iter().map(|note| format!("{note}\n")));
    }
    table
}
