//! What may block for long, on threads of their own that nobody waits for: a name server that is silent holds up neither a start
//! nor an end.

use std::net::{SocketAddr, ToSocketAddrs};

use super::aws;
use super::failure::Failure;
use super::server::StunServer;

/// What such a thread brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookedUp {
    /// The addresses of a STUN server's name; none when it has none.
    Resolved {
        /// Its position among the servers.
        server: usize,
        /// In the resolver's order.
        addresses: Vec<SocketAddr>,
    },
    /// What the metadata service said.
    Metadata(Result<aws::Instance, Failure>),
}

/// Runs `ask` on a thread and gives what comes of it to `reply`; at once what `without` is when there can be no thread.
fn apart(
    ask: impl FnOnce() -> LookedUp + Send + 'static,
    without: LookedUp,
    reply: impl Fn(LookedUp) + Clone + Send + 'static,
) {
    let answer = reply.clone();
    let thread = std::thread::Builder::new().name("look-up".to_owned()).spawn(move || answer(ask()));
    if let Err(error) = thread {
        tracing::warn!(%error, "cannot start a thread that looks up the public address; raise the process limit (ulimit -u)");
        reply(without);
    }
}

/// Looks up the name of a STUN server.
pub fn resolve(index: usize, server: &StunServer, reply: impl Fn(LookedUp) + Clone + Send + 'static) {
    let (host, port) = (server.host().to_owned(), server.port());
    let resolved = move |addresses| LookedUp::Resolved { server: index, addresses };
    let ask = move || {
        let found = (host.as_str(), port).to_socket_addrs();
        if let Err(error) = &found {
            tracing::debug!(host, %error, "STUN server not resolved");
        }
        resolved(found.map(Iterator::collect).unwrap_or_default())
    };
    apart(ask, resolved(Vec::new()), reply);
}

/// Asks the metadata service.
pub fn metadata(service: SocketAddr, reply: impl Fn(LookedUp) + Clone + Send + 'static) {
    apart(move || LookedUp::Metadata(aws::ask(service)), LookedUp::Metadata(Err(Failure::MetadataUnreachable)), reply);
}
