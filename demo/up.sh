#!/usr/bin/env bash
# Starts a cluster of two nodes with the demo in it and says what runs. Called by make up.
set -euo pipefail
cd "$(dirname "$0")/.."
proa=bin/proa
nodes=${NODES:-2}

if [ "$(id -u)" != 0 ]; then
	exec sudo --preserve-env=NODES "$0" "$@"
fi
$proa up --nodes "$nodes"

if ! $proa kubectl get namespace demo >/dev/null 2>&1; then
	mkdir -p _output
	echo
	echo "Building the demo's images (proa.local/demo:v1 and :v2) and loading them:"
	go run ./demo/image -o _output/demo.tar
	$proa image load _output/demo.tar
	echo
	$proa kubectl apply -f demo/manifests
fi
$proa kubectl -n demo rollout status deployment/web --timeout=60s
echo
$proa kubectl get nodes
echo
$proa kubectl -n demo get pods,services -o wide
address=$($proa kubectl -n demo get service web -o 'jsonpath={.spec.clusterIP}')
echo
echo "The demo answers at http://$address/"
curl --silent --max-time 5 "http://$address/" | sed 's/^/  /' || true
