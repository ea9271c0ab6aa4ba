#!/usr/bin/env bash
# A policy from a file: checked, proven, pinned by its digest; then a zone is lost.
source "$(dirname "$0")/../servers.sh"

cd "$here"
echo "# What the policy promises, and whether the expectations in quorate.toml hold."
# The policy's digest is cut off: it changes with every build of the policy.
"$quorate" check quorate.toml | sed 's/ [0-9a-f]\{12\}$//'

echo
echo "# Where would a write go without zone a, and why?"
"$quorate" explain 'SET k v' --down r1

echo
echo "# Where would a read go? The proxy is in zone b."
"$quorate" explain 'GET k'

echo
echo "# A component that is not the pinned one is refused."
sed "s|^\(sha256 *= \"\)[0-9a-f]\{8\}|\100000000|; s|\.\./\.\./plugins|$here/../../plugins|" quorate.toml >"$work/wrong.toml"
{ "$quorate" check "$work/wrong.toml" 2>&1 || echo "exit code $?"; } | sed -n 's/^error\[\(.*\)\].*/refused with \1/p; /^exit code/p'

for name in r1 r2 r3; do start_server $name; done
configure r1 r2 r3
sed -i "s|\.\./\.\./plugins|$here/../../plugins|" "$work/quorate.toml"
start_proxy

echo
echo "# The same with servers: zone a is lost."
client SET k before
kill_server r1
client SET k after
client GET k
expect_states "r1 down owed 1" "r2 in-sync owed 0" "r3 in-sync owed 0"
