#!/usr/bin/env bash
# Three members of a system on loopback, each a process with a data directory of its own on a disk that it syncs, until
# Ctrl-C: so that `tenure bench --against` compares like with like. Says the URLs when all are there.
#
#   three-members.sh etcd DIRECTORY       needs `etcd` (Debian: etcd-server), on 127.0.2.1 to .3, ports 2379 and 2380
#   three-members.sh tenured DIRECTORY    needs `tenured`, on 127.0.3.1 to .3, ports 7379 and 7380
#
# TENURED and ETCD name other programs than those in the PATH. The directory must be on the disk to be measured (not on
# tmpfs), and stays when the members have ended; a second start goes on with it.
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 64
}

[ $# -eq 2 ] || usage
system=$1 directory=$2
case $system in
etcd) network=127.0.2 program=${ETCD:-etcd} client=2379 peer=2380 ready=/health ;;
tenured) network=127.0.3 program=${TENURED:-tenured} client=7379 peer=7380 ready=/readyz ;;
*) echo "there is no system \"$system\"; etcd and tenured are known" >&2 && usage ;;
esac
command -v "$program" >/dev/null || { echo "no program \"$program\" is in the PATH; ${system^^} names another" >&2 && exit 1; }
mkdir -p "$directory"
if [ "$(stat -f -c %T "$directory")" = tmpfs ]; then
    echo "$directory is on tmpfs, where nothing is synced: a directory on a disk is needed" >&2
    exit 1
fi

peers=() urls=()
for n in 1 2 3; do
    peers+=("n$n=http://$network.$n:$peer")
    urls+=("http://$network.$n:$client")
done
joined() { local IFS=,; echo "$*"; }

start() {
    local n=$1 at=http://$network.$1
    case $system in
    etcd)
        exec "$program" --name "n$n" --data-dir "$directory/n$n" --log-level error --initial-cluster-state new \
            --listen-client-urls "$at:$client" --advertise-client-urls "$at:$client" \
            --listen-peer-urls "$at:$peer" --initial-advertise-peer-urls "$at:$peer" \
            --initial-cluster "$(joined "${peers[@]}")"
        ;;
    tenured)
        exec "$program" serve --name "n$n" --data-dir "$directory/n$n" --log-filter warn \
            --client-listen "$network.$n:$client" --peer-listen "$network.$n:$peer" \
            --initial-member "${peers[0]}" --initial-member "${peers[1]}" --initial-member "${peers[2]}"
        ;;
    esac
}

running() { mapfile -t members < <(jobs -pr); }

stop() {
    trap - EXIT
    running
    kill "${members[@]}" 2>/dev/null || true
    # A member of etcd whose cluster has no leader any more may not end by itself.
    for _ in $(seq 100); do
        running
        [ ${#members[@]} -eq 0 ] && return
        sleep 0.1
    done
    kill -9 "${members[@]}"
}
trap stop EXIT
trap 'exit 0' INT TERM

for n in 1 2 3; do
    start "$n" >"$directory/n$n.log" 2>&1 &
done
for url in "${urls[@]}"; do
    for attempt in $(seq 300); do
        curl -fs -o /dev/null "$url$ready" && break
        if [ "$attempt" -eq 300 ]; then
            echo "$url is not ready after 30 s; the logs are $directory/n1.log to n3.log" >&2
            exit 1
        fi
        sleep 0.1
    done
done
echo "ready: $(joined "${urls[@]}")"
# One that ends by itself ends all.
wait -n
echo "a member has ended by itself; the logs are $directory/n1.log to n3.log" >&2
exit 1
