#!/bin/sh
# Starts Redis with the users that `nonesuch init` made, or says why not. Nothing is kept on disk: what was open is placed
# again after a restart. Needs NONESUCH_REDIS_MAXMEMORY; other arguments are redis-server's.
set -eu
users=${NONESUCH_REDIS_USERS:-/run/secrets/users.acl}
refuse() {
    echo "redis: $users $1: \`nonesuch init\` makes a list of users that can be used" >&2
    exit 2
}
[ -r "$users" ] || refuse "is not there, or cannot be read by user $(id -u)"
grep -qx 'user default reset' "$users" || refuse "does not turn off the user without a password"
if grep -Eq '(^|[[:space:]])(nopass|>[^[:space:]]*)([[:space:]]|$)' "$users"; then
    refuse "has a user with no password, or with one that can be read"
fi
exec redis-server --bind '* -::*' --port 6379 --dir /data --aclfile "$users" \
    --maxmemory "$NONESUCH_REDIS_MAXMEMORY" --maxmemory-policy noeviction --save '' --appendonly no "$@"
