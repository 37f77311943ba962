-- For tests: tells clients of a host which services its site has, as Jitsi Meet's own modules do, by identities of
-- its disco#info. `test_components = { lobbyrooms = "lobby.meet.test" }`
for kind, address in pairs(module:get_option("test_components", {})) do
  module:add_identity("component", kind, address);
end
