#!/usr/bin/env bash
# What telemetry costs: two clusters of three members on loopback, of which one sends traces to a collector and has its
# metrics scraped every second, and the other tells nothing. They are loaded in turns, so that what else the machine does
# hits both, and the first of a round is the other one each time.
#
#   telemetry-cost.sh DIRECTORY [ROUNDS]     on 127.0.5.1 to .3 and 127.0.6.1 to .3, ports 7379 and 7380
#
# TENURED and TENURE name other programs than those in the PATH, SAMPLER what is traced (OTEL_TRACES_SAMPLER; without it as
# the daemon does by itself). Needs python3 for the collector, curl and jq. Ratios are of the two runs of a round.
set -euo pipefail
. "$(dirname "$0")/measuring.sh"

[ $# -eq 1 ] || [ $# -eq 2 ] || usage
directory=$1 rounds=${2:-7}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "ROUNDS is \"$rounds\"; a number from 1 on is accepted" >&2 && usage; }
tenured=${TENURED:-tenured} tenure=${TENURE:-tenure}
needs "$tenured" "$tenure" python3 curl jq
on_a_disk "$directory"

# Takes everything and says nothing; counts what came, in a file.
python3 - "$directory/collected" <<'PYTHON' &
import http.server, sys
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(sys.argv[1], "a") as counted:
            counted.write(f"{len(body)}\n")
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.5.1", 4318), Collector).serve_forever()
PYTHON
: >"$directory/collected"

urls() { echo "http://$1.1:7379,http://$1.2:7379,http://$1.3:7379"; }

start() {
    local name=$1 network=$2 number
    shift 2
    for number in 1 2 3; do
        env "$@" "$tenured" serve --name "n$number" --data-dir "$directory/$name/n$number" --log-filter warn \
            --client-listen "$network.$number:7379" --peer-listen "$network.$number:7380" \
            --initial-member "n1=http://$network.1:7380" --initial-member "n2=http://$network.2:7380" \
            --initial-member "n3=http://$network.3:7380" >>"$directory/$name-n$number.log" 2>&1 &
    done
    for number in 1 2 3; do
        until_ready "http://$network.$number:7379"
    done
}
mkdir -p "$directory/on" "$directory/off"
rm -f "$directory"/on-*.json "$directory"/off-*.json
start on 127.0.5 OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.5.1:4318 ${SAMPLER:+OTEL_TRACES_SAMPLER=$SAMPLER}
start off 127.0.6
while sleep 1; do
    for number in 1 2 3; do curl -s -o /dev/null "http://127.0.5.$number:7379/metrics" || true; done
done &

measure() {
    "$tenure" --endpoints "$(urls "$2")" bench put --clients 64 --duration 10s --warmup 2s -o json >"$directory/$1-$3.json"
}
for ((round = 1; round <= rounds; round++)); do
    if ((round % 2)); then
        measure on 127.0.5 "$round"
        measure off 127.0.6 "$round"
    else
        measure off 127.0.6 "$round"
        measure on 127.0.5 "$round"
    fi
    for system in on off; do
        jq -r --arg system "$system" --arg round "$round" '.machine.load_average as $load | .measurements[0].medians[0] |
            "round \($round), \($system): \(.per_second | round) writes a second, p99 \(.latency_us.p99 / 1000) ms; load \($load)"' \
            "$directory/$system-$round.json"
    done
done
# Of each system the middle, and of the ratios within a round the least, the middle and the greatest.
jq -nr '
    def middle: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    def three: "\(middle * 1000 | round / 1000) (\(min * 1000 | round / 1000) to \(max * 1000 | round / 1000))";
    [inputs | {file: input_filename, run: .measurements[0].medians[0]}] | sort_by(.file) |
    (map(select(.file | test("/on-[0-9]+.json$"))) | map(.run)) as $on |
    (map(select(.file | test("/off-[0-9]+.json$"))) | map(.run)) as $off |
    ([$on, $off] | transpose) as $rounds |
    "on:  \([$on[].per_second] | middle | round) writes a second, p99 \([$on[].latency_us.p99] | middle / 1000) ms",
    "off: \([$off[].per_second] | middle | round) writes a second, p99 \([$off[].latency_us.p99] | middle / 1000) ms",
    "on/off: writes a second \([$rounds[] | .[0].per_second / .[1].per_second] | three), p99 \([$rounds[] | .[0].latency_us.p99 / .[1].latency_us.p99] | three)"
' "$directory"/on-*.json "$directory"/off-*.json
echo "the collector took $(awk '{n++; bytes += $1} END {printf "%d requests, %d bytes", n, bytes}' "$directory/collected")"
curl -s http://127.0.5.1:7379/metrics | grep '^tenure_trace_spans_total'
