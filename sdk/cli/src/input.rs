//! What is read of a file or of stdin: values and transactions.
//!
//! Owns the words for a file that cannot be read, and tells somebody at a terminal that it is being waited for.

use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::exit::{Exit, Trouble};
use crate::output::note;

/// All of the file; of stdin where none is named, or `-`. With it comes from where that is.
pub(crate) fn read(what: &str, file: Option<&Path>) -> Result<(Vec<u8>, String), Trouble> {
    let from = match file {
        Some(path) if path.as_os_str() != "-" => path,
        _ => return stdin(what),
    };
    let (text, from) = (std::fs::read(from), from.display().to_string());
    let text = text.map_err(|error| {
        Trouble::usage(format!("cannot read the {what} from {from}: {error}"))
            .then("name a file that can be read, or `-` for stdin")
    })?;
    Ok((text, from))
}

fn stdin(what: &str) -> Result<(Vec<u8>, String), Trouble> {
    let stdin = std::io::stdin();
    // Otherwise the program would seem to hang.
    if stdin.is_terminal() {
        note(format!(
            "reading the {what} from the terminal: end it with Ctrl-D"
        ));
    }
    let mut text = Vec::new();
    stdin.lock().read_to_end(&mut text).map_err(|error| {
        let told = format!("cannot read the {what} from stdin: {error}");
        Trouble::new(Exit::FAILED, told).then("name a file that has it")
    })?;
    Ok((text, "stdin".to_owned()))
}
