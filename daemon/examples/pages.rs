//! Writes the manual pages of `tenured` and what shells need to complete its words into a directory, for packages.
//!
//! It is no command of the daemon, which its operators would carry about for nothing.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use tenure_state::Limits;
use tenured::cli::Cli;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), None) = (arguments.next(), arguments.next()) else {
        eprintln!("pages: give one directory, which is there and may be written to");
        return ExitCode::from(2);
    };
    match write(dir.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: cannot write to {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &Path) -> std::io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    for page in std::iter::once(&command).chain(command.get_subcommands()) {
        Man::new(page.clone()).section("8").generate_to(dir)?;
    }
    let serve = command.find_subcommand("serve").expect("it is a command");
    settings(serve).to_writer(&mut File::create(dir.join("tenured.toml.5"))?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "tenured", dir)?;
    }
    Ok(())
}

/// The page of the file of settings, out of what the flags say of themselves: each of them is a key of the file.
fn settings(serve: &clap::Command) -> Roff {
    let version = concat!("tenured ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["tenured.toml", "5", "", version]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "tenured.toml - the settings of a member of a Tenure cluster",
    )]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("Read by "),
        bold("tenured serve --config"),
        roman(" FILE; for the units of the package it is "),
        italic("/etc/tenure/tenured.toml"),
        roman(", and for an instance "),
        italic("/etc/tenure/NAME.toml"),
        roman(
            ". It is TOML. A key that is not known is an error, and so is a value that is not accepted. Flags win over \
             environment variables, and these over the file. \"At once\" is what a reload takes over; all else is of effect at the \
             next start.",
        ),
    ]);
    page.control("SH", ["KEYS"]);
    for argument in serve.get_arguments() {
        let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) else {
            continue;
        };
        let variable = variable.to_string_lossy();
        let key = variable.trim_start_matches("TENURED_").to_lowercase();
        let place = match key.as_str() {
            // Where settings are read from, which they cannot say.
            "config" => continue,
            "initial_members" => "cluster.initial_members",
            "join" => "cluster.join",
            key => key,
        };
        let kind = match key.as_str() {
            "initial_members" => "{ NAME = \"URL\", ... }",
            "limits" => "{ NAME = NUMBER, ... }",
            "client_hosts" => "[\"HOST\", ...]",
            "client_cert_cn" => "true | false",
            key if key.starts_with("max_") || key.ends_with("_ms") => "NUMBER",
            _ => "\"TEXT\"",
        };
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let at_once = match key.as_str() {
            "log_filter" => ". At once",
            key if key.ends_with("_file") && !key.starts_with("join_") => {
                ". What lies in it: at once"
            }
            _ => "",
        };
        page.control("TP", []);
        page.text([bold(place), roman(" = "), italic(kind)]);
        page.text([roman(format!("{help}{at_once}. Also "))]);
        page.text([
            bold(format!("--{flag}")),
            roman(" and "),
            bold(variable),
            roman("."),
        ]);
    }
    limits(&mut page);
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    for line in include_str!("../../systemd/examples/three-members.toml").lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["ENVIRONMENT"]);
    page.text([
        roman("Traces are sent where the variables of OpenTelemetry say so ("),
        bold("OTEL_EXPORTER_OTLP_ENDPOINT"),
        roman(" and others); see "),
        italic("/usr/share/doc/tenure/monitoring/traces.md"),
        roman("."),
    ]);
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("tenured"),
        roman("(8), "),
        bold("tenured-serve"),
        roman("(8), "),
        bold("tenured-reload"),
        roman("(8)"),
    ]);
    page
}

fn limits(page: &mut Roff) {
    page.control("SH", ["LIMITS"]);
    page.text([roman(
        "What a new cluster begins with, in the table limits; those of the member with the least name count, and later they are \
         changed by PATCH /v1/limits. What each means is in the answer of GET /v1/openapi.json.",
    )]);
    for ((name, usual), (_, least, most)) in Limits::default().named().zip(Limits::ranges()) {
        page.control("TP", []);
        page.text([
            bold(format!("limits.{name}")),
            roman(" = "),
            italic("NUMBER"),
        ]);
        page.text([roman(format!(
            "From {least} to {most}; {usual} where it is not given."
        ))]);
    }
}
