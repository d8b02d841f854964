//! The binary: everything is in the library.

/// Reads the command line and runs it.
fn main() -> std::process::ExitCode {
    drain_mcp::cli::main()
}
