//! A run as JSON, one object a line, for programs.

use std::{fmt::Write as _, time::Duration};

use crate::{
    outcome::{Bounds, Outcome},
    trace::{End, What},
};

/// One JSON object under construction.
pub struct Object(String);

impl Object {
    /// An object whose first field is its kind.
    pub fn new(event: &str) -> Self {
        let mut object = Self("{".to_owned());
        object.text("event", event);
        object
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        string(&mut self.0, key);
        self.0.push(':');
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        string(&mut self.0, value);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Adds true or false.
    pub fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key);
        let _ = write!(self.0, "{value}");
        self
    }

    /// Adds a time in milliseconds, or null.
    pub fn ms(&mut self, key: &str, value: Option<Duration>) -> &mut Self {
        self.real(key, value.map(|time| time.as_secs_f64() * 1e3))
    }

    /// Adds a number with a fraction, or null.
    pub fn real(&mut self, key: &str, value: Option<f64>) -> &mut Self {
        self.key(key);
        let _ = match value.filter(|value| value.is_finite()) {
            Some(value) => write!(self.0, "{}", (value * 1e6).round() / 1e6),
            None => write!(self.0, "null"),
        };
        self
    }

    /// The object as a line.
    pub fn line(&self) -> String {
        format!("{}}}\n", self.0)
    }
}

/// Appends a text with its quotation marks: RFC 8259, section 7.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            symbol => out.push(symbol),
        }
    }
    out.push('"');
}

/// All of a run: what nodes said, what packets did, and a summary of each call. `ms` counts from the start.
pub fn lines(outcome: &Outcome) -> String {
    let mut out = String::new();
    let name = |host: usize| outcome.names.get(host).map_or("", String::as_str);
    let since = |at: Duration| Some(at.saturating_sub(outcome.start));
    for note in outcome.trace.notes.iter().filter(|note| note.at >= outcome.start) {
        let mut object = match &note.what {
            What::Step(step) => {
                let mut object = Object::new("step");
                object.text("step", &step.step.to_string()).text("what", step.step.what());
                if let Some(address) = step.address {
                    object.text("addr", &address.to_string());
                }
                object
            }
            What::Event(words) | What::Detail(words) => {
                let mut object = Object::new("said");
                object.text("what", words);
                object
            }
            What::Retired(_) => continue,
        };
        out.push_str(&object.text("who", name(note.host.0)).ms("ms", since(note.at)).line());
    }
    for packet in outcome.trace.packets.iter().filter(|packet| packet.at >= outcome.start) {
        let mut object = Object::new("packet");
        object.text("from", name(packet.from.0)).text("dst", &packet.dst.to_string());
        object.text("kind", packet.kind.name()).flag("relayed", packet.relayed).number("bytes", packet.len as u64);
        object.ms("ms", since(packet.at));
        match packet.end {
            End::Arrived { host, at } => object.text("to", name(host.0)).ms("arrives_ms", since(at)),
            End::Dropped { cause, at, .. } => object.text("dropped", cause.name()).ms("dropped_ms", since(at)),
            End::UnderWay => object.ms("arrives_ms", None),
        };
        out.push_str(&object.line());
    }
    for number in 0..outcome.scenario.calls.len() {
        out.push_str(&summary(outcome, number));
    }
    out
}

/// The summary of one call.
pub fn summary(outcome: &Outcome, number: usize) -> String {
    let mut object = Object::new("summary");
    object.number("seed", outcome.seed).number("call", number as u64);
    if let Some(call) = outcome.call(number) {
        object.ms("connected_ms", call.connected()).ms("direct_heard_ms", call.direct_heard());
        object.ms("direct_ms", call.direct()).ms("first_byte_ms", call.first_echo()).ms("done_ms", call.done());
        if let Some(path) = call.log.path() {
            object.text("path", if path.is_direct() { "direct" } else { "relay" });
        }
        let log = call.log;
        object.number("bytes", log.echoed + log.uploaded).number("datagrams_sent", log.datagrams.0.into());
        object.number("datagrams_echoed", log.datagrams.2.into());
        if let Some(why) = call.failure() {
            object.text("failed", &why);
        }
        if let Some((_, why)) = log.not_direct {
            object.text("not_direct", &why.to_string());
        }
    }
    if let Some(bounds) = Bounds::of(&outcome.scenario, number) {
        object.ms("bound_direct_ms", Some(bounds.direct)).ms("bound_relayed_ms", Some(bounds.relayed));
        object.ms("bound_first_byte_ms", Some(bounds.first_echo));
    }
    let counts = &outcome.trace.counts;
    object.number("packets", counts.sent).number("packets_dropped", counts.dropped.values().sum());
    object.text("hash", &hex(&outcome.trace_hash()));
    if let Some(fault) = outcome.faults().first() {
        object.text("fault", fault);
    }
    object.line()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let mut object = Object::new("x");
        object.text("quoted", "say \"a\\b\"\n\u{1}é").number("n", 7).flag("yes", true);
        object.ms("ms", Some(Duration::from_nanos(1_234_567))).ms("never", None).real("odd", Some(f64::NAN));
        let expected = "{\"event\":\"x\",\"quoted\":\"say \\\"a\\\\b\\\"\\n\\u0001é\",\"n\":7,\"yes\":true,\"ms\":1.234567,\
            \"never\":null,\"odd\":null}\n";
        assert_eq!(object.line(), expected);
    }
}
