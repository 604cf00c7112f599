#!/usr/bin/env bash
# Keep a way to MongoDB open through SSH for as long as the script that calls this one runs.
#
#     bash tunnel.sh LOGIN PORT HOST:PORT [options of ssh]
#
# 127.0.0.1:PORT of this node leads to HOST:PORT as LOGIN sees it. Returns 0 when it is open, 1 if it
# is not within TUNNEL_SECONDS (60) or PORT belongs to another user of the node, whose tunnel leads
# to another MongoDB. What breaks is opened again: workers at work wait 10 minutes for MongoDB.
# Several jobs of a user on a node share the port: who comes second waits until the first has gone.
set -u
login=$1 port=$2 target=$3
shift 3
caller=$PPID patience=${TUNNEL_SECONDS:-60}

forward() {
    exec ssh -N -T -o BatchMode=yes -o ExitOnForwardFailure=yes -o ConnectTimeout=10 \
        -o ServerAliveInterval=15 -o ServerAliveCountMax=2 -o LogLevel=ERROR \
        -L "127.0.0.1:$port:$target" "$@" "$login"
}

is_open() { (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

is_of_another() { # who listens there, by the kernel's own list: IPv4, and IPv6 that takes IPv4, too
    local address state user hex others=
    printf -v hex %04X "$port"
    while read -r _ address _ state _ _ _ user _; do
        [[ $state == 0A && $address == @(*0100007F|+(0)):$hex ]] || continue
        [ "$user" = "$UID" ] && return 1
        others=yes
    done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    [ -n "$others" ]
}

is_wanted() { kill -0 "$caller" 2>/dev/null; }

keep() {
    local ssh=
    trap 'kill "$ssh" 2>/dev/null; exit' TERM
    while is_wanted; do
        if ! is_open; then
            forward "$@" &
            ssh=$!
            while kill -0 "$ssh" 2>/dev/null && is_wanted; do sleep 1; done
            kill "$ssh" 2>/dev/null
            wait "$ssh" 2>/dev/null
        fi
        sleep 2
    done
}

why="127.0.0.1:$port did not open within $patience s; see: ssh -v -N $login"
keep "$@" </dev/null >/dev/null &
keeper=$! # `$!` changes: a process substitution is one, too
while ((SECONDS < patience)); do
    if is_open; then
        is_of_another || exit 0
        why="port $port of this node belongs to another user: choose another one in the prologue"
        break
    fi
    is_wanted || exit 1
    sleep 0.2
done
echo "tunnel.sh: $why" >&2
kill "$keeper"
exit 1
