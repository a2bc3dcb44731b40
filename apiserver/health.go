package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Check is one of the things that must hold for the server to be healthy or ready.
type Check struct {
	Name string
	Ask  func(context.Context) error
	// Live checks are of /livez too: when they fail, a restart may help.
	Live bool
	// NotReady checks are of /livez alone.
	NotReady bool
}

// started are the names under which tools ask whether the parts of an API server have begun
// their work. Here all have once the server has made what every cluster has.
var started = []string{
	"poststarthook/start-apiserver-admission-initializer", "poststarthook/generic-apiserver-start-informers",
	"poststarthook/priority-and-fairness-config-consumer", "poststarthook/priority-and-fairness-filter",
	"poststarthook/storage-object-count-tracker-hook", "poststarthook/start-apiextensions-informers",
	"poststarthook/start-apiextensions-controllers", "poststarthook/crd-informer-synced",
	"poststarthook/start-system-namespaces-controller", "poststarthook/peer-endpoint-reconciler-controller",
	"poststarthook/start-cluster-authentication-info-controller", "poststarthook/start-kube-apiserver-identity-lease-controller",
	"poststarthook/start-kube-apiserver-identity-lease-garbage-collector", "poststarthook/storage-readiness",
	"poststarthook/start-legacy-token-tracking-controller", "poststarthook/start-service-ip-repair-controllers",
	"poststarthook/rbac/bootstrap-roles", "poststarthook/scheduling/bootstrap-system-priority-classes",
	"poststarthook/priority-and-fairness-config-producer", "poststarthook/bootstrap-controller",
	"poststarthook/start-kubernetes-service-cidr-controller", "poststarthook/aggregator-reload-proxy-client-cert",
	"poststarthook/start-kube-aggregator-informers", "poststarthook/apiservice-status-local-available-controller",
	"poststarthook/apiservice-status-remote-available-controller", "poststarthook/apiservice-registration-controller",
	"poststarthook/apiservice-discovery-controller", "poststarthook/kube-apiserver-autoregistration",
	"autoregister-completion", "poststarthook/apiservice-openapi-controller",
	"poststarthook/apiservice-openapiv3-controller",
}

var errStarting = errors.New("not finished")

// checks are all that there are, in the order in which they are shown.
func (s *Server) checks() []Check {
	fine := func(context.Context) error { return nil }
	checks := []Check{
		{Name: "ping", Ask: fine, Live: true}, {Name: "log", Ask: fine, Live: true},
		{Name: "loopback-serving-certificate", Ask: fine, Live: true, NotReady: true}, // there is none that could expire
		{Name: "etcd", Ask: s.cfg.Store.Health, Live: true}, {Name: "etcd-readiness", Ask: s.cfg.Store.Health},
		{Name: "informer-sync", Ask: fine}, // the cache is full before anything is served
	}
	begun := func(context.Context) error {
		if s.cfg.Started == nil {
			return nil
		}
		select {
		case <-s.cfg.Started:
			return nil
		default:
			return errStarting
		}
	}
	for _, name := range started {
		checks = append(checks, Check{Name: name, Ask: begun, Live: true})
	}
	checks = append(checks, s.cfg.Ready...)
	return append(checks, Check{Name: "shutdown", Ask: func(context.Context) error { return s.closing.Err() }})
}

// health serves /healthz, /livez and /readyz, each check alone (/readyz/etcd), and what
// each said with ?verbose.
func (r *request) health() {
	endpoint, single, deeper := strings.Cut(strings.TrimPrefix(r.r.URL.Path, "/"), "/")
	if deeper && single == "" {
		http.NotFound(r.w, r.r)
		return
	}
	var text strings.Builder
	failed, found := false, single == ""
	excluded := slices.Clone(r.query["exclude"])
	for _, c := range r.s.checks() {
		switch {
		case endpoint != "readyz" && !c.Live, endpoint == "readyz" && c.NotReady, single != "" && single != c.Name:
			continue
		case slices.Contains(excluded, c.Name):
			excluded = slices.DeleteFunc(excluded, func(name string) bool { return name == c.Name })
			fmt.Fprintf(&text, "[+]%s excluded: ok\n", c.Name)
			continue
		}
		found = true
		if err := c.Ask(r.r.Context()); err != nil {
			failed = true
			r.s.log.Warn("health check failed", "endpoint", endpoint, "check", c.Name, "err", err)
			fmt.Fprintf(&text, "[-]%s failed: reason withheld\n", c.Name)
		} else {
			fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
		}
	}
	if len(excluded) > 0 {
		fmt.Fprintf(&text, "warn: some health checks cannot be excluded: no matches for %s\n", quoted(excluded))
	}
	h := r.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if single == "" {
		h.Set("X-Content-Type-Options", "nosniff")
	}
	_, verbose := r.query["verbose"]
	switch {
	case !found:
		http.NotFound(r.w, r.r)
	case failed:
		r.w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(r.w, "%s%s check failed\n", text.String(), endpoint)
	case verbose && single == "":
		fmt.Fprintf(r.w, "%s%s check passed\n", text.String(), endpoint)
	default:
		fmt.Fprint(r.w, "ok")
	}
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.Quote(name)
	}
	return strings.Join(list, ", ")
}

// slis shows the checks as metrics, for those who scrape them often.
func (r *request) slis() {
	var text strings.Builder
	text.WriteString("# HELP kubernetes_healthcheck [STABLE] This metric records the result of all healthchecks.\n# TYPE kubernetes_healthcheck gauge\n")
	for _, c := range r.s.checks() {
		kinds := []string{"readyz"}
		switch {
		case c.NotReady:
			kinds = []string{"healthz", "livez"}
		case c.Live:
			kinds = []string{"healthz", "livez", "readyz"}
		}
		ok := 1
		if c.Ask(r.r.Context()) != nil {
			ok = 0
		}
		for _, kind := range kinds {
			fmt.Fprintf(&text, "kubernetes_healthcheck{name=%q,type=%q} %d\n", c.Name, kind, ok)
		}
	}
	r.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
	fmt.Fprint(r.w, text.String())
}
