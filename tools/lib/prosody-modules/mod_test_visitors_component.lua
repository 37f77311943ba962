-- For end-to-end tests, as a component: what Jitsi's modules for visitors do at the participants' server, as far as clients and
-- the focus see it (docs/protocol/focus.md 8.8). The focus has a node connected with a room; then the room's participants are
-- shown there. A visitor that raises its hand becomes a participant at once.
local jid = require "util.jid";
local st = require "util.stanza";
local id = require "util.id".medium;
local is_admin = require "core.usermanager".is_admin;

local domain = module.host:match("%.(.*)$");
local main_host = "conference." .. domain;
local xmlns = "jitsi:visitors";

-- By main room: node → true.
local connected = {};

local function service(node) return ("conference.%s.%s"):format(node, domain); end

-- Shows somebody's presence in the rooms of some nodes, or that it left.
local function show(room, nodes, occupant, stanza, joins)
	if is_admin(occupant.bare_jid, module.host) then return; end
	for node in pairs(nodes) do
		local shown = st.clone(stanza);
		shown.attr.from = occupant.jid;
		shown.attr.to = jid.join(jid.node(room.jid), service(node), jid.resource(occupant.nick));
		shown:remove_children("x", "http://jabber.org/protocol/muc");
		shown:remove_children("x", "http://jabber.org/protocol/muc#user");
		if joins then shown:tag("x", { xmlns = "http://jabber.org/protocol/muc" }):up(); end
		module:send(shown);
	end
end

local function connect(room, node)
	connected[room.jid] = connected[room.jid] or {};
	if connected[room.jid][node] then return; end
	connected[room.jid][node] = true;
	for _, occupant in room:each_occupant() do
		show(room, { [node] = true }, occupant, occupant:get_presence(), true);
	end
end

local function disconnect(room, node)
	local nodes = connected[room.jid];
	if nodes then nodes[node] = nil; end
	if nodes and not next(nodes) then connected[room.jid] = nil; end
end

-- Only the focus may connect nodes.
local function from_focus(event)
	local origin, stanza = event.origin, event.stanza;
	local visitors = stanza:get_child("visitors", xmlns);
	if not visitors or (stanza.attr.type ~= "get" and stanza.attr.type ~= "set") then return; end
	if not is_admin(jid.bare(stanza.attr.from), module.host) then
		origin.send(st.error_reply(stanza, "auth", "forbidden"));
		return true;
	end
	local room = prosody.hosts[main_host].modules.muc.get_room_from_jid(visitors.attr.room);
	if not room then
		origin.send(st.error_reply(stanza, "cancel", "item-not-found"));
		return true;
	end
	for one in visitors:childtags("disconnect-vnode", xmlns) do disconnect(room, one.attr.vnode); end
	for one in visitors:childtags("connect-vnode", xmlns) do connect(room, one.attr.vnode); end
	module:log("info", "visitors of %s: %s", room.jid, visitors);
	origin.send(st.reply(stanza));
	return true;
end
module:hook("iq/host", from_focus);

-- A visitor wants to take part: from the module of its room.
module:hook("test-visitor-raised-hand", function (event)
	local focus = "focus@auth." .. domain;
	event.answer(st.iq({ type = "set", id = id() }):tag("visitors", { xmlns = xmlns, room = event.room, focusjid = focus })
		:tag("promotion-response", { xmlns = xmlns, jid = event.visitor, username = id():lower(), allow = "true" }):up());
end);

-- Hosts are activated in any order.
prosody.events.add_handler("server-started", function ()
	local main = module:context(main_host);
	main:hook("muc-occupant-joined", function (event)
		local nodes = connected[event.room.jid];
		if nodes then show(event.room, nodes, event.occupant, event.occupant:get_presence(), true); end
	end, -2);
	main:hook("muc-occupant-pre-change", function (event)
		local nodes = connected[event.room.jid];
		if nodes then show(event.room, nodes, event.dest_occupant, event.stanza, false); end
	end, -2);
	main:hook("muc-occupant-left", function (event)
		local nodes = connected[event.room.jid];
		if nodes then show(event.room, nodes, event.occupant, st.presence({ type = "unavailable" }), false); end
	end, -2);
	main:hook("muc-room-destroyed", function (event) connected[event.room.jid] = nil; end);
	-- What the visitors' rooms send to the participants that are shown there is not for these.
	module:context(domain):hook("presence/full", function (event)
		local host = jid.host(event.stanza.attr.from or "");
		return host ~= main_host and host:match("^conference%.v%d+%.") and true or nil;
	end, 900);
end);
