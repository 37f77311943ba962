//! Values as they are written: switches and spans of time as in HOCON, lists with commas, tables of times by size.

use std::time::Duration;

/// `true`, `yes` and `on` are true; `false`, `no` and `off` false.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The items between commas; empty ones are none.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A number and a unit, or milliseconds without one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1e-9,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1e-6,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "second" | "seconds" => 1.0,
        "m" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Times by size, `50 = 500 ms, 100 = 1 s`, with a colon too, and in the braces of the object that this is in HOCON.
pub(super) fn delays(text: &str) -> Option<Vec<(usize, Duration)>> {
    let text = text.trim();
    let text = text.strip_prefix('{').map_or(Some(text), |text| text.strip_suffix('}'))?;
    let item = |item: &str| {
        let (size, time) = item.split_once(['=', ':'])?;
        Some((size.trim().trim_matches('"').parse().ok()?, duration(time)?))
    };
    text.split([',', '\n']).map(str::trim).filter(|text| !text.is_empty()).map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_time() {
        for (text, milliseconds) in [
            ("1 day", 86_400_000),
            ("2d", 172_800_000),
            ("1.5 h", 5_400_000),
            ("90 minutes", 5_400_000),
            ("1 millisecond", 1),
            ("20", 20),
            (" 5 s ", 5_000),
            ("3000 us", 3),
            ("7000000ns", 7),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "1 week", "-1 s", "1 2 s", "1e400 s", "NaN"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn times_by_size() {
        let table = Some(vec![(50, Duration::from_millis(500)), (100, Duration::from_secs(1))]);
        for text in
            ["50=500,100=1000", "{ 50: 500, 100: 1000 }", "50 = 500 ms,\n 100 = 1 s", "{\"50\" = 500\n100 = 1000}"]
        {
            assert_eq!(delays(text), table, "{text}");
        }
        assert_eq!((delays(""), delays(" { } ")), (Some(Vec::new()), Some(Vec::new())));
        for text in ["50", "=500", "x=500", "50=x", "{50=500", "50=500}", "50=500;100=1000", "-1=5", "50==500"] {
            assert_eq!(delays(text), None, "{text}");
        }
    }

    #[test]
    fn switches() {
        assert_eq!(["true", "yes", "on"].map(switch), [Some(true); 3]);
        assert_eq!(["false", "no", "off"].map(switch), [Some(false); 3]);
        assert_eq!(["TRUE", "1", ""].map(switch), [None; 3]);
    }
}
