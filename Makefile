# Two commands are enough: make up, make test. 'make' alone lists the rest.
SHELL := /bin/bash
export CGO_ENABLED ?= 0
# The same for building and testing, so that one build cache serves both.
# fieldsv1string has equal lists of managed fields held once in memory, not once for each object;
# the other tags leave out of libraries what nobody here can reach (docs/decisions: the size of the binary).
TAGS := fieldsv1string,grpcnotrace,nri_no_wasm,no_rdt,no_systemd,urfave_cli_no_docs
# Inlining makes code fast and large: only what requests run through has it. The last match counts.
INLINED := std github.com/proa-dev/proa/... go.etcd.io/... golang.org/x/net/... google.golang.org/protobuf/... \
	k8s.io/apimachinery/... k8s.io/client-go/tools/cache/... k8s.io/client-go/util/... k8s.io/klog/... k8s.io/utils/... \
	sigs.k8s.io/json/... sigs.k8s.io/structured-merge-diff/... github.com/go-logr/... github.com/google/btree/... \
	github.com/google/cel-go/common/... github.com/google/cel-go/interpreter/... github.com/miekg/dns/... \
	github.com/klauspost/compress/... github.com/cespare/xxhash/... github.com/prometheus/client_golang/prometheus/...
export GOFLAGS := -trimpath -tags=$(TAGS) -gcflags=all=-l $(INLINED:%=-gcflags=%=) $(GOFLAGS)
BIN := bin/proa
# kubectl, built in, says the version of the API that is served.
CLIENT := k8s.io/component-base/version
LDFLAGS := -s -w -funcalign=16 -X $(CLIENT).gitVersion=v1.37.1+proa -X $(CLIENT).gitMajor=1 -X $(CLIENT).gitMinor=37

.PHONY: help up down uninstall deps helpers build test lint conformance clients twin clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

up: deps build ## install what is missing, build, start a cluster, run the demo
	@./demo/up.sh

down: ## stop the cluster and put the machine back
	@if [ -x $(BIN) ]; then $(BIN) down; fi

uninstall: ## the same, and remove the cluster's data
	@if [ -x $(BIN) ]; then $(BIN) uninstall; fi

deps: ## install what this machine lacks, from the distribution
	@./hack/deps.sh

helpers: ## the small programs inside the binary: the runtime's shim, the CNI client, pause
	@go run ./runtime/helpers/build

build: helpers ## bin/proa
	@mkdir -p bin
	@go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/proa

test: deps build ## all tests; those that need root and a runtime among them
	@CGO_ENABLED=1 go test -race -timeout 15m $$(go list ./... | grep -v /test/)
	@go test -count=1 -p 1 -timeout 20m ./test/...

lint: ## vet, staticcheck, gofmt, the dependency test
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not formatted:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@go vet ./...
	@go tool staticcheck ./...
	@go test ./test/deps

# What is given on the command line of make is in the environment of its commands.
conformance: $(if $(CLUSTER),,build) ## the official conformance suite, half an hour; FOCUS='regex' FAILED=1 KEEP=1 PROCS=n SERIAL=0 PULL=1 CLUSTER=kubeconfig LOAD='command'
	@mkdir -p _output/conformance/bin
	@cd test/conformance && CGO_ENABLED=0 go build -o ../../_output/conformance/bin/run ./run
	@_output/conformance/bin/run -focus="$$FOCUS" -skip="$$SKIP" -cluster="$$CLUSTER" -load="$$LOAD" -procs=$(or $(PROCS),10) \
		-serial=$(or $(SERIAL),1) -keep=$(or $(KEEP),0) -failed=$(or $(FAILED),0) -pull=$(or $(PULL),0)

clients: $(if $(CLUSTER),,build) ## kubectl of four versions, Helm, controller-runtime, client-go, Python, JavaScript and curl; FOCUS='regex' CLUSTER=kubeconfig
	@./test/clients/run.sh

twin: ## run Kubernetes' own API server on loopback, to compare with
	@mkdir -p _output/twin
	@cd test/conformance && GOFLAGS= CGO_ENABLED=0 go build -o ../../_output/twin/twin ./twin
	@GOFLAGS= CGO_ENABLED=0 _output/twin/twin -dir $(CURDIR)/_output/twin -module test/conformance

clean: ## remove what was built
	@rm -rf bin _output runtime/helpers/bin/*
