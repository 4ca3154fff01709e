//! What is made of the tree of commands: completions for shells, and manual pages.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory;

use crate::Cli;
use crate::exit::{Exit, Trouble};
use crate::output;

/// Prints what makes a shell complete the words of this program
#[derive(clap::Args, Debug)]
#[command(after_help = COMPLETION)]
pub(crate) struct Completion {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

const COMPLETION: &str = "\
Examples:
  source <(tenure completion bash)                 now, in bash
  tenure completion bash > /etc/bash_completion.d/tenure
  tenure completion zsh > ~/.zfunc/_tenure
  tenure completion fish > ~/.config/fish/completions/tenure.fish";

impl Completion {
    pub(crate) fn run(self) -> Result<Exit, Trouble> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tenure", &mut script);
        output::bytes(&script)?;
        Ok(Exit::DONE)
    }
}

/// Writes the manual pages of all commands into a directory
#[derive(clap::Args, Debug)]
#[command(after_help = MAN)]
pub(crate) struct Man {
    /// Where to; it is made where it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

const MAN: &str = "\
Examples:
  tenure man /usr/local/share/man/man1
  tenure man /tmp/man && man /tmp/man/tenure-lock.1";

impl Man {
    pub(crate) fn run(self) -> Result<Exit, Trouble> {
        let written = std::fs::create_dir_all(&self.dir).and_then(|()| write(&self.dir));
        written.map_err(|error| {
            let told = format!(
                "cannot write manual pages to {}: {error}",
                self.dir.display()
            );
            let trouble = Trouble::new(Exit::FAILED, told).afterwards();
            trouble.then("name a directory that you may write to")
        })?;
        Ok(Exit::DONE)
    }
}

fn write(dir: &std::path::Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        fn check(command: &clap::Command) {
            let help = command.clone().render_help().to_string();
            assert!(
                help.contains("Examples:"),
                "{}:\n{help}",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
