//! The whole thing on one machine: `demo --help`.

fn main() -> std::process::ExitCode {
    direc_examples::demo::main()
}
