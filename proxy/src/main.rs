//! The `quorate` command.

/// Requests are many small allocations that end on the thread where they began.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    quorate::cli::main()
}
