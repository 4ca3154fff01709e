# What `systemd/test.sh` does of TLS and access control, by the commands of README.md: the cluster that runs is brought to both, and
# a new one of the three machines has certificates and a root token from the beginning. Sourced, not run.

# Where an operator of n1 makes certificates and tokens. Nobody else reads it.
made=/root/made

# Commands on n1 by whoever may do everything, in that directory.
by_root() { on n1 bash -euo pipefail -c "export HOME=/root TENURE_TOKEN_FILE=/etc/tenure/root-token; cd $made; $1"; }
# The same as they are printed.
by_root_as_printed() {
    local commands
    commands=$(printed "$1" "$2")
    [ -n "$commands" ] || fail "the README has no block $2 under \"$1\""
    by_root "$(functions_of_certificates); $commands" >"$logs/by-root" 2>&1 || fail "$commands: $(cat "$logs/by-root")"
}
# `authority`, `issue` and `list` of the README, without what it makes by them.
functions_of_certificates() {
    printed TLS 1 | sed '/^authority peer-ca/,$d'
    printed "A certificate is taken back" 1 | sed -n '/^list() {/,/^}/p'
}

# Files from that directory, to where the README has them beside: what is to be done with them there follows.
with_files_of_n1() {
    local name=$1 commands=$2 root
    shift 2
    root=$(box root "$name")
    rm -rf "$root/srv/beside"
    mkdir -m 700 "$root/srv/beside"
    (cd "$(box root n1)$made" && cp -- "$@" "$root/srv/beside/")
    on "$name" bash -euo pipefail -c "cd /srv/beside; $commands" >"$logs/with-files" 2>&1 || fail "$name: $commands: $(cat "$logs/with-files")"
    rm -r "$root/srv/beside"
}

# A drop-in, as whoever calls an editor leaves it.
edit() {
    local name=$1 unit=$2 text=$3
    [ -n "$text" ] || fail "the README has no such drop-in"
    on "$name" tee /srv/drop-in <<<"$text" >/dev/null
    on "$name" script -qec "env SYSTEMD_EDITOR='cp /srv/drop-in' systemctl edit $unit" /dev/null >"$logs/edit" 2>&1 ||
        fail "systemctl edit $unit on $name: $(cat "$logs/edit")"
    on "$name" systemctl cat "$unit" | grep -xF "$(tail -n 1 <<<"$text")" >/dev/null || fail "systemctl edit on $name leaves nothing: $(cat "$logs/edit")"
}

# Settings of these headings before the tables of the file, and https for the members.
secure_settings() {
    local name=$1 unit_file=$2 machine=$3 heading settings=
    for heading in "${@:4}"; do
        settings+=$(printed "$heading" 1 toml | sed "s/\bn2\b/$name/g" | grep .)$'\n' || fail "the README has no settings under \"$heading\""
    done
    on "$machine" env "SETTINGS=$settings" awk '/^\[/ && !done { print ENVIRON["SETTINGS"]; done = 1 } { print }' "$unit_file" |
        sed -e '/^initial_members/s|http:|https:|g' -e 's/^log_filter = .*/log_filter = "debug"/' >"$logs/settings"
    on "$machine" tee "$unit_file" <"$logs/settings" >/dev/null
}
# Certificates and their authorities, and the settings for them.
is_given_certificates() {
    local name=$1
    with_files_of_n1 "$name" "$(printed TLS 2 | sed "s/\bn2\b/$name/g")" \
        "peer-$name.pem" "peer-$name.key" peer-ca.pem "client-$name.pem" "client-$name.key" client-ca.pem
    secure_settings "$name" /etc/tenure/tenured.toml "$name" "${@:2}"
}
# From here on clients come by https; the names of the test for that.
comes_by_https() {
    local name
    scheme=https
    on n1 install -D -m 600 /dev/stdin /root/.config/tenure/config.toml <<<"$(printed "In a new cluster" 2 toml)"
    trusts client-ca.pem
    for name in "${machines[@]}"; do cp "$(box root n1)$made/client-ca.pem" "$(box root "$name")/srv/"; done
}
# Clients on n1 trust the authorities of that file, without a moment in which they have none.
trusts() {
    local root
    root=$(box root n1)
    cp "$root$made/$1" "$root/srv/client-ca.pem.new"
    mv "$root/srv/client-ca.pem.new" "$root/srv/client-ca.pem"
}

# The serial number of what is shown at a port of a member.
serial() { on n1 sh -c "openssl s_client -connect 10.0.0.${1#n}:$2 </dev/null 2>/dev/null | openssl x509 -noout -serial"; }
answers() { [ "$(on n1 curl -s -o /dev/null -w '%{http_code}' --max-time 5 --cacert "$made/client-ca.pem" "${@:2}")" = "$1" ]; }
# Whether a member answers so to whoever has the token of a file in that directory.
answers_to() {
    local code=$1 token=$2 url=$3
    on n1 sh -c "printf 'Authorization: Bearer %s' \"\$(cat $made/$token)\" > $made/header"
    answers "$code" -H "@$made/header" "$url"
}

is_brought_to_tls() {
    local name from took before
    on n1 mkdir -m 700 "$made"
    by_root_as_printed TLS 1
    put n1 before-tls x >/dev/null
    for name in "${machines[@]}"; do is_given_certificates "$name" "In a new cluster"; done
    from=$(milliseconds)
    for name in "${machines[@]}"; do as_printed "$name" "In a cluster that runs" 1; done
    curled=(--cacert /srv/client-ca.pem)
    asking=(HOME=/root)
    comes_by_https
    eventually 20 "n1 takes a write" put n1 by-tls x
    took=$(($(milliseconds) - from))
    eventually 20 "three members serve by TLS" all_ready
    has_key n3 before-tls x || fail "what was acknowledged before is lost"
    eventually 10 "all are known by https to clients" are_called_by_https
    # The disk of n2 is gone.
    before=$(member_id n2)
    on n2 systemctl stop tenured
    on n2 rm -r /var/lib/tenure/n2
    on n2 systemctl start tenured
    as_it_stands n1 "In a cluster that runs" 2
    [ "$(member_id n2)" != "$before" ] || fail "n2 is the one that it was"
    eventually 20 "the new n2 serves" ready n2
    has_key n2 by-tls x || fail "the new n2 has not what the old one had"
    said "README, a cluster that runs is brought to TLS: writes again $took ms after the first restart; n2 is replaced by its new URL"
}
are_called_by_https() { ! of_cluster_from n1 tenure member list | grep -o 'http://10\.0\.0\.[0-9]*:7379'; }

# Writes by way of each member, one after the other, until the file is gone, each until it is taken; keeps every answer that is another
# than that there is no leader, and tells how many writes there were and the longest.
write_everywhere() {
    local number=0 url from took worst=0 again=0
    while [ -e "$logs/writing" ]; do
        number=$((number + 1))
        url=$(address "n$((number % 3 + 1))")/v1/keys/meanwhile
        from=$(milliseconds)
        until curl_on n1 -sS --fail-with-body --max-time 5 -X PUT "$url" -d "$number" >"$logs/answered" 2>&1; do
            again=$((again + 1))
            grep '"code":"no-leader"' "$logs/answered" >/dev/null || {
                echo "$url: $(cat "$logs/answered")" >>"$logs/refused"
                break
            }
        done
        took=$(($(milliseconds) - from))
        [ $took -le $worst ] || worst=$took
    done
    echo "$number writes by all members, asked again without a leader: $again, the longest $worst ms" >"$logs/written"
}
# How many connections were refused so far for what was shown on them.
refusals() {
    local name
    for name in "${machines[@]}"; do curl_on n1 -sf --max-time 5 "$(address "$name")/metrics"; done |
        awk '/^tenure_tls_refused_connections_total/ { sum += $2; seen++ } END { print seen == 6 ? sum : "not told" }'
}
# Who has signed what a member shows to n1.
issuer() {
    on n1 sh -c "cd $made && openssl s_client -connect 10.0.0.${1#n}:$2 -cert peer-n1.pem -key peer-n1.key </dev/null 2>/dev/null |
        openssl x509 -noout -issuer"
}
# Whether a member lets in on its port for members whoever shows this certificate; it looks at it when the handshake is done.
lets_in() { on n1 sh -c "cd $made && sleep 0.3 | openssl s_client -connect 10.0.0.${1#n}:7380 -alpn h2 -cert $2.pem -key $2.key" >"$logs/handshake" 2>&1; }

changes_its_authorities() {
    local name writer refusals
    rm -f "$logs/refused"
    refusals=$(refusals)
    by_root "cp peer-n3.pem old.pem; cp peer-n3.key old.key; cp client-ca.pem old-client-ca.pem"
    by_root_as_printed "Another authority" 1
    : >"$logs/writing"
    write_everywhere &
    writer=$!
    trusts both-client-ca.pem
    for name in "${machines[@]}"; do with_files_of_n1 "$name" "$(printed "Another authority" 2)" both-peer-ca.pem both-client-ca.pem; done
    by_root_as_printed "Another authority" 3
    for name in "${machines[@]}"; do
        with_files_of_n1 "$name" "$(printed "Other certificates" 2 | sed "s/\bn2\b/$name/g; s/10\.0\.0\.2/10.0.0.${name#n}/g")" \
            "peer-$name.pem" "peer-$name.key" "client-$name.pem" "client-$name.key"
        [[ "$(issuer "$name" 7380)" == *new-peer-ca && "$(issuer "$name" 7379)" == *new-client-ca ]] ||
            fail "$name shows another's: $(issuer "$name" 7380), $(issuer "$name" 7379)"
    done
    lets_in n1 old || fail "while both are trusted, n1 lets nobody in of the old one: $(cat "$logs/handshake")"
    for name in "${machines[@]}"; do with_files_of_n1 "$name" "$(printed "Another authority" 4)" new-peer-ca.pem new-client-ca.pem; done
    trusts new-client-ca.pem
    # Whatever was cut is there again.
    sleep 1
    rm "$logs/writing"
    wait "$writer"
    [ ! -e "$logs/refused" ] || fail "while the authorities change: $(cat "$logs/refused")"
    [ "$(refusals)" = "$refusals" ] || fail "connections were refused while the authorities change: $(refusals), before that $refusals"
    lets_in n1 old && fail "n1 lets in whoever has a certificate of the old one"
    on n1 curl -s --max-time 5 --cacert "$made/old-client-ca.pem" "$(address n1)/livez" && fail "n1 shows clients a certificate of the old one"
    all_ready >/dev/null || fail "not all serve"
    [ -z "$(curl_on n1 -s "$(address n2)/v1/status" | grep -o 'TLS files not taken')" ] || fail "n2 has taken something else"
    said "README, another authority in three steps: $(cat "$logs/written")"
}

# By the commands of `tenure access --help`.
turns_access_control_on() {
    local commands
    commands=$(on n1 tenure access --help | sed -n 's/^  \(tenure .*\)/\1/p' | sed 's/   .*//; /access show/d')
    [ "$(wc -l <<<"$commands")" = 4 ] || fail "the help has other commands: $commands"
    on n1 env "${asking[@]}" bash -euo pipefail -c "$commands" >"$logs/access" 2>&1 || fail "$commands: $(cat "$logs/access")"
    eventually 5 "nobody is let in who says nothing of himself" is_denied
    on n1 env "${asking[@]}" tenure --token-file /root/.config/tenure/token whoami | grep alice >/dev/null || fail "alice is not known"
    said "README, access control is turned on in a cluster that runs"
}
is_denied() { [ "$(curl_on n1 -s -o /dev/null -w '%{http_code}' --max-time 5 "$(address n2)/v1/keys/by-tls")" = 401 ]; }

begins_with_tls_and_access_control() {
    local name
    for name in "${machines[@]}"; do
        on "$name" sh -c 'systemctl stop tenured; rm -r /var/lib/tenure/n? /etc/tenure'
        on "$name" install -d -m 750 -g tenure /etc/tenure
        sed -e "s/^name = .*/name = \"$name\"/" -e "s|^data_dir = .*|data_dir = \"/var/lib/tenure/$name\"|" \
            -e "s/^\(client\|peer\)_listen = \"10.0.0.1:/\1_listen = \"10.0.0.${name#n}:/" examples/three-members.toml |
            on "$name" install -m 640 -g tenure /dev/stdin /etc/tenure/tenured.toml
    done
    on n1 rm -r "$made" /root/.config
    on n1 mkdir -m 700 "$made"
    by_root_as_printed TLS 1
    by_root_as_printed "A certificate is taken back" 1
    as_printed n1 "Who may do what" 1
    for name in "${machines[@]}"; do
        is_given_certificates "$name" "In a new cluster" "A certificate is taken back"
        with_files_of_n1 "$name" "$(printed "A certificate is taken back" 2 | sed '/reload/d')" peer-ca.crl client-ca.crl
        [ "$name" = n1 ] || install -m 600 "$(box root n1)/etc/tenure/root-token" "$(box root "$name")/etc/tenure/"
        edit "$name" tenured "$(printed "Who may do what" 1 ini)"
        on "$name" systemctl start tenured
    done
    curled=(--cacert /srv/client-ca.pem -H @/srv/bearer)
    asking=(HOME=/root TENURE_TOKEN_FILE=/etc/tenure/root-token)
    comes_by_https
    for name in "${machines[@]}"; do
        on "$name" sh -c 'umask 077; printf "Authorization: Bearer %s" "$(cat /etc/tenure/root-token)" >/srv/bearer'
    done
    eventually 20 "three members serve by TLS" all_ready
    as_printed n2 "In a new cluster" 1
    grep '"ready":true' "$logs/printed-n2" >/dev/null || fail "the README sees no cluster: $(cat "$logs/printed-n2")"
    put n2 secured x >/dev/null || fail "whoever has the root token may not write"
    answers 401 "$(address n2)/v1/keys/secured" || fail "it is answered whoever asks"
    answers 401 "$(address n2)/metrics" || fail "metrics are for everybody"
    answers 200 "$(address n2)/livez" || fail "probes are not answered"
    for name in "${machines[@]}"; do
        on "$name" systemctl revert tenured 2>/dev/null
        # The administrator keeps it, and works on n1.
        [ "$name" = n1 ] || on "$name" rm /etc/tenure/root-token
    done
    on n3 systemctl restart tenured
    eventually 20 "n3 serves without the token" ready n3
    said "README, TLS and access control from the beginning: certificates as printed, the token by LoadCredential, which is taken away again"
}

gives_rights_and_tokens() {
    local old
    by_root_as_printed "Who may do what" 2
    grep root "$logs/by-root" >/dev/null || fail "the README does not see who asks: $(cat "$logs/by-root")"
    put n1 config/a x >/dev/null
    answers_to 200 ci.token "$(address n1)/v1/keys/config/a" || fail "ci may not read what it was granted"
    answers_to 403 ci.token "$(address n1)/v1/keys/secured" || fail "ci reads what it was not granted"
    by_root_as_printed "Who may do what" 4
    on n1 sh -c "printf 'Authorization: Bearer %s' \"\$(cat $made/prometheus.token)\" > $made/header"
    on n1 curl -sf --cacert "$made/client-ca.pem" -H "@$made/header" "$(address n2)/metrics" >"$logs/metrics" || fail "Prometheus is not let in"
    for name in tenure_raft_term tenure_tls_certificate_expiry_timestamp_seconds process_start_time_seconds; do
        grep "^$name" "$logs/metrics" >/dev/null || fail "Prometheus is not told $name"
    done
    on n1 cp "$made/ci.token" "$made/ci.old"
    by_root_as_printed "Who may do what" 6
    answers_to 200 ci.token "$(address n3)/v1/keys/config/a" || fail "the new token of ci is not good"
    answers_to 401 ci.old "$(address n3)/v1/keys/config/a" || fail "the old token of ci is good still"
    said "README, tokens: made, scraped with, replaced; what was revoked is 401"
}

knows_clients_by_certificates() {
    local shown=(--cert "$made/api.pem" --key "$made/api.key")
    by_root "$(functions_of_certificates); issue client-ca api DNS:api.example" >"$logs/issued" 2>&1 || fail "$(cat "$logs/issued")"
    answers 401 "${shown[@]}" "$(address n1)/v1/keys/config/a" || fail "somebody is let in of whom nobody was told"
    by_root_as_printed "Who may do what" 3
    answers 200 "${shown[@]}" "$(address n1)/v1/keys/config/a" || fail "api may not read what it was granted"
    answers 403 "${shown[@]}" "$(address n3)/v1/keys/secured" || fail "api reads what it was not granted"
    on n1 curl -s --cacert "$made/client-ca.pem" "${shown[@]}" "$(address n2)/v1/whoami" | grep '"identity":"api"' >/dev/null || fail "api is not api"
    # Cut off by a word, and by a list.
    by_root "tenure identity put api --role deploy" >/dev/null
    answers 401 "${shown[@]}" "$(address n1)/v1/keys/config/a" || fail "api is let in by a certificate that is not its any more"
    by_root_as_printed "Who may do what" 3
    answers 200 "${shown[@]}" "$(address n1)/v1/keys/config/a" || fail "api is not let in again"
    by_root "$(functions_of_certificates); $(printed "A certificate is taken back" 3 | sed '/^issue/d; s/peer-ca/client-ca/g; s/peer-n2/api/')" \
        >"$logs/listed" 2>&1 || fail "$(cat "$logs/listed")"
    brings_the_lists
    answers 000 "${shown[@]}" "$(address n1)/v1/keys/config/a" || fail "a client is let in whose certificate was taken back"
    answers 200 "$(address n1)/livez" || fail "nobody else is let in"
    said "README, by certificate: api is who its certificate says, until that is taken from it, or back"
}
brings_the_lists() {
    local name
    for name in "${machines[@]}"; do
        with_files_of_n1 "$name" "$(printed "A certificate is taken back" 2)" peer-ca.crl client-ca.crl
    done
}

rotates_certificates() {
    local pid client peer
    pid=$(of_unit n2 MainPID)
    client=$(serial n2 7379)
    peer=$(serial n2 7380)
    [ -n "$client" ] && [ -n "$peer" ] || fail "n2 shows no certificates"
    by_root "$(functions_of_certificates); $(printed "Other certificates" 1)" >"$logs/issued" 2>&1 || fail "$(cat "$logs/issued")"
    with_files_of_n1 n2 "$(printed "Other certificates" 2)" peer-n2.pem peer-n2.key client-n2.pem client-n2.key
    [ "$(serial n2 7379)" != "$client" ] && [ "$(serial n2 7380)" != "$peer" ] || fail "n2 shows what it showed before its reload"
    client=$(serial n2 7379)
    grep -F "$client" "$logs/with-files" >/dev/null || fail "the README does not show $client: $(cat "$logs/with-files")"
    # One that is not its key's.
    with_files_of_n1 n2 "install -m 640 -g tenure client-n1.pem /etc/tenure/tls/client-n2.pem" client-n1.pem
    on n2 systemctl reload tenured 2>/dev/null && fail "a reload with another's certificate succeeds"
    on n2 journalctl -u tenured -p err | grep 'client_key_file is .*it is not the key of the certificate' >/dev/null ||
        fail "the journal does not say why the reload fails"
    [ "$(serial n2 7379)" = "$client" ] || fail "a reload that fails changes what is shown"
    with_files_of_n1 n2 "install -m 640 -g tenure client-n2.pem /etc/tenure/tls/; systemctl reload tenured" client-n2.pem
    is n2 MainPID "$pid"
    ready n2 >/dev/null || fail "n2 does not serve after its reloads"
    # Connections between members are made anew with the new certificate, in both directions.
    on n2 systemctl restart tenured
    eventually 20 "n2 serves with its new certificate" ready n2
    put n2 rotated x >/dev/null || fail "n2 takes no writes"
    said "README, other certificates: taken by a reload without a restart; those that do not fit fail it, and those before stay"
}

takes_a_certificate_back() {
    local name
    by_root "cp peer-n2.pem stolen.pem; cp peer-n2.key stolen.key"
    lets_in n1 stolen || fail "the certificate of n2 is not good: $(cat "$logs/handshake")"
    by_root_as_printed "A certificate is taken back" 3
    with_files_of_n1 n2 "$(printed "Other certificates" 2)" peer-n2.pem peer-n2.key client-n2.pem client-n2.key
    brings_the_lists
    for name in n1 n3; do
        lets_in "$name" stolen && fail "$name lets in whoever has a certificate that was taken back"
        grep -i 'revoked' "$logs/handshake" >/dev/null || fail "$name refuses it for another reason: $(cat "$logs/handshake")"
    done
    on n2 systemctl restart tenured
    eventually 20 "n2 serves with its other certificate" ready n2
    # Whoever is n2 with the old one.
    with_files_of_n1 n2 "install -m 640 -g tenure stolen.pem /etc/tenure/tls/peer-n2.pem
        install -m 640 -g tenure stolen.key /etc/tenure/tls/peer-n2.key; systemctl restart tenured" stolen.pem stolen.key
    eventually 10 "n1 says whom it does not trust" on n1 sh -c 'journalctl -u tenured -p warning | grep "no trust between this member and n2.*it is revoked"'
    ready n2 >/dev/null && fail "n2 serves with a certificate that was taken back"
    put n1 without-n2 x >/dev/null || fail "the others take no writes"
    with_files_of_n1 n2 "install -m 640 -g tenure peer-n2.pem peer-n2.key /etc/tenure/tls/; systemctl restart tenured" peer-n2.pem peer-n2.key
    eventually 20 "n2 serves again" ready n2
    has_key n2 without-n2 x || fail "n2 has not caught up"
    said "README, a certificate is taken back: whoever shows it is refused, n2 too, and n2 with another one is not"
}

joins_with_a_token() {
    by_root_as_printed "Who may do what" 5
    by_root "$(functions_of_certificates)
        issue peer-ca peer-n4 URI:tenure://member/n4,IP:10.0.0.3; issue client-ca client-n4 IP:10.0.0.3" >"$logs/issued" 2>&1 || fail "$(cat "$logs/issued")"
    with_files_of_n1 n3 "$(printed TLS 2 | sed 's/\bn2\b/n4/g'); install -m 600 join-token /etc/tenure/" \
        peer-n4.pem peer-n4.key peer-ca.pem client-n4.pem client-n4.key client-ca.pem join-token
    newcomer_settings | on n3 install -m 640 -g tenure /dev/stdin /etc/tenure/n4.toml
    secure_settings n4 /etc/tenure/n4.toml n3 "In a new cluster" "A certificate is taken back"
    on n3 sed -i 's|^join = .*|join = "https://10.0.0.1:7379"|' /etc/tenure/n4.toml
    # Without the token it is told why it has to wait.
    on n3 systemctl start tenured@n4
    eventually 10 "n4 says that it is not added" on n3 sh -c 'journalctl -u tenured@n4 -p err | grep "does not add n4.*unauthenticated"'
    does_not_vote n4 || fail "n4 joins without a token"
    edit n3 tenured@n4 "$(printed "Who may do what" 2 ini)"
    on n3 systemctl restart tenured@n4
    eventually 30 "n4 votes" votes n4
    by_root_as_printed "A certificate is taken back" 4
    eventually 20 "n4 ends as one that was removed" stays_down_with_3 n3 tenured@n4
    brings_the_lists
    on n3 rm -r /var/lib/tenure/n4
    on n3 systemctl start tenured@n4
    eventually 10 "n4 comes as somebody new, and is not added" on n3 sh -c 'journalctl -u tenured@n4 -p err | grep "does not add n4.*it is revoked"'
    does_not_vote n4 || fail "n4 is a member again"
    on n3 systemctl stop tenured@n4
    on n3 systemctl revert tenured@n4 2>/dev/null
    on n3 rm -r /etc/tenure/n4.toml /etc/tenure/join-token /var/lib/tenure/n4
    said "README, members that join: with a token by LoadCredential n4 joins and votes, without it waits and says why"
}

lets_an_administrator_in_again() {
    local old
    old=$(of_cluster n2)
    as_printed n2 "Who may do what" 7
    eventually 20 "n2 serves alone" ready_for_everybody n2
    cp "$(box root n2)/etc/tenure/new-root.token" "$(box root n1)$made/"
    answers_to 200 new-root.token "$(address n2)/v1/keys/secured" || fail "the new root token is not good"
    answers_to 401 new-root.token "$(address n1)/v1/keys/secured" || fail "the new root token is good in the old cluster"
    on n2 systemctl stop tenured
    on n2 sh -c 'cd /var/lib/tenure/n2 && mv before-recovery-*/*.* . && rm -r before-recovery-* snapshots'
    on n2 systemctl start tenured
    eventually 20 "n2 serves the old cluster again" ready n2
    [ "$(of_cluster n2)" = "$old" ] || fail "n2 is not what it was before"
    said "README, the last administrator's token is lost: one member is alone in a cluster with a new one"
}
ready_for_everybody() { on n1 curl -sf --max-time 2 --cacert "$made/client-ca.pem" "$(address "$1")/readyz"; }

# Every secret that was made, in what all machines have told by now, at the level of debug.
no_secret_is_in_the_journal() {
    local name lines
    by_root 'for file in *.token ci.old join-token /etc/tenure/root-token; do cut -d . -f 2 "$file"; done; sed -s -n 2p *.key' >"$logs/secrets"
    [ "$(grep -cx '[0-9a-f]\{64\}' "$logs/secrets")" -ge 6 ] && [ "$(grep -cvx '[0-9a-f]\{64\}' "$logs/secrets")" -ge 8 ] ||
        fail "not every secret is looked for"
    for name in "${machines[@]}"; do
        on "$name" journalctl --no-pager -o export >"$logs/journal"
        lines=$(grep -c '^MESSAGE=' "$logs/journal")
        [ "$lines" -ge 100 ] && grep '^PRIORITY=7' "$logs/journal" >/dev/null || fail "the journal of $name has few lines: $lines"
        ! grep -aFf "$logs/secrets" "$logs/journal" >"$logs/told" || fail "a secret is in the journal of $name: $(head -n 3 "$logs/told")"
        ! grep -a 'PRIVATE KEY\|Bearer [0-9a-f]' "$logs/journal" >"$logs/told" || fail "a secret is in the journal of $name: $(head -n 3 "$logs/told")"
    done
    said "no token and no key is in the journals"
}
