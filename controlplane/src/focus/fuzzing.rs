//! What the fuzz targets reach that is not public.

use jid::Jid;
use tokio::sync::oneshot;
use tokio_xmpp::Stanza;

use super::http::HttpClients;
use crate::rest::{ConferenceReply, ConferenceRequest};

/// Requests for conferences over HTTP, without the server.
#[derive(Debug, Default)]
pub struct OverHttp(HttpClients);

impl OverHttp {
    /// What a body asks of the focus, and where the answer comes; nothing where it was answered at once.
    pub fn ask(&mut self, body: &[u8], client: &str) -> (Option<Stanza>, oneshot::Receiver<ConferenceReply>) {
        let (reply, answer) = oneshot::channel();
        let body = serde_json::from_slice(body).unwrap_or_default();
        let request = ConferenceRequest { body, client: Some(client.to_owned()), token: None, reply };
        (self.0.begin(request).ok().map(|request| request.into_iq().into()), answer)
    }

    /// Takes what is for somebody here, and gives back what is for the server.
    pub fn deliver(&mut self, stanza: Stanza) -> Option<Stanza> {
        self.0.deliver(stanza)
    }

    /// Whether an address stands for somebody over HTTP.
    pub fn is_client(address: &Jid) -> bool {
        address.domain().as_str() == super::http::HOST
    }
}
