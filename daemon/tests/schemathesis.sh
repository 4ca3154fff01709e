#!/usr/bin/env bash
# The published contract against the daemon: every example of the served OpenAPI document is valid, and schemathesis
# finds in what is answered no 5xx (but 503 and 504 where they are declared), no undeclared status and nothing that the
# document does not say, by all of its checks that apply.
#
#   EXAMPLES  for each operation: 20 unless given; 200 by hand before a release
#   PHASES    of schemathesis: examples,coverage,fuzzing unless given
#   SEED      of what is generated: drawn unless given (2 where CI is set), and printed
#
# Ends with 0 where nothing was found. What was done is kept in target/schemathesis/.
set -euo pipefail
cd "$(dirname "$0")/../.."

schemathesis_version=4.32.5
examples=${EXAMPLES:-20}
# Without `stateful`, which chains calls: so many more requests that CI would take longer than all its other tests.
phases=${PHASES:-examples,coverage,fuzzing}
# In CI always the same, so that a change is judged by itself; by hand another each time.
if [ -n "${CI:-}" ]; then seed=${SEED:-2}; else seed=${SEED:-$((RANDOM * 32768 + RANDOM))}; fi
work=target/schemathesis
venv=$work/venv
here=$PWD/daemon/tests/schemathesis
# Ports of its own, below those that the system hands out. A member has a client port and the one above it.
main_port=18710
changed_port=18730
pids=()

# Ends what was started, by its id.
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap cleanup EXIT

install() {
    if "$venv/bin/st" --version 2>/dev/null | grep -qF "version $schemathesis_version"; then return; fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q "schemathesis==$schemathesis_version"
}

# A cluster of $2 members on loopback whose first client port is $1.
start() {
    local port=$1 nodes=$2 out=$work/cluster-$1.out
    "$tenured" dev --nodes "$nodes" --client-port "$port" >"$out" 2>"$out.log" &
    pids+=($!)
    for _ in $(seq 300); do
        if [ "$(grep -c '^ready: ' "$out")" = "$nodes" ]; then return; fi
        sleep 0.1
    done
    cat "$out" "$out.log"
    return 1
}

# Runs schemathesis against the member on port $1, with the arguments behind it.
#
# Left out are two checks of access control, which is off in these clusters: daemon/tests/process/access holds it to the
# document.
run() {
    local port=$1 cluster
    shift
    cluster=$("$venv/bin/python" -c 'import json, sys, urllib.request as r
print(json.load(r.urlopen(sys.argv[1]))["cluster"])' "http://127.0.0.1:$port/v1/status")
    (
        cd "$work"
        export TENURE_TEST_CLUSTER=$cluster SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
        exec venv/bin/st --config-file "$here/schemathesis.toml" run "http://127.0.0.1:$port/v1/openapi.json" \
            --checks all --exclude-checks ignored_auth,object_level_authorization \
            --phases "$phases" --max-examples "$examples" --seed "$seed" \
            --generation-database none --continue-on-failure --request-timeout 20 --suppress-health-check all \
            --no-color "$@"
    )
}

mkdir -p "$work"
install
if [ -z "${TENURED:-}" ]; then
    cargo build --locked -q -p tenured --bin tenured
    tenured=target/debug/tenured
else
    tenured=$TENURED
fi
echo "seed $seed, $examples examples for each operation"

start "$main_port" 3
start "$changed_port" 1
failed=()

curl -fsS "http://127.0.0.1:$main_port/v1/openapi.json" -o "$work/openapi.json"
cmp "$work/openapi.json" api/openapi.json || failed+=("the served document is not api/openapi.json")
"$venv/bin/python" "$here/examples.py" "$work/openapi.json" || failed+=("examples")

# The second member, which forwards or leads, as it comes. What changes the whole cluster has one to itself. Of the time
# most is waiting for the cluster, so the tags go side by side: in processes, since threads of schemathesis stumble over
# one another in what they read of the source.
changes=(changeLimits changeAccess compact addMember removeMember replaceMember promoteMember transferLeadership)
runs=()
for tag in leases locks semaphores elections keys watch cluster access; do
    run $((main_port + 2)) "--include-tag=$tag" "${changes[@]/#/--exclude-operation-id=}" >"$work/$tag.log" 2>&1 &
    runs+=("$!" "$tag")
    pids+=("$!")
done
run "$changed_port" "${changes[@]/#/--include-operation-id=}" >"$work/changes.log" 2>&1 &
runs+=("$!" changes)
pids+=("$!")
for ((i = 0; i < ${#runs[@]}; i += 2)); do
    log=$work/${runs[i + 1]}.log
    if wait "${runs[i]}"; then
        grep -E 'generated|^=+ ' "$log" | sed "s/^/${runs[i + 1]}: /"
    else
        cat "$log"
        failed+=("schemathesis: ${runs[i + 1]}, see $log")
    fi
done

if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
    echo "again: EXAMPLES=$examples SEED=$seed daemon/tests/schemathesis.sh"
    exit 1
fi
echo "the contract holds: seed $seed, $examples examples for each operation"
