//! Files of Java properties, as Jitsi Videobridge and Jicofo had before `jvb.conf` and `jicofo.conf`: recognised, and refused
//! with what to write instead.

use std::path::Path;

/// Beginnings of their keys, and where the same is set today.
const TODAY: &[(&str, &str)] = &[
    (
        "org.jitsi.videobridge.xmpp.user.",
        "videobridge.apis.xmpp-client.configs.<name> { HOSTNAME, DOMAIN, USERNAME, PASSWORD, MUC_JIDS, MUC_NICKNAME }",
    ),
    ("org.jitsi.videobridge.SINGLE_PORT_HARVESTER_PORT", "videobridge.ice.udp.port"),
    (
        "org.ice4j.ice.harvest.NAT_HARVESTER_",
        "ice4j.harvest.mapping.static-mappings = [ { local-address, public-address } ]",
    ),
    ("org.ice4j.ice.harvest.STUN_MAPPING_HARVESTER_ADDRESSES", "ice4j.harvest.mapping.stun.addresses"),
    ("org.ice4j.ice.harvest.DISABLE_AWS_HARVESTER", "ice4j.harvest.mapping.aws.enabled"),
    ("org.ice4j.ice.harvest.ALLOWED_INTERFACES", "ice4j.harvest.allowed-interfaces"),
    ("org.ice4j.ice.harvest.BLOCKED_INTERFACES", "ice4j.harvest.blocked-interfaces"),
    ("org.ice4j.ice.harvest.ALLOWED_ADDRESSES", "ice4j.harvest.allowed-addresses"),
    ("org.ice4j.ice.harvest.BLOCKED_ADDRESSES", "ice4j.harvest.blocked-addresses"),
    ("org.jitsi.videobridge.ENABLE_REST_SHUTDOWN", "videobridge.rest.shutdown.enabled"),
    ("org.jitsi.videobridge.octo.", "videobridge.relay"),
    ("org.jitsi.videobridge.", "a key of videobridge, see docs/migrate.md"),
    ("org.jitsi.jicofo.BRIDGE_MUC_XMPP_", "nothing: bridges are on the clients' server"),
    ("org.jitsi.jicofo.BRIDGE_MUC", "jicofo.bridge.brewery-jid"),
    ("org.jitsi.jicofo.HOSTNAME", "jicofo.xmpp.client.hostname"),
    ("org.jitsi.jicofo.XMPP_PORT", "jicofo.xmpp.client.port"),
    ("org.jitsi.jicofo.XMPP_DOMAIN", "jicofo.xmpp.client.xmpp-domain"),
    ("org.jitsi.jicofo.XMPP_MUC_COMPONENT_PREFIX", "jicofo.xmpp.client.conference-muc-jid, the whole name"),
    ("org.jitsi.jicofo.FOCUS_USER_DOMAIN", "jicofo.xmpp.client.domain"),
    ("org.jitsi.jicofo.FOCUS_USER_NAME", "jicofo.xmpp.client.username"),
    ("org.jitsi.jicofo.FOCUS_USER_PASSWORD", "jicofo.xmpp.client.password"),
    ("org.jitsi.jicofo.ALWAYS_TRUST_MODE_ENABLED", "jicofo.xmpp.client.disable-certificate-verification"),
    ("org.jitsi.jicofo.DISABLE_AUTO_OWNER", "jicofo.conference.enable-auto-owner, the other way round"),
    ("org.jitsi.jicofo.SINGLE_PARTICIPANT_TIMEOUT", "jicofo.conference.single-participant-timeout"),
    ("org.jitsi.focus.IDLE_TIMEOUT", "jicofo.conference.initial-timeout"),
    ("org.jitsi.jicofo.MAX_SSRC_PER_USER", "jicofo.conference.max-ssrcs-per-user"),
    ("org.jitsi.jicofo.auth.DISABLE_AUTOLOGIN", "jicofo.authentication.enable-auto-login, the other way round"),
    ("org.jitsi.jicofo.auth.AUTH_LIFETIME", "jicofo.authentication.authentication-lifetime"),
    ("org.jitsi.jicofo.auth.URL", "jicofo.authentication { enabled, type, login-url }"),
    ("org.jitsi.jicofo.jibri.BREWERY", "jicofo.jibri.brewery-jid"),
    ("org.jitsi.jicofo.jibri.SIP_BREWERY", "jicofo.jibri-sip.brewery-jid"),
    ("org.jitsi.jicofo.jibri.PENDING_TIMEOUT", "jicofo.jibri.pending-timeout"),
    ("org.jitsi.jicofo.NUM_JIBRI_RETRIES", "jicofo.jibri.num-retries"),
    ("org.jitsi.jicofo.jigasi.BREWERY", "jicofo.jigasi.brewery-jid"),
    ("org.jitsi.jicofo.", "a key of jicofo, see docs/migrate.md"),
    ("org.jitsi.focus.", "a key of jicofo, see docs/migrate.md"),
    ("org.jitsi.", "nothing: it belongs to parts that are not here"),
    ("org.ice4j.", "a key of ice4j, see docs/migrate.md"),
    ("net.java.sip.communicator.", "nothing: it belongs to parts that are not here"),
];

/// An error when the file is one of properties. One that cannot be read is left to its reader.
pub(super) fn refuse(path: &Path) -> Result<(), String> {
    let named = path.extension().is_some_and(|extension| extension == "properties");
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let today = instead(&text);
    if !named && today.is_empty() {
        return Ok(());
    }
    let mut reason =
        "this is a file of Java properties, from before jvb.conf and jicofo.conf; write such a file, or a ringbridge.conf".to_owned();
    for (key, line, today) in today {
        reason.push_str(&format!("\n  line {line}: {key}: today {today}"));
    }
    Err(reason)
}

/// Keys of old properties at the beginning of lines, never their values, with their lines and what they are today.
fn instead(text: &str) -> Vec<(String, usize, &'static str)> {
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let key = line.trim_start().split(['=', ':', ' ', '\t']).next().unwrap_or_default();
        let (_, today) = TODAY.iter().find(|(beginning, _)| key.starts_with(beginning))?;
        Some((key.to_owned(), index + 1, *today))
    });
    lines.take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_are_named_with_their_successors() {
        let text = "# comment\norg.jitsi.videobridge.xmpp.user.shard.PASSWORD=s3cret\n\
                    org.ice4j.ice.harvest.NAT_HARVESTER_LOCAL_ADDRESS=10.0.0.5\nother=1\n";
        let found = instead(text);
        assert_eq!(found.iter().map(|(_, line, _)| *line).collect::<Vec<_>>(), [2, 3]);
        assert!(found[0].2.contains("configs") && found[1].2.contains("static-mappings"), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cret"));
        let text = "org.jitsi.jicofo.BRIDGE_MUC=JvbBrewery@internal.auth.example.net\norg.jitsi.jicofo.auth.URL=XMPP:example.net\n\
                    org.jitsi.jicofo.BRIDGE_MUC_XMPP_USER_PASS=s3cret\norg.jitsi.focus.IDLE_TIMEOUT: 15000";
        let found = instead(text);
        let today: Vec<_> = found.iter().map(|(_, _, today)| *today).collect();
        assert_eq!(today[0], "jicofo.bridge.brewery-jid");
        assert!(today[1].starts_with("jicofo.authentication") && today[2].starts_with("nothing"), "{today:?}");
        assert_eq!(today[3], "jicofo.conference.initial-timeout");
        assert_eq!(instead("videobridge { ice.udp.port = 10000 }\nice4j.harvest.mapping.aws.enabled = true"), []);
    }
}
