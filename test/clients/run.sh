#!/bin/bash
# make clients: prepares the clients in _output/clients/bin as <client>-<version>, starts a server without node, runs the
# tests, ends the server. Needs Go and the module proxy; npm for JavaScript, apt-get for Python, curl: what is not there is left out.
# FOCUS='regexp' runs some tests ('Sessions/helm/v4'), CLUSTER=kubeconfig tests another cluster (of an administrator).
set -euo pipefail
cd "$(dirname "$0")"
out=$PWD/../../_output/clients bin=$out/bin name=clients-kit port=${PORT:-7543}
kubectls="0.34.13 0.35.10 0.36.6 0.37.1"   # of k8s.io/kubectl
helms="v3@v3.22.0 v4@v4.3.1"               # major version and release
unset GOFLAGS
export CGO_ENABLED=0
mkdir -p "$bin"

kubectl() { # version: the program is three lines around a library
	[ -x "$bin/kubectl-$1" ] && return
	mkdir -p "$out/src/kubectl-$1"
	cd "$out/src/kubectl-$1"
	printf 'module kubectl\n\ngo 1.26\n\nrequire k8s.io/kubectl v%s\n' "$1" > go.mod
	printf 'package main\n\nimport (\n\t"os"\n\n\t"k8s.io/component-base/cli"\n\t"k8s.io/kubectl/pkg/cmd"\n)\n\nfunc main() { os.Exit(cli.Run(cmd.NewDefaultKubectlCommand())) }\n' > main.go
	go build -mod=mod -p 1 -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v1.${1#0.}" -o "$bin/kubectl-$1" .
}

helm() { # major@release
	[ -x "$bin/helm-${1%@*}" ] && return
	GOBIN=$out/src go install -p 1 -ldflags '-s -w' "helm.sh/helm/${1%@*}/cmd/helm@${1#*@}"
	mv "$out/src/helm" "$bin/helm-${1%@*}"
}

javascript() { # version, node: a package of npm, or the one that is installed
	[ -x "$bin/javascript-$1" ] && return
	mkdir -p "$out/javascript-$1"
	cd "$out/javascript-$1"
	echo '{"private": true}' > package.json
	npm install --silent --no-audit --no-fund "@kubernetes/client-node@$1" ${2:+"node@$2"}
	script "javascript-$1" "ln -sfn $PWD/node_modules node_modules; PATH=node_modules/.bin:\$PATH exec node \"\$@\""
}

python() { # the distribution's library, unpacked beside and not installed
	local packages version
	version=$(apt-cache show python3-kubernetes | sed -n 's/^Version: \([0-9.]*\).*/\1/p' | sed -n 1p)
	[ -n "$version" ] || return
	[ -x "$bin/python-$version" ] && return
	packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances -i python3-kubernetes | grep -oE '^python3-[a-z0-9.-]+' | sort -u)
	mkdir -p "$out/python/archives"
	cd "$out/python/archives"
	apt-get download -qq $packages 2>/dev/null
	for archive in *.deb; do dpkg -x "$archive" "$out/python"; done
	script "python-$version" "PYTHONPATH=$out/python/usr/lib/python3/dist-packages exec /usr/bin/python3 \"\$@\""
}

script() { printf '#!/bin/sh\n%s\n' "$2" > "$bin/$1"; chmod +x "$bin/$1"; }
has() { command -v "$1" > /dev/null || { echo "clients: no $1, so $2 is left out"; false; }; }

serve() { # flags of the server
	"$proa" server --node=false --name $name --https-port "$port" "$@" > "$out/server.log" 2>&1 & server=$!
	for _ in $(seq 100); do
		grep -q msg=ready "$out/server.log" && break
		kill -0 $server || { tail "$out/server.log"; exit 1; }
		read -rt 0.1 <> <(:) || true
	done
	"$proa" kubeconfig --name $name > "$out/kubeconfig"
	export KUBECONFIG=$out/kubeconfig
}

end() {
	[ -n "${server:-}" ] || return 0
	kill $server && wait $server || true
	server=
	"$proa" uninstall --name $name > /dev/null
}

for v in $kubectls; do (kubectl "$v"); done
for v in $helms; do (helm "$v"); done
has npm JavaScript && { (javascript 1.4.0); (javascript 2.0.1 24); }
has apt-get Python && (python)
has curl curl && ln -sf "$(command -v curl)" "$bin/curl-$(curl --version | sed -n '1s/curl \([0-9.]*\).*/\1/p')"

proa=$PWD/../../bin/proa
export CLIENTS=$bin
trap end EXIT
[ -z "${CLUSTER:-}" ] || export KUBECONFIG=$CLUSTER
[ -n "${CLUSTER:-}" ] || serve
status=0
go test -count=1 -timeout 20m -run "${FOCUS:-.}" -json ./... > "$out/results.json" || status=$?
if [ -z "${CLUSTER:-}" ]; then # and with what is not on by default; see docs/clients.md for what does not work then
	end
	serve --feature-gates=CBORServingAndStorage=true
	KUBE_FEATURE_ClientsAllowCBOR=true KUBE_FEATURE_ClientsPreferCBOR=true KUBE_FEATURE_WatchListClient=false \
		go test -count=1 -timeout 5m -run "${FOCUS:-Informers|Encodings|LeaderElection}" -json ./clientgo >> "$out/results.json" || status=$?
fi
go run ./report < "$out/results.json"
exit $status
