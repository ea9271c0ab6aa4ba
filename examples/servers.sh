# Shared by the examples: starts Redis servers and a proxy on free ports, stops them by pid.
# Sourced by each run.sh. Needs bash, redis-server and redis-cli; QUORATE names the proxy's binary.

set -euo pipefail
quorate=${QUORATE:-quorate}
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
work=$(mktemp -d)
declare -A port pid
proxy= admin=

clean_up() {
    kill "${pid[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$*" >&2
    [ -f "$work/proxy.log" ] && tail -n 20 "$work/proxy.log" >&2
    exit 1
}

# Repeats a command until it succeeds, for at most 20 seconds.
wait_for() {
    local end=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "gave up waiting for: $*"
        sleep 0.05
    done
}

# Starts or restarts a server by name. The port is chosen the first time and kept.
start_server() {
    local name=$1 at
    mkdir -p "$work/$name"
    while :; do
        at=${port[$name]:-$((RANDOM % 20000 + 10000))}
        redis-server --port "$at" --bind 127.0.0.1 --dir "$work/$name" --save "" --appendonly yes \
            >"$work/$name.log" 2>&1 &
        pid[$name]=$!
        # Another process may answer on that port: then ours ends by itself, and the next port is tried.
        while kill -0 "${pid[$name]}" 2>/dev/null; do
            if redis-cli -p "$at" INFO server 2>/dev/null | grep -q "^process_id:${pid[$name]}"; then
                port[$name]=$at
                return
            fi
            sleep 0.05
        done
        [ -z "${port[$name]:-}" ] || fail "$name does not start again on port $at"
    done
}

kill_server() {
    kill -9 "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# Writes quorate.toml of the example with the ports in use. 7001 stands for the first server, and so on.
configure() {
    cp "$here/quorate.toml" "$work/quorate.toml"
    local number=7001 name
    for name in "$@"; do
        sed -i "s/127.0.0.1:$number/127.0.0.1:${port[$name]}/" "$work/quorate.toml"
        number=$((number + 1))
    done
    # The system chooses the proxy's own ports.
    sed -i "s/127.0.0.1:6400/127.0.0.1:0/; s/127.0.0.1:7070/127.0.0.1:0/" "$work/quorate.toml"
}

# The address that the proxy logged for "admin" or for a listener.
logged_port() {
    sed -n "s/.*$1.*address=[^ ]*:\([0-9]*\)\$/\1/p" "$work/proxy.log" | tail -n 1
}

start_proxy() {
    : >"$work/proxy.log"
    "$quorate" run -c "$work/quorate.toml" 2>>"$work/proxy.log" &
    pid[proxy]=$!
    wait_for grep -q 'listener="main"' "$work/proxy.log"
    proxy=$(logged_port 'listener="main"')
    admin=$(logged_port 'INFO admin')
    wait_for is_writable
}

is_writable() {
    "$quorate" status --at "127.0.0.1:$admin"
}

# One line a replica: name, state, entries owed.
states() {
    "$quorate" status --at "127.0.0.1:$admin" | awk '/^  r[0-9]/ { print $1, $2, "owed", $6 }'
}

# Waits until the replicas are in exactly these states, and prints them.
expect_states() {
    wanted=$(printf '%s\n' "$@")
    wait_for states_are_wanted
    echo "$wanted"
}

states_are_wanted() {
    [ "$(states)" = "$wanted" ]
}

# Do these servers stand at one place of the log? Equal positions mean equal logs.
equal_positions() {
    local name first=
    for name in "$@"; do
        local position
        position=$(redis-cli -p "${port[$name]}" GET '__quorate:{cache}:pos')
        [ -n "$position" ] && [ "$position" = "${first:-$position}" ] || return 1
        first=$position
    done
}

# Sends a command to the proxy, or to a server, and shows both ends.
client() {
    echo "proxy> $*"
    redis-cli -p "$proxy" "$@" | sed '/^$/d'
}

server() {
    echo "$1> ${*:2}"
    redis-cli -p "${port[$1]}" "${@:2}" | sed '/^$/d'
}
