-- For tests: a lobby for members-only rooms. It sends what clients and the focus see of Jitsi Meet's own module: who is no
-- member is sent to the lobby's room, whose owners are those of the main room, and which goes with the restriction.
-- Loaded on the MUC component of the conferences; `lobby_muc` is that of the lobbies.
local jid = require "util.jid";
local st = require "util.stanza";

local lobbies = module:get_option_string("lobby_muc");

local function service() return prosody.hosts[lobbies].modules.muc; end
local function address(room) return jid.join((jid.split(room.jid)), lobbies); end

-- Before the restriction: who is in the room stays in it. (Clients ask for it by full addresses, which Prosody refuses.)
module:hook("muc-config-submitted/muc#roomconfig_membersonly", function(event)
  if not event.value then return; end
  for _, occupant in event.room:each_occupant() do
    if not event.room:get_affiliation(occupant.bare_jid) then event.room:set_affiliation(true, occupant.bare_jid, "member"); end
  end
end, 1);

module:hook("muc-config-submitted/muc#roomconfig_membersonly", function(event)
  local room, lobby = event.room, service().get_room_from_jid(address(event.room));
  if not event.value then
    room._data.lobbyroom = nil;
    -- With the room that whoever waits may enter now.
    if lobby then lobby:destroy(room.jid, "the lobby is closed"); end
    return;
  end
  room._data.lobbyroom = address(room);
  lobby = lobby or service().create_room(address(room));
  for owner in room:each_affiliation("owner") do lobby:set_affiliation(true, owner, "owner"); end
end, -1);

module:hook("muc-disco#info", function(event)
  table.insert(event.form, { name = "muc#roominfo_lobbyroom", type = "text-single", value = "" });
  event.formdata["muc#roominfo_lobbyroom"] = event.room._data.lobbyroom;
end);

module:hook("muc-occupant-pre-join", function(event)
  local room, stanza = event.room, event.stanza;
  local affiliation = room:get_affiliation(stanza.attr.from);
  if not room._data.lobbyroom or (affiliation and affiliation ~= "none") then return; end
  local reply = st.error_reply(stanza, "auth", "registration-required");
  event.origin.send(reply:reset():tag("lobbyroom", { xmlns = "http://jitsi.org/jitmeet" }):text(room._data.lobbyroom));
  return true;
end, -4);

module:hook("muc-room-destroyed", function(event)
  local lobby = event.room._data.lobbyroom and service().get_room_from_jid(event.room._data.lobbyroom);
  if lobby then lobby:destroy(nil, "the meeting is over"); end
end);
