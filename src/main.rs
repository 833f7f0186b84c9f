//! The binary: everything is in [`stonechat::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stonechat::cli::main()
}
