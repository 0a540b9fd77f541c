//! The command line of `relay`.

use std::{env, path::PathBuf};

use lexopt::{Arg, Parser};

use super::config::{Config, FILE_VARIABLE, Layers, SAMPLE};
use crate::{args, failure::Failure};

const HELP: &str = "\
relay: introduces peers to each other, and forwards for those whose NATs refuse

usage: relay [--config FILE] [--listen ADDR] [--public HOST] [--punch-port N]... [--knock-port N] [--https [IP:]PORT]
             [--tls-cert FILE --tls-key FILE] [--data-dir DIR] [--delay-ms N] [--drain-seconds N]
             [--admin [IP:]PORT] [--log-format text|json] [--json]
       relay --check-config [the same flags]
       relay --sample-config
       relay token

  --config FILE    settings from this file; flags go before the environment, that before the file (DIREC_RELAY_CONFIG)
  --check-config   reads the settings, and the keys and certificates that they name, says what is wrong with them or that
                   all is well, and ends; binds no port and makes no file. Exit code 0 when the relay would start
  --sample-config  prints such a file with everything that can be set, explained, at its default
  token            makes a token that lets peers in, and prints it, for them, and its hash, for [access.tokens]
  --listen ADDR    IP address and UDP port of the QUIC socket (default: 0.0.0.0:4433)
  --public HOST    the host name or IP address by which peers reach this machine, for the URL
  --punch-port N   a UDP port for hole punching, two to seven of them, 0 for any (default: the two after ADDR's)
  --knock-port N   a UDP port for the packets that peers ask for to learn how their NATs filter, 0 for any
                   (default: the one after the last of those)
  --https [IP:]PORT
                   answers HTTPS there as well: `peer --relay https://HOST` needs to be told nothing else, and works
                   where UDP is blocked (IP is ADDR's unless it is given; 443 is the port that URLs need not name)
  --tls-cert FILE  the certificate for it, with those that vouch for it behind it, in PEM
  --tls-key FILE   and its private key; without the two, a self-signed certificate is made on first use, and the URL
                   names its key, unless the file's [acme] has an authority certify it
  --admin [IP:]PORT
                   answers plain HTTP for the operator there: a status page, /metrics, /healthz, /readyz (IP is
                   127.0.0.1, and another one takes admin.allow_remote in the file)
  --data-dir DIR   where the relay's keys are kept, made on first use; the folder around it must exist
                   (default: $XDG_DATA_HOME/direc or ~/.local/share/direc)
  --delay-ms N     wait between telling the server about the client and the other way round (default: 0)
  --drain-seconds N
                   on SIGTERM, how long those that are here may take to move elsewhere (default: 30)
  --log-format text|json
                   how standard error is written: for people, or an object a line (default: text)
  --json           standard output carries JSON lines, and nothing else
  -h, --help       this text
  -V, --version    the version

Prints the URL that peers need, direc://HOST:PORT#FINGERPRINT, on standard output, and with --https another one, either of
which will do; what happens, on standard error.
SIGTERM drains: all peers are told to be elsewhere within N seconds, nobody new is introduced, and what there is goes on
being forwarded until everybody has left or the time is over. Ctrl-C, or a second SIGTERM, ends it at once.
Open the UDP ports in the firewall: ADDR's, those for hole punching, and the one to knock from; and the TCP port of --https.
exit code: 0 when it was told to end, or did what was asked; 1 when it could not; 2 when the command line or a setting makes
no sense; 141 when nobody reads standard output any more.
DIREC_LOG=debug (error, warn, info, trace) shows the libraries' log.";

const VERSION: &str = concat!("relay ", env!("CARGO_PKG_VERSION"));

/// The keys that have a flag of their own.
const FLAGS: [(&str, &[&str]); 11] = [
    ("listen", &["listen"]),
    ("public", &["public"]),
    ("knock-port", &["knock_port"]),
    ("https", &["https", "listen"]),
    ("tls-cert", &["https", "certificate"]),
    ("tls-key", &["https", "key"]),
    ("admin", &["admin", "listen"]),
    ("data-dir", &["data_dir"]),
    ("delay-ms", &["delay_ms"]),
    ("drain-seconds", &["drain_seconds"]),
    ("log-format", &["log_format"]),
];

/// What the command line asks for.
pub(super) enum Parsed {
    Run(Box<Options>),
    Say(String),
}

/// The command line, kept: on SIGHUP it goes over what the file says then.
#[derive(Debug, Default)]
pub(super) struct Options {
    file: Option<PathBuf>,
    /// Flag, key and text, in order.
    words: Vec<(String, &'static [&'static str], String)>,
    punch_ports: Vec<String>,
    only_check: bool,
}

impl Options {
    /// Whether the settings are to be checked, and no relay is to be started.
    pub(super) fn only_check(&self) -> bool {
        self.only_check
    }

    /// The settings, from the file as it is now.
    ///
    /// # Errors
    /// [`Failure`] names the place and what is expected there.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let mut layers = Layers::default();
        if let Some(file) = &self.file {
            layers.file(file)?;
        }
        layers.environment(env::vars_os().filter_map(|(name, text)| {
            // What is not UTF-8 is none of ours, or will be found wanting as it is.
            Some((name.into_string().ok()?, text.to_string_lossy().into_owned()))
        }))?;
        for (flag, key, text) in &self.words {
            layers.word(key, text, flag)?;
        }
        if !self.punch_ports.is_empty() {
            layers.add("punch_ports", &self.punch_ports, "--punch-port")?;
        }
        layers.finish()
    }
}

pub(super) fn parse(mut parser: Parser) -> Result<Parsed, Failure> {
    let mut options = Options { file: env::var_os(FILE_VARIABLE).map(PathBuf::from), ..Options::default() };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Say(HELP.into())),
            Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Say(VERSION.into())),
            Arg::Long("sample-config") => return Ok(Parsed::Say(SAMPLE.into())),
            Arg::Value(word) if word == "token" => return token().map(Parsed::Say),
            Arg::Long("json") => {}
            Arg::Long("check-config") => options.only_check = true,
            Arg::Long("config") => options.file = Some(parser.value()?.into()),
            Arg::Long("punch-port") => options.punch_ports.push(args::value(&mut parser, "--punch-port")?),
            Arg::Long(flag) => {
                let Some(&(flag, key)) = FLAGS.iter().find(|(known, _)| *known == flag) else {
                    return Err(arg.unexpected().into());
                };
                let flag = format!("--{flag}");
                let text = args::value(&mut parser, &flag)?;
                options.words.push((flag, key, text));
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Parsed::Run(Box::new(options)))
}

/// A new token, for its peers, and its hash, for the file: nobody else keeps either.
fn token() -> Result<String, Failure> {
    let token = direc_smol::new_token().map_err(Failure::of)?;
    Ok(format!("{}\n{}", token.reveal(), token.hash()))
}
