//! The differences that are meant (`differences.txt`): each line `SCENARIO | PART OF THE LINE | REASON`; `*` is every scenario.

const TEXT: &str = include_str!("differences.txt");

struct Meant {
    scenario: &'static str,
    part: &'static str,
    reason: &'static str,
    line: &'static str,
    used: bool,
}

/// All of them.
pub struct Differences(Vec<Meant>);

impl Differences {
    pub fn read() -> Self {
        let lines = TEXT.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let meant = lines.map(|line| {
            let mut parts = line.splitn(3, " | ").map(str::trim);
            let mut next =
                || parts.next().filter(|part| !part.is_empty()).unwrap_or_else(|| panic!("three parts: {line}"));
            Meant { scenario: next(), part: next(), reason: next(), line, used: false }
        });
        Self(meant.collect())
    }

    /// Why a line is only on one side.
    pub fn explain(&mut self, scenario: &str, line: &str) -> Option<&'static str> {
        let fits =
            |meant: &&mut Meant| (meant.scenario == "*" || meant.scenario == scenario) && line.contains(meant.part);
        let meant = self.0.iter_mut().find(fits)?;
        meant.used = true;
        Some(meant.reason)
    }

    /// Lines that explained nothing.
    pub fn idle(&self) -> Vec<&'static str> {
        self.0.iter().filter(|meant| !meant.used).map(|meant| meant.line).collect()
    }
}
