//! How all connections stand, whenever the person asks: SIGUSR1, or every so often with `--status`.

use std::time::{Duration, Instant};

use direc_smol::Peer;
use smol::{Timer, future::or, stream::StreamExt};

use crate::{
    clock::spoken,
    events::{Event, Kind, Why},
    out::Out,
    signals::StatusAsked,
    standing::{PathStanding, Standing},
};

/// Answers until it is dropped.
pub(super) async fn report(peer: Peer, mut asked: StatusAsked, every: Option<Duration>, out: Out) {
    let mut ticks = every.map_or_else(Timer::never, Timer::interval);
    loop {
        let tick = async {
            ticks.next().await;
        };
        or(asked.wait(), tick).await;
        let now = Instant::now();
        let connections: Vec<_> = peer.connections().iter().map(|status| Standing::of(status, now)).collect();
        if out.json() {
            out.event(&Event::Status { connections });
        } else {
            out.note(&table(&connections));
        }
    }
}

fn table(connections: &[Standing]) -> String {
    let lines: Vec<String> = connections.iter().map(connection).collect();
    if lines.is_empty() { "status: no connections".into() } else { lines.join("\n") }
}

/// The other peer, a line for each path, the current one marked, and why it is that one.
fn connection(standing: &Standing) -> String {
    let Standing { peer, role, .. } = standing;
    let mut lines = vec![format!("status: {} as {role}", peer.get(..8).unwrap_or(peer))];
    let width = standing.paths.iter().map(|path| path.addr.len()).max().unwrap_or(0);
    lines.extend(standing.paths.iter().map(|path| line(path, width)));
    lines.push(format!("    for {}: {}", spoken_ms(standing.for_ms), reason(standing)));
    lines.join("\n")
}

fn line(path: &PathStanding, width: usize) -> String {
    let mark = if path.current { '*' } else { ' ' };
    let kind = match path.path {
        Kind::Direct => "direct",
        Kind::Relay => "relay",
    };
    let rtt = path.rtt_ms.map_or("- ms".into(), spoken_ms);
    let probes = path.answered + path.lost;
    let loss = match probes {
        0 => "-".into(),
        _ => format!("{:.0}", f64::from(path.lost) * 100.0 / f64::from(probes)),
    };
    format!(
        "  {mark} {kind:<6} {:<width$}  {:<8} {rtt:>7}  {loss:>3} % lost  {:>8} out  {:>8} in  for {}",
        path.addr,
        path.state.word(),
        bytes(path.sent_bytes),
        bytes(path.received_bytes),
        spoken_ms(path.for_ms),
    )
}

fn reason(standing: &Standing) -> String {
    let silence = || standing.silent_ms.map_or(String::new(), |ms| format!(" for {}", spoken_ms(ms)));
    match standing.why {
        Why::Began => "connections begin on the relay, and no direct path has been proven since".into(),
        Why::Direct => "a direct round trip is proven, and direct goes before relayed".into(),
        Why::Faster => "clearly faster than the direct path before".into(),
        Why::Silent => format!("the path before gave no answer{}", silence()),
        Why::RelayLost => "the relay before is lost or going down".into(),
        Why::Other => "for a reason that this version does not know".into(),
    }
}

fn spoken_ms(ms: f64) -> String {
    spoken(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default())
}

/// So many bytes, in the unit that fits.
pub(super) fn bytes(number: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.iter().find(|(unit, _)| number as f64 >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / unit),
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::State;

    fn path(kind: Kind, addr: &str, current: bool) -> PathStanding {
        PathStanding {
            path: kind,
            addr: addr.into(),
            state: State::Works,
            current,
            rtt_ms: None,
            answered: 0,
            lost: 0,
            sent_bytes: 999,
            received_bytes: 12_345_678,
            for_ms: 12_300.0,
        }
    }

    #[test]
    fn each_path_has_its_line_and_the_current_one_its_mark_and_its_reason() {
        let direct = PathStanding {
            state: State::Doubtful,
            rtt_ms: Some(41.3),
            answered: 30,
            lost: 2,
            ..path(Kind::Direct, "198.51.100.18:4433", true)
        };
        let standing = Standing {
            peer: "aebagbafaydqqcikbmga".into(),
            role: "client".into(),
            path: Kind::Direct,
            addr: direct.addr.clone(),
            why: Why::Silent,
            silent_ms: Some(251.0),
            for_ms: 125_000.0,
            paths: vec![path(Kind::Relay, "203.0.113.10:443", false), direct],
        };
        let expected = "\
status: aebagbaf as client
    relay  203.0.113.10:443    works       - ms    - % lost     999 B out   12.3 MB in  for 12.3 s
  * direct 198.51.100.18:4433  doubtful   41 ms    6 % lost     999 B out   12.3 MB in  for 12.3 s
    for 2 min 05 s: the path before gave no answer for 251 ms";
        assert_eq!(table(&[standing]), expected);
    }

    #[test]
    fn nobody_connected_is_said() {
        assert_eq!(table(&[]), "status: no connections");
    }
}
