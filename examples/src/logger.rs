//! Log records of the libraries, on standard error: `DIREC_LOG` says how much.

use log::{LevelFilter, Log, Metadata, Record};
use serde_json::json;

use crate::out::Out;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (level, target) = (record.level(), record.target());
            let message = record.args().to_string();
            let text = format!("{level:5} {target}: {message}");
            let object = || json!({"level": level.as_str().to_ascii_lowercase(), "target": target, "message": message});
            Out::new(false).record(&text, object);
        }
    }

    fn flush(&self) {}
}

/// Starts logging: warnings and errors, or what `DIREC_LOG` asks for (`off`, `error`, `warn`, `info`, `debug`, `trace`).
pub fn start() {
    let level = std::env::var("DIREC_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::Warn);
    // Only fails if a logger is there already, which is as good.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
