//! The log: one line an event on standard error, for a person or for journald.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Lines of one cause (a place in the code) in one window; what is over is counted and told later, so
/// that no flood from outside fills a card.
const BURST: u32 = 200;
const WINDOW: Duration = Duration::from_secs(60);

/// Target of a line that programs wait for: it stands alone, without time and level.
pub const BARE: &str = "stonechat::bare";

/// File and line.
type Cause = (&'static str, u32);

struct Stderr {
    /// journald reads `<6>` and has a clock of its own.
    journal: bool,
    causes: Mutex<HashMap<Cause, (Instant, u32)>>,
}

/// Starts the log. Only the first call counts.
pub fn start(level: LevelFilter) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let _ = log::set_boxed_logger(Box::new(Stderr { journal, causes: Mutex::default() }));
    log::set_max_level(level);
}

impl Stderr {
    /// Whether this line is written, and how many of its kind were not before it.
    fn admit(&self, record: &Record<'_>) -> Option<u32> {
        let Some(file) = record.file_static() else { return Some(0) };
        let mut causes = self.causes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        let (since, count) = causes.entry((file, record.line().unwrap_or(0))).or_insert((now, 0));
        let mut missed = 0;
        if now.duration_since(*since) >= WINDOW {
            missed = count.saturating_sub(BURST);
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count <= BURST).then_some(missed)
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say below "warn" is for their authors.
        metadata.level() <= log::max_level()
            && (metadata.target().starts_with("stonechat") || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(missed) = self.admit(record) else { return };
        let mut line = String::new();
        if self.journal {
            line.push_str(match record.level() {
                Level::Error => "<3>",
                Level::Warn => "<4>",
                Level::Info => "<6>",
                Level::Debug | Level::Trace => "<7>",
            });
        } else if record.target() != BARE {
            let now = humantime::format_rfc3339_millis(UNIX_EPOCH + crate::net::unix_time());
            line.push_str(&format!("{now} {:<5} ", record.level().as_str().to_lowercase()));
        }
        if missed > 0 {
            line.push_str(&format!("[{missed} more like this were left out] "));
        }
        // One event, one line, whatever a stranger called himself.
        for c in record.args().to_string().chars() {
            if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
            {
                line.extend(c.escape_unicode());
            } else {
                line.push(c);
            }
        }
        line.push('\n');
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
