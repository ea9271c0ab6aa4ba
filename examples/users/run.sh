#!/usr/bin/env bash
# Guests, a program and an operator: each may do what its rules say, and nothing else reaches a server.
source "$(dirname "$0")/../servers.sh"

for name in r1 r2 r3; do start_server $name; done
configure r1 r2 r3
cd "$work"
echo new-secret >app.new
echo old-secret >app.old
echo operator-secret >operator.password
start_proxy

as() {
    local user=$1 secret=$2
    echo "$user> ${*:3}"
    REDISCLI_AUTH=$secret redis-cli -p "$proxy" --user "$user" --no-auth-warning "${@:3}" 2>&1 | sed '/^$/d'
}

echo "# The program writes its own keys and what is public; both of its passwords are right."
as app new-secret SET app:1 one
as app old-secret SET public:news hello
as app new-secret SET other:1 two
as app new-secret CONFIG SET maxmemory 1
as app new-secret PUBLISH other.news x

echo
echo "# A guest reads what is public, and nothing else."
client GET public:news
client GET app:1
client SET public:news mine

echo
echo "# In a transaction as well: then nothing of it is done."
printf 'MULTI\nSET app:1 changed\nSET other:1 changed\nEXEC\n' |
    REDISCLI_AUTH=new-secret redis-cli -p "$proxy" --user app --no-auth-warning 2>&1 | sed '/^$/d'
as app new-secret GET app:1

echo
echo "# The operator sees who may do what, and what was denied."
as operator operator-secret ACL LIST
as operator operator-secret ACL DRYRUN app GET other:1
as operator operator-secret ACL LOG 1 | sed -n '/^reason$/,/^username$/p'

echo
echo "# Users can be made while the proxy runs. They are there until the file is read again, or the proxy is restarted."
as operator operator-secret ACL SETUSER auditor on '>audit-secret' '%R~*' +get
as auditor audit-secret GET app:1
as auditor audit-secret SET app:1 mine
as operator operator-secret ACL LOAD
as operator operator-secret ACL USERS

echo
echo "# A rule that cannot be read is found before anything starts, and never taken."
sed -i 's/+@connection/+@conection/' quorate.toml
as operator operator-secret ACL LOAD | sed "s|$work/||"
"$quorate" check quorate.toml 2>&1 | grep -v '^$' | grep -v 'ok$' || true
