//! The `semel` command.

use std::process::ExitCode;

/// Much of a request's memory is let go of by another thread than has asked for it, which takes jemalloc less time than glibc's
/// malloc (`spec/performance.md`, "Allocators"). What it is told stands in `.cargo/config.toml`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    semel::cli::run(std::env::args_os())
}
