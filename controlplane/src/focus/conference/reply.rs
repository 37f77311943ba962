//! The answer to a request for a conference (docs/protocol/focus.md 2.2).

use jid::BareJid;
use xmpp_parsers::iq::Iq;

use crate::focus::context::Shared;
use crate::focus::visitors::NodeId;
use crate::focus::xml::{build, escaped};
use crate::jingle::ns;
use crate::xmpp::iq::Request;

/// Our nickname: clients know the focus by it.
pub(in super::super) const NICK: &str = "focus";

/// The answer to a request for a conference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Reply {
    /// To enter the room.
    Ready,
    /// To ask again after a second or more; an error would be the end for today's client.
    Later,
    /// That it is not live: the client waits with the service that says when it is.
    NotLive,
    /// To enter the visitors' room on a node.
    Visitor(NodeId),
}

/// Answers a request; `visitors` says whether the room may have some.
pub(in super::super) fn conference_answer(
    shared: &Shared,
    request: &Request,
    room: &BareJid,
    (reply, visitors): (Reply, bool),
) -> Iq {
    let node = match reply {
        Reply::Visitor(node) => shared.visitor_nodes.get(node),
        _ => None,
    };
    let focus = node.map_or(&shared.settings.xmpp.jid, |node| &node.xmpp.jid);
    let vnode = node.map(|node| format!(" vnode='{}'", escaped(&node.name))).unwrap_or_default();
    let ready = matches!(reply, Reply::Ready | Reply::Visitor(_));
    let live = if reply == Reply::NotLive { "<property name='live' value='false'/>" } else { "" };
    let (login, identity) = shared.logins.describe(shared.sender(request).as_ref());
    let sip = match shared.settings.jigasi_brewery {
        Some(_) => "<property name='sipGatewayEnabled' value='true'/>",
        None => "",
    };
    let xml = format!(
        "<conference xmlns='{}' room='{}' ready='{ready}' focusjid='{focus}'{vnode}{identity}>\
         {login}<property name='visitors-supported' value='{visitors}'/>{live}{sip}</conference>",
        ns::FOCUS,
        escaped(&room.to_string())
    );
    request.result(build(&xml))
}
