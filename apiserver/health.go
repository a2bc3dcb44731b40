package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Check is one of the things that must hold for the server to be healthy or ready.
type Check struct {
	Name string
	Ask  func(context.Context) error
	// Live checks are of /livez too: when they fail, a restart may help.
	Live bool
}

// health serves /healthz, /livez and /readyz, each check alone (/readyz/etcd), and what
// each said with ?verbose.
func (r *request) health() {
	endpoint, single, _ := strings.Cut(strings.TrimPrefix(r.r.URL.Path, "/"), "/")
	checks := append([]Check{
		{Name: "ping", Ask: func(context.Context) error { return nil }, Live: true},
		{Name: "etcd", Ask: r.s.cfg.Store.Health, Live: true},
	}, r.s.cfg.Ready...)
	if endpoint == "readyz" {
		checks = append(checks, Check{Name: "shutdown", Ask: func(context.Context) error { return r.s.closing.Err() }})
	}
	var text strings.Builder
	failed, found := false, single == ""
	excluded := r.query["exclude"]
	for _, c := range checks {
		switch {
		case endpoint != "readyz" && !c.Live, single != "" && single != c.Name:
			continue
		case slices.Contains(excluded, c.Name):
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
	h := r.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache, private")
	_, verbose := r.query["verbose"]
	switch {
	case !found:
		http.NotFound(r.w, r.r)
	case failed:
		r.w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(r.w, "%s%s check failed\n", text.String(), endpoint)
	case verbose:
		fmt.Fprintf(r.w, "%s%s check passed\n", text.String(), endpoint)
	default:
		fmt.Fprint(r.w, "ok")
	}
}
