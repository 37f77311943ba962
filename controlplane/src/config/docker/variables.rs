//! Variables as the templates of the images read them.

/// The environment as the images' templates see it: an empty variable is none.
pub(super) struct Variables<F>(pub F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    pub fn get(&self, name: &str) -> Option<String> {
        self.0(name).filter(|value| !value.is_empty())
    }

    pub fn or(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or_else(|| default.to_owned())
    }

    pub fn on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| is_on(&value))
    }

    /// Those of a list of names with reasons that are there, each with its value.
    pub fn among(&self, listed: &[(&'static str, &'static str)]) -> Vec<(&'static str, String, &'static str)> {
        listed.iter().filter_map(|(name, why)| Some((*name, self.get(name)?, *why))).collect()
    }
}

/// How the images' templates read a switch.
pub(super) fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "yes" | "on")
}

/// `host`, `host:port`, `2001:db8::1` or `[2001:db8::1]:port`: an IPv6 address has colons of its own.
pub(super) fn host_and_port(server: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (server, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_and_without_ports() {
        for (server, host, port) in [
            ("x.example.net", "x.example.net", None),
            ("x.example.net:5333", "x.example.net", Some("5333")),
            ("192.0.2.1:5333", "192.0.2.1", Some("5333")),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:5222", "2001:db8::1", Some("5222")),
        ] {
            assert_eq!(host_and_port(server), (host, port));
        }
    }
}
