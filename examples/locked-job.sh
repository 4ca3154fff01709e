#!/usr/bin/env bash
# Runs a command while holding a lock, so that it runs on one machine at a time:
#
#     examples/locked-job.sh jobs/nightly ./backup.sh
#
# The command finds the fence in TENURE_FENCE: what it writes to should refuse lesser ones. It is ended, by TERM and
# then by KILL, before the lock can be another's. Needs bash, curl and Linux.
#
# What it cannot do, and `tenure lock` can: end what has left the process group of the command (`timeout`, `setsid`), and
# end the command when it is itself ended by `kill -9` or stopped. What runs as another user (`sudo`) neither of them can
# end. When the command has ended and that runs on, this leaves the lock to its lease and says so; `tenure lock` keeps it.
#
#     TENURE_ENDPOINTS  client URLs of members, separated by commas (http://127.0.0.1:7379)
#     TENURE_TTL_MS     for how long others wait after this machine has died (15000)
#     TENURE_WAIT_MS    how long to wait for the lock (86400000; 0 only tries)
#     TENURE_TOKEN_FILE a file with the token by which this says who it is, where that is asked; it is read for each request
#
# Exit codes: those of the command; 1 refused, 64 wrong usage, 69 no member can be reached, 75 the lock is another's, 76 the lock was
# lost and the command was ended for it.
set -uo pipefail

if (($# < 2)); then
    echo "usage: locked-job.sh LOCK COMMAND [ARGUMENT...]" >&2
    exit 64
fi
lock=$1
shift
IFS=, read -ra members <<<"${TENURE_ENDPOINTS:-http://127.0.0.1:7379}"
ttl_ms=${TENURE_TTL_MS:-15000}
wait_ms=${TENURE_WAIT_MS:-86400000}
for number in "$ttl_ms" "$wait_ms"; do
    if [[ ! $number =~ ^(0|[1-9][0-9]{0,7})$ ]]; then
        echo "locked-job: TENURE_TTL_MS and TENURE_WAIT_MS are whole milliseconds, not '$number'" >&2
        exit 64
    fi
done
token_file=${TENURE_TOKEN_FILE:-}
if [[ -n $token_file && ! -r $token_file ]]; then
    echo "locked-job: the token file '$token_file' cannot be read" >&2
    exit 64
fi
if ! command -v curl >/dev/null; then
    echo "locked-job: there is no curl" >&2
    exit 1
fi

# Sets `now` to the milliseconds since the machine was started, those in which it was suspended included. $SECONDS and
# `date` would follow the wall clock, which people set.
look() {
    read -r now _ </proc/uptime
    now=$((10#${now/./} * 10))
}

# A name as it stands in a URL, every byte of it escaped.
escaped() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'; }

# The header that says who asks. curl reads it from a file: arguments are seen by all users of a machine.
who() { [[ -z $token_file ]] || printf 'authorization: Bearer %s\n' "$(<"$token_file")"; }

# call METHOD PATH TIMEOUT_MS [CURL ARGUMENT...]: asks members in turn until one answers, for as long as that. Leaves
# `status`, `body`, and in `sent` the moment before the request that was answered. 502 and 503 say that another may do better.
turn=0
call() {
    local method=$1 path=$2 left end member answer
    look
    end=$((now + $3))
    shift 3
    while :; do
        member=${members[turn % ${#members[@]}]}
        look
        sent=$now
        left=$((end - sent))
        if ((left <= 0)); then
            return 1
        fi
        # One member that is silent may not take all the time that there is for asking others.
        answer=$(curl -s -X "$method" --connect-timeout 1 --max-time "$(seconds $((left < try_ms ? left : try_ms)))" \
            -H 'content-type: application/json' -H @<(who) -w '\n%{http_code}' "$@" "$member$path")
        status=${answer##*$'\n'}
        body=${answer%$'\n'*}
        if [[ $status != 000 && $status != 502 && $status != 503 && $status != 504 ]]; then
            return 0
        fi
        turn=$((turn + 1))
        sleep 0.1
    done
}

seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
field() { grep -o "\"$1\":\"\?[0-9a-z]*" <<<"$body" | head -n 1 | sed 's/.*[:"]//'; }
say() { echo "locked-job: $*" >&2; }

path=/v1/locks/$(escaped "$lock")
try_ms=3000
lease=
fence=
job=
# Whether the command itself runs, also as another user whom no signal of this one reaches.
runs() { [[ -e /proc/$job ]]; }
end_all() { [[ -n $job ]] && kill "-$1" -- "-$job" 2>/dev/null; }

# Whether something of the command's group still works. Not asked by a signal, which does not reach what runs as another
# user and reaches what has ended but was not waited for.
works_on() {
    local file line
    for file in /proc/[0-9]*/stat; do
        read -r line 2>/dev/null <"$file" || continue
        # Behind the name: the state, the parent and the group.
        read -r state _ group _ <<<"${line##*) }"
        if [[ $group == "$job" && $state != [ZX] ]]; then
            return 0
        fi
    done
    return 1
}

# Ends all of the command. Where that takes longer than the lock may be believed in, the lock is left to its lease.
end_job() {
    local end
    [[ -n $job ]] || return 0
    look
    end=$((until > now + 1000 ? until : now + 1000))
    end_all KILL
    while works_on; do
        look
        if ((now >= end)); then
            say "some of the command (process group $job) cannot be ended: the lock is left to its lease"
            return 1
        fi
        sleep 0.05
        end_all KILL
    done
}

# Gives back what there is. The fence says which hold is meant: a late retry can never free a later one.
give_back() {
    end_job || return
    if [[ -n $fence ]]; then
        call DELETE "$path?lease=$lease&fence=$fence" 5000
    fi
    if [[ -n $lease ]]; then
        call DELETE "/v1/leases/$lease" 5000
    fi
}
trap give_back EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

# However often this is asked, the key makes it one lease.
read -r key </proc/sys/kernel/random/uuid
if ! call POST /v1/leases 15000 -H "idempotency-key: $key" -d "{\"ttl_ms\":$ttl_ms,\"name\":\"${HOSTNAME//[^A-Za-z0-9.-]/}\"}"; then
    say "no member of ${members[*]} answers"
    exit 69
fi
if [[ $status != 201 ]]; then
    say "no lease: $body"
    exit 1
fi
lease=$(field lease)

# ask WAIT_MS POLL_MS TIMEOUT_MS: asks for the lock. Asking again with the same lease finds the same place in the queue,
# or the same hold, and renews the lease.
ask() {
    try_ms=$(($2 + 2000)) call POST "$path" "$3" -d "{\"lease\":\"$lease\",\"wait_ms\":$1,\"poll_ms\":$2}"
}

# Until when the lock may be believed in. The contract says 98 % of what was left, less 50 ms, from before the request was
# sent, by two clocks, of which bash can read one. That one may be slowed by those who keep the wall clock, chrony by up
# to a twelfth; so it is 88 %, and 10 ms more because that clock is shown in hundredths.
believe() { until=$((sent + $(field remaining_ms) * 88 / 100 - 60)); }

# A signal waits for the end of the request.
poll_ms=$((ttl_ms / 3 < 5000 ? ttl_ms / 3 : 5000))
poll_ms=$((wait_ms < poll_ms ? wait_ms : poll_ms))
while :; do
    # A cluster that is away for less than the TTL takes the place from nobody.
    if ! ask "$wait_ms" "$poll_ms" $((ttl_ms + poll_ms)); then
        say "no member of ${members[*]} answers"
        exit 69
    fi
    case $status in
    200)
        fence=$(field fence)
        believe
        look
        # An answer that was long on its way leaves little to believe: asking again renews.
        if ((until - now > ttl_ms / 2)); then
            break
        fi
        ;;
    202) ;;
    *)
        say "the lock was not acquired: $body"
        exit $((status == 409 || status == 410 ? 75 : 1))
        ;;
    esac
done

# From here on signals are the command's.
passed_on=
trap 'passed_on=TERM' TERM
trap 'passed_on=INT' INT
trap 'passed_on=HUP' HUP
# The command gets a process group of its own, so that what it has started ends with it.
set -m
TENURE_LOCK=$lock TENURE_FENCE=$fence TENURE_LEASE=$lease "$@" </dev/null &
job=$!
set +m

# A fifth of the TTL is for the command to end after TERM, and what is left after KILL for the system to do it.
grace_ms=$((ttl_ms / 5))
kill_ms=$((ttl_ms / 20))
renew_at=$((sent + ttl_ms / 3))
lost=
told=
killed=
while runs; do
    if [[ -n $passed_on ]]; then
        end_all "$passed_on"
        passed_on=
    fi
    look
    left=$((until - grace_ms - now))
    if [[ -z $lost ]] && ((left > 0 && now >= renew_at)); then
        # Asking again renews. It is given up early enough to ask another member, and for the command to end in time.
        if ask 0 0 $((left < 1000 ? left : 1000)); then
            case $status,$(field fence) in
            200,"$fence")
                believe
                renew_at=$((sent + ttl_ms / 3))
                ;;
            # Somebody broke the hold. Where nobody waited this has taken a new one, which ends with the lease; the job
            # was begun with the old one. Others get the lock when this one's deadline is over.
            200,* | 409,*) lost="it was broken" ;;
            404,* | 410,*) lost="its lease has ended" until=$now ;;
            # 401, 403, 429: a right may be given back before the deadline, and members slow down an address that asks more
            # often than this by what they do not know.
            *) renew_at=$((now + ttl_ms / 10)) ;;
            esac
        fi
        look
    fi
    if [[ -z $lost ]] && ((now >= until - grace_ms)); then
        lost="it could not be renewed"
    fi
    if [[ -n $lost && -z $told ]]; then
        say "the lock was lost, $lost: ending the command"
        end_all TERM
        told=yes
    fi
    if [[ $killed == yes ]] && ((now >= until)); then
        say "DANGER: the command (process group $job) cannot be ended, and others may hold the lock"
        killed=told
    fi
    if [[ -n $lost ]] && ((now >= until - kill_ms)); then
        end_all KILL
        killed=${killed:-yes}
    fi
    sleep 0.1
done
# What it left behind would work on without the lock, so it is ended at the exit, before the lock is given back.
wait "$job"
code=$?
if [[ -n $lost ]]; then
    exit 76
fi
exit "$code"
