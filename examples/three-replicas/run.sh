#!/usr/bin/env bash
# Three servers, one proxy: a write through the proxy is on every server.
source "$(dirname "$0")/../servers.sh"

for name in r1 r2 r3; do start_server $name; done
configure r1 r2 r3
cd "$work"

echo "# The configuration is sound, and this is what it promises."
# The policy's digest is cut off: it changes with every build of the policy.
"$quorate" check quorate.toml | sed 's/ [0-9a-f]\{12\}$//'

start_proxy
echo
echo "# Write through the proxy."
client SET greeting hello
client INCR visits
client EXPIRE greeting 1000
client RPUSH list a b c

echo
echo "# Read through the proxy, and from each server."
client GET greeting
wait_for equal_positions r1 r2 r3
for name in r1 r2 r3; do server $name LRANGE list 0 -1; done

echo
echo "# The proxy's own keys are hidden from clients."
client DBSIZE
server r1 DBSIZE

echo
echo "# What is not carried is refused, not guessed."
client SAVE

echo
echo "# Where would a write go while r3 is down, and why?"
"$quorate" explain 'SET greeting again' -c quorate.toml --down r3

echo
echo "# The state of the replicas."
expect_states "r1 in-sync owed 0" "r2 in-sync owed 0" "r3 in-sync owed 0"
