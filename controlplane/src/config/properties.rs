//! Files of Java properties, as Jitsi Videobridge had before `jvb.conf`: recognised, and refused with what to write instead.

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
        "this is a file of Java properties, from before jvb.conf; write a jvb.conf or ringbridge.conf".to_owned();
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
        assert_eq!(instead("videobridge { ice.udp.port = 10000 }\nice4j.harvest.mapping.aws.enabled = true"), []);
    }
}
