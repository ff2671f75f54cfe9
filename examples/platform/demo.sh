#!/bin/sh
# `make demo`: the demo platform up, real requests through API → worker → model pod, down.
set -eu
cd "$(dirname "$0")/../.."
envctl=${ENVCTL:-target/debug/envctl}
platform=target/debug/examples/platform
show() { printf '$ %s\n' "$*" >&2; }

trap '"$envctl" down -f envs/platform.yaml' EXIT
trap 'exit 130' INT TERM

show envctl up -f envs/platform.yaml
"$envctl" up -f envs/platform.yaml
eval "$("$envctl" env)"

ask() { show "$@"; "$platform" request "$@"; }
ask POST "$API_URL/models" '{"name": "prices", "weights": [2, 3], "bias": 1}'
ask POST "$API_URL/models/prices/predict" '{"inputs": [1, 2]}'
ask GET "$API_URL/whoami"
show envctl ps
"$envctl" ps
ask DELETE "$API_URL/models/prices"
show envctl down
