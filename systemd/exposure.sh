#!/usr/bin/env bash
# What `systemd-analyze security` thinks of our units, beside that of Debian's etcd. Fails above 1.5; less is better, and
# a unit without any measure has 9.6.
set -euo pipefail
cd "$(dirname "$0")"

# The score of a unit file, of whatever name.
score() {
    systemd-analyze security --offline=true --no-pager "$1" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p'
}

etcd() {
    local unit
    for unit in {/usr,}/lib/systemd/system/etcd.service; do
        if [ -e "$unit" ]; then score "$unit" && return; fi
    done
    if (cd "$dir" && apt-get download -qq etcd-server && dpkg-deb -x etcd-server_*.deb .) >/dev/null 2>&1; then
        score "$(find "$dir" -name etcd.service)"
    else
        echo "not to be had here"
    fi
}

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: exposure: systemd-analyze is not here"
    [ -z "${TENURE_TESTS_STRICT:-}" ]
    exit
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp tenured.service "$dir"
./template.sh >"$dir/tenured@.service"
for unit in tenured.service tenured@.service; do
    exposure=$(score "$dir/$unit")
    printf '%-20s %s\n' "$unit" "$exposure"
    # Nothing between the number and the threshold may round: `--threshold` counts in tenths.
    systemd-analyze security --offline=true --no-pager --threshold=15 "$dir/$unit" >/dev/null
done
printf '%-20s %s\n' "etcd (Debian)" "$(etcd)"
