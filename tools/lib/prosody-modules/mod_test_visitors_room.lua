-- For end-to-end tests, in the rooms of a visitor node: who logs in there watches, the focus is told of it, and a raised hand is
-- a wish to take part (docs/protocol/focus.md 8.8).
local jid = require "util.jid";
local st = require "util.stanza";
local is_admin = require "core.usermanager".is_admin;

local own_domain = module.host:match("^conference%.(.*)$");
local main_domain = own_domain:match("%.(.*)$");

-- Everybody of the node but the focus.
local function watches(bare)
	return jid.host(bare):sub(-#own_domain) == own_domain and not is_admin(bare, module.host);
end

module:hook("muc-occupant-pre-join", function (event)
	if watches(event.occupant.bare_jid) then event.occupant.role = "visitor"; end
end, 3);

local function focus_of(room) return room:get_occupant_by_nick(room.jid .. "/focus"); end

-- Visitors' presence is broadcast to nobody; the focus needs it.
module:hook("muc-broadcast-presence", function (event)
	local room, occupant = event.room, event.occupant;
	local focus = focus_of(room);
	if occupant.role ~= "visitor" or not focus then return; end
	local x = st.clone(event.x.full or event.x);
	room:build_item_list(occupant, x, false, event.nick);
	local presence = st.clone(event.stanza):add_child(x);
	presence.attr.to = focus.jid;
	room:route_to_occupant(focus, presence);
	if event.stanza:get_child_text("jitsi_participant_raisedHand") then
		module:context("visitors." .. main_domain):fire_event("test-visitor-raised-hand", {
			room = room.jid, visitor = occupant.jid,
			answer = function (iq)
				iq.attr.from, iq.attr.to = room.jid, occupant.jid;
				room:route_to_occupant(occupant, iq);
			end,
		});
	end
end);

module:hook("muc-occupant-left", function (event)
	local room, occupant = event.room, event.occupant;
	local focus = focus_of(room);
	if not watches(occupant.bare_jid) or not focus then return; end
	room:route_stanza(st.presence({ to = focus.jid, from = occupant.nick, type = "unavailable" })
		:tag("x", { xmlns = "http://jabber.org/protocol/muc#user" })
		:tag("item", { affiliation = "none", role = "none", jid = occupant.bare_jid }):up():up());
end);
