//! One side of a connection: `peer --help`.

fn main() -> std::process::ExitCode {
    direc_examples::peer::main()
}
