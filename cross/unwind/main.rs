//! Whether a panic is caught on this machine, as the hub needs it: a panic costs one stream, not the hub.
//!
//! cross/build builds it the way it builds the hub (unwinding takes another way on ARM with 32 bits than elsewhere,
//! and comes from zig's library), cross/smoke runs it: exit code 0, or a line that says what is wrong.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Frames between a panic and who catches it.
const DEPTH: u32 = 50;

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes down `depth` frames, each with something to drop, and panics there.
#[inline(never)]
fn fall(depth: u32, small: u8) -> u8 {
    let _counted = Counted;
    if depth == 1 { small + black_box(1) } else { black_box(fall(depth - 1, small)) }
}

fn caught_here() -> bool {
    let fell = catch_unwind(AssertUnwindSafe(|| fall(DEPTH, black_box(u8::MAX))));
    fell.is_err() && fall(1, black_box(1)) == 2
}

/// Caught, handed on, and caught again, as the executor does.
fn caught_again() -> bool {
    let again = catch_unwind(|| {
        if let Err(panic) = catch_unwind(|| fall(DEPTH, black_box(u8::MAX))) {
            resume_unwind(panic);
        }
    });
    again.is_err_and(|panic| panic.downcast_ref::<&str>().is_some_and(|text| text.contains("overflow")))
}

fn caught_in_a_thread() -> bool {
    thread::spawn(|| fall(DEPTH, black_box(u8::MAX))).join().is_err()
}

fn main() -> ExitCode {
    set_hook(Box::new(|_| {}));
    for (what, holds) in [
        ("a panic is caught", caught_here()),
        ("a panic is caught again", caught_again()),
        ("a panic ends its thread only", caught_in_a_thread()),
        ("what was on the way is dropped", DROPPED.load(Ordering::Relaxed) == 3 * DEPTH + 1),
    ] {
        if !holds {
            eprintln!("error: not so: {what}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
