//! Metrics in the formats that Jitsi Videobridge serves at `/metrics`, by the request's `Accept` (docs/protocol/bridge.md 11.1):
//! Prometheus text 0.0.4, OpenMetrics 1.0, and JSON.

use std::fmt::Write;

use serde_json::{Map, Value};

/// What a metric's value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up while the process lives; its samples get the suffix `_total`.
    Counter,
    /// The same, under its bare name: ringbridge's own counters were named before OpenMetrics was served.
    PlainCounter,
}

/// All samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Without the suffix that its kind adds.
    pub name: String,
    /// For people.
    pub help: String,
    /// What its value does.
    pub kind: Kind,
    /// Labels, as name and value, and the value.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    /// One without samples.
    pub fn new(name: impl Into<String>, help: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), help: help.into(), kind, samples: Vec::new() }
    }

    /// One with a single sample.
    pub fn single(name: impl Into<String>, help: impl Into<String>, kind: Kind, value: f64) -> Self {
        Self::new(name, help, kind).with(&[], value)
    }

    /// Adds a sample.
    #[must_use]
    pub fn with(mut self, labels: &[(&'static str, &str)], value: f64) -> Self {
        self.samples.push((labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), value));
        self
    }

    /// Adds a sample for each reason.
    #[must_use]
    pub fn by_reason<'a>(self, counts: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        counts.into_iter().fold(self, |family, (reason, count)| family.with(&[("reason", reason)], count))
    }

    fn sample_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::PlainCounter => self.name.clone(),
        }
    }
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// One object, names to values.
    Json,
}

impl Format {
    /// What an `Accept` header likes most of what is served, the first of equals; text without one, or when nothing is.
    pub fn accepted(accept: Option<&str>) -> Self {
        let known = |part: &str| {
            let mut parameters = part.split(';').map(str::trim);
            let format = match parameters.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "application/json" => Self::Json,
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => return None,
            };
            let quality = parameters.find_map(|parameter| parameter.strip_prefix("q=")?.trim().parse::<f32>().ok());
            Some((quality.unwrap_or(1.0), format)).filter(|(quality, _)| *quality > 0.0)
        };
        let mut best: Option<(f32, Self)> = None;
        for (quality, format) in accept.unwrap_or_default().split(',').filter_map(known) {
            if best.is_none_or(|(before, _)| quality > before) {
                best = Some((quality, format));
            }
        }
        best.map_or(Self::Text, |(_, format)| format)
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// Writes the metrics.
    pub fn write(self, families: &[Family]) -> String {
        if self == Self::Json {
            return json(families);
        }
        let mut text = String::new();
        for family in families {
            let sample = family.sample_name();
            // OpenMetrics names the family, the older format the sample.
            let (name, kind) = match (self, family.kind) {
                (_, Kind::Gauge) => (&family.name, "gauge"),
                (Self::OpenMetrics, Kind::Counter) => (&family.name, "counter"),
                (Self::OpenMetrics, _) => (&family.name, "unknown"),
                (_, _) => (&sample, "counter"),
            };
            // Writing to a text cannot fail.
            let help = escaped(&family.help);
            let help = if self == Self::OpenMetrics { help.replace('"', "\\\"") } else { help };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in &family.samples {
                let _ = writeln!(text, "{sample}{} {value}", braces(labels));
            }
        }
        if self == Self::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn json(families: &[Family]) -> String {
    let mut map = Map::new();
    for family in families {
        for (labels, value) in &family.samples {
            let name = family.sample_name() + &braces(labels);
            let value = if value.fract() == 0.0 && value.abs() < 1e15 {
                Value::from(*value as i64)
            } else {
                Value::from(*value)
            };
            map.insert(name, value);
        }
    }
    Value::Object(map).to_string()
}

fn braces(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let inner: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value).replace('"', "\\\""))).collect();
    format!("{{{}}}", inner.join(","))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        vec![
            Family::single("jitsi_jvb_stress", "Load.", Kind::Gauge, 0.5),
            Family::single("jitsi_jvb_endpoints", "Ever created.", Kind::Counter, 7.0),
            Family::new("ringbridge_dropped", "By reason.", Kind::PlainCounter).with(&[("reason", "a\"b")], 3.0),
        ]
    }

    #[test]
    fn text_names_the_samples() {
        assert_eq!(
            Format::Text.write(&families()),
            "# HELP jitsi_jvb_stress Load.\n# TYPE jitsi_jvb_stress gauge\njitsi_jvb_stress 0.5\n\
             # HELP jitsi_jvb_endpoints_total Ever created.\n# TYPE jitsi_jvb_endpoints_total counter\njitsi_jvb_endpoints_total 7\n\
             # HELP ringbridge_dropped By reason.\n# TYPE ringbridge_dropped counter\nringbridge_dropped{reason=\"a\\\"b\"} 3\n"
        );
    }

    #[test]
    fn openmetrics_names_the_family_and_ends() {
        let text = Format::OpenMetrics.write(&families());
        assert!(text.contains("# TYPE jitsi_jvb_endpoints counter\njitsi_jvb_endpoints_total 7\n"), "{text}");
        assert!(text.contains("# TYPE ringbridge_dropped unknown\n") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn json_is_one_object() {
        let json: Value = serde_json::from_str(&Format::Json.write(&families())).expect("JSON");
        assert_eq!(json["jitsi_jvb_endpoints_total"], 7);
        assert_eq!(json["jitsi_jvb_stress"], 0.5);
    }

    #[test]
    fn the_header_decides() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        // As today's Prometheus, Telegraf and a browser ask.
        let third = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::accepted(Some(third)), Format::OpenMetrics);
        let telegraf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted(Some(telegraf)), Format::Text);
        assert_eq!(Format::accepted(Some("text/html,application/xml;q=0.9,*/*;q=0.8")), Format::Text);
        assert_eq!(Format::accepted(Some("text/plain;q=0.2, application/json; q=0.9")), Format::Json);
        assert_eq!(Format::accepted(Some("application/json;q=0, text/plain;q=x")), Format::Text);
        assert_eq!(Format::accepted(Some("application/json")), Format::Json);
        for text in [None, Some("text/plain; version=0.0.4"), Some("*/*"), Some("image/png")] {
            assert_eq!(Format::accepted(text), Format::Text, "{text:?}");
        }
    }
}
