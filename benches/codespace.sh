#!/usr/bin/env bash
# From nothing to an API key issued, the virtual environment already built: `envctl up` of envs/codespace.yaml against the
# same programs started by this script, in turns. Prints each round, the medians and their ratio.
#
# Both make a new database cluster (initdb), migrate, create the account, start gunicorn, the worker and what both need, wait
# until all of it works, and issue the key. The script waits as well as a script can: it tries every 20 ms, and it does
# at once what envctl does at once (account, servers). Each program gets a session of its own, as in a pod: on a busy machine the kernel
# shares processors among sessions (autogroup). envctl is measured to the return of `up`.
#
#   benches/codespace.sh [ENVCTL [ROUNDS]]
set -euo pipefail
cd "$(dirname "$0")/.."
envctl=$(realpath "${1:-target/release/envctl}")
rounds=${2:-9}
venv=$PWD/examples/codespace/.venv/bin
limit=1.3
for postgres in /usr/lib/postgresql/*/bin; do :; done

examples/codespace/bin/build
scratch=$(mktemp -d)
chmod 755 "$scratch"
started=()
finish() {
    [ ${#started[@]} = 0 ] || { kill "${started[@]}" && wait "${started[@]}"; } 2>/dev/null || true
    started=()
}
export ENVCTL_STATE_DIR=$scratch/state ENVCTL_FILE=envs/codespace.yaml
unset ENVCTL_SESSION
trap 'finish; "$envctl" down 2>/dev/null || true; rm -rf "$scratch"' EXIT

millis() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
until_it_works() { until "$@" >/dev/null 2>&1; do sleep 0.02; done; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$2" && printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3 && read -r -t 10 _ code _ <&3 && [ "$code" = 200 ]); }
free_port() { "$venv/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# What envs/codespace.yaml says, by hand.
directly() {
    local manage=(setsid --wait "$venv/python" examples/codespace/manage.py) data=$1 account
    export PGDATA=$data/data PGUSER=codespace PGDATABASE=codespace PGPASSWORD=secret PGHOST=127.0.0.1 PGPORT=$2
    export SECRET_KEY=secret ACCOUNT_PASSWORD=secret PYTHONPATH=examples/codespace PYTHONUNBUFFERED=1
    setsid examples/codespace/bin/postgres >"$data/postgres.log" 2>&1 &
    started+=($!)
    until_it_works "$postgres/pg_isready" --host=127.0.0.1
    "${manage[@]}" migrate >"$data/migrate.log" 2>&1
    "${manage[@]}" create_account --user=demo >"$data/account.log" 2>&1 &
    account=$!
    setsid "$venv/gunicorn" --bind="127.0.0.1:$3" --workers=2 --threads=4 --worker-tmp-dir=/dev/shm --no-control-socket codespace.wsgi >"$data/api.log" 2>&1 &
    started+=($!)
    "${manage[@]}" run_worker --ready-file="$data/ready" >"$data/worker.log" 2>&1 &
    started+=($!)
    until_it_works answers /healthz "$3"
    until_it_works test -e "$data/ready"
    wait "$account"
    key=$("${manage[@]}" issue_key --user=demo)
    export -n PGDATA PGUSER PGDATABASE PGPASSWORD PGHOST PGPORT SECRET_KEY ACCOUNT_PASSWORD PYTHONPATH PYTHONUNBUFFERED
}

by_envctl() {
    "$envctl" up >"$1" 2>&1 || { cat "$1" >&2; return 1; }
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

script=() up=()
for round in $(seq "$rounds"); do
    data=$scratch/$round
    mkdir "$data"
    chmod 755 "$data"
    first=$(free_port) second=$(free_port)
    began=$(millis)
    directly "$data" "$first" "$second"
    script+=($(($(millis) - began)))
    [ -n "$key" ]
    finish

    began=$(millis)
    by_envctl "$data/up.log"
    up+=($(($(millis) - began)))
    "$envctl" env --format dotenv | grep -q '^API_KEY=.'
    "$envctl" down 2>/dev/null
    echo "round $round: script ${script[-1]} ms, envctl up ${up[-1]} ms"
    rm -rf "$data"
done

by_hand=$(printf '%s\n' "${script[@]}" | median)
by_up=$(printf '%s\n' "${up[@]}" | median)
awk -v a="$by_hand" -v b="$by_up" -v n="$rounds" -v limit="$limit" 'BEGIN {
    printf "medians of %d: script %d ms, envctl up %d ms, ratio %.2f (limit %s): %s\n", n, a, b, b / a, limit, b / a <= limit ? "reached" : "missed"
}'
