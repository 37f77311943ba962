//! What a program says outside its log.

use std::io::{self, Write};
use std::process::ExitCode;

/// Writes to standard output what somebody asked to see. Who stops reading has seen enough; what cannot be written
/// otherwise is a failure that is said on standard error.
pub fn print(text: &[u8]) -> ExitCode {
    let written = io::stdout().write_all(text).and_then(|()| io::stdout().flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("ringbridge: cannot print: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error before logging runs; where that is not possible, nothing.
pub fn complain(line: std::fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
