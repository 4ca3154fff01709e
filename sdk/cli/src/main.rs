//! `tenure`: the command line of Tenure.

use clap::Parser;

mod bench;

/// Locks, elections, leases and configuration of a Tenure cluster.
#[derive(Parser)]
#[command(name = "tenure", version)]
struct Cli {
    /// Client URLs of members, separated by commas.
    #[arg(
        long,
        global = true,
        env = "TENURE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7379"
    )]
    endpoints: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Measures a running cluster.
    Bench(bench::Bench),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Bench(bench) => bench.run(&cli.endpoints),
    }
}
