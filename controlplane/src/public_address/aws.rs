//! The public address by the instance metadata service of AWS, version 2: a token, then the local and the public address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ureq::Agent;

use super::address::PublicAddress;
use super::failure::Failure;
use super::usable::is_usable;

/// Where the service is on every instance.
pub const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long the three questions may take together.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer that is read, bytes; a token has 56.
const LONGEST: u64 = 512;
/// How long a token is good for, seconds.
const TOKEN_LIFE: &str = "60";

/// Whether to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AwsLookup {
    /// Not at all.
    #[default]
    Off,
    /// Ask; without an answer this is another host.
    Auto,
    /// Ask, and complain when there is no answer.
    On,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `PUT` or `GET`.
    pub method: &'static str,
    /// Path on the service.
    pub path: &'static str,
    /// Name and value of its header.
    pub header: (&'static str, String),
}

/// What came of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A status and a body of at most 512 bytes.
    Status(u16, Vec<u8>),
    /// A longer body, or no HTTP.
    Unreadable,
    /// No answer.
    Unreachable,
}

/// The addresses of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Its address in its own network.
    pub local: Ipv4Addr,
    /// As others see it.
    pub public: Ipv4Addr,
}

#[derive(Debug, Clone)]
enum Step {
    Token,
    Local { token: String },
    Public { token: String, local: Ipv4Addr },
    Done(Result<Instance, Failure>),
}

/// The three questions in their order, without I/O.
#[derive(Debug, Clone)]
pub struct Lookup {
    step: Step,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { step: Step::Token }
    }
}

impl Lookup {
    /// The next question; none when all is known.
    pub fn request(&self) -> Option<Request> {
        let (method, path, header) = match &self.step {
            Step::Token => {
                ("PUT", "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE.to_owned()))
            }
            Step::Local { token } => {
                ("GET", "/latest/meta-data/local-ipv4", ("X-aws-ec2-metadata-token", token.clone()))
            }
            Step::Public { token, .. } => {
                ("GET", "/latest/meta-data/public-ipv4", ("X-aws-ec2-metadata-token", token.clone()))
            }
            Step::Done(_) => return None,
        };
        Some(Request { method, path, header })
    }

    /// Takes what came of it.
    pub fn handle(&mut self, answer: Answer) {
        let step = std::mem::replace(&mut self.step, Step::Token);
        self.step = Self::next(step, answer).unwrap_or_else(|failure| Step::Done(Err(failure)));
    }

    fn next(step: Step, answer: Answer) -> Result<Step, Failure> {
        let body = match answer {
            Answer::Unreachable => return Err(Failure::MetadataUnreachable),
            Answer::Unreadable => return Err(Failure::MetadataMalformed),
            Answer::Status(200, body) => String::from_utf8(body).map_err(|_| Failure::MetadataMalformed)?,
            Answer::Status(404, _) if matches!(step, Step::Public { .. }) => return Err(Failure::MetadataNone),
            Answer::Status(..) => return Err(Failure::MetadataRefused),
        };
        let text = body.trim();
        let address = || text.parse::<Ipv4Addr>().map_err(|_| Failure::MetadataMalformed);
        match step {
            // It becomes the value of a header.
            Step::Token if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(Failure::MetadataMalformed)
            }
            Step::Token => Ok(Step::Local { token: text.to_owned() }),
            Step::Local { token } => Ok(Step::Public { token, local: address()? }),
            Step::Public { local, .. } => {
                let public = address()?;
                let usable = is_usable(local.into(), public.into()) && is_usable(public.into(), local.into());
                usable.then_some(Step::Done(Ok(Instance { local, public }))).ok_or(Failure::MetadataMalformed)
            }
            Step::Done(result) => Ok(Step::Done(result)),
        }
    }

    /// What is known, once nothing is left to ask.
    pub fn result(&self) -> Option<Result<Instance, Failure>> {
        match self.step {
            Step::Done(result) => Some(result),
            _ => None,
        }
    }
}

impl Instance {
    /// As a public address of one of `hosts`: of the first one where the instance's own address is none of them, as in a
    /// container with a network of its own.
    pub fn public_address(self, hosts: &[IpAddr]) -> PublicAddress {
        let local = IpAddr::from(self.local);
        PublicAddress { local: hosts.contains(&local).then_some(local), address: self.public.into(), port: None }
    }
}

/// Asks the service; blocks for [`PATIENCE`] at most.
pub fn ask(service: SocketAddr) -> Result<Instance, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut lookup = Lookup::default();
    while let Some(request) = lookup.request() {
        lookup.handle(fetch(service, &request, deadline));
    }
    lookup.result().unwrap_or(Err(Failure::MetadataUnreachable))
}

fn fetch(service: SocketAddr, request: &Request, deadline: Instant) -> Answer {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Answer::Unreachable;
    }
    let config = Agent::config_builder()
        .timeout_global(Some(left))
        .http_status_as_error(false)
        // Where the service points elsewhere, nobody follows.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(4 * 1024)
        .proxy(None);
    let agent = Agent::new_with_config(config.build());
    let url = format!("http://{service}{}", request.path);
    let (name, value) = &request.header;
    let sent = match request.method {
        "PUT" => agent.put(&url).header(*name, value).send_empty(),
        _ => agent.get(&url).header(*name, value).call(),
    };
    match sent {
        Ok(mut answer) => {
            let status = answer.status().as_u16();
            match answer.body_mut().with_config().limit(LONGEST).read_to_vec() {
                Ok(body) => Answer::Status(status, body),
                Err(ureq::Error::Timeout(_) | ureq::Error::Io(_)) => Answer::Unreachable,
                Err(_) => Answer::Unreadable,
            }
        }
        Err(
            ureq::Error::Timeout(_) | ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound,
        ) => Answer::Unreachable,
        Err(_) => Answer::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn walk(answers: &[(u16, &str)]) -> (Vec<Request>, Option<Result<Instance, Failure>>) {
        let (mut lookup, mut requests) = (Lookup::default(), Vec::new());
        for (status, body) in answers {
            requests.extend(lookup.request());
            lookup.handle(Answer::Status(*status, body.as_bytes().to_vec()));
        }
        requests.extend(lookup.request());
        (requests, lookup.result())
    }

    #[test]
    fn a_token_then_the_local_and_the_public_address() {
        let (requests, result) = walk(&[(200, "AQAE=="), (200, "10.0.0.5\n"), (200, "198.51.100.7")]);
        let asked: Vec<_> = requests.iter().map(|r| (r.method, r.path, r.header.1.as_str())).collect();
        assert_eq!(
            asked,
            [
                ("PUT", "/latest/api/token", "60"),
                ("GET", "/latest/meta-data/local-ipv4", "AQAE=="),
                ("GET", "/latest/meta-data/public-ipv4", "AQAE=="),
            ]
        );
        let instance = Instance { local: Ipv4Addr::new(10, 0, 0, 5), public: Ipv4Addr::new(198, 51, 100, 7) };
        assert_eq!(result, Some(Ok(instance)));
        let shown = |hosts: &[&str]| {
            let hosts: Vec<IpAddr> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            instance.public_address(&hosts).to_string()
        };
        assert_eq!(shown(&["10.0.0.4", "10.0.0.5"]), "10.0.0.5=198.51.100.7");
        assert_eq!(shown(&["172.18.0.2"]), "198.51.100.7", "a container");
    }

    #[test]
    fn what_else_may_be_answered() {
        for (answers, failure) in [
            // OpenStack and others have no tokens.
            (&[(405, "")][..], Failure::MetadataRefused),
            (&[(404, "")], Failure::MetadataRefused),
            (&[(302, "")], Failure::MetadataRefused),
            (&[(200, "")], Failure::MetadataMalformed),
            (&[(200, "a\r\nHost: b")], Failure::MetadataMalformed),
            (&[(200, "t"), (401, "")], Failure::MetadataRefused),
            (&[(200, "t"), (200, "<html>")], Failure::MetadataMalformed),
            (&[(200, "t"), (200, "2001:db8::1")], Failure::MetadataMalformed),
            (&[(200, "t"), (200, "10.0.0.5"), (404, "none")], Failure::MetadataNone),
            (&[(200, "t"), (200, "10.0.0.5"), (200, "0.0.0.0")], Failure::MetadataMalformed),
            (&[(200, "t"), (200, "10.0.0.5"), (200, "224.0.0.1")], Failure::MetadataMalformed),
            (&[(200, "t"), (200, "0.0.0.0"), (200, "198.51.100.7")], Failure::MetadataMalformed),
            (&[(200, "t"), (200, "10.0.0.5"), (200, "198.51.100.7, 198.51.100.8")], Failure::MetadataMalformed),
        ] {
            let (_, result) = walk(answers);
            assert_eq!(result, Some(Err(failure)), "{answers:?}");
        }
        for (answer, failure) in [
            (Answer::Unreachable, Failure::MetadataUnreachable),
            (Answer::Unreadable, Failure::MetadataMalformed),
            (Answer::Status(200, vec![0xff, 0xfe]), Failure::MetadataMalformed),
        ] {
            let mut lookup = Lookup::default();
            lookup.handle(answer);
            assert_eq!((lookup.request(), lookup.result()), (None, Some(Err(failure))));
        }
    }

    /// A service that answers one connection with these bytes, and what it was sent.
    fn service(answer: Vec<u8>, close: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(&answer);
                if !close {
                    // Until the other side has had enough.
                    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
                }
            }
        });
        address
    }

    #[test]
    fn a_service_without_manners_costs_a_second_at_most() {
        let long = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(), vec![b'a'; 100_000]].concat();
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat();
        let drip = b"HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\nAQ".to_vec();
        let elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n".to_vec();
        for (name, answer, close, failures) in [
            ("silent", Vec::new(), false, &[Failure::MetadataUnreachable][..]),
            ("gone", Vec::new(), true, &[Failure::MetadataUnreachable, Failure::MetadataMalformed]),
            ("no HTTP", b"220 mail ESMTP\r\n".to_vec(), true, &[Failure::MetadataMalformed]),
            ("long", long, true, &[Failure::MetadataMalformed, Failure::MetadataUnreachable]),
            ("endless head", endless, true, &[Failure::MetadataMalformed, Failure::MetadataUnreachable]),
            ("slow", drip, false, &[Failure::MetadataUnreachable]),
            ("elsewhere", elsewhere, true, &[Failure::MetadataRefused]),
        ] {
            let address = service(answer, close);
            let start = Instant::now();
            let result = ask(address);
            assert!(failures.iter().any(|failure| result == Err(*failure)), "{name}: {result:?}");
            assert!(start.elapsed() < PATIENCE + Duration::from_millis(700), "{name}: {:?}", start.elapsed());
        }
        // Nobody listens.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(free), Err(Failure::MetadataUnreachable));
    }
}
