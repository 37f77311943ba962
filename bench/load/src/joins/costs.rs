//! What the joins cost the site: processor time of its processes, stanzas of its focus.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A process by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    name: String,
    pid: u32,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').ok_or("use NAME=PID, e.g. focus=4711")?;
        let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process id"))?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// What was used so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    /// Processor time by name.
    pub processes: BTreeMap<String, Duration>,
    /// Stanzas that the focus got and sent.
    pub stanzas: Option<(u64, u64)>,
}

impl Costs {
    pub async fn read(watched: &[Watched], focus: Option<SocketAddr>) -> io::Result<Self> {
        let process = |one: &Watched| Ok((one.name.clone(), cpu_time(one.pid)?));
        let stanzas = match focus {
            Some(focus) => Some(stanzas(&page(focus, "/metrics").await?)),
            None => None,
        };
        Ok(Self { processes: watched.iter().map(process).collect::<io::Result<_>>()?, stanzas })
    }

    pub fn since(&self, before: &Self) -> Self {
        let process = |(name, now): (&String, &Duration)| {
            let before = before.processes.get(name).copied().unwrap_or_default();
            (name.clone(), now.saturating_sub(before))
        };
        let stanzas = self.stanzas.zip(before.stanzas);
        Self {
            processes: self.processes.iter().map(process).collect(),
            stanzas: stanzas.map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))),
        }
    }
}

/// Of all threads that there are, as the scheduler counts.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends while we look is one that does not count any more.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanoseconds))
}

async fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Stanzas received and sent, by the metrics of the focus.
fn stanzas(metrics: &str) -> (u64, u64) {
    let value = |direction: &str| {
        let name = format!("ringbridge_xmpp_stanzas{{direction=\"{direction}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or_default()
    };
    (value("received"), value("sent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named() {
        assert_eq!("focus=12".parse(), Ok(Watched { name: "focus".to_owned(), pid: 12 }));
        for text in ["12", "focus=", "focus=x", "focus=-1"] {
            assert!(text.parse::<Watched>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_used_meanwhile() {
        assert!(cpu_time(std::process::id()).expect("our own") > Duration::ZERO);
        let text =
            "ringbridge_xmpp_stanzas{direction=\"received\"} 12\nringbridge_xmpp_stanzas{direction=\"sent\"} 7\n";
        assert_eq!(stanzas(text), (12, 7));
        let at = |ms, stanzas| Costs {
            processes: BTreeMap::from([("focus".to_owned(), Duration::from_millis(ms))]),
            stanzas: Some(stanzas),
        };
        let used = at(50, (20, 9)).since(&at(20, (12, 7)));
        assert_eq!((used.processes["focus"], used.stanzas), (Duration::from_millis(30), Some((8, 2))));
    }
}
