//! Judges recordings again: `tenure-judge FILE…` prints what each checker says of each file, and fails where one finds
//! something wrong.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use tenure_oracle::{Recording, judge};

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: tenure-judge FILE...");
        return ExitCode::from(2);
    }
    let mut wrong = false;
    for file in files {
        let read = File::open(&file).map_err(Into::into);
        match read.and_then(|opened| Recording::read(BufReader::new(opened))) {
            Ok(recording) => {
                let verdict = judge(&recording);
                println!("{file}: {verdict}");
                wrong |= !verdict.wrong.is_empty();
            }
            Err(error) => {
                eprintln!("{file}: {error}");
                wrong = true;
            }
        }
    }
    ExitCode::from(u8::from(wrong))
}
