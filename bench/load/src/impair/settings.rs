//! What a link does to packets, and the commands that change it over time.

use std::time::Duration;

use serde::Deserialize;

/// One direction of an impaired path. The default is a perfect link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSettings {
    /// Time that every packet travels.
    pub delay: Duration,
    /// Each packet takes up to this much longer, evenly spread; packets stay in order.
    pub jitter: Duration,
    /// Share of packets lost at random, 0 to 1.
    pub loss: f64,
    /// Share of packets lost in bursts, 0 to 1 (Gilbert's model: a burst loses everything).
    pub burst_loss: f64,
    /// Mean length of a burst, packets; at least 1.
    pub burst_length: f64,
    /// Share of packets that are held back so that later ones overtake them, 0 to 1.
    pub reorder: f64,
    /// How long those are held back.
    pub reorder_by: Duration,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Rate of the bottleneck, bits per second, IP and UDP headers included; `None` is unlimited.
    pub rate: Option<u64>,
    /// What the bottleneck's queue holds, as time at its rate; more is dropped at the tail.
    pub queue: Duration,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst_loss: 0.0,
            burst_length: 5.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(20),
            duplicate: 0.0,
            rate: None,
            queue: Duration::from_millis(500),
        }
    }
}

/// Changes to one direction; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Start from a perfect link.
    #[serde(default)]
    pub clear: bool,
    /// Milliseconds that every packet travels.
    pub delay_ms: Option<f64>,
    /// Milliseconds of jitter on top.
    pub jitter_ms: Option<f64>,
    /// Percent of packets lost at random.
    pub loss: Option<f64>,
    /// Percent of packets lost in bursts.
    pub burst_loss: Option<f64>,
    /// Mean length of a burst, packets.
    pub burst_length: Option<f64>,
    /// Percent of packets that later ones overtake.
    pub reorder: Option<f64>,
    /// Milliseconds that those are held back.
    pub reorder_ms: Option<f64>,
    /// Percent of packets that arrive twice.
    pub duplicate: Option<f64>,
    /// Kilobits per second of the bottleneck; 0 is unlimited.
    pub rate_kbps: Option<f64>,
    /// Milliseconds that the bottleneck's queue holds.
    pub queue_ms: Option<f64>,
    /// Lose everything for this many milliseconds from now on.
    pub outage_ms: Option<f64>,
}

/// A command: what to change, on which relay, and when.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Seconds after the start; at once when absent or past.
    #[serde(default)]
    pub at: f64,
    /// Number of the relay, from 0; all of them when absent.
    pub relay: Option<usize>,
    /// Changes from the participant to the bridge.
    pub up: Option<Patch>,
    /// Changes from the bridge to the participant.
    pub down: Option<Patch>,
    /// Changes in both directions, made before those of `up` and `down`.
    pub both: Option<Patch>,
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// The text is not a command.
    #[error("line {line} is not a command ({reason}): write one JSON object per line, see docs/quality.md")]
    Syntax {
        /// Number of the line, from 1.
        line: usize,
        /// The parser's error.
        reason: String,
    },
    /// A number is out of its range.
    #[error("{name} is {value}: give a number from {min} to {max}")]
    Range {
        /// Name of the setting.
        name: &'static str,
        /// The value that was given.
        value: f64,
        /// The smallest that is allowed.
        min: f64,
        /// The largest that is allowed.
        max: f64,
    },
}

fn ranged(name: &'static str, value: f64, min: f64, max: f64) -> Result<f64, SettingError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(SettingError::Range { name, value, min, max }) }
}

fn share(name: &'static str, percent: f64) -> Result<f64, SettingError> {
    Ok(ranged(name, percent, 0.0, 100.0)? / 100.0)
}

fn milliseconds(name: &'static str, value: f64) -> Result<Duration, SettingError> {
    Ok(Duration::from_secs_f64(ranged(name, value, 0.0, 60_000.0)? / 1_000.0))
}

impl Patch {
    /// Applies the changes to `settings`; on an error nothing is changed.
    pub fn apply(&self, settings: &mut LinkSettings) -> Result<(), SettingError> {
        let mut new = if self.clear { LinkSettings::default() } else { settings.clone() };
        let shares = [
            ("loss", self.loss, &mut new.loss),
            ("burst_loss", self.burst_loss, &mut new.burst_loss),
            ("reorder", self.reorder, &mut new.reorder),
            ("duplicate", self.duplicate, &mut new.duplicate),
        ];
        for (name, value, to) in shares {
            if let Some(percent) = value {
                *to = share(name, percent)?;
            }
        }
        let durations = [
            ("delay_ms", self.delay_ms, &mut new.delay),
            ("jitter_ms", self.jitter_ms, &mut new.jitter),
            ("reorder_ms", self.reorder_ms, &mut new.reorder_by),
            ("queue_ms", self.queue_ms, &mut new.queue),
        ];
        for (name, value, to) in durations {
            if let Some(value) = value {
                *to = milliseconds(name, value)?;
            }
        }
        if let Some(length) = self.burst_length {
            new.burst_length = ranged("burst_length", length, 1.0, 10_000.0)?;
        }
        if let Some(rate) = self.rate_kbps {
            let rate = (ranged("rate_kbps", rate, 0.0, 10_000_000.0)? * 1_000.0) as u64;
            new.rate = (rate > 0).then_some(rate);
        }
        self.outage()?;
        *settings = new;
        Ok(())
    }

    /// How long everything is to be lost from now on.
    pub fn outage(&self) -> Result<Option<Duration>, SettingError> {
        self.outage_ms.map(|value| milliseconds("outage_ms", value)).transpose()
    }
}

impl Command {
    /// Reads one command per line; empty lines and lines that start with `#` are left out.
    pub fn read_all(text: &str) -> Result<Vec<Self>, SettingError> {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
            .map(|(index, line)| {
                serde_json::from_str(line)
                    .map_err(|error| SettingError::Syntax { line: index + 1, reason: error.to_string() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_line_by_line() {
        let text = "# a script\n\n{\"at\": 2.5, \"relay\": 1, \"down\": {\"rate_kbps\": 400, \"queue_ms\": 300}}\n\
                    {\"both\": {\"loss\": 5, \"delay_ms\": 20}}\n";
        let commands = Command::read_all(text).expect("two commands");
        assert_eq!(commands.len(), 2);
        assert_eq!((commands[0].at, commands[0].relay), (2.5, Some(1)));
        let mut settings = LinkSettings { loss: 0.5, ..LinkSettings::default() };
        commands[0].down.as_ref().expect("down").apply(&mut settings).expect("in range");
        assert_eq!((settings.rate, settings.queue), (Some(400_000), Duration::from_millis(300)));
        assert_eq!(settings.loss, 0.5, "what is not named stays");
        commands[1].both.as_ref().expect("both").apply(&mut settings).expect("in range");
        assert_eq!((settings.loss, settings.delay), (0.05, Duration::from_millis(20)));
    }

    #[test]
    fn clear_and_zero_take_back() {
        let mut settings = LinkSettings { rate: Some(1), loss: 0.1, ..LinkSettings::default() };
        Patch { rate_kbps: Some(0.0), ..Patch::default() }.apply(&mut settings).expect("in range");
        assert_eq!((settings.rate, settings.loss), (None, 0.1));
        Patch { clear: true, ..Patch::default() }.apply(&mut settings).expect("in range");
        assert_eq!(settings, LinkSettings::default());
    }

    #[test]
    fn nonsense_is_named_and_changes_nothing() {
        let error = Command::read_all("{}\n{\"down\": {\"rate\": 4}}").expect_err("no such field");
        assert!(matches!(&error, SettingError::Syntax { line: 2, reason } if reason.contains("rate")), "{error}");
        let mut settings = LinkSettings::default();
        let patch = Patch { delay_ms: Some(10.0), loss: Some(101.0), ..Patch::default() };
        assert_eq!(
            patch.apply(&mut settings),
            Err(SettingError::Range { name: "loss", value: 101.0, min: 0.0, max: 100.0 })
        );
        assert_eq!(settings, LinkSettings::default());
        assert!(Patch { delay_ms: Some(f64::NAN), ..Patch::default() }.apply(&mut settings).is_err());
    }
}
