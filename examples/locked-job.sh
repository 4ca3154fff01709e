#!/usr/bin/env bash
# Runs a command while holding a lock, so that it runs on one machine at a time:
#
#     examples/locked-job.sh jobs/nightly ./backup.sh
#
# The command gets the fence in TENURE_FENCE: what it writes to should refuse lesser ones. The lease is renewed every
# 5 s and the command is ended before the lease can be over, where renewals fail. Needs bash and curl.
set -euo pipefail

url=${TENURE_URL:-http://127.0.0.1:7379}
lock=${1:?usage: locked-job.sh LOCK COMMAND...}
shift
ttl_ms=15000

call() { curl -sS --fail-with-body --max-time 40 -H 'content-type: application/json' "$@"; }
field() { grep -o "\"$1\":\"\?[0-9a-z]*" | head -n 1 | sed 's/.*[:"]//'; }

lease=$(call "$url/v1/leases" -d "{\"ttl_ms\":$ttl_ms,\"name\":\"$(hostname)\"}" | field lease)
trap 'call -o /dev/null -X DELETE "$url/v1/leases/$lease" || true' EXIT

# Asking again with the same lease finds the same place in the queue, and renews the lease.
while :; do
    answer=$(call "$url/v1/locks/$lock" -d "{\"lease\":\"$lease\",\"wait_ms\":86400000,\"poll_ms\":5000}")
    [ "$(field state <<<"$answer")" = held ] && break
done
TENURE_FENCE=$(field fence <<<"$answer")
export TENURE_FENCE

"$@" &
job=$!
renewed=$SECONDS
while sleep 1 && kill -0 "$job" 2>/dev/null; do
    asked=$SECONDS
    if ((asked - renewed >= 5)) && curl -sf --max-time 2 -o /dev/null -X POST "$url/v1/leases/$lease/renew"; then
        renewed=$asked
    fi
    # Three seconds are left for the command to end: by then the lease may be over.
    if ((SECONDS - renewed >= ttl_ms / 1000 - 4)); then
        echo "locked-job: the lease could not be renewed; ending the command" >&2
        kill "$job"
        break
    fi
done
wait "$job"
