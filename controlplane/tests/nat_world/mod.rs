//! Three hosts in network namespaces: this one inside, a router with NAT, and outside.
//!
//! Inside is 10.78.0.2, the router 10.78.0.1 and 198.51.100.7, outside 198.51.100.20 (clients) and 198.51.100.30 (a STUN server).

use std::process::{Child, Command, Output, Stdio};

/// Set for the copy of a test that runs inside, and for those that play somebody else.
const ROLE: &str = "RINGBRIDGE_TEST_ROLE";
/// What such a participant is given.
const ARGUMENT: &str = "RINGBRIDGE_TEST_ARGUMENT";

pub const INSIDE: &str = "10.78.0.2";
pub const PUBLIC: &str = "198.51.100.7";
pub const CLIENT: &str = "198.51.100.20";
pub const STUN: &str = "198.51.100.30:3478";

pub const INSIDE6: &str = "fd00:78::2";
pub const PUBLIC6: &str = "2001:db8:1::7";
/// Clients and the STUN server.
pub const OUTSIDE6: &str = "2001:db8:1::30";
pub const STUN6: &str = "[2001:db8:1::30]:3478";

/// Runs a program to its end; its output, or what it complained of.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same in the namespace of another host.
pub fn on(host: &str, line: &str) -> String {
    let words: Vec<&str> = ["netns", "exec", host].into_iter().chain(line.split(' ')).collect();
    run("ip", &words)
}

/// The role that this copy of the test plays, and what it was given.
pub fn role() -> Option<(String, String)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(ARGUMENT).unwrap_or_default()))
}

/// Runs the test named so again, inside; false when it was skipped, with the reason printed.
pub fn enter(test: &str) -> bool {
    let able = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output: Output| output.status.success())
    };
    if !able("unshare", &["--net", "--mount", "true"]) || !able("ip", &["-Version"]) || !able("nft", &["--version"]) {
        eprintln!("skipped: it takes CAP_SYS_ADMIN, CAP_NET_ADMIN, and the programs unshare, ip and nft (nftables)");
        return false;
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, "inside")
        .output()
        .expect("unshare runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}{err}");
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    true
}

/// Somebody of another host; killed when dropped.
pub struct Other(Child);

impl Other {
    /// Starts the test named so again, on this host, in this role.
    pub fn start(host: &str, test: &str, role: &str, argument: &str) -> Self {
        let child = Command::new("ip")
            .args(["netns", "exec", host])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, role)
            .env(ARGUMENT, argument)
            .stdout(Stdio::null())
            .spawn()
            .expect("ip runs");
        Self(child)
    }

    /// Whether it came to a good end.
    pub fn ends_well(mut self) -> bool {
        self.0.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds the three hosts. The router forwards UDP port 10000, and these TCP ports; `masquerade` is how it hides who is inside.
pub fn build(masquerade: &str, tcp_ports: &[u16]) {
    // Names of namespaces of our own.
    run("mount", &["-t", "tmpfs", "none", "/run"]);
    for host in ["router", "outside"] {
        run("ip", &["netns", "add", host]);
        on(host, "ip link set lo up");
    }
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["link", "add", "in0", "type", "veth", "peer", "name", "in1", "netns", "router"]);
    run("ip", &["address", "add", &format!("{INSIDE}/24"), "dev", "in0"]);
    run("ip", &["link", "set", "in0", "up"]);
    on("router", "ip address add 10.78.0.1/24 dev in1");
    on("router", "ip link set in1 up");
    on("router", "ip link add out1 type veth peer name out0 netns outside");
    on("router", &format!("ip address add {PUBLIC}/24 dev out1"));
    on("router", "ip link set out1 up");
    for address in [CLIENT, "198.51.100.30"] {
        on("outside", &format!("ip address add {address}/24 dev out0"));
    }
    on("outside", "ip link set out0 up");
    // Private addresses get nowhere from there, without an error.
    on("outside", &format!("ip route add default via {PUBLIC}"));
    run("ip", &["route", "add", "default", "via", "10.78.0.1"]);
    on("router", "sysctl -qw net.ipv4.ip_forward=1");
    forward(PUBLIC, masquerade, tcp_ports);
}

/// IPv6 beside it, private inside: a NAT66 with a plain port forward.
pub fn build_ipv6() {
    run("ip", &["address", "add", &format!("{INSIDE6}/64"), "dev", "in0", "nodad"]);
    on("router", "ip address add fd00:78::1/64 dev in1 nodad");
    on("router", &format!("ip address add {PUBLIC6}/64 dev out1 nodad"));
    on("outside", &format!("ip address add {OUTSIDE6}/64 dev out0 nodad"));
    run("ip", &["-6", "route", "add", "default", "via", "fd00:78::1"]);
    on("router", "sysctl -qw net.ipv6.conf.all.forwarding=1");
    let rules = format!(
        "table ip6 nat {{\n chain pre {{ type nat hook prerouting priority -100;\n \
         ip6 daddr {PUBLIC6} udp dport 10000 dnat to {INSIDE6}; }}\n \
         chain post {{ type nat hook postrouting priority 100; oifname \"out1\" masquerade; }}\n}}\n"
    );
    std::fs::write("/run/rules6.nft", rules).expect("written");
    on("router", "nft -f /run/rules6.nft");
}

/// The router's rules, in place of those before: as a plain port forward of `public`.
pub fn forward(public: &str, masquerade: &str, tcp_ports: &[u16]) {
    let tcp: String =
        tcp_ports.iter().map(|port| format!("ip daddr {public} tcp dport {port} dnat to {INSIDE};\n")).collect();
    let rules = format!(
        "flush ruleset\ntable ip nat {{\n chain pre {{ type nat hook prerouting priority -100;\n \
         ip daddr {public} udp dport 10000 dnat to {INSIDE};\n {tcp} }}\n \
         chain post {{ type nat hook postrouting priority 100; oifname \"out1\" {masquerade}; }}\n}}\n\
         table ip filter {{ chain through {{ type filter hook forward priority 0; ct status dnat accept;\n \
         iifname \"out1\" ct state established,related accept; iifname \"out1\" drop; }}\n}}\n"
    );
    let file = std::path::Path::new("/run/rules.nft");
    std::fs::write(file, rules).expect("written");
    on("router", "nft -f /run/rules.nft");
}
