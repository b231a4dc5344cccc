//! The `penstock` command.

fn main() -> std::process::ExitCode {
    penstock::cli::main()
}
