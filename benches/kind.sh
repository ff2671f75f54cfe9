#!/usr/bin/env bash
# What `envctl up` costs on kind, beside kind and kubectl, in the engine that DOCKER_HOST leads to: `make bench-kind`.
# `benches/kind.sh ENVCTL`; needs kind, kubectl, busybox-static, and ENVCTL_KIND_IMAGE where no node image can be pulled.
#
# - cold: `kind create cluster`; the same, `kind load docker-image`, `kubectl apply` and `kubectl wait` of five services by hand; and `envctl
#   up` of nothing and of the five where there is no cluster yet, by turns;
# - five services on a cluster that is there, image present: `kubectl apply` and `kubectl wait`, and `envctl up`, by turns;
# - an image of 100 MB: `kind load docker-image`, and what `envctl up` takes to load it, each time another one, by turns;
# - the same image where the nodes have it: what an `up` that changes nothing takes for it.
set -euo pipefail
envctl=$(realpath "$1")
runs=${RUNS:-7} cold=${COLD:-3}
place=$(mktemp -d)
# kind's own cluster, beside envctl's.
theirs=envctl-bench-$$
export HOME=$place/home ENVCTL_STATE_DIR=$place/state ENVCTL_CLUSTER=kind
mkdir -p "$HOME" "$place/five/web" "$place/big" "$place/none"
cd "$place/five"
finish() {
    "$envctl" down --all >/dev/null 2>&1 || true
    "$envctl" gc --cluster kind >/dev/null 2>&1 || true
    kind delete cluster --name "$theirs" --kubeconfig "$place/kubeconfig" >/dev/null 2>&1 || true
    docker image ls -q envctl-bench/big | sort -u | xargs -r docker rmi -f >/dev/null 2>&1 || true
    docker rmi -f envctl-bench/box:1 >/dev/null 2>&1 || true
    rm -rf "$place"
}
trap finish EXIT

cp /bin/busybox busybox
echo hello >web/index.html
printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY web /web\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n' >Dockerfile
{
    echo "name: five"
    echo "images: { envctl-bench/box:1: { docker: { context: . } } }"
    echo "services:"
    for n in 1 2 3 4 5; do
        echo "  s$n: { image: envctl-bench/box:1, grace: 1s, ports: { http: 8080 }, command: [httpd, -f, -p, \"8080\", -h, /web],"
        echo "    ready: { http: { path: /, port: http } } }"
    done
} >envctl.yaml
echo "name: none" >"$place/none/envctl.yaml"
cp busybox "$place/big"
printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY data /data\n' >"$place/big/Dockerfile"
printf 'name: big\nimages: { envctl-bench/big:1: { docker: { context: . } } }\nservices:\n  big: { image: envctl-bench/big:1, grace: 1s, command: [/bin/busybox, sleep, "100000"] }\n' >"$place/big/envctl.yaml"

took() {
    local from=$EPOCHREALTIME to
    "$@" >"$place/log" 2>&1 || { cat "$place/log" >&2; exit 1; }
    to=$EPOCHREALTIME
    echo $(((${to/./} - ${from/./}) / 1000))
}
# between FROM TO: milliseconds from the first line of the last program that has FROM to the next that has TO.
between() { sed -n 's/^\[ *\([0-9.]*\)s\] \(.*\)/\1 \2/p' "$place/log" | awk -v from="$1" -v to="$2" '!seen && $0 ~ from { at = $1; seen = 1; next } seen && $0 ~ to { print int(($1 - at) * 1000); exit }'; }
median() { sort -n "$1" | sed -n "$((($(wc -l <"$1") + 1) / 2))p"; }
row() { printf '%-58s %6d ms  (%s)\n' "$1" "$(median "$2")" "$(tr '\n' ' ' <"$2" | sed 's/ $//')"; }
ratio() { awk -v a="$(median "$1")" -v b="$(median "$2")" -v limit="$3" 'BEGIN { printf "  %.2f × (limit %s)\n", a / b, limit }'; }
by_kubectl() { kubectl apply -f "$place/objects.yaml" && kubectl wait --for=condition=Available deployment --all --timeout=180s -n five; }
create() { kind create cluster --name "$theirs" --image "$ENVCTL_KIND_IMAGE" --kubeconfig "$place/kubeconfig"; }
by_hand() {
    create && docker build -q -t envctl-bench/box:1 . && kind load docker-image envctl-bench/box:1 --name "$theirs" && by_kubectl
}
kubectl() { command kubectl --kubeconfig "$kubeconfig" "$@"; }
forget() { "$envctl" down && "$envctl" gc --cluster kind; }
times=$place/times && mkdir "$times"

"$envctl" config -o objects >"$place/objects.yaml"
"$envctl" up >/dev/null 2>&1 && forget >/dev/null 2>&1
kubeconfig=$place/kubeconfig
for _ in $(seq "$cold"); do
    took create >>"$times/create"
    kind delete cluster --name "$theirs" --kubeconfig "$place/kubeconfig" >/dev/null 2>&1
    took by_hand >>"$times/hand"
    kind delete cluster --name "$theirs" --kubeconfig "$place/kubeconfig" >/dev/null 2>&1
    cd "$place/none"
    took "$envctl" up >>"$times/none"
    took forget >/dev/null
    cd "$place/five"
    took "$envctl" up >>"$times/cold"
    took forget >/dev/null
done
row "kind create cluster" "$times/create"
row "envctl up of nothing, no cluster yet" "$times/none"
row "envctl up of five services, no cluster yet" "$times/cold"
row "the same by hand" "$times/hand"
ratio "$times/cold" "$times/hand" 1.0

took "$envctl" up >/dev/null
took "$envctl" down >/dev/null
# A session that keeps the cluster and says how to reach it.
(cd "$place/none" && took "$envctl" up >/dev/null)
kubeconfig=$(cd "$place/none" && "$envctl" env --format json | sed -n 's/.*"KUBECONFIG": *"\([^"]*\)".*/\1/p')
for _ in $(seq "$runs"); do
    took by_kubectl >>"$times/kubectl"
    took kubectl delete namespace five >/dev/null
    took "$envctl" up >>"$times/up"
    took "$envctl" down >/dev/null
done
row "kubectl apply and kubectl wait, five services" "$times/kubectl"
row "envctl up of the same five" "$times/up"
ratio "$times/up" "$times/kubectl" 1.05

cd "$place/big"
for _ in $(seq "$runs"); do
    head -c 100000000 /dev/urandom >data
    docker build -q -t envctl-bench/big:theirs . >/dev/null 2>&1
    name=$(docker ps --filter "label=io.x-k8s.kind.cluster" --format '{{.Label "io.x-k8s.kind.cluster"}}' | sed -n 1p)
    took kind load docker-image envctl-bench/big:theirs --name "$name" >>"$times/kind-load"
    head -c 100000000 /dev/urandom >data
    took "$envctl" up >/dev/null
    between "loading into" "service big: applying" >>"$times/load"
    took "$envctl" up >/dev/null
    between "service big: building" "service big: (waiting|applying|unchanged)" >>"$times/present"
done
row "kind load docker-image, 100 MB" "$times/kind-load"
row "envctl up loading such an image" "$times/load"
ratio "$times/load" "$times/kind-load" 1.1
row "envctl up with such an image in the nodes (limit 100)" "$times/present"
