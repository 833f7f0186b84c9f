//! The binary: everything is in [`stonechat::cli`].

use std::process::ExitCode;

/// glibc brings a good one.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    stonechat::cli::main()
}
