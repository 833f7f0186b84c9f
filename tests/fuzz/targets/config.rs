//! The hub's options file and the client's: read, or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use stonechat::cli::config::Config;
use stonechat::cli::exit::{Exit, Failure};
use stonechat::cli::options;

/// A file, one for each process.
fn file() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = format!("stonechat-fuzz-{}.conf", std::process::id());
        std::env::temp_dir().join(file).display().to_string()
    })
}

fn one_line(failure: &Failure) {
    // What would move the cursor is taken out where it is printed.
    assert!(!failure.line.contains('\n'), "{:?}", failure.line);
    assert!(!failure.line.is_empty());
}

fuzz_target!(|data: &[u8]| {
    std::fs::write(file(), data).expect("a place for the file");
    let read = options::read(&[("config", file().to_owned())]);
    let found = Config::find(Some(file()), true);
    let _ = std::fs::remove_file(file());
    match &read {
        Ok(options) => {
            for jid in &options.admins {
                assert_eq!(stonechat::jid::BareJid::parse(jid).expect("an address").as_str(), jid);
            }
            if let Some(domain) = &options.domain {
                let normal = stonechat::jid::domainpart(domain).expect("a domain");
                assert_eq!(normal, *domain);
            }
        }
        Err(failure) => {
            one_line(failure);
            let utf8 = std::str::from_utf8(data).is_ok();
            assert_eq!(failure.exit, if utf8 { Exit::Usage } else { Exit::Io });
        }
    }
    match &found {
        Ok(config) => {
            for name in ["user", "port", "pin", "quiet"] {
                assert_eq!(config.get(name), config.all(name).last());
                let _ = config.number::<u16>(name).map_err(|f| one_line(&f));
                let _ = config.switch(name).map_err(|f| one_line(&f));
            }
        }
        Err(failure) => one_line(failure),
    }
});
