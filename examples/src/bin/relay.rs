//! The relay that introduces peers: `relay --help`.

fn main() -> std::process::ExitCode {
    direc_examples::relay::main()
}
