//! The format of packet scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// A host's socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where a packet is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To the endpoint's own address.
    Itself(Endpoint),
    /// To where the first was last seen by the second.
    Seen(Endpoint, Endpoint),
    /// To the host's external address, and the endpoint's own port there.
    Kept(Endpoint),
}

impl Target {
    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Itself(at) | Self::Seen(at, _) | Self::Kept(at) => at,
        }
    }
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) text: String,
    pub(super) from: Endpoint,
    pub(super) to: Target,
}

/// A packet script: which boxes it is for, and who sends what when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Names of the boxes it is for, as [`crate::nat::stack`] knows them.
    pub types: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// A script that was not understood: the line, counted from 1, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    line: usize,
    expected: &'static str,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// Understands a script.
    ///
    /// # Errors
    /// [`ScriptError`] with the first line that was not understood.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut script = Self { types: Vec::new(), steps: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            let wrong = |expected| ScriptError { line: number + 1, expected };
            if line.is_empty() || line == "long" {
                continue;
            }
            if let Some(types) = line.strip_prefix("types:") {
                script.types.extend(types.split_whitespace().map(str::to_owned));
                continue;
            }
            let step = step(line).ok_or_else(|| wrong("SECONDS HOST:PORT > HOST:PORT[@HOST:PORT|@kept]"))?;
            if script.steps.last().is_some_and(|last| last.at >= step.at) {
                return Err(wrong("a time after that of the line before"));
            }
            script.steps.push(step);
        }
        Ok(script)
    }

    /// All hosts and their ports.
    pub(super) fn hosts(&self) -> BTreeMap<String, BTreeSet<u16>> {
        let mut hosts: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for step in &self.steps {
            for at in [&step.from, step.to.endpoint()] {
                hosts.entry(at.host.clone()).or_default().insert(at.port);
            }
        }
        hosts
    }
}

fn step(line: &str) -> Option<Step> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [at, from, ">", to] = words[..] else { return None };
    // An hour at most: more is a mistake.
    let seconds: f64 = at.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds))?;
    let to = match to.split_once('@') {
        None => Target::Itself(endpoint(to)?),
        Some((who, "kept")) => Target::Kept(endpoint(who)?),
        Some((who, by)) => Target::Seen(endpoint(who)?, endpoint(by)?),
    };
    Some(Step { at: Duration::from_secs_f64(seconds), text: words.join(" "), from: endpoint(from)?, to })
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.split_once(':')?;
    let known = ["h1", "h2", "r1", "r1b", "r2"].contains(&host);
    known.then_some(Endpoint { host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_understood_and_mistakes_are_named_with_their_line() {
        let script = Script::parse("# a\ntypes: easy sym\n\n0 h1:1 > r1:2 # b\n0.5 r1:2 > h1:1@r1:2\n").unwrap();
        assert_eq!((script.types.len(), script.steps.len()), (2, 2));
        assert_eq!(script.steps[1].text, "0.5 r1:2 > h1:1@r1:2");
        for (wrong, line) in [("0 h1:1 > r1", 1), ("\n0 h3:1 > r1:2", 2), ("1 h1:1 > r1:2\n1 h1:1 > r1:2", 2)] {
            assert_eq!(Script::parse(wrong).unwrap_err().line, line, "{wrong}");
        }
    }
}
