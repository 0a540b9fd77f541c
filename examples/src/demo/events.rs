//! The JSON lines of `demo`. Times in `ms` count from the demo's start.

use serde::Serialize;

use crate::events::Kind;

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum DemoEvent {
    /// A party took a step.
    Step { ms: f64, who: &'static str, step: String, what: &'static str, peer: Option<String>, addr: Option<String> },
    /// The connection stands; `after_ms` counts from the connect call.
    Connected { ms: f64, peer: String, path: Kind, after_ms: f64 },
    /// A side moved to this path; `after_ms` counts from the connect call.
    Path { ms: f64, who: &'static str, path: Kind, addr: String, after_ms: f64 },
    /// A transfer is through.
    Transfer {
        from: &'static str,
        to: &'static str,
        bytes: u64,
        seconds: f64,
        mbit_per_second: f64,
        sha256: String,
        intact: bool,
    },
    /// The simulator's run; all times are virtual.
    Simulated { a_ms: f64, b_ms: f64, c_ms: f64, direct_ms: f64, bound_ms: f64, allowed_ms: f64 },
    /// It did not work.
    Error { what: String },
    /// The last line.
    Summary { ok: bool, steps: usize, seconds: f64 },
}
