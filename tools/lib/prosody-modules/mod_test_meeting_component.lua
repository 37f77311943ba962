-- For end-to-end tests, as a component: what Jitsi's modules for moderation and for metadata say and do, as far as clients and
-- the focus see it (docs/protocol/focus.md 8.2 and 8.3). Which of the two it is, its address says.
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local array = require "util.array";

local main_host = "conference." .. module.host:match("%.(.*)$");
local is_metadata = module.host:match("^metadata%.") ~= nil;

-- By room: for moderation, medium → { actor, allowed }; for metadata, field → value.
local states = {};

local function send(to, room, message)
	local attributes = { xmlns = "http://jitsi.org/jitmeet", room = is_metadata and room.jid or nil };
	module:send(st.message({ from = module.host, to = to }):tag("json-message", attributes):text(json.encode(message)):up());
end

local function moderation(room, message)
	message.type, message.room = "av_moderation", room.jid;
	return message;
end

local function lists(room)
	local allowed = {};
	for medium, one in pairs(states[room.jid] or {}) do allowed[medium] = one.allowed; end
	return allowed;
end

local function metadata(room)
	return { type = "room_metadata", metadata = states[room.jid] or {} };
end

local function to_all(room, message, role)
	for _, occupant in room:each_occupant() do
		if not role or occupant.role == role then send(occupant.jid, room, message); end
	end
end

-- The room that somebody is a moderator of.
local function moderated_by(from)
	for room in prosody.hosts[main_host].modules.muc.live_rooms() do
		local occupant = room:get_occupant_by_real_jid(from);
		if occupant and occupant.role == "moderator" then return room, occupant; end
	end
end

local function set_metadata(room, text)
	local wish = json.decode(text or "");
	if type(wish) ~= "table" or type(wish.key) ~= "string" then return; end
	states[room.jid] = states[room.jid] or {};
	states[room.jid][wish.key] = wish.data;
	to_all(room, metadata(room));
end

local function set_moderation(room, actor, wish)
	local medium = wish.mediaType;
	states[room.jid] = states[room.jid] or {};
	local state = states[room.jid];
	if wish.enable then
		local on = wish.enable == "true";
		state[medium] = on and { actor = actor.nick, allowed = array {} } or nil;
		to_all(room, moderation(room, { enabled = on, actor = actor.nick, mediaType = medium }));
		return;
	end
	local one = state[medium];
	if not one then return; end
	local occupant = wish.jidToWhitelist or wish.jidToBlacklist;
	one.allowed = array.filter(one.allowed, function (other) return other ~= occupant; end);
	if wish.jidToWhitelist then one.allowed:push(occupant); end
	local removed = wish.jidToBlacklist and true or nil;
	to_all(room, moderation(room, { whitelists = lists(room), mediaType = medium, removed = removed }), "moderator");
	local about = room:get_occupant_by_nick(occupant);
	if about and about.role ~= "moderator" then
		send(about.jid, room, moderation(room, { mediaType = medium, approved = not removed, removed = removed }));
	end
end

module:hook("message/host", function (event)
	local room, actor = moderated_by(event.stanza.attr.from);
	if not room or event.stanza.attr.type == "error" then return; end
	local about_metadata = event.stanza:get_child("room_metadata", "http://jitsi.org/jitmeet");
	local about_moderation = event.stanza:get_child("av_moderation");
	if is_metadata and about_metadata then
		set_metadata(room, about_metadata:get_text());
	elseif not is_metadata and about_moderation then
		set_moderation(room, actor, about_moderation.attr);
	end
	return true;
end);

-- Who comes is told how things are.
local function joined(event)
	local room, occupant = event.room, event.occupant;
	if is_metadata then
		send(occupant.jid, room, metadata(room));
		return;
	end
	for medium, one in pairs(states[room.jid] or {}) do
		send(occupant.jid, room, moderation(room, { enabled = true, actor = one.actor, mediaType = medium }));
	end
	if states[room.jid] and next(states[room.jid]) and occupant.role == "moderator" then
		send(occupant.jid, room, moderation(room, { whitelists = lists(room) }));
	end
end

-- Hosts are activated in any order.
prosody.events.add_handler("server-started", function ()
	local context = module:context(main_host);
	context:hook("muc-occupant-joined", joined, -2);
	context:hook("muc-room-destroyed", function (event) states[event.room.jid] = nil; end);
end);
