#!/bin/sh
# What compose.yaml does before and after mongod's first start, by the programs of ../mongodb; no step
# is repeated once it is done. Secrets go into files in folders of their own, and are never shown.
#
#     setup.sh keys     $KEYS: authority, certificate of the server, key file of the replica set
#     setup.sh users    $ADMIN: root.uri, boss.uri; $WORK: work.uri (submits and computes);
#                       $PAGE: web.uri (reads) and password, for FireWorks' page
set -eu
umask 077
: "${KEYS:=/etc/qfarm}" "${ADMIN:=/var/lib/qfarm-admin}" "${WORK:=/var/lib/qfarm-work}"
: "${PAGE:=/var/lib/qfarm-page}" "${MONGO:=mongo:27017}"
programs=$(cd "$(dirname "$0")/../mongodb" && pwd)

secret() { python -c 'import secrets; print(secrets.token_urlsafe(int("'"$1"'")))'; }

keys() {
    [ -s "$KEYS/server.pem" ] || python "$programs/certificates.py" "$KEYS" --host "${MONGO%:*}"
    [ -s "$KEYS/keyfile" ] || { secret 512 | tr -- -_ +/ >"$KEYS/new" && mv "$KEYS/new" "$KEYS/keyfile"; }
}

# Make a user whose address is for the folder that it is written to: user FOLDER/NAME.uri ROLE...
user() {
    [ -s "$1" ] && return
    name=$(basename "$1" .uri)
    rm -f "$ADMIN/$name.new"
    qfarm roles user "$name" $2 --write "$ADMIN/$name.new" # unquoted: one role or several
    sed "s|$ADMIN/ca.pem|$(dirname "$1")/ca.pem|" "$ADMIN/$name.new" >"$1.new"
    rm "$ADMIN/$name.new"
    mv "$1.new" "$1"
}

users() {
    for folder in "$ADMIN" "$WORK" "$PAGE"; do cp "$KEYS/ca.pem" "$folder/ca.pem"; done
    cd "$ADMIN"
    [ -s root.uri ] || python "$programs/first_admin.py" "$MONGO" --keyfile "$KEYS/keyfile" \
        --ca "$ADMIN/ca.pem" --write root.uri
    export QFARM_MONGO__URI_FILE="$ADMIN/root.uri"
    qfarm roles apply
    user "$ADMIN/boss.uri" admin
    user "$WORK/work.uri" "submitter worker"
    user "$PAGE/web.uri" dashboard
    [ -s "$PAGE/password" ] || secret 24 >"$PAGE/password"
}

case ${1:-} in
keys | users) "$1" ;;
*) echo "usage: setup.sh keys|users" >&2 && exit 2 ;;
esac
