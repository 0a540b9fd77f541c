//! The command line.

use std::{net::SocketAddr, time::Duration};

use direc_examples::{args, failure::Failure};
use direc_smol::{MAX_RELAYS, NodeId, PathPolicy, RelayUrl};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
soak: transfers that try to break a connection (tests/soak.py runs it)

usage: soak --relay URL [--relay URL]... [--local ADDR] serve
       soak --relay URL [--relay URL]... [--local ADDR] transfer ID [--seed N] [--bytes N] [--path auto|direct|relay]
            [--patience SECONDS]

  serve         answers transfers; prints its ID
  transfer ID   sends and receives at the same time, in streams whose sizes, writes and reads depend on the seed
  --relay URL   direc://HOST:PORT#FINGERPRINT, as the relay prints it
  --local ADDR  the local address, 127.0.0.1:0 for instance (default: all addresses and any port)
  --seed N      what decides the transfer (default: 0)
  --bytes N     how much goes each way, at least 1; may end in K, M or G (default: 64M)
  --path WHICH  which paths the connection may take (default: auto)
  --patience SECONDS
                how long no byte may move before the transfer counts as stuck (default: 60)

Standard output carries JSON lines. Exit code: 0 when everything arrived and all hashes agreed, 1 when not, 2 when the
command line makes no sense.
";

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Options {
    pub(crate) relays: Vec<RelayUrl>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Serve,
    Transfer(Wanted),
}

/// The transfer that is asked for.
pub(crate) struct Wanted {
    pub(crate) server: NodeId,
    pub(crate) seed: u64,
    /// Each way.
    pub(crate) bytes: u64,
    pub(crate) path: PathPolicy,
    pub(crate) patience: Duration,
}

/// `None` if the help is asked for.
pub(crate) fn parse() -> Result<Option<Options>, Failure> {
    let mut parser = Parser::from_env();
    let (mut relays, mut local, mut words) = (Vec::new(), None, Vec::new());
    let (mut seed, mut bytes, mut path, mut patience) = (0, 64 << 20, PathPolicy::Auto, PATIENCE);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("relay") => relays.push(args::value(&mut parser, "--relay")?),
            Arg::Long("local") => local = Some(args::value(&mut parser, "--local")?),
            Arg::Long("seed") => seed = args::value(&mut parser, "--seed")?,
            Arg::Long("bytes") => bytes = args::bytes(&mut parser, "--bytes")?,
            Arg::Long("path") => path = policy(&parser.value()?.string()?)?,
            Arg::Long("patience") => patience = args::duration(&mut parser, "--patience")?,
            Arg::Value(word) => words.push(word.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if relays.is_empty() || relays.len() > MAX_RELAYS {
        return args::misfit(format!("--relay URL: one to {MAX_RELAYS} of them, not {}", relays.len()));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let action = match words[..] {
        ["serve"] => Action::Serve,
        ["transfer", id] => {
            let server = args::parsed(id.into(), "ID")?;
            Action::Transfer(Wanted { server, seed, bytes, path, patience })
        }
        _ => return args::misfit("a command is missing: `serve`, or `transfer ID`"),
    };
    Ok(Some(Options { relays, local, action }))
}

fn policy(text: &str) -> Result<PathPolicy, Failure> {
    match text {
        "auto" => Ok(PathPolicy::Auto),
        "direct" => Ok(PathPolicy::DirectOnly),
        "relay" => Ok(PathPolicy::RelayOnly),
        _ => args::misfit(format!("--path '{text}': `auto`, `direct` or `relay`")),
    }
}
