#!/bin/sh
# Prints tenured@.service, by which several members run on one machine: tenured.service with the name of the instance
# wherever there is a name of its own. One of the two is written, so that they cannot differ.
set -eu
cd "$(dirname "$0")"

cat <<'UNIT'
# Several members on one machine: tenured@n1 is the one with its settings in /etc/tenure/n1.toml. Each needs its own
# addresses, and its own data_dir, which is /var/lib/tenure/n1.
UNIT
sed -e 1d -e 's|/etc/tenure/tenured\.toml|/etc/tenure/%i.toml|' \
    -e 's|^Description=.*|&, member %i|' -e 's|^StateDirectory=tenure$|StateDirectory=tenure tenure/%i|' tenured.service
