#!/usr/bin/env bash
# How renewals fare while a cluster is operated: the p99 of renewals of 1000 leases, quiet and while backups are taken, a
# member joins (which a snapshot is sent) and is removed, history is compacted, and keys are put (which checkpoints follow).
# In turns, so that what else the machine does hits all; a ratio is of two neighbours of a round. A renewal waits up to a
# hundredth of its TTL (10 s) for company, which is in all figures. It fails where a median ratio is more than three.
#
#   renewals-while.sh DIRECTORY [ROUNDS]     on 127.0.7.1 to .4, ports 7379 and 7380
#
# TENURED and TENURE name other programs than those in the PATH, KEYS how many keys of 1 KiB there are (default 100000),
# SECONDS_EACH how long each is measured (default 10). Needs curl and jq. The directory must be on a disk, not on tmpfs.
set -euo pipefail
. "$(dirname "$0")/measuring.sh"

[ $# -eq 1 ] || [ $# -eq 2 ] || usage
directory=$1 rounds=${2:-5} keys=${KEYS:-100000} each=${SECONDS_EACH:-10}
for number in "$rounds" "$keys" "$each"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "\"$number\" is no number from 1 on" >&2 && usage; }
done
tenured=${TENURED:-tenured} tenure=${TENURE:-tenure}
needs "$tenured" "$tenure" curl jq
on_a_disk "$directory"

serve() {
    local n=$1
    shift
    exec "$tenured" serve --name "n$n" --data-dir "$directory/n$n" --log-filter warn \
        --client-listen "127.0.7.$n:7379" --peer-listen "127.0.7.$n:7380" "$@" >>"$directory/n$n.log" 2>&1
}
initial=()
for n in 1 2 3; do initial+=(--initial-member "n$n=http://127.0.7.$n:7380"); done
for n in 1 2 3; do serve "$n" "${initial[@]}" & done
export TENURE_ENDPOINTS=http://127.0.7.1:7379,http://127.0.7.2:7379,http://127.0.7.3:7379
until_ready ${TENURE_ENDPOINTS//,/ }

value=$(head -c 768 /dev/urandom | base64 -w 0)
for ((from = 0; from < keys; from += 100)); do
    jq -nc --arg value "$value" --argjson from "$from" \
        '{then: [range($from; $from + 100) | {put: {key: "fill/\(.)", value: $value}}]}'
done >"$directory/fill"
echo "putting $keys keys of 1 KiB" >&2
while read -r transaction; do
    "$tenure" txn - <<<"$transaction" >/dev/null
done <"$directory/fill"

# Each says when it has done something once more: a figure of nothing is none.
again() { echo >>"$directory/times"; }
quiet() { while :; do sleep 1 && again; done; }
backup() { while :; do "$tenure" backup --force "$directory/backup" >/dev/null 2>&1 && again; done; }
compaction() {
    while :; do
        revision=$("$tenure" status -o json | jq '[.members[].revision // 0] | max')
        curl -s -o /dev/null -X POST -H 'Content-Type: application/json' -d "{\"revision\":$revision}" http://127.0.7.1:7379/v1/compact
        again
        sleep 0.2
    done
}
puts() { while :; do "$tenure" bench put --clients 8 --rate 500 --warmup 1ms --duration 1s >/dev/null 2>&1 && again; done; }
member() {
    while :; do
        # One that was cut off in the middle is a member still.
        "$tenure" member remove n4 >/dev/null 2>&1 || true
        rm -rf "$directory/n4"
        serve 4 --join http://127.0.7.1:7379 &
        local four=$!
        trap 'kill "$four" 2>/dev/null' EXIT
        until "$tenure" member list -o json | jq -e '.members[] | select(.name == "n4" and .role == "voter")' >/dev/null; do sleep 0.2; done
        "$tenure" member remove n4 >/dev/null
        # It hears that it was removed, and ends.
        wait "$four" || true
        again
    done
}

measured() {
    local what=$1 p99
    : >"$directory/times"
    "$what" &
    local other=$!
    sleep 1
    p99=$("$tenure" bench renew --leases 1000 --ttl 10s --warmup 2s --duration "${each}s" -o json 2>/dev/null |
        jq '.measurements[0].medians[0] | if .errors > 0 then error("renewals failed: \(.errors)") else .latency_us.p99 / 1000 end')
    kill "$other" 2>/dev/null || true
    wait "$other" 2>/dev/null || true
    [ -s "$directory/times" ] || { echo "$what: not once done while it was measured; give it more time by SECONDS_EACH" >&2 && exit 1; }
    echo "$p99"
}

for ((round = 1; round <= rounds; round++)); do
    for what in backup member compaction puts; do
        before=$(measured quiet)
        during=$(measured "$what")
        jq -nc --arg what "$what" --argjson quiet "$before" --argjson during "$during" --argjson times "$(wc -l <"$directory/times")" \
            '{$what, $times, quiet_ms: $quiet, during_ms: $during, ratio: ($during / $quiet)}' | tee -a "$directory/figures"
    done
done
jq -rs 'def median: sort | .[length / 2 | floor];
    group_by(.what)[] | "\(.[0].what): quiet \(map(.quiet_ms) | median) ms, during \(map(.during_ms) | median) ms, ratio \(map(.ratio) | median * 100 | round / 100) (\(map(.ratio) | min * 100 | round / 100) to \(map(.ratio) | max * 100 | round / 100)), \(length) rounds"' "$directory/figures"
jq -es 'group_by(.what) | all(map(.ratio) | sort | .[length / 2 | floor] <= 3)' "$directory/figures" >/dev/null || {
    echo "renewals were slower than three times the quiet figure" >&2 && exit 1
}
