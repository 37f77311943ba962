#!/bin/sh
# Asks a media bridge to take no new conferences, and waits until the running ones have ended and the bridge with them.
#
# graceful_shutdown.sh [-h URL] [-p PID] [-s] [-t SECONDS]
#   -h URL      where the bridge serves its pages (bridge.rest.listen); http://localhost:8080 without it
#   -p PID      wait until this process is gone too
#   -s          say nothing but errors
#   -t SECONDS  taken, and not used, for the sake of scripts that give it: the bridge ends by itself, bridge.shutdown.delay
#               after the last participant has left, and bridge.shutdown.graceful-max-duration at the latest
#
# Ends with 0 once the bridge is gone, and with 1 when it did not take the request. Needs curl; works with Jitsi Videobridge too.
# RINGBRIDGE_POLL_SECONDS is the time between two looks, 10 without it.
set -u

url=http://localhost:8080
pid=
silent=false
pause=${RINGBRIDGE_POLL_SECONDS:-10}

fail() {
    echo "graceful_shutdown.sh: $*" >&2
    exit 1
}
say() { $silent || echo "$*"; }

while getopts h:p:st: option; do
    case $option in
    h) url=${OPTARG%/} ;;
    p) pid=$OPTARG ;;
    s) silent=true ;;
    t) ;;
    *) fail "usage: graceful_shutdown.sh [-h URL] [-p PID] [-s] [-t SECONDS]" ;;
    esac
done
case $pid in
*[!0-9]*) fail "-p $pid: give the number of the bridge's process" ;;
esac
command -v curl >/dev/null || fail "curl is missing; install it (apt-get install curl)"

# The answer's status, 000 without one.
status=$(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' \
    -d '{"graceful-shutdown": "true"}' "$url/colibri/shutdown")
case $status in
200) say "$url: the bridge takes no new conferences" ;;
404) fail "$url/colibri/shutdown: 404; allow it with bridge.shutdown.over-rest = true (videobridge.rest.shutdown.enabled in a jvb.conf, SHUTDOWN_REST_ENABLED=1 in a container), or give the bridge's address with -h" ;;
000) fail "$url: no answer; give the bridge's address (bridge.rest.listen) with -h" ;;
*) fail "$url/colibri/shutdown: unexpected answer $status" ;;
esac

# The number of a key of the statistics, nothing when there is none.
number() { printf '%s' "$stats" | tr ',{}' '\n\n\n' | sed -n "s/^ *\"$1\" *: *\([0-9][0-9]*\) *\$/\1/p"; }
says() { printf '%s' "$stats" | tr ',{}' '\n\n\n' | grep -q "^ *\"$1\" *: *true *\$"; }

ending=false
refused=0
while :; do
    stats=$(curl -s --max-time 20 "$url/colibri/stats")
    if [ $? -eq 7 ]; then
        # Refused twice: nobody listens there any more.
        refused=$((refused + 1))
        [ $refused -lt 2 ] || break
        sleep 1
        continue
    fi
    refused=0
    all=$(number participants)
    elsewhere=$(number octo_endpoints)
    if says graceful_shutdown || says shutting_down; then
        ending=true
    elif $ending && [ -n "$all" ]; then
        say "$url: another bridge has taken its place"
        break
    fi
    if [ -z "$all" ]; then
        say "its participants cannot be counted at the moment"
    elif [ $((all - ${elsewhere:-0})) -gt 0 ]; then
        say "$((all - ${elsewhere:-0})) participants are still in conferences"
    else
        say "its conferences have ended; it ends by itself"
    fi
    sleep "$pause"
done
while [ -n "$pid" ] && [ -d "/proc/$pid" ]; do
    say "process $pid still runs"
    sleep "$pause"
done
say "the bridge has ended"
