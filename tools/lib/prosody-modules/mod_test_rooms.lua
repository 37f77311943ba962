-- For end-to-end tests, on the clients' virtual host: what Jitsi's own modules for breakout rooms say and do, as far as clients
-- and the focus see it (docs/protocol/focus.md 3.7).
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local uuid = require "util.uuid";

local main_host = "conference." .. module.host;
local breakout_host = "breakout." .. module.host;

-- Breakout rooms by address: the main room's address, and a name.
local breakouts = {};

local function service(host)
	return prosody.hosts[host].modules.muc;
end

local function find(address)
	return service(jid.host(address)).get_room_from_jid(address);
end

local function is_focus(occupant)
	return jid.node(occupant.jid) == "focus";
end

local function people(address)
	local found = {};
	local room = find(address);
	if room then
		for nick, occupant in room:each_occupant() do
			if not is_focus(occupant) then
				found[nick] = { jid = occupant.jid, role = occupant.role };
			end
		end
	end
	return found;
end

-- All rooms of a meeting, by address.
local function rooms_of(main)
	local rooms = { [main] = { isMainRoom = true, id = jid.node(main), jid = main, participants = people(main) } };
	for address, one in pairs(breakouts) do
		if one.main == main then
			rooms[address] = { id = jid.node(address), jid = address, name = one.name, participants = people(address) };
		end
	end
	return rooms;
end

local function tell(to, message)
	message.type = "breakout_rooms";
	local stanza = st.message({ from = breakout_host, to = to })
		:tag("json-message", { xmlns = "http://jitsi.org/jitmeet" }):text(json.encode(message)):up();
	module:send(stanza);
end

local function announce(main)
	local rooms = rooms_of(main);
	local by_node = {};
	for _, room in pairs(rooms) do by_node[room.id] = room; end
	for _, room in pairs(rooms) do
		for _, occupant in pairs(room.participants) do
			tell(occupant.jid, { event = "features/breakout-rooms/update", rooms = by_node });
		end
	end
end

local function main_of(address)
	if jid.host(address) == main_host then return address; end
	return breakouts[address] and breakouts[address].main;
end

-- The main room of the meeting that somebody is a moderator of.
local function moderated_by(from)
	for _, host in ipairs({ main_host, breakout_host }) do
		for room in service(host).live_rooms() do
			local occupant = room:get_occupant_by_real_jid(from);
			if occupant and occupant.role == "moderator" then return main_of(room.jid); end
		end
	end
end

local function on_message(event)
	local request = event.stanza:get_child("breakout_rooms");
	local main = request and event.stanza.attr.type ~= "error" and moderated_by(event.stanza.attr.from);
	if not main then return; end
	local action = request.attr.type:match("^features/breakout%-rooms/(.+)$");
	if action == "add" then
		breakouts[uuid.generate() .. "@" .. breakout_host] = { main = main, name = request.attr.subject };
		announce(main);
	elseif action == "remove" and main_of(request.attr.breakoutRoomJid) == main then
		local room = find(request.attr.breakoutRoomJid);
		if room then room:destroy(main, "Breakout room removed."); end
		breakouts[request.attr.breakoutRoomJid] = nil;
		announce(main);
	elseif action == "move-to-room" and main_of(request.attr.roomJid) == main then
		tell(request.attr.participantJid, { event = "features/breakout-rooms/move-to-room", roomJid = request.attr.roomJid });
	end
	return true;
end

local function on_presence(event)
	local main = main_of(event.room.jid);
	if main and not is_focus(event.occupant) then announce(main); end
end

local function loaded(host)
	local context = module:context(host);
	context:hook("muc-occupant-joined", on_presence);
	context:hook("muc-occupant-left", on_presence);
	if host ~= breakout_host then return; end
	context:hook("message/host", on_message);
	-- Who asks for a room that is none gets no answer.
	context:hook("muc-room-pre-create", function (creating)
		if not breakouts[creating.room.jid] then return true; end
	end);
	context:hook("muc-disco#info", function (info)
		local one = breakouts[info.room.jid];
		if not one then return; end
		table.insert(info.form, { name = "muc#roominfo_isbreakout", type = "boolean" });
		table.insert(info.form, { name = "muc#roominfo_breakout_main_room", type = "text-single" });
		info.formdata["muc#roominfo_isbreakout"] = true;
		info.formdata["muc#roominfo_breakout_main_room"] = one.main;
	end);
	-- Moderators of the main room are moderators here, and nobody else is.
	local room_mt = service(host).room_mt;
	local own = room_mt.get_affiliation;
	room_mt.get_affiliation = function (room, who)
		local one = breakouts[room.jid];
		local main = one and find(one.main);
		if main then return main:get_affiliation(who) or "none"; end
		return own(room, who);
	end;
end

-- Hosts are activated in any order.
prosody.events.add_handler("server-started", function ()
	for _, host in ipairs({ main_host, breakout_host }) do loaded(host); end
end);
