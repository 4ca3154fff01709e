#!/usr/bin/env bash
# What `systemd-analyze security` thinks of our units, beside that of Debian's etcd. Fails above 1.5; less is better, and
# a unit without any measure has 9.6.
#
# What cannot be looked at here is told in a line that begins with SKIPPED, which is a failure with TENURE_TESTS_STRICT.
set -euo pipefail
cd "$(dirname "$0")"

skipped() {
    echo "SKIPPED: exposure: $*"
    [ -z "${TENURE_TESTS_STRICT:-}" ] || { echo "FAILED: TENURE_TESTS_STRICT lets nothing be skipped" >&2 && exit 1; }
}
line() { printf '%-32s %s\n' "$1" "$2"; }

# The score of a unit file, of whatever name.
score() {
    systemd-analyze security --offline=true --no-pager "$1" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p'
}

# That of etcd: what is installed, else the package that apt would install.
etcd() {
    local unit
    for unit in {/usr,}/lib/systemd/system/etcd.service; do
        if [ -e "$unit" ]; then
            line "etcd $(dpkg-query -W -f '${Version}' etcd-server 2>/dev/null || echo "(installed)")" "$(score "$unit")"
            return
        fi
    done
    if ! (cd "$dir" && apt-get download -qq etcd-server && dpkg-deb -x etcd-server_*.deb .) >"$dir/fetching" 2>&1; then
        skipped "Debian's package etcd-server, to compare with, is not to be had here: $(tail -n 1 "$dir/fetching")"
        return
    fi
    line "etcd $(dpkg-deb -f "$dir"/etcd-server_*.deb Version) (Debian)" "$(score "$(find "$dir" -name etcd.service)")"
}

if ! command -v systemd-analyze >/dev/null; then
    skipped "systemd-analyze is not here"
    exit
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp tenured.service "$dir"
./template.sh >"$dir/tenured@.service"
systemd-analyze --version | head -n 1
for unit in tenured.service tenured@.service; do
    line "$unit" "$(score "$dir/$unit")"
    # Nothing between the number and the threshold may round: `--threshold` counts in tenths.
    systemd-analyze security --offline=true --no-pager --threshold=15 "$dir/$unit" >/dev/null
done
etcd
