#!/usr/bin/env bash
# Whether a cluster that lives long grows: three members on loopback go through one cycle of churn after another, and after
# each it is told what every member takes of memory and of its disk. A cycle writes and overwrites keys, takes and gives
# back locks and elections, lets thousands of leases run out, and puts keys of 20 MB that are then deleted, much of it
# recorded under idempotency keys. History is kept for a minute in place of an hour, so that minutes do what days would.
# Meanwhile 1000 leases at a TTL of 10 s are renewed, whose p99 and longest renewal are told beside how often members have
# written a file anew by then to give space back.
#
# It fails where the last quarter of the cycles has a tenth and 16 MiB more of anything, on an average, than the second.
#
#   soak.sh DIRECTORY [CYCLES]     on 127.0.8.1 to .3, ports 7379 and 7380; 20 cycles if nothing is said, 8 at least
#
# TENURED and TENURE name other programs than those in the PATH. Needs curl and jq. The directory must be on a disk.
set -euo pipefail
. "$(dirname "$0")/measuring.sh"

[ $# -eq 1 ] || [ $# -eq 2 ] || usage
directory=$1 cycles=${2:-20}
[[ $cycles =~ ^[1-9][0-9]*$ ]] || { echo "CYCLES is \"$cycles\"; a number from 8 on is accepted" >&2 && usage; }
((cycles >= 8)) || { echo "CYCLES is $cycles; 8 or more are needed to tell growth from a beginning" >&2 && usage; }
tenured=${TENURED:-tenured} tenure=${TENURE:-tenure}
needs "$tenured" "$tenure" curl jq
on_a_disk "$directory"

initial=() members=()
for n in 1 2 3; do initial+=(--initial-member "n$n=http://127.0.8.$n:7380"); done
for n in 1 2 3; do
    "$tenured" serve --name "n$n" --data-dir "$directory/n$n" --log-filter info \
        --client-listen "127.0.8.$n:7379" --peer-listen "127.0.8.$n:7380" "${initial[@]}" >>"$directory/n$n.log" 2>&1 &
    members+=($!)
done
export TENURE_ENDPOINTS=http://127.0.8.1:7379,http://127.0.8.2:7379,http://127.0.8.3:7379
until_ready ${TENURE_ENDPOINTS//,/ }
curl -fs -o /dev/null -X PATCH -H 'Content-Type: application/json' -d '{"history_retention_ms":60000}' http://127.0.8.1:7379/v1/limits

value=$(head -c 7500 /dev/urandom | base64 -w 0)
run() { "$tenure" bench "$@" --warmup 100ms -o json 2>/dev/null | jq -r '[.measurements[].medians[] | .per_second] | @text'; }
churn() {
    run put --clients 64 --duration 4s
    run lock election handoff --clients 32 --duration 2s
    # They run out when the program that renewed them has ended.
    run renew --leases 3000 --ttl 1s --clients 32 --duration 2s
    local from
    for ((from = 0; from < 2000; from += 100)); do
        jq -nc --arg value "$value" --argjson from "$from" \
            '{then: [range($from; $from + 100) | {put: {key: "churn/\(.)", value: $value}}]}' | "$tenure" txn - >/dev/null
    done
    "$tenure" del churn/ --prefix >/dev/null
}
mib() { echo $((($1 + 524288) / 1048576)); }

renewals() {
    "$tenure" bench renew --leases 1000 --ttl 10s --warmup 1s --duration 15s -o json 2>/dev/null |
        jq -r '.measurements[0].medians[0] | if .errors > 0 then "\(.errors) failed" else "\(.latency_us.p99 / 1000 | round)/\(.latency_us.max / 1000 | round)" end'
}

: >"$directory/sizes"
echo "cycle  revision  resident MiB (n1 n2 n3)  log.redb MiB  state.redb MiB  anew  renewals p99/max ms"
for ((cycle = 1; cycle <= cycles; cycle++)); do
    renewals >"$directory/renewals" &
    renewing=$!
    churn >>"$directory/rates"
    wait "$renewing"
    revision=$(curl -fs http://127.0.8.1:7379/v1/cluster | jq .revision)
    resident="" log="" state=""
    for n in 0 1 2; do
        kilobytes=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/${members[$n]}/status")
        resident+=" $((kilobytes / 1024))"
        log+=" $(mib "$(stat -c %s "$directory/n$((n + 1))/log.redb")")"
        state+=" $(mib "$(stat -c %s "$directory/n$((n + 1))/state.redb")")"
    done
    anew=$(cat "$directory"/n?.log | grep -c 'is written anew' || true)
    printf '%5d  %8d  %-23s  %-12s  %-14s  %4d  %s\n' \
        "$cycle" "$revision" "$resident" "$log" "$state" "$anew" "$(<"$directory/renewals")"
    echo "$cycle $resident $log $state" >>"$directory/sizes"
done

# Each column by itself: the second quarter has all warm, the last shows what grows.
awk -v cycles="$cycles" '
    BEGIN { split("resident resident resident log.redb log.redb log.redb state.redb state.redb state.redb", names) }
    { for (column = 2; column <= NF; column++) {
          if ($1 > cycles / 4 && $1 <= cycles / 2) { early[column] += $column; if (column == 2) earlies++ }
          if ($1 > cycles * 3 / 4) { late[column] += $column; if (column == 2) lates++ } } }
    END {
        for (column = 2; column <= 10; column++) {
            before = early[column] / earlies; after = late[column] / lates
            grows = after > before * 1.1 + 16
            printf "%s of n%d: %.0f MiB in the second quarter, %.0f MiB in the last%s\n", names[column - 1], (column - 2) % 3 + 1, before, after, grows ? ": it grows" : ""
            failed = failed || grows
        }
        exit failed
    }' "$directory/sizes"
