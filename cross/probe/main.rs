//! What the hub needs of a machine beyond its instructions: that a panic is caught, for it costs one stream and not the hub; and
//! that memory comes and goes, however large the machine's pages are.
//!
//! cross/build builds it the way it builds the hub (unwinding takes another way on ARM with 32 bits than elsewhere, and
//! comes from zig's library; the allocator is the hub's). cross/smoke runs it: exit code 0, or a line that says what is wrong.
//! With an argument, `panics` or `memory`, it does that alone.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// As in src/main.rs.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Frames between a panic and who catches it.
const DEPTH: u32 = 50;

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes down `depth` frames, each with something to drop, and panics there if `small` is as large as it can be.
#[inline(never)]
fn fall(depth: u32, small: u8) -> u8 {
    let _counted = Counted;
    if depth == 1 { small + black_box(1) } else { black_box(fall(depth - 1, small)) }
}

fn caught_here() -> bool {
    let fell = catch_unwind(AssertUnwindSafe(|| fall(DEPTH, black_box(u8::MAX))));
    fell.is_err() && fall(1, black_box(1)) == 2
}

/// Caught, handed on, and caught again.
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

/// A block with its own number at every 512 bytes and in its last byte.
fn marked(mark: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0; size];
    mark_from(&mut block, mark, 0);
    block
}

fn mark_from(block: &mut [u8], mark: u8, start: usize) {
    block.iter_mut().skip(start).step_by(512).for_each(|byte| *byte = mark);
    if let Some(last) = block.last_mut() {
        *last = mark;
    }
}

fn is_marked(block: &[u8], mark: u8) -> bool {
    block.iter().step_by(512).all(|byte| *byte == mark)
}

/// Blocks of sizes around every page size, and around what the allocator takes from the system and gives back at a time,
/// made, grown, shrunk and dropped in an order that leaves holes.
fn memory_comes_and_goes() -> bool {
    let mut kept: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut dice = 1_u32;
    for round in 0..2000_u32 {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = (1 << (9 + (dice >> 28).min(13))) - 40 + ((dice >> 20) & 63) as usize;
        let mark = (round % 251) as u8 + 1;
        kept.push((mark, marked(mark, size)));
        let at = (dice >> 8) as usize % kept.len();
        if dice & 0x80 != 0
            && let Some((mark, block)) = kept.get_mut(at)
        {
            let old = block.len();
            if dice & 0x40 != 0 {
                block.resize(old / 512 * 512 + size, 0);
                mark_from(block, *mark, old / 512 * 512);
            } else {
                block.truncate(old / 2);
                block.shrink_to_fit();
            }
        } else {
            let (mark, block) = kept.swap_remove(at);
            if !is_marked(&block, mark) {
                return false;
            }
        }
        if kept.iter().map(|(_, block)| block.len()).sum::<usize>() > 32 << 20 {
            kept.clear();
        }
    }
    kept.iter().all(|(mark, block)| is_marked(block, *mark))
}

/// The part that it belongs to, what it shows, and whether that is so.
type Check = (&'static str, &'static str, fn() -> bool);

fn main() -> ExitCode {
    set_hook(Box::new(|_| {}));
    let only = std::env::args().nth(1);
    let checks: [Check; 5] = [
        ("panics", "a panic is caught", caught_here),
        ("panics", "a panic is caught again", caught_again),
        ("panics", "a panic ends its thread only", caught_in_a_thread),
        ("panics", "what was on the way is dropped", || DROPPED.load(Ordering::Relaxed) == 3 * DEPTH + 1),
        ("memory", "memory is what it was", memory_comes_and_goes),
    ];
    let mut done = 0;
    for (part, what, holds) in checks {
        if only.as_ref().is_some_and(|only| only != part) {
            continue;
        }
        if !holds() {
            eprintln!("error: not so: {what}");
            return ExitCode::FAILURE;
        }
        done += 1;
    }
    if done == 0 { ExitCode::from(64) } else { ExitCode::SUCCESS }
}
