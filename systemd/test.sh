#!/usr/bin/env bash
# The Debian package under a real systemd, on throw-away machines with a network between them: installed, started, reloaded,
# killed, stalled, stopped, upgraded and put back, cut off, joined, replaced, restored, recovered, brought to TLS, begun anew with
# TLS and access control, removed and purged.
#
#   systemd/test.sh [--binaries DIR]     as for systemd/package.sh; of examples also `poison` is needed
#
# Blocks of commands of README.md are run as they are printed; at the end it is looked whether any of them never was.
#
# Where no systemd can be booted it says why, in a line that begins with SKIPPED. That is a failure with TENURE_TESTS_STRICT, and in
# CI (CI=true) on a machine that has booted one before.
set -euo pipefail
cd "$(dirname "$0")"
binaries=(--binaries "${CARGO_TARGET_DIR:-../target}/debug")
[ $# -eq 0 ] || binaries=("$@")
for ((i = 1; i < ${#binaries[@]}; i += 2)); do binaries[i]=$(realpath "${binaries[i]}"); done

# Which machine, which member: n1 to n3 at 10.0.0.1 to 10.0.0.3; and n4, on which nothing is installed at first.
machines=(n1 n2 n3)
spare=n4
prefix=t$$-
logs=$(mktemp -d)
began=$SECONDS
# There since a systemd was first booted on this machine.
booted=/var/tmp/tenure-box-booted
# How clients come: what `curl` is told of TLS and tokens, and `tenure` by its environment.
scheme=http
curled=()
asking=(TENURE_ENDPOINTS=http://10.0.0.1:7379)

box() { ./box "$1" "$prefix$2" "${@:3}"; }
on() { box exec "$@"; }
said() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
skipped() {
    echo "SKIPPED: the package under a real systemd: $*"
    [ -z "${TENURE_TESTS_STRICT:-}" ] || fail "TENURE_TESTS_STRICT lets nothing be skipped"
    if [ "${CI:-}" = true ] && [ -e "$booted" ]; then
        fail "this machine has booted one before ($booted, $(date -r "$booted" +%F)): find what it has lost, or remove that file"
    fi
    exit 0
}

# Ends what was started, and after a failure shows what the machines have to say.
finish() {
    local code=$? name downs=()
    trap - EXIT
    # Whoever writes meanwhile stops at this.
    rm -f "$logs/writing"
    for name in "${machines[@]}" "$spare"; do
        if [ $code -ne 0 ] && [ -e "/run/tenure-box/$prefix$name/inner" ]; then
            echo "--- $name:"
            on "$name" systemctl status --no-pager --lines=0 'tenured*' 2>&1 | head -n 30 || true
            on "$name" journalctl --no-pager --lines=40 -o short-precise -u 'tenured*' || true
        fi
    done
    for name in "${machines[@]}" "$spare"; do
        box down "$name" &
        downs+=($!)
    done
    wait "${downs[@]}" || true
    rm -rf "$logs"
    exit $code
}

# Waits until a command succeeds.
eventually() {
    local within=$1 what=$2 until=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || fail "not within $within s: $what"
        sleep 0.1
    done
}

# A property of a unit, of `tenured` unless another is named.
of_unit() { on "$1" systemctl show --value -p "$2" "${3:-tenured}"; }
is() { [ "$(of_unit "$1" "$2" "${4:-tenured}")" = "$3" ] || fail "$2 of ${4:-tenured} on $1 is \"$(of_unit "$1" "$2" "${4:-tenured}")\", not \"$3\""; }
has_status() { [[ "$(of_unit "$1" StatusText)" == $2 ]]; }
address() { echo "$scheme://10.0.0.${1#n}:7379"; }
curl_on() { on "$1" curl "${curled[@]}" "${@:2}"; }
ready() { curl_on n1 -sf --max-time 2 "$(address "$1")/readyz"; }
all_ready() { ready n1 && ready n2 && ready n3; }
put() { curl_on n1 -sf --max-time 5 -X PUT "$(address "$1")/v1/keys/$2" -d "$3"; }
has_key() { [ "$(curl_on n1 -s --max-time 5 "$(address "$1")/v1/keys/$2?consistency=local")" = "$3" ]; }
milliseconds() { date +%s%3N; }

# A block of the README, as it is printed there for n2: under which heading, and which of those there that are commands, or in another
# language.
printed() {
    printf '%s\t%s\t%s\n' "$1" "$2" "${3:-sh}" >>"$logs/tried"
    blocks | awk -F '\t' -v block="$1\t$2\t${3:-sh}" '$1 FS $2 FS $3 == block' | cut -f 4-
}
# All blocks of the README, a line each time behind its heading, its number among those of its language there, and that.
blocks() {
    awk '/^##+ / { heading = $0; sub(/^#+ /, "", heading); delete count }
        /^```/ { open = !open && $0 != "```"; if (open) { language = substr($0, 4); count[language]++ }; next }
        open { print heading "\t" count[language] "\t" language "\t" $0 }' README.md
}
# The same with the name and the address of another machine, done there.
as_printed() { as_changed "$1" "$2" "$3" "s/\bn2\b/$1/g; s/10\.0\.0\.2/10.0.0.${1#n}/g"; }
# The same with whatever sed makes of it, and perhaps with something in the environment.
as_changed() {
    local name=$1 commands
    commands=$(printed "$2" "$3" | sed "$4")
    [ -n "$commands" ] || fail "the README has no block $3 under \"$2\""
    on "$name" env "${@:5}" bash -euo pipefail -c "cd /srv; $commands" >"$logs/printed-$name" 2>&1 ||
        fail "$name: $commands: $(cat "$logs/printed-$name")"
}
# As it stands there, by whoever asks n1.
as_it_stands() { as_changed "$1" "$2" "$3" "" "${asking[@]}"; }

# Which machine has the leader, of those that are named; the others are not asked.
leader_of() {
    local name
    for name in "$@"; do
        if has_status "$name" 'leads in term*'; then echo "$name" && return; fi
    done
    return 1
}
leader() {
    eventually 20 "one of $* leads" leader_of "$@"
    leader_of "$@"
}
other_than() {
    local name
    for name in "${machines[@]}"; do
        if [ "$name" != "$1" ] && [ "$name" != "${2:-}" ]; then echo "$name" && return; fi
    done
}

# The first write that succeeds by way of a member, in milliseconds from now.
first_write() {
    local from
    from=$(milliseconds)
    eventually 20 "$1 takes a write" put "$1" "$2" x
    echo $(($(milliseconds) - from))
}

boot() {
    local name number booting=()
    [ "$(id -u)" = 0 ] || skipped "only root can boot one"
    for tool in unshare nsenter setpriv ip pgrep dpkg script openssl; do
        command -v "$tool" >/dev/null || skipped "$tool is not here"
    done
    [ -x /lib/systemd/systemd ] || skipped "there is no systemd on this machine"
    # What a machine lacks is no failure; a machine that has it all and does not boot is one.
    unshare --mount --uts --ipc --net --pid --cgroup --fork true 2>"$logs/boot" || skipped "no namespaces: $(cat "$logs/boot")"
    grep -w cgroup2 /proc/filesystems >/dev/null || skipped "the kernel has no cgroup2"
    for name in "${machines[@]}" "$spare"; do
        box up "$name" 2>"$logs/boot-$name" || touch "$logs/not-booted" &
        booting+=($!)
    done
    wait "${booting[@]}"
    [ ! -e "$logs/not-booted" ] || fail "$(cat "$logs"/boot-*)"
    box net n1 link add br0 type bridge 2>"$logs/bridge" || skipped "no network between the machines: $(cat "$logs/bridge")"
    box net n1 addr add 10.0.0.1/24 dev br0
    box net n1 link set br0 up
    for number in 2 3 4; do
        name=n$number
        box net n1 link add "v$number" type veth peer name eth0 netns "$(cat "/run/tenure-box/$prefix$name/inner")"
        box net n1 link set "v$number" master br0 up
        box net "$name" addr add "10.0.0.$number/24" dev eth0
        box net "$name" link set eth0 up
    done
    [ -e "$booted" ] || touch "$booted"
    said "the machines run $(on n1 systemctl --version | head -n 1)"
}

# The same package with another version, compressed in a hurry.
another_version() {
    dpkg-deb -R "$1" "$logs/unpacked"
    sed -i "s/^Version: .*/Version: $2/" "$logs/unpacked/DEBIAN/control"
    dpkg-deb -Zgzip -z1 -b "$logs/unpacked" "$3" >/dev/null
    rm -r "$logs/unpacked"
}

installs_without_starting_anything() {
    local name
    for name in "${machines[@]}" "$spare"; do
        # To make the index of all manual pages again takes longer than all else.
        echo no-triggers | on "$name" tee /etc/dpkg/dpkg.cfg.d/no-triggers >/dev/null
        cp "$package" "$upgrade" "$(box root "$name")/srv/"
    done
    for name in "${machines[@]}"; do
        on "$name" dpkg -i "/srv/${package##*/}" >"$logs/install-$name" 2>&1 || touch "$logs/not-installed" &
    done
    wait
    [ ! -e "$logs/not-installed" ] || fail "$(cat "$logs"/install-*)"
    for name in "${machines[@]}"; do
        [ "$(on "$name" systemctl is-enabled tenured)" = enabled ] || fail "the unit is not enabled"
        [ "$(on "$name" systemctl is-enabled tenured.socket || true)" = disabled ] || fail "the socket unit is enabled"
        is "$name" ActiveState inactive
        is "$name" NRestarts 0
        [ -z "$(on "$name" systemctl --failed --no-legend)" ] || fail "a unit has failed: $(on "$name" systemctl --failed)"
        [ "$(on "$name" stat -c '%a %U %G' /etc/tenure)" = "750 root tenure" ] || fail "/etc/tenure has other rights"
    done
    [ -z "$(on n1 systemd-analyze verify tenured.service tenured@n1.service tenured.socket 2>&1)" ] ||
        fail "$(on n1 systemd-analyze verify tenured.service tenured@n1.service tenured.socket 2>&1)"
    ! command -v man >/dev/null || for page in tenured tenured-serve tenured.toml tenure tenure-lock; do
        on n1 man -w "$page" >/dev/null || fail "there is no manual page $page"
    done
    on n1 bash -c 'source /usr/share/bash-completion/completions/tenured && complete -p tenured' >/dev/null
    on n1 bash -c 'source /usr/share/bash-completion/completions/tenure && complete -p tenure' >/dev/null
    on n1 sh -c 'ls /usr/share/doc/tenure' | grep cdx.json >/dev/null || fail "there is no SBOM"
    said "installed: enabled, not running without settings, no unit has failed"
}

# Whether two moments are no further apart than so many seconds.
near() { awk -v a="$1" -v b="$2" -v most="$3" 'BEGIN { d = a - b; exit !(a > 0 && -most <= d && d <= most) }'; }

one_member_by_the_readme() {
    local since
    as_printed n1 "One member" 1
    tail -n 1 "$logs/printed-n1" | grep -x hello >/dev/null || fail "the README gets no hello: $(cat "$logs/printed-n1")"
    # With all that the unit keeps from it, it knows when it began.
    since=$(on n1 curl -sf http://127.0.0.1:7379/metrics | sed -n 's/^process_start_time_seconds //p')
    near "$since" "$(on n1 date +%s)" 60 || fail "process_start_time_seconds is \"$since\""
    on n1 journalctl -u tenured -o json | grep '"TENURE_MEMBER":"n1"' | grep '"PRIORITY":"6"' >/dev/null ||
        fail "the journal has no fields: $(on n1 journalctl -u tenured -o json -n 1)"
    on n1 systemctl stop tenured
    [ ! -e "$(box root n1)/var/lib/tenure/n1/control.sock" ] || fail "a stop leaves its socket"
    on n1 rm -r /etc/tenure/tenured.toml /var/lib/tenure/n1
    said "README, one member: serves"
}

one_member_in_an_instance() {
    as_printed n1 "More members on one machine" 1
    eventually 10 "the one member leads" on n1 curl -sf http://127.0.0.1:7381/readyz
    on n1 curl -sf -X PUT http://127.0.0.1:7381/v1/keys/kept -d x >/dev/null
    [ "$(on n1 stat -c '%a %U' /var/lib/tenure/solo)" = "700 tenure" ] || fail "the data of an instance has other rights"
    on n1 systemctl stop tenured@solo
    is n1 Result success tenured@solo
    # Exit code 3: the data is damaged, which no restart heals.
    on n1 dd if=/dev/urandom of=/var/lib/tenure/solo/log.redb bs=4096 count=4 conv=notrunc status=none
    on n1 systemctl start tenured@solo 2>/dev/null && fail "it starts with a damaged log"
    is n1 ExecMainStatus 3 tenured@solo
    sleep 2.5
    is n1 ActiveState failed tenured@solo
    is n1 NRestarts 0 tenured@solo
    on n1 systemctl reset-failed tenured@solo
    said "one member in an instance: serves, stops, and stays down with exit code 3 when its log is damaged"
}

three_members_form_a_cluster() {
    local from took
    n1_follows_at_most_1
    from=$(milliseconds)
    as_printed n1 "Three members" 1
    took=$(($(milliseconds) - from))
    has_status n1 'WAITS to become part of a cluster*' || fail "alone, n1 says $(of_unit n1 StatusText)"
    as_printed n2 "Three members" 1
    as_printed n3 "Three members" 1
    eventually 20 "three members serve" all_ready
    as_printed n2 "Three members" 2
    grep '"ready":true' "$logs/printed-n2" >/dev/null || fail "the README sees no cluster: $(cat "$logs/printed-n2")"
    put n2 before-all x >/dev/null
    is_followed n2 1 2
    said "README, three members: the first is installed and READY after $took ms without the others; all serve; $(leader n1 n2 n3) leads"
}

# n1 plays an older program, which follows an older state version and is told so by no file; and plays it no more. What runs there
# goes on.
n1_follows_at_most_1() {
    on n1 mkdir -p /run/systemd/system/tenured.service.d
    echo $'[Service]\nEnvironment=TENURED_STATE_VERSION_AT_MOST=1' | on n1 tee /run/systemd/system/tenured.service.d/older.conf >/dev/null
    on n1 systemctl daemon-reload
}
n1_follows_all() {
    on n1 rm /run/systemd/system/tenured.service.d/older.conf
    on n1 systemctl daemon-reload
}
# The state version that a member follows, and the newest that it can.
followed() { curl_on n1 -s --max-time 5 "$(address "$1")/v1/status" | sed 's/.*"state_version":\([0-9]*\).*"state_version_at_most":\([0-9]*\).*/\1 \2/'; }
follows() { [ "$(followed "$1")" = "$2 $3" ]; }
is_followed() { follows "$1" "$2" "$3" || fail "$1 follows state version, and can at most: $(followed "$1"), not $2 $3"; }

reloads() {
    local pid
    pid=$(of_unit n2 MainPID)
    on n2 sed -i 's/^log_filter = .*/log_filter = "tenured=debug"/' /etc/tenure/tenured.toml
    as_printed n2 Settings 1
    on n2 curl -s http://10.0.0.2:7379/v1/status >/dev/null
    eventually 5 "lines of the new filter are in the journal" on n2 sh -c 'journalctl -u tenured -p 7..7 | grep tenured'
    on n2 sed -i 's/^log_filter = .*/log_filter = "tenured=loud"/' /etc/tenure/tenured.toml
    on n2 systemctl reload tenured 2>/dev/null && fail "a reload of a bad file succeeds"
    is n2 ActiveState active
    is n2 MainPID "$pid"
    eventually 5 "the journal tells the mistake as an error" \
        on n2 sh -c 'journalctl -u tenured -p err | grep "log_filter is .*tenured=loud"'
    on n2 sed -i 's/^log_filter = .*/log_filter = "info"/' /etc/tenure/tenured.toml
    on n2 systemctl reload tenured
    ready n2 >/dev/null || fail "n2 does not serve after its reloads"
    said "reload: a good file is taken over, a bad one fails and changes nothing"
}

tells_the_journal_what_is_asked() {
    local all=(on n2 journalctl -u tenured -o json)
    of_cluster_from n1 tenure log-filter debug --member n2 >/dev/null
    on n2 curl -s http://10.0.0.2:7379/v1/status | grep '"log_filter":"debug"' >/dev/null || fail "n2 has another filter"
    eventually 5 "n2 tells of requests" \
        on n2 sh -c 'journalctl -u tenured TENURE_TARGET=tenured::http::service::answered | grep "request was answered"'
    of_cluster_from n1 tenure log-filter info >/dev/null
    on n1 curl -s http://10.0.0.2:7379/v1/status | grep '"log_filter":"info"' >/dev/null || fail "the filter stays"
    # Who tells a line, and whom it is about.
    eventually 5 "the change is in the audit" on n2 sh -c 'journalctl -u tenured -o json TENURE_TARGET=audit | grep "\"TENURE_EVENT_MEMBER\":\"[0-9a-f]*\""'
    "${all[@]}" | grep '"TENURE_MEMBER":"n2"' >/dev/null || fail "no line is of n2"
    "${all[@]}" | grep '"TENURE_MEMBER":\[' >"$logs/twice" && fail "a line has two members: $(head -n 1 "$logs/twice")"
    on n1 sh -c 'journalctl -u tenured TENURE_PEER=n2 | grep "found peer"' >/dev/null || fail "TENURE_PEER=n2 finds nothing on n1"
    said "log-filter: n2 tells more, and no more afterwards; TENURE_PEER finds a peer, and each line has one member"
}

# A command on a machine that asks n1.
of_cluster_from() { on "$1" env "${asking[@]}" "${@:2}"; }

sends_traces() {
    local commands
    commands=$(awk '/^```/{n++; next} n == 1' monitoring/traces.md)
    on n2 bash -euo pipefail -c "$commands"
    eventually 20 "n2 serves again" ready n2
    put n2 traced x >/dev/null
    eventually 20 "the journal says why no collector takes them" \
        on n2 sh -c 'journalctl -u tenured -p warning | grep "spans of traces are lost" | grep "Connection refused"'
    on n2 rm /etc/tenure/otel.env
    on n2 systemctl restart tenured
    eventually 20 "n2 serves again" ready n2
    said "traces.md: traces are sent, and the journal says why they are lost where nobody takes them"
}

stays_down_when_misconfigured() {
    on n3 sed -i 's/^name = /nmae = /' /etc/tenure/tenured.toml
    on n3 systemctl restart tenured 2>/dev/null && fail "it starts with a bad file"
    is n3 ExecMainStatus 2
    sleep 2.5
    is n3 ActiveState failed
    is n3 NRestarts 0
    on n3 sed -i 's/^nmae = /name = /' /etc/tenure/tenured.toml
    on n3 systemctl start tenured
    eventually 20 "n3 serves again" ready n3
    said "exit code 2: stays down until the file is mended"
}

is_restarted_after_a_kill() {
    local killed other gap
    killed=$(leader n1 n2 n3)
    other=$(other_than "$killed")
    on "$killed" systemctl kill -s KILL tenured
    gap=$(first_write "$other" after-kill)
    eventually 20 "the killed member serves again" ready "$killed"
    is "$killed" NRestarts 1
    has_key "$killed" after-kill x || fail "the killed member has not caught up"
    said "kill -9 of the leader: the next write after $gap ms, restarted by systemd"
}

is_restarted_when_stalled() {
    local from
    on n3 mkdir -p /run/systemd/system/tenured.service.d
    echo $'[Service]\nWatchdogSec=3s' | on n3 tee /run/systemd/system/tenured.service.d/test.conf >/dev/null
    on n3 systemctl daemon-reload
    on n3 systemctl restart tenured
    eventually 20 "n3 serves" ready n3
    from=$(milliseconds)
    on n3 systemctl kill -s STOP --kill-who=main tenured
    eventually 20 "the stalled member was restarted" restarted_once
    eventually 20 "n3 serves again" ready n3
    on n3 journalctl -u tenured | grep 'Watchdog timeout' >/dev/null || fail "it was not the watchdog that ended it"
    said "SIGSTOP: killed by the watchdog of 3 s and serving again after $(($(milliseconds) - from)) ms"
}
restarted_once() { [ "$(of_unit n3 NRestarts)" = 1 ]; }

survives_a_partition() {
    local pid
    # Two of three, without n3: whoever leads by then is one of them.
    box net n1 link set v3 down
    eventually 10 "n3 knows no leader" has_status n3 'NO LEADER*'
    leader n1 n2 >/dev/null
    pid=$(of_unit n3 MainPID)
    put n2 during-partition x >/dev/null || fail "the majority takes no writes"
    # Longer than its watchdog waits.
    sleep 5
    is n3 MainPID "$pid"
    is n3 ActiveState active
    on n3 curl -s http://10.0.0.3:7379/readyz | grep '"ready":false' >/dev/null || fail "n3 says that it is ready"
    box net n1 link set v3 up
    eventually 20 "n3 serves again" ready n3
    has_key n3 during-partition x || fail "n3 has not caught up"
    on n3 rm /run/systemd/system/tenured.service.d/test.conf
    on n3 systemctl daemon-reload
    said "partition: the majority goes on, the member cut off says so and is left alone for longer than its watchdog"
}

stops_gracefully() {
    local stopped other from took gap
    stopped=$(leader n1 n2 n3)
    other=$(other_than "$stopped")
    from=$(milliseconds)
    on "$stopped" systemctl stop tenured
    took=$(($(milliseconds) - from))
    gap=$(first_write "$other" after-stop)
    is "$stopped" Result success
    on "$stopped" systemctl start tenured
    eventually 20 "it serves again" ready "$stopped"
    said "stop of the leader: $took ms, success; the next write $gap ms after that"
}

# Writes to whoever answers, one after the other, until the file is gone; counts them and the longest gap.
write_on() {
    local number=0 last now worst=0
    last=$(milliseconds)
    while [ -e "$logs/writing" ]; do
        number=$((number + 1))
        if put "n$((number % 3 + 1))" "upgrade/$number" "$number" >/dev/null 2>&1; then
            now=$(milliseconds)
            [ $((now - last)) -le $worst ] || worst=$((now - last))
            last=$now
            echo "$number" >>"$logs/acknowledged"
        fi
    done
    echo "$worst" >"$logs/worst"
}

# Two more members on the machine of n1, of which the first will not start again.
has_instances_that_do_not_come_back() {
    local number
    for number in 1 2; do
        sed "s/n1/aside$number/g; s/:7379/:739$number/g; s/:7380/:738$((number + 2))/g" examples/one-member.toml |
            on n1 install -m 640 -g tenure /dev/stdin "/etc/tenure/aside$number.toml"
        on n1 systemctl start "tenured@aside$number"
    done
    on n1 sed -i 's/^name = /nmae = /' /etc/tenure/aside1.toml
}
runs_old_program() { [[ "$(on n1 readlink "/proc/$(of_unit n1 MainPID "$1")/exe")" == *'(deleted)' ]]; }

# The upgrade of n1 has ended well, and says what is left to do.
is_told_who_does_not_come_back() {
    local pid commands
    pid=$1
    grep -xF 'tenure: tenured@aside1.service did not start with the new program; see: journalctl -u tenured@aside1.service' "$logs/printed-n1" >/dev/null ||
        fail "the upgrade does not say who does not come back: $(cat "$logs/printed-n1")"
    commands=$(sed -n 's/^    \(systemctl restart .*\)/\1/p' "$logs/printed-n1")
    [ "$commands" = $'systemctl restart tenured@aside1.service\nsystemctl restart tenured@aside2.service' ] ||
        fail "the upgrade says to do: $commands"
    is n1 ActiveState failed tenured@aside1
    is n1 ExecMainStatus 2 tenured@aside1
    is n1 MainPID "$pid" tenured@aside2
    runs_old_program tenured@aside2 || fail "aside2 has the new program"
    is_left_alone_by_needrestart "$pid"
    on n1 sed -i 's/^nmae = /name = /' /etc/tenure/aside1.toml
    on n1 bash -euo pipefail -c "$commands"
    is n1 ActiveState active tenured@aside1
    is n1 ActiveState active tenured@aside2
    ! runs_old_program tenured@aside2 || fail "aside2 has the old program still"
    on n1 systemctl stop tenured@aside1 tenured@aside2
    on n1 sh -c 'rm -r /etc/tenure/aside?.toml /var/lib/tenure/aside?'
}

# needrestart as apt runs it, where it can be had.
is_left_alone_by_needrestart() {
    local pid=$1
    if [ ! -e "$logs/needrestart/fetched" ]; then
        echo "SKIPPED: needrestart is not to be had here: $(tail -n 1 "$logs/fetching")"
        return
    fi
    mkdir "$(box root n1)/srv/needrestart"
    cp "$logs"/needrestart/*.deb "$(box root n1)/srv/needrestart/"
    on n1 sh -c 'dpkg -i /srv/needrestart/*.deb' >"$logs/needrestart/log" 2>&1 || fail "$(cat "$logs/needrestart/log")"
    on n1 env DEBIAN_FRONTEND=noninteractive needrestart -r a -l >"$logs/needrestart/log" 2>&1 || fail "$(cat "$logs/needrestart/log")"
    grep 'systemctl restart tenured@aside2.service' "$logs/needrestart/log" >/dev/null ||
        fail "needrestart does not say that aside2 is due: $(cat "$logs/needrestart/log")"
    is n1 MainPID "$pid" tenured@aside2
    said "needrestart says that a member is due for a restart, and leaves it alone"
}
fetch_needrestart() {
    mkdir "$logs/needrestart"
    cd "$logs/needrestart"
    # What it needs and this machine, and with it the boxes, does not have.
    apt-get install --simulate --no-install-recommends needrestart | sed -n 's/^Inst \([^ ]*\).*/\1/p' >names
    grep -x needrestart names && xargs apt-get download -qq <names && touch fetched
}

is_upgraded_in_place() {
    local name pid writer number count=0 aside2
    # The package that is there stands for an older one.
    as_printed n1 Upgrade 2
    n1_follows_all
    has_instances_that_do_not_come_back
    aside2=$(of_unit n1 MainPID tenured@aside2)
    : >"$logs/writing"
    write_on &
    writer=$!
    for name in "${machines[@]}"; do
        pid=$(of_unit "$name" MainPID)
        as_printed "$name" Upgrade 1
        is "$name" ActiveState active
        [ "$(of_unit "$name" MainPID)" != "$pid" ] || fail "$name still runs the old program"
        eventually 20 "$name serves again" ready "$name"
    done
    rm "$logs/writing"
    wait "$writer"
    on n3 tenure --endpoints "$(address n3)" ls --names upgrade/ >"$logs/kept" || fail "n3 lists no keys"
    for number in $(cat "$logs/acknowledged"); do
        grep -x "upgrade/$number" "$logs/kept" >/dev/null || fail "the acknowledged write $number is lost"
        count=$((count + 1))
    done
    [ "$count" -ge 20 ] || fail "only $count writes were acknowledged during the upgrades"
    on n1 dpkg-query -W -f '${Version}' tenure | grep -- '-2$' >/dev/null || fail "n1 has not the new version"
    [ "$(of_unit n1 ActiveState tenured@solo)" = inactive ] || fail "the upgrade started what did not run"
    is_told_who_does_not_come_back "$aside2"
    said "an upgrade after which an instance does not come back ends with 0, leaves the next one alone and says what to do"
    said "upgrade in place, one after the other: $count writes acknowledged meanwhile, all there; the longest gap $(cat "$logs/worst") ms"
}

goes_back_and_forward() {
    local refused
    is_followed n1 1 1
    is_followed n2 1 2
    refused=$(put_role)
    grep '"status":409' <<<"$refused" >/dev/null && grep 'n1 (' <<<"$refused" >/dev/null || fail "a role while n1 holds back: $refused"
    # The older package on n1.
    n1_follows_at_most_1
    as_printed n1 Upgrade 3
    on n1 dpkg-query -W -f '${Version}' tenure | grep -- '-1$' >/dev/null || fail "n1 has not the older version"
    eventually 20 "all serve" all_ready
    put n1 back x >/dev/null || fail "n1 takes no writes with the older package"
    is_followed n1 1 1
    # The newer one again, held.
    as_printed n1 Upgrade 2
    n1_follows_all
    as_printed n1 Upgrade 1
    is_followed n1 1 1
    as_printed n1 Upgrade 4
    for name in "${machines[@]}"; do eventually 10 "$name follows state version 2" follows "$name" 2 2; done
    put_role | grep '"readers"' >/dev/null || fail "no role is made by state version 2: $(put_role)"
    # From here on the older program does not start.
    n1_follows_at_most_1
    on n1 systemctl restart tenured 2>/dev/null || true
    eventually 10 "n1 stays down with exit code 3" stays_down_with_3 n1 tenured
    on n1 journalctl -u tenured -p err | grep 'follows state version 2, and this member follows up to 1: take state_version_at_most out' >/dev/null ||
        fail "the journal does not say what to do: $(on n1 journalctl -u tenured -p err -n 3)"
    n1_follows_all
    on n1 systemctl start tenured
    eventually 20 "n1 serves again" ready n1
    said "README, upgrade: held at state version 1 by one member, put back, upgraded again and let go; then the older one stays down and says why"
}
put_role() {
    curl_on n1 -s --max-time 5 -X PUT "$(address n2)/v1/roles/readers" -H 'Content-Type: application/json' \
        -d '{"grants":[{"verbs":["read"],"resource":"keys/"}]}'
}
stays_down_with_3() { [ "$(of_unit "$1" ActiveState "$2") $(of_unit "$1" ExecMainStatus "$2")" = "failed 3" ]; }

keeps_listening_by_its_socket() {
    local pid asking answered
    on n2 mkdir -p /etc/systemd/system/tenured.socket.d
    on n2 tee /etc/systemd/system/tenured.socket.d/listen.conf >/dev/null <<'UNIT'
[Socket]
ListenStream=
ListenStream=10.0.0.2:7379
ListenStream=10.0.0.2:9999
UNIT
    on n2 systemctl daemon-reload
    on n2 systemctl stop tenured
    on n2 systemctl start tenured.socket
    on n2 systemctl start tenured 2>/dev/null && fail "it serves a socket that no setting names"
    is n2 ExecMainStatus 2
    on n2 journalctl -u tenured -p err | grep '10.0.0.2:9999, and neither' >/dev/null || fail "the journal does not name the address"
    on n2 systemctl stop tenured.socket
    on n2 sed -i s/9999/7380/ /etc/systemd/system/tenured.socket.d/listen.conf
    on n2 systemctl daemon-reload
    on n2 systemctl reset-failed tenured
    on n2 systemctl start tenured.socket
    # The first that connects starts it, and others of the cluster do.
    on n2 curl -sf --retry 20 --retry-delay 1 --max-time 5 http://10.0.0.2:7379/livez >/dev/null || fail "nobody answers on the socket"
    eventually 20 "n2 serves again" ready n2
    pid=$(of_unit n2 MainPID)
    : >"$(box root n2)/srv/asking"
    on n2 sh -c 'ask() {
            while [ -e /srv/asking ]; do
                curl -s -o /dev/null --max-time 9 -w "%{exitcode}\n" http://10.0.0.2:7379/livez || true
            done
        }
        for client in $(seq 10); do ask & done
        wait' >"$logs/answered" &
    asking=$!
    eventually 10 "somebody is answered" grep 0 "$logs/answered"
    on n2 systemctl restart tenured
    rm "$(box root n2)/srv/asking"
    wait "$asking"
    answered=$(sort "$logs/answered" | uniq -c)
    eventually 20 "n2 serves again" ready n2
    [ "$(of_unit n2 MainPID)" != "$pid" ] || fail "it was not restarted"
    # A request that was under way when the old process closed may end without answer; none may be refused (7).
    grep -q ' 7$' <<<"$answered" && fail "connections were refused during the restart: $answered"
    grep -q ' 0$' <<<"$answered" || fail "no connection was answered during the restart: $answered"
    on n2 systemctl stop tenured.socket tenured
    on n2 rm -r /etc/systemd/system/tenured.socket.d
    on n2 systemctl daemon-reload
    on n2 systemctl start tenured
    eventually 20 "n2 serves again" ready n2
    said "socket unit: a connection starts the member; during a restart none of $(awk '{n += $1} END {print n}' <<<"$answered") connections was refused"
}

is_removed_and_purged() {
    as_printed n1 Remove 1
    [ -e "$(box root n1)/var/lib/tenure/n1/log.redb" ] || fail "a removal takes the data"
    [ -e "$(box root n1)/etc/tenure/tenured.toml" ] || fail "a removal takes the settings"
    [ -e "$(box root n1)/usr/bin/tenured" ] && fail "a removal leaves the program"
    eventually 20 "the other two serve" ready_without_n1
    on n1 dpkg -i "/srv/${upgrade##*/}" >/dev/null 2>&1
    eventually 20 "n1 serves again" ready n1
    has_key n1 secured x || fail "n1 has lost its data"
    on n2 systemctl enable tenured@other tenured.socket 2>/dev/null
    on n2 mkdir -p /etc/systemd/system/tenured.service.d
    on n2 touch /etc/systemd/system/tenured.service.d/own.conf
    as_printed n2 Remove 2
    for path in /etc/tenure /var/lib/tenure /usr/bin/tenured /usr/lib/systemd/system/tenured.service \
        /etc/needrestart/conf.d/tenure.conf /etc/systemd/system/multi-user.target.wants/tenured@other.service \
        /etc/systemd/system/sockets.target.wants/tenured.socket; do
        # What it pointed to is gone, so a link that is left points nowhere.
        [ ! -e "$(box root n2)$path" ] && [ ! -L "$(box root n2)$path" ] || fail "a purge leaves $path"
    done
    [ -z "$(on n2 systemctl list-units --all --plain --no-legend 'tenured*')" ] || fail "a purge leaves units"
    [ -e "$(box root n2)/etc/systemd/system/tenured.service.d/own.conf" ] || fail "a purge takes what is the operator's"
    on n2 getent passwd tenure >/dev/null || fail "a purge takes the user"
    eventually 20 "the other two take writes" put n3 after-purge x
    has_key n1 after-purge x || fail "n1 has not what n3 acknowledged"
    said "removed and installed again with its data; purged without a trace, and the others go on"
}
ready_without_n1() { curl_on n2 -sf --max-time 2 "$(address n2)/readyz" && curl_on n2 -sf --max-time 2 "$(address n3)/readyz"; }

# Whether each block of the README was run, or taken for settings.
tries_every_block() {
    blocks | cut -f 1-3 | uniq | grep -P '\t(sh|toml|ini)$' | sort >"$logs/blocks"
    sort -u "$logs/tried" | comm -23 "$logs/blocks" - >"$logs/untried"
    [ ! -s "$logs/untried" ] || fail "blocks of the README that nobody tried: $(cat "$logs/untried")"
    sort -u "$logs/tried" | comm -13 "$logs/blocks" - >"$logs/unknown"
    [ ! -s "$logs/unknown" ] || fail "blocks that the README has not: $(cat "$logs/unknown")"
    said "every block of the README was tried: $(wc -l <"$logs/blocks")"
}

source ./test-members.sh
source ./test-secured.sh

./exposure.sh
trap finish EXIT
fetch_needrestart >"$logs/fetching" 2>&1 &
boot
package=$logs/tenure_0.1.0-1_amd64.deb
upgrade=$logs/tenure_0.1.0-2_amd64.deb
poison=${binaries[1]}/examples/poison
[ -x "$poison" ] || fail "there is no $poison: cargo build --example poison --package tenured"
cp "$(./package.sh "${binaries[@]}" --deb-version 0.1.0-1 | tail -n 1)" "$package"
another_version "$package" 0.1.0-2 "$upgrade"
said "packages built: $(stat -c %s "$package") bytes"
installs_without_starting_anything
one_member_by_the_readme
one_member_in_an_instance
three_members_form_a_cluster
reloads
tells_the_journal_what_is_asked
sends_traces
stays_down_when_misconfigured
is_restarted_after_a_kill
is_restarted_when_stalled
survives_a_partition
stops_gracefully
is_upgraded_in_place
goes_back_and_forward
keeps_listening_by_its_socket
members_come_and_go
is_backed_up_and_restored
is_recovered_without_a_quorum
is_recovered_from_an_entry_that_cannot_be_applied
is_replaced_at_another_address
is_brought_to_tls
changes_its_authorities
turns_access_control_on
begins_with_tls_and_access_control
gives_rights_and_tokens
knows_clients_by_certificates
rotates_certificates
takes_a_certificate_back
joins_with_a_token
lets_an_administrator_in_again
no_secret_is_in_the_journal
is_removed_and_purged
tries_every_block
said "all passed"
