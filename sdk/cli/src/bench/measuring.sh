# What the scripts beside this share, which read it: how they are told what to do, and that nothing they start outlives them.
# shellcheck shell=bash

# Tells the comment at the head of the script.
usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 64
}

# Ends where one of the programs cannot be run.
needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || { echo "no program \"$program\" is in the PATH" >&2 && exit 1; }
    done
}

# Makes a directory, which has to be where a sync means something.
on_a_disk() {
    mkdir -p "$1"
    [ "$(stat -f -c %T "$1")" != tmpfs ] || { echo "$1 is on tmpfs, where nothing is synced: a directory on a disk is needed" >&2 && exit 1; }
}

# Waits until each of the URLs is ready.
until_ready() {
    local url
    for url in "$@"; do
        curl -fs -o /dev/null --retry 100 --retry-delay 1 --retry-all-errors "$url/readyz"
    done
}

stop() {
    trap - EXIT
    mapfile -t started < <(jobs -pr)
    kill "${started[@]}" 2>/dev/null || true
    wait || true
}
trap stop EXIT
trap 'exit 130' INT TERM
