#!/usr/bin/env bash
# A server is killed without warning, writes go on, the server comes back and gets what it missed.
source "$(dirname "$0")/../servers.sh"

for name in r1 r2 r3; do start_server $name; done
configure r1 r2 r3
start_proxy

client SET balance 100
wait_for equal_positions r1 r2 r3

echo
echo "# Kill r3 with SIGKILL, and write on."
kill_server r3
client INCRBY balance 20
client RPUSH orders first
client RPUSH orders second
expect_states "r1 in-sync owed 0" "r2 in-sync owed 0" "r3 down owed 3"

echo
echo "# r3 comes back. What it missed is fed in order; then it counts again."
start_server r3
expect_states "r1 in-sync owed 0" "r2 in-sync owed 0" "r3 in-sync owed 0"
server r3 GET balance
server r3 LRANGE orders 0 -1

echo
echo "# Kill r1 in the middle of 5000 writes, and start it again."
for _ in $(seq 5000); do echo "INCR counter"; done | redis-cli -p "$proxy" >"$work/replies" &
writer=$!
has_begun() { [ "$(redis-cli -p "$proxy" EXISTS counter)" = 1 ]; }
wait_for has_begun
kill_server r1
wait $writer
echo "acknowledged: $(grep -cx '[0-9]*' "$work/replies")"
client GET counter
start_server r1
expect_states "r1 in-sync owed 0" "r2 in-sync owed 0" "r3 in-sync owed 0"

echo
echo "# All three hold the same."
wait_for equal_positions r1 r2 r3
for name in r1 r2 r3; do server $name MGET balance counter; done
