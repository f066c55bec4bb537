//! The `harden` command.

mod cli;

/// A plan of thousands of objects makes and frees millions of small pieces, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
