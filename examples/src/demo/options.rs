//! The command line of `demo`.

use lexopt::{Arg, Parser};

use crate::{args, failure::Failure};

const HELP: &str = "\
demo: PTTH_DIREC on this machine: a relay and two peers, client and server, each with its own UDP sockets on 127.0.0.1,
then the same introduction between two simulated home NATs

usage: demo [--bytes N] [--json]

  --bytes N      how much to send each way (default: 256M; K, M and G are powers of 1,024)
  --json         standard output carries one JSON object a line, and nothing else
  -h, --help     this text
  -V, --version  the version

exit code: 0 when all thirteen steps were seen, the connection was direct and every byte arrived; 1 when not; 2 when the
command line makes no sense; 141 when nobody reads standard output any more.";

const VERSION: &str = concat!("demo ", env!("CARGO_PKG_VERSION"));

/// What the command line asks for.
pub(super) enum Parsed {
    Run(Options),
    Say(&'static str),
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) bytes: u64,
}

pub(super) fn parse(mut parser: Parser) -> Result<Parsed, Failure> {
    let mut options = Options { bytes: 256 << 20 };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Say(HELP)),
            Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Say(VERSION)),
            Arg::Long("json") => {}
            Arg::Long("bytes") => options.bytes = args::bytes(&mut parser, "--bytes")?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Parsed::Run(options))
}
