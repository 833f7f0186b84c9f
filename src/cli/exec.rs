//! `listen --exec`: a program for each message, and never a shell.
//!
//! The program and its arguments are those of the command line, word for word; nothing that came
//! in a message becomes an argument. The body goes to standard input, the rest into fixed
//! environment variables, and our own secrets go nowhere.

use super::exit::{Exit, Failure};
use super::terminal::complain;
use crate::net::client::Message;
use rustix::fs::MemfdFlags;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// So many run at a time; a message beyond that waits.
pub const PARALLEL: usize = 4;
/// So long may each run, in seconds, unless told otherwise.
pub const LIMIT: u64 = 30;
/// So much of one value goes into the environment; Linux refuses 128 KiB and more.
const VALUE: usize = 8192;

/// The program, and those of it that run.
pub struct Exec {
    program: String,
    arguments: Vec<String>,
    limit: Duration,
    running: Vec<(Child, Instant)>,
}

impl Exec {
    /// This program with these arguments.
    pub fn new(program: String, arguments: Vec<String>, limit: Duration) -> Exec {
        Exec { program, arguments, limit, running: Vec::new() }
    }

    /// Whether another may be started.
    pub fn has_room(&self) -> bool {
        self.running.len() < PARALLEL
    }

    /// Whether any runs.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts it for a message.
    pub fn start(&mut self, message: &Message, now: &str) -> Result<(), Failure> {
        match self.spawn(message, now) {
            Ok(child) => {
                let until = Instant::now().checked_add(self.limit).unwrap_or_else(Instant::now);
                self.running.push((child, until));
                Ok(())
            }
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                let hint = if self.program.contains(' ') {
                    "; --exec takes a program alone, its arguments go into --exec-arg, one each"
                } else {
                    ""
                };
                Err(Failure::new(Exit::Other, format!("--exec {:?}: {e}{hint}", self.program)))
            }
            Err(e) => {
                complain(&format!("warning: --exec {:?}: {e}; message dropped", self.program));
                Ok(())
            }
        }
    }

    fn spawn(&self, message: &Message, now: &str) -> std::io::Result<Child> {
        // The body lies in memory, complete: a program that does not read it blocks nobody.
        let body = rustix::fs::memfd_create("body", MemfdFlags::CLOEXEC)?;
        let mut body = std::fs::File::from(body);
        body.write_all(message.body.as_deref().unwrap_or("").as_bytes())?;
        body.seek(SeekFrom::Start(0))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::from(body)).process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"STONECHAT_") {
                command.env_remove(name);
            }
        }
        for (name, value) in variables(message, now) {
            command.env(name, cut(value));
        }
        command.spawn()
    }

    /// Buries those that have ended, ends those whose time is over.
    pub fn reap(&mut self) {
        let now = Instant::now();
        self.running.retain_mut(|(child, until)| match child.try_wait() {
            Ok(Some(_)) => false,
            Ok(None) if now < *until => true,
            Ok(None) | Err(_) => {
                kill(child);
                complain("warning: a program of --exec took too long and was ended");
                false
            }
        });
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        for (child, _) in &mut self.running {
            kill(child);
        }
    }
}

/// Ends the program and what it has started.
fn kill(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The variables that a program gets; one without a value is empty.
fn variables<'a>(message: &'a Message, now: &'a str) -> [(&'static str, &'a str); 11] {
    [
        ("STONECHAT_FROM", &message.from),
        ("STONECHAT_FROM_BARE", message.from_bare()),
        ("STONECHAT_TO", message.to.as_deref().unwrap_or("")),
        ("STONECHAT_ID", message.id.as_deref().unwrap_or("")),
        ("STONECHAT_TYPE", &message.kind),
        ("STONECHAT_SUBJECT", message.subject.as_deref().unwrap_or("")),
        ("STONECHAT_THREAD", message.thread.as_deref().unwrap_or("")),
        ("STONECHAT_NICK", message.nick.as_deref().unwrap_or("")),
        ("STONECHAT_OOB", message.oob.as_deref().unwrap_or("")),
        ("STONECHAT_DELAY", message.delay.as_deref().unwrap_or("")),
        ("STONECHAT_TS", now),
    ]
}

fn cut(value: &str) -> &str {
    let end = (0..=VALUE.min(value.len())).rev().find(|&n| value.is_char_boundary(n));
    value.get(..end.unwrap_or(0)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(exec: &mut Exec) {
        let end = Instant::now() + Duration::from_secs(10);
        while !exec.is_idle() && Instant::now() < end {
            exec.reap();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(exec.is_idle());
    }

    /// Whatever the message says, it arrives as data: nothing of it runs.
    #[test]
    fn a_message_is_data() {
        let dir = std::env::temp_dir().join(format!("stonechat-exec-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let out = dir.join("out");
        let script = "{ printf '%s|' \"$STONECHAT_FROM\" \"$STONECHAT_NICK\" \"$STONECHAT_PASSWORD\" \"$#\" \"$1\"; cat; } > \"$OUT\"";
        let big = "x".repeat(1 << 20);
        for body in ["`touch pwned`", "$(touch pwned)", "-rf", "a\nb", "'; touch pwned; '", big.as_str()] {
            let message = Message {
                from: "eve@x/$(touch pwned)".into(),
                nick: Some(body.into()),
                body: Some(body.into()),
                ..Message::default()
            };
            let arguments = ["-c", script, "sh", "fixed"].map(str::to_owned).to_vec();
            let script = dir.join("run");
            std::fs::write(&script, format!("#!/bin/sh\nOUT={} exec sh \"$@\"\n", out.display()))
                .expect("script");
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("mode");
            let mut exec = Exec::new(script.display().to_string(), arguments, Duration::from_secs(10));
            exec.start(&message, "now").expect("it starts");
            wait(&mut exec);
            let got = std::fs::read_to_string(&out).expect("output");
            assert_eq!(got, format!("eve@x/$(touch pwned)|{}||1|fixed|{body}", cut(body)));
        }
        assert!(!dir.join("pwned").exists() && !std::path::Path::new("pwned").exists());
        let _ = std::fs::remove_dir_all(&dir);
    }

    #[test]
    fn too_long_is_ended_with_its_children() {
        let mut exec = Exec::new(
            "sh".into(),
            ["-c", "sleep 60 & sleep 60"].map(str::to_owned).to_vec(),
            Duration::from_millis(50),
        );
        for n in 0..PARALLEL {
            assert!(exec.has_room(), "{n}");
            exec.start(&Message::default(), "").expect("it starts");
        }
        assert!(!exec.has_room());
        let begun = Instant::now();
        wait(&mut exec);
        assert!(begun.elapsed() < Duration::from_secs(10));
        let mut missing = Exec::new("no such program".into(), vec![], Duration::from_secs(1));
        let failure = missing.start(&Message::default(), "").expect_err("not there");
        assert!(failure.line.contains("--exec-arg"), "{}", failure.line);
    }
}
