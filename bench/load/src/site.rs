//! Where a site is that participants join.

use clap::Args;
use jid::{BareJid, FullJid, Jid};
use tokio_xmpp::Client;
use tokio_xmpp::connect::DnsConfig;
use tokio_xmpp::xmlstream::Timeouts;

/// Where a site is, and which of its rooms.
#[derive(Debug, Clone, Args)]
pub struct Site {
    /// Address of the XMPP server.
    #[arg(long, default_value = "127.0.0.1")]
    pub xmpp_host: String,
    /// Its client port (plain TCP).
    #[arg(long, default_value_t = 5222)]
    pub xmpp_port: u16,
    /// Domain with anonymous login.
    #[arg(long, default_value = "meet.test")]
    pub domain: String,
    /// MUC service of the conferences.
    #[arg(long, default_value = "conference.meet.test")]
    pub muc: BareJid,
    /// Full JID of the focus.
    #[arg(long, default_value = "focus@auth.meet.test/focus")]
    pub focus: FullJid,
    /// Name of the room, the part before the @.
    #[arg(long)]
    pub room: String,
}

impl Site {
    /// Address of the room.
    pub fn room_jid(&self) -> String {
        format!("{}@{}", self.room, self.muc)
    }

    /// A client that logs in anonymously.
    ///
    /// # Errors
    /// The domain is none.
    pub fn connect(&self) -> Result<Client, jid::Error> {
        let account: Jid = format!("load@{}", self.domain).parse()?;
        let server = DnsConfig::addr(&format!("{}:{}", self.xmpp_host, self.xmpp_port));
        Ok(Client::new_plaintext(account, "", server, Timeouts::default()))
    }
}
