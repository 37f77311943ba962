-- For tests: refuses who comes into a full room, as Jitsi Meet's own module does. Accounts of the operator's (`admins`, the
-- focus) come in always and do not count. Loaded on the MUC component of the conferences; `max_occupants` is the limit.
local st = require "util.stanza";
local is_admin = require "core.usermanager".is_admin;

local limit = module:get_option_number("max_occupants");

module:hook("muc-occupant-pre-join", function(event)
  if is_admin(event.stanza.attr.from, module.host) then return; end
  local guests = 0;
  for _, occupant in event.room:each_occupant() do
    if not is_admin(occupant.bare_jid, module.host) then guests = guests + 1; end
  end
  if guests < limit then return; end
  event.origin.send(st.error_reply(event.stanza, "cancel", "service-unavailable"));
  return true;
end, 10);
