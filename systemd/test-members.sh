# What `systemd/test.sh` does of members and their data, by the commands of README.md: they come, go and are replaced, and clusters
# are made of backups and of what is left. Sourced, not run.

votes() { of_cluster_from n1 tenure member list -o json | tr -d ' \n' | grep "\"name\":\"$1\"[^{]*\"role\":\"voter\""; }
does_not_vote() { ! votes "$1"; }

# A fourth, as an instance on the machine of n3.
newcomer_settings() {
    sed -e 's/^name = .*/name = "n4"/' -e 's|^data_dir = .*|data_dir = "/var/lib/tenure/n4"|' \
        -e 's/^client_listen = .*/client_listen = "10.0.0.3:7381"/' -e 's/^peer_listen = .*/peer_listen = "10.0.0.3:7382"/' \
        -e 's|^initial_members = .*|join = "http://10.0.0.1:7379"|' examples/three-members.toml
}

members_come_and_go() {
    local before
    newcomer_settings | on n3 install -m 640 -g tenure /dev/stdin /etc/tenure/n4.toml
    on n3 systemctl start tenured@n4
    eventually 30 "n4 votes" votes n4
    of_cluster_from n1 tenure member remove n4 >/dev/null
    eventually 20 "n4 ends as one that was removed" stays_down_removed n3 tenured@n4
    does_not_vote n4 || fail "n4 still votes"
    on n3 systemctl start tenured@n4 2>/dev/null || true
    eventually 20 "n4 ends again" stays_down_removed n3 tenured@n4
    on n3 systemctl reset-failed tenured@n4
    on n3 rm -r /etc/tenure/n4.toml /var/lib/tenure/n4
    # The disk of n2 is gone.
    before=$(member_id n2)
    on n2 systemctl stop tenured
    on n2 rm -r /var/lib/tenure/n2
    on n2 systemctl start tenured
    of_cluster_from n1 bash -euo pipefail -c "$(printed "Members that come and go" 1)" >"$logs/replaced" 2>&1 ||
        fail "n2 is not replaced: $(cat "$logs/replaced")"
    votes n2 >/dev/null || fail "the new n2 does not vote: $(of_cluster_from n1 tenure member list)"
    [ "$(member_id n2)" != "$before" ] || fail "n2 is the one that it was"
    eventually 20 "the new n2 serves" ready n2
    has_key n2 before-all x || fail "the new n2 has not what the old one had"
    of_cluster_from n1 tenure member lead n2 >/dev/null
    eventually 10 "n2 leads" has_status n2 'leads in term*'
    said "README, members: a fourth joins, votes, is removed and stays down; n2 is replaced after its disk is gone, and leads"
}
stays_down_removed() { [ "$(of_unit "$1" ActiveState "$2") $(of_unit "$1" ExecMainStatus "$2")" = "failed 3" ]; }
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
