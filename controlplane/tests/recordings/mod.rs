//! The recordings of a real Jitsi stack in `../shared/fixtures`, and the arguments of the programs that replay them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a run is to do.
pub struct Arguments {
    /// The only scenario to run.
    pub scenario: Option<String>,
    /// Whether to print JSON.
    pub as_json: bool,
}

impl Arguments {
    /// Those of this process; an error is how it ends at once.
    pub fn read(program: &str) -> Result<Self, ExitCode> {
        let mut arguments = std::env::args().skip(1);
        let mut read = Self { scenario: None, as_json: false };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--scenario" => read.scenario = arguments.next(),
                "--json" => read.as_json = true,
                // What cargo's own test runner understands.
                "--nocapture" | "--show-output" | "--quiet" | "-q" | "--include-ignored" => {}
                "--list" => return Err(ExitCode::SUCCESS),
                // A filter of test names: ours is one test.
                other if !other.starts_with('-') => {}
                other => {
                    eprintln!("{program}: unknown argument {other:?}; use --scenario NAME and --json");
                    return Err(ExitCode::from(2));
                }
            }
        }
        Ok(read)
    }

    /// Whether a scenario is to be run.
    pub fn wants(&self, name: &str) -> bool {
        self.scenario.as_ref().is_none_or(|wanted| wanted == name)
    }

    /// How a run ends in which there was nothing to do: whoever names a scenario wants it.
    pub fn nothing_ran(&self) -> ExitCode {
        if self.scenario.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Where recordings are expected.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures")
}

/// The folders of the recordings that are there, by name.
pub fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("xmpp.xml").is_file()).collect();
    folders.sort();
    folders
}

/// The name of a recording.
pub fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
