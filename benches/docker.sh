#!/usr/bin/env bash
# Five services of one image, with the same health check, in one Docker engine: `envctl up` on the embedded cluster and `docker compose up
# --wait`, by turns. `benches/docker.sh ENVCTL [COMPOSE]`; DOCKER_HOST leads to the engine; needs busybox-static.
set -euo pipefail
envctl=$(realpath "$1")
compose=${2:-docker-compose}
runs=${RUNS:-7}
place=$(mktemp -d)
export ENVCTL_STATE_DIR=$place/state
cd "$place"
finish() {
    "$envctl" down --all >/dev/null 2>&1 || true
    "$compose" -p envctl-bench down -t 0 >/dev/null 2>&1 || true
    docker rmi envctl-bench/box:1 >/dev/null 2>&1 || true
    rm -rf "$place"
}
trap finish EXIT
cp /bin/busybox busybox
mkdir web
echo hello >web/index.html
printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY web /web\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n' >Dockerfile
docker build -q -t envctl-bench/box:1 . >/dev/null
{
    echo "services:"
    for n in 1 2 3 4 5; do
        echo "  s$n: { image: envctl-bench/box:1, ports: { http: 8080 }, command: [httpd, -f, -p, \"8080\", -h, /web],"
        echo "    ready: { exec: [wget, -q, -O, /dev/null, \"http://localhost:8080/\"] } }"
    done
} >envctl.yaml
{
    echo "services:"
    for n in 1 2 3 4 5; do
        echo "  s$n: { image: envctl-bench/box:1, command: [httpd, -f, -p, \"8080\", -h, /web], stop_grace_period: 0s,"
        echo "    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, \"http://localhost:8080/\"], interval: 1s } }"
    done
} >compose.yaml
took() {
    local from=$EPOCHREALTIME to
    "$@" >"$place/log" 2>&1 || { cat "$place/log" >&2; exit 1; }
    to=$EPOCHREALTIME
    echo $(((${to/./} - ${from/./}) / 1000))
}
median() { sort -n "$1" | sed -n "$(((runs + 1) / 2))p"; }
for _ in $(seq "$runs"); do
    took "$envctl" up >>up.envctl
    took "$envctl" down >>down.envctl
    took "$compose" -p envctl-bench up --wait >>up.compose
    took "$compose" -p envctl-bench down -t 0 >>down.compose
done
for what in up down; do
    echo "$what of five containers: envctl $(median $what.envctl) ms, compose $(median $what.compose) ms (medians of $runs)"
    echo "  envctl: $(tr '\n' ' ' <$what.envctl)"
    echo "  compose: $(tr '\n' ' ' <$what.compose)"
done
