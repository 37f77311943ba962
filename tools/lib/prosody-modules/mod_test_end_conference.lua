-- For tests: a component that destroys the room of a moderator who asks for it, as that of Jitsi Meet does.
-- `end_conference_muc` is the MUC component of the conferences.
local conferences = module:get_option_string("end_conference_muc");

module:hook("message/host", function(event)
  local from = event.stanza.attr.from;
  if not event.stanza:get_child("end_conference") then return; end
  for room in prosody.hosts[conferences].modules.muc.each_room() do
    local occupant = room:get_occupant_by_real_jid(from);
    if occupant and occupant.role == "moderator" then
      room:destroy(nil, "The meeting has been terminated");
    elseif occupant then
      module:log("warn", "%s is no moderator of %s", from, room.jid);
    end
  end
  return true;
end);
