# What `systemd/test.sh` does of members and their data, by the commands of README.md: they come, go and are replaced, and clusters
# are made of backups and of what is left. Sourced, not run.

votes() { of_cluster_from n1 tenure member list -o json | tr -d ' \n' | grep "\"name\":\"$1\"[^{]*\"role\":\"voter\""; }
does_not_vote() { ! votes "$1"; }

# A fourth, as an instance on the machine of n3.
newcomer_settings() {
    local joins
    joins=$(printed "Members that come and go" 1 toml)
    echo "${joins%%\[cluster\]*}"
    sed -e '/^name = /d' -e 's|^data_dir = .*|data_dir = "/var/lib/tenure/n4"|' -e '/^\[cluster\]/,/^initial_members/d' \
        -e 's/^client_listen = .*/client_listen = "10.0.0.3:7381"/' -e 's/^peer_listen = .*/peer_listen = "10.0.0.3:7382"/' \
        examples/three-members.toml
    echo "[cluster]${joins#*\[cluster\]}"
}

members_come_and_go() {
    local before
    newcomer_settings | on n3 install -m 640 -g tenure /dev/stdin /etc/tenure/n4.toml
    on n3 systemctl start tenured@n4
    eventually 30 "n4 votes" votes n4
    of_cluster_from n1 tenure member remove n4 >/dev/null
    eventually 20 "n4 ends as one that was removed" stays_down_with_3 n3 tenured@n4
    does_not_vote n4 || fail "n4 still votes"
    on n3 systemctl start tenured@n4 2>/dev/null || true
    eventually 20 "n4 ends again" stays_down_with_3 n3 tenured@n4
    on n3 systemctl reset-failed tenured@n4
    on n3 rm -r /etc/tenure/n4.toml /var/lib/tenure/n4
    # The disk of n2 is gone.
    before=$(member_id n2)
    on n2 systemctl stop tenured
    on n2 rm -r /var/lib/tenure/n2
    on n2 systemctl start tenured
    as_it_stands n1 "Members that come and go" 1
    votes n2 >/dev/null || fail "the new n2 does not vote: $(of_cluster_from n1 tenure member list)"
    [ "$(member_id n2)" != "$before" ] || fail "n2 is the one that it was"
    eventually 20 "the new n2 serves" ready n2
    has_key n2 before-all x || fail "the new n2 has not what the old one had"
    of_cluster_from n1 tenure member lead n2 >/dev/null
    eventually 10 "n2 leads" has_status n2 'leads in term*'
    said "README, members: a fourth joins, votes, is removed and stays down; n2 is replaced after its disk is gone, and leads"
}
member_id() { curl_on n1 -s --max-time 5 "$(address "$1")/v1/status" | sed 's/.*"member":"\([0-9a-f]*\)".*/\1/'; }

of_cluster() { curl_on n1 -s --max-time 5 "$(address "$1")/v1/status" | sed 's/.*"cluster":"\([0-9a-f]*\)".*/\1/'; }

is_backed_up_and_restored() {
    local old
    old=$(of_cluster n1)
    put n2 before-backup x >/dev/null
    as_printed n2 "Back up and restore" 1
    grep 'is whole' "$logs/printed-n2" >/dev/null || fail "the backup is not whole: $(cat "$logs/printed-n2")"
    [ "$(on n2 stat -c %a /srv/tenure.backup)" = 600 ] || fail "others may read a backup"
    put n2 after-backup x >/dev/null
    as_printed n2 "Back up and restore" 2
    has_key n2 before-backup x || fail "what was acknowledged before the backup is not restored"
    has_key n2 after-backup x && fail "what came after the backup is restored"
    [ "$(of_cluster n2)" != "$old" ] || fail "the restored member belongs to the old cluster"
    put n1 of-the-old x >/dev/null && put n2 of-the-new x >/dev/null || fail "one of the two clusters takes no writes"
    has_key n2 of-the-old x && fail "the restored cluster hears the old one"
    on n2 tenured verify /var/lib/tenure/n2.before >/dev/null || fail "the old data is not whole"
    on n2 systemctl stop tenured
    on n2 sh -c 'rm -r /var/lib/tenure/n2 && mv /var/lib/tenure/n2.before /var/lib/tenure/n2'
    on n2 systemctl start tenured
    eventually 20 "n2 serves the old cluster again" ready n2
    has_key n2 of-the-old x || fail "n2 has not caught up with the old cluster"
    said "README, backup and restore: a new cluster of one with all that was acknowledged; neither hears the other"
}

is_recovered_without_a_quorum() {
    local old
    old=$(of_cluster n2)
    on n1 systemctl stop tenured
    on n3 systemctl stop tenured
    as_printed n2 "A quorum that is lost for good" 1
    has_key n2 of-the-old x || fail "n2 has lost what it had"
    [ "$(of_cluster n2)" != "$old" ] || fail "the recovered member belongs to the old cluster"
    put n2 alone x >/dev/null || fail "the recovered member takes no writes"
    on n2 systemctl stop tenured
    on n2 sh -c 'cd /var/lib/tenure/n2 && mv before-recovery-*/*.* . && rm -r before-recovery-* snapshots'
    for name in n1 n2 n3; do on "$name" systemctl start tenured; done
    eventually 20 "three members serve the old cluster again" all_ready
    has_key n2 of-the-old x && ! has_key n2 alone x || fail "n2 is not what it was before"
    said "README, a lost quorum: one member goes on alone with what it has, and its old files bring back what it was"
}

# All three stop at one entry of their logs, as they do where the rules panic at it.
is_recovered_from_an_entry_that_cannot_be_applied() {
    local name old index led
    old=$(of_cluster n2)
    led=$(leader "${machines[@]}")
    put n2 before-poison x >/dev/null
    # What each has is in its checkpoint, and they have the same.
    sleep 1.5
    for name in $(printf '%s\n' "${machines[@]}" | grep -vx "$led") "$led"; do
        cp "$poison" "$(box root "$name")/srv/poison"
        on "$name" systemctl kill -s KILL tenured
        on "$name" systemctl stop tenured
    done
    for name in "${machines[@]}"; do on "$name" /srv/poison "/var/lib/tenure/$name"; done >"$logs/poisoned"
    index=$(uniq "$logs/poisoned")
    [ "$(wc -w <<<"$index")" = 1 ] || fail "the logs differed: $index"
    for name in "${machines[@]}"; do
        on "$name" systemctl reset-failed tenured
        on "$name" systemctl start tenured
    done
    eventually 20 "most members stop at the entry" most_stay_down_with_3
    for name in "${machines[@]}"; do
        stays_down_with_3 "$name" tenured || continue
        on "$name" journalctl -u tenured -p err | grep "the entry at index $index cannot be decoded.*tenured recover --before $index" >/dev/null ||
            fail "the journal of $name does not say what to do: $(on "$name" journalctl -u tenured -p err -n 3)"
    done
    on n2 systemctl stop tenured
    on n2 bash -c "$(printed "An entry that no member can apply" 1)" >"$logs/verified" 2>&1 && fail "n2 is whole"
    grep "tenured recover --before $index" "$logs/verified" >/dev/null || fail "verify does not name entry $index: $(cat "$logs/verified")"
    as_changed n2 "An entry that no member can apply" 2 "s/812/$index/"
    [ "$(of_cluster n2)" != "$old" ] || fail "the recovered member belongs to the old cluster"
    has_key n2 before-poison x || fail "what came before the entry is lost"
    for name in n1 n3; do
        on "$name" cp /etc/tenure/tenured.toml /srv/forming.toml
        as_changed "$name" "Back up and restore" 3 "s/\bn3\b/$name/g; s/10\.0\.0\.3/10.0.0.${name#n}/g"
        on "$name" cp /srv/forming.toml /etc/tenure/tenured.toml
    done
    eventually 20 "n3 votes" votes n3
    has_key n3 before-poison x || fail "n3 has not what the new cluster has"
    put n1 after-poison x >/dev/null || fail "the new cluster takes no writes"
    for name in "${machines[@]}"; do on "$name" sh -c 'rm -r /var/lib/tenure/*/before-recovery-* /var/lib/tenure/n?.before' 2>/dev/null || true; done
    said "README, an entry that no member can apply: entry $index stops them; a cluster of what came before it, which the others join"
}
most_stay_down_with_3() {
    local name down=0
    for name in "${machines[@]}"; do
        ! stays_down_with_3 "$name" tenured || down=$((down + 1))
    done
    [ $down -ge 2 ]
}

is_replaced_at_another_address() {
    local root
    root=$(box root "$spare")
    cp "$(box root n2)/etc/tenure/tenured.toml" "$root/srv/n2.toml"
    as_it_stands "$spare" "Members that come and go" 2
    as_it_stands n1 "Members that come and go" 3
    votes n4 >/dev/null || fail "n4 does not vote: $(of_cluster_from n1 tenure member list)"
    does_not_vote n2 || fail "n2 still votes"
    eventually 20 "n2 ends as one that was removed" stays_down_with_3 n2 tenured
    eventually 20 "n4 serves" ready n4
    has_key n4 before-all x || fail "n4 has not what n2 had"
    put n4 by-n4 x >/dev/null || fail "n4 takes no writes"
    # And back.
    on n2 rm -r /var/lib/tenure/n2
    on n2 systemctl start tenured
    of_cluster_from n1 tenure member replace n4 --name n2 --peer-url http://10.0.0.2:7380 --client-url http://10.0.0.2:7379 \
        >"$logs/replaced" 2>&1 || fail "n4 is not replaced by n2: $(cat "$logs/replaced")"
    eventually 20 "n2 serves" ready n2
    has_key n2 by-n4 x || fail "n2 has not what n4 had"
    eventually 20 "n4 ends as one that was removed" stays_down_with_3 n4 tenured
    said "README, a replacement at another address: n4 votes in the place of n2, which is told so and ends; and back"
}
