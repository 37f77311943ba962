//! Configuration: files of ours and of Jitsi Videobridge, the environment, and docker-jitsi-meet's.
//!
//! Fed: a file's text; after a line `---` variables, one `NAME=value` a line.
//! Held: nothing panics or takes for ever; what is refused is refused with words; what is accepted is accepted again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ringbridge_controlplane::config::{Config, ConfigError, Layers, Parts};

/// Longest file, bytes: a syntax error is looked for line by line.
const LONGEST: usize = 4_096;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = crate::scratch::folder().join("config");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("part.conf"), "bridge { port = 11 }\n").expect("written");
        folder.join("main.conf")
    })
}

fn read(variables: &BTreeMap<&str, &str>) -> (Vec<ConfigError>, Result<Config, Vec<ConfigError>>) {
    let mut layers = Layers::defaults();
    let folder = Path::new("/nonexistent");
    let _ = layers.add_docker(|name| variables.get(name).map(|value| (*value).to_owned()), folder);
    let mut errors = layers.add_file(file());
    errors.extend(Layers::check_environment(variables.keys().map(|name| (*name).to_owned())));
    layers.derive();
    let config = Config::new(&layers, Parts { bridge: true, focus: true });
    (errors, config)
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A file that includes a device waits for it, as it says.
    if text.len() > LONGEST || text.contains("/dev") || text.contains("/proc") || text.contains("/sys") {
        return;
    }
    let (text, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables: BTreeMap<&str, &str> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    std::fs::write(file(), text).expect("written");
    let (errors, config) = read(&variables);
    for error in errors.iter().chain(config.as_ref().err().into_iter().flatten()) {
        assert!(!error.to_string().is_empty());
    }
    let (again, second) = read(&variables);
    assert_eq!(errors, again);
    assert_eq!(config.is_ok(), second.is_ok());
}
