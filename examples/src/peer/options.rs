//! The command line of `peer`.

use std::{path::PathBuf, time::Duration};

use direc_smol::{Congestion, Consent, MAX_RELAYS, PathPolicy, PeerName};
use lexopt::{Arg, Parser, ValueExt};

use crate::{
    args::{self, misfit},
    failure::Failure,
    protocol::Load,
};

use super::{called::Target, relays::RelayAt};

const HELP: &str = "\
peer: a direct, private connection to another machine, whatever NATs lie between

usage: peer --relay URL [--token-file FILE] [--relay URL]... [--relay-ca FILE] [--key FILE] [--status SECONDS]
            [--congestion WHICH] [--no-portmap] [--json] COMMAND

commands:
  serve [--echo] [--once] [--allow PEER|any]... [--yes]
      Waits for connections and prints this peer's ID once the relay knows it. Always answers `ping` and `bench`.
      --echo        sends back what `connect` sends; without it, that is printed here, and what is typed here goes
                    there: for one `connect` at a time, others are told that the pipe is in use
      --once        serves one connection and ends with it. The ID goes to standard error, and nothing but the data to
                    standard output: `peer serve --once --allow any > copy` and `peer connect ID < file`
      --allow PEER  lets this peer in without asking, and nobody else; may be repeated; `any` lets everyone in. A name
                    must be remembered
      --yes         lets in everyone who would be asked for
      Without --allow and --yes, each peer is asked for on the terminal: `y` lets it in, `n` does not. While several
      wait, or a connection has the terminal's input, an answer names the question's number, as in `y 2`; other lines
      go to that connection. What was typed before a question is shown does not answer it.
  ping PEER [--count N] [--interval MS]
      Round trips through the connection, one a second unless said otherwise, until N of them or Ctrl-C.
  connect PEER
      Standard input and output to and from the other side. Ends when both directions have ended, or when nobody reads
      its standard output any more. A terminal shows control characters as escapes (\\x1b), here and with `serve`; files
      and pipes get the bytes as they are.
  bench PEER [--bytes N | --seconds S] [--rate-mbit R] [--up|--down]
      Sends (--up, the default) or fetches (--down) as fast as it goes or at R Mbit/s, for 10 seconds unless said
      otherwise. N may end in K, M or G (powers of 1,024).
  netcheck
      Says what stands between this machine and the world: whether UDP gets out, the addresses it has outside, how its
      NATs map and filter, what that means for direct connections, and how far the relays are. Takes some seconds, and
      a key of its own; with two relays at different addresses it can tell more.
  names
      Lists the names that are remembered, all or those at the relays given, and whom they stand for.
  forget NAME
      Forgets whom the name stands for at the relays given: the next use remembers whom the relay names then.

PEER is the ID that the other side's `serve` prints, or the name that a relay knows it by. On its first use a name is
remembered ($XDG_DATA_HOME/direc/known_names or ~/.local/share/direc/known_names); if the relay names another peer
later, the command fails and says how to accept that.

options:
  --relay URL     a relay: https://HOST[:PORT] or HOST[:PORT] alone, which says all else, and through which everything
                  goes where UDP is blocked (past https_proxy, if that is set); or as it prints it, with #sha256-PIN
                  behind it, or direc://HOST:PORT#FINGERPRINT. Up to four, the preferred one first: the peer is to be
                  found at all of them, and connections move from one that is lost to the next
  --relay-ca FILE whom to believe for https:// URLs without a pin: these certificates in PEM, and nobody else
                  (default: whom this machine believes)
  --token-file FILE
                  the token that the relay before it asks for, in a file of one line; with one relay, the environment's
                  DIREC_TOKEN will do. There is no flag for the token itself: `ps` would show it to everybody
  --key FILE      this peer's key, made on first use, readable by its owner only, in a folder that exists
                  (default: $XDG_CONFIG_HOME/direc/peer.key or ~/.config/direc/peer.key; without a home folder,
                  direc-data/peer.key here)
  --path WHICH    for ping, connect and bench: `auto` (the default) begins through the relay and moves to the direct
                  path when there is one, and back when it is lost; `direct` sends nothing any other way: it waits for
                  that path, and fails with the reason when there is none, or none any more; `relay` stays
  --status SECONDS
                  shows every so often how the connections stand: all their paths, and why the current one was
                  chosen. The signal SIGUSR1 shows it once, also without this flag. On standard error, or with --json
                  as an event
  --congestion WHICH
                  how this side finds out how much a path carries: `cubic` (the default) sends more until packets are
                  lost; `bbr` has a model of the path, is not slowed down by packets that a path loses anyway, and
                  keeps queues short (new, and not yet the default)
  --no-portmap    does not ask the router for a port that leads here (by PCP, NAT-PMP and UPnP-IGD; on Linux)
  --json          standard output carries one JSON object a line, and nothing else
  -h, --help      this text
  -V, --version   the version

exit code:
  0    it did what was asked. For `serve` that is to be ended by Ctrl-C or SIGTERM once the relay knew it, with --once
       that the connection was closed in good order and all its data had come to its end; for `ping` that at least one
       answer came, also when Ctrl-C ended it; for `netcheck` that a relay answered and took this machine
  1    it did not: standard error says why. So ends whatever Ctrl-C breaks off before
  2    the command line makes no sense
  141  nobody reads standard output any more (128 + SIGPIPE, as a shell shows it of other programs)
DIREC_LOG=debug (error, warn, info, trace) shows the libraries' log on standard error.";

const VERSION: &str = concat!("peer ", env!("CARGO_PKG_VERSION"));

/// What the command line asks for.
pub(super) enum Parsed {
    Run(Box<Options>),
    Say(&'static str),
}

/// A command and what all of them need.
#[derive(Debug)]
pub(super) struct Options {
    /// At least one, the preferred one first.
    pub(super) relays: Vec<RelayAt>,
    /// Who vouches for them, if not whom this machine believes.
    pub(super) relay_ca: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// For each relay, the file with its token.
    pub(super) tokens: Vec<Option<PathBuf>>,
    /// How often to show the status unasked.
    pub(super) status: Option<Duration>,
    /// Whether to ask the router for a port.
    pub(super) portmap: bool,
    pub(super) congestion: Congestion,
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    Serve(Serve),
    Client(Client),
    Netcheck,
    Names,
    Forget(PeerName),
}

#[derive(Debug)]
pub(super) struct Serve {
    pub(super) consent: Consent,
    /// Who is let in besides, if it is a list.
    pub(super) names: Vec<PeerName>,
    /// Nobody is asked: offers are accepted.
    pub(super) yes: bool,
    pub(super) echo: bool,
    /// One connection is served, and then no more.
    pub(super) once: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Target,
    pub(super) path: PathPolicy,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Ping { count: Option<u64>, interval: Duration },
    Connect,
    Bench { load: Load, down: bool },
}

/// Everything that may stand on the line, as it was read.
#[derive(Default)]
struct Line {
    relays: Vec<RelayAt>,
    relay_ca: Option<PathBuf>,
    key: Option<PathBuf>,
    /// Files with tokens, and how many relays were named before.
    tokens: Vec<(usize, PathBuf)>,
    status: Option<Duration>,
    no_portmap: bool,
    congestion: Congestion,
    words: Vec<String>,
    /// Flags that were given, and the commands that know them.
    flags: Vec<(&'static str, &'static [&'static str])>,
    path: Option<PathPolicy>,
    echo: bool,
    once: bool,
    yes: bool,
    any: bool,
    allow: Vec<Target>,
    count: Option<u64>,
    interval: Option<Duration>,
    bytes: Option<u64>,
    time: Option<Duration>,
    bits_per_second: Option<u64>,
    up: bool,
    down: bool,
}

const SERVE: &[&str] = &["serve"];
const PING: &[&str] = &["ping"];
const BENCH: &[&str] = &["bench"];
const CLIENTS: &[&str] = &["ping", "connect", "bench"];
/// What must be one of these, and not more.
const COMMANDS: &str = "serve, ping, connect, bench, netcheck, names, forget";

pub(super) fn parse(mut parser: Parser) -> Result<Parsed, Failure> {
    let mut line = Line::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Say(HELP)),
            Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Say(VERSION)),
            Arg::Long("json") => {}
            Arg::Long("relay") => line.relay(args::value(&mut parser, "--relay")?)?,
            Arg::Long("no-portmap") => line.no_portmap = true,
            Arg::Long("congestion") => {
                line.congestion = congestion(&args::value::<String>(&mut parser, "--congestion")?)?
            }
            Arg::Long("relay-ca") => line.relay_ca = Some(parser.value()?.into()),
            Arg::Long("status") => line.status = Some(args::duration(&mut parser, "--status")?),
            Arg::Long("token-file") => line.tokens.push((line.relays.len(), parser.value()?.into())),
            Arg::Long("key") => line.key = Some(parser.value()?.into()),
            Arg::Value(word) => line.words.push(word.string()?),
            Arg::Long("echo") => (line.echo, _) = (true, line.flag("--echo", SERVE)),
            Arg::Long("once") => (line.once, _) = (true, line.flag("--once", SERVE)),
            Arg::Long("yes") => (line.yes, _) = (true, line.flag("--yes", SERVE)),
            Arg::Long("allow") => {
                line.flag("--allow", SERVE);
                match parser.value()? {
                    word if word == "any" => line.any = true,
                    word => line.allow.push(args::parsed(word, "--allow")?),
                }
            }
            Arg::Long("count") => {
                line.flag("--count", PING);
                line.count = Some(args::value(&mut parser, "--count")?);
            }
            Arg::Long("interval") => {
                line.flag("--interval", PING);
                line.interval = Some(milliseconds(args::value(&mut parser, "--interval")?)?);
            }
            Arg::Long("bytes") => {
                line.flag("--bytes", BENCH);
                line.bytes = Some(args::bytes(&mut parser, "--bytes")?);
            }
            Arg::Long("seconds") => {
                line.flag("--seconds", BENCH);
                line.time = Some(args::duration(&mut parser, "--seconds")?);
            }
            Arg::Long("rate-mbit") => {
                line.flag("--rate-mbit", BENCH);
                line.bits_per_second = Some(megabits(args::value(&mut parser, "--rate-mbit")?)?);
            }
            Arg::Long("up") => (line.up, _) = (true, line.flag("--up", BENCH)),
            Arg::Long("down") => (line.down, _) = (true, line.flag("--down", BENCH)),
            Arg::Long("path") => {
                line.flag("--path", CLIENTS);
                line.path = Some(policy(&args::value::<String>(&mut parser, "--path")?)?);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    line.options().map(|options| Parsed::Run(Box::new(options)))
}

fn policy(text: &str) -> Result<PathPolicy, Failure> {
    match text {
        "auto" => Ok(PathPolicy::Auto),
        "direct" => Ok(PathPolicy::DirectOnly),
        "relay" => Ok(PathPolicy::RelayOnly),
        _ => misfit(format!("--path '{text}': it is one of auto, direct, relay")),
    }
}

fn congestion(text: &str) -> Result<Congestion, Failure> {
    match text {
        "cubic" => Ok(Congestion::Cubic),
        "bbr" => Ok(Congestion::Bbr),
        _ => misfit(format!("--congestion '{text}': it is one of cubic, bbr")),
    }
}

fn milliseconds(text: f64) -> Result<Duration, Failure> {
    if (0.1..=86_400_000.0).contains(&text) {
        Ok(Duration::from_secs_f64(text / 1e3))
    } else {
        misfit("--interval: between 0.1 and 86400000 milliseconds")
    }
}

fn megabits(number: f64) -> Result<u64, Failure> {
    if (0.000_1..=1e6).contains(&number) {
        Ok((number * 1e6) as u64)
    } else {
        misfit("--rate-mbit: between 0.0001 and 1000000")
    }
}

/// For each relay, the file behind it; where there is one relay, before it will do.
fn token_files(named: Vec<(usize, PathBuf)>, relays: usize) -> Result<Vec<Option<PathBuf>>, Failure> {
    let mut files = vec![None; relays];
    for (before, file) in named {
        let relay = if relays == 1 { Some(0) } else { before.checked_sub(1) };
        match relay.and_then(|relay| files.get_mut(relay)) {
            None => return misfit("--token-file stands behind the --relay that it is for"),
            Some(Some(_)) => return misfit("--token-file: one for each relay"),
            Some(place) => *place = Some(file),
        }
    }
    Ok(files)
}

impl Line {
    fn flag(&mut self, name: &'static str, commands: &'static [&'static str]) {
        self.flags.push((name, commands));
    }

    fn relay(&mut self, relay: RelayAt) -> Result<(), Failure> {
        if self.relays.iter().any(|other| other.place() == relay.place()) {
            let (_, host, port) = relay.place();
            return misfit(format!("--relay '{relay}': {host}:{port} is named twice"));
        }
        if self.relays.len() == MAX_RELAYS {
            return misfit(format!("--relay '{relay}': one too many, {MAX_RELAYS} at most"));
        }
        self.relays.push(relay);
        Ok(())
    }

    fn options(mut self) -> Result<Options, Failure> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let Some(word) = words.next() else {
            return misfit(format!("a command is missing: one of {COMMANDS}"));
        };
        if !COMMANDS.split(", ").any(|command| command == word) {
            return misfit(format!("'{word}' is none of {COMMANDS}"));
        }
        if let Some((flag, _)) = self.flags.iter().find(|(_, commands)| !commands.contains(&word.as_str())) {
            return misfit(format!("{flag} does not belong to {word}"));
        }
        let object = if ["serve", "netcheck", "names"].contains(&word.as_str()) { None } else { words.next() };
        if let Some(word) = words.next() {
            return misfit(format!("'{word}' is one word too many"));
        }
        let relays = std::mem::take(&mut self.relays);
        if relays.is_empty() && word != "names" {
            return misfit("--relay URL is missing: the URL that the relay prints");
        }
        let tokens = token_files(std::mem::take(&mut self.tokens), relays.len())?;
        let (key, status, portmap, congestion) = (self.key.take(), self.status, !self.no_portmap, self.congestion);
        let relay_ca = self.relay_ca.take();
        if relay_ca.is_some() && !relays.iter().any(RelayAt::needs_trust) {
            return misfit("--relay-ca is for https:// URLs without a pin, and there is none");
        }
        if key.is_some() && word == "netcheck" {
            return misfit("--key does not belong to netcheck: it takes a key of its own");
        }
        let command = self.command(&word, object)?;
        Ok(Options { relays, relay_ca, key, tokens, status, portmap, congestion, command })
    }

    fn command(self, word: &str, object: Option<String>) -> Result<Command, Failure> {
        match (word, object) {
            ("serve", _) => self.serve().map(Command::Serve),
            ("netcheck", _) => Ok(Command::Netcheck),
            ("names", _) => Ok(Command::Names),
            ("forget", Some(name)) => args::parsed(name.into(), "NAME").map(Command::Forget),
            ("forget", None) => misfit("forget needs a name: one that `names` lists"),
            (_, Some(peer)) => {
                let (peer, path) = (args::parsed(peer.into(), "PEER")?, self.path.unwrap_or_default());
                Ok(Command::Client(Client { peer, path, action: self.action(word)? }))
            }
            (_, None) => {
                misfit(format!("{word} needs the other peer's ID, the one that its `serve` prints, or its name"))
            }
        }
    }

    fn serve(self) -> Result<Serve, Failure> {
        let consent = match (self.any, self.allow.is_empty()) {
            (true, true) => Consent::Any,
            (true, false) => return misfit("--allow any lets everyone in already: no peers beside it"),
            (false, true) => Consent::Ask,
            (false, false) => {
                let ids = self.allow.iter().filter_map(Target::id).collect();
                Consent::Listed { ids, ask_others: self.yes }
            }
        };
        let names = self.allow.iter().filter_map(Target::name).cloned().collect();
        Ok(Serve { consent, names, yes: self.yes, echo: self.echo, once: self.once })
    }

    fn action(self, command: &str) -> Result<Action, Failure> {
        match command {
            "ping" if self.count == Some(0) => misfit("--count: at least 1"),
            "ping" => {
                let interval = self.interval.unwrap_or(Duration::from_secs(1));
                Ok(Action::Ping { count: self.count, interval })
            }
            "connect" => Ok(Action::Connect),
            _ if self.up && self.down => misfit("--up or --down, not both"),
            _ if self.bytes.is_some() && self.time.is_some() => misfit("--bytes or --seconds, not both"),
            _ => {
                let time = self.time.or(self.bytes.is_none().then_some(Duration::from_secs(10)));
                let load = Load { bytes: self.bytes, time, bits_per_second: self.bits_per_second };
                Ok(Action::Bench { load, down: self.down })
            }
        }
    }
}
