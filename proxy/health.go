package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// health answers load balancers outside of the cluster, which ask each node whether to send
// it connections: for a service with externalTrafficPolicy Local at its healthCheckNodePort
// (how many endpoints are here, KEP-1860), for all others at the proxy's own port (whether
// the rules are in the kernel). A port is open while there is a service for it.
type health struct {
	log   *slog.Logger
	ready <-chan struct{}

	mu   sync.Mutex
	open map[uint16]*check
}

// check is an open port.
type check struct {
	service owner
	local   int
	server  *http.Server
}

func newHealth(log *slog.Logger, ready <-chan struct{}) *health {
	return &health{log: log, ready: ready, open: map[uint16]*check{}}
}

// Limits of who asks; a load balancer asks each few seconds.
const (
	healthTime   = 5 * time.Second
	healthHeader = 8 << 10
)

// set follows a service; local is the number of its ready endpoints on this node.
func (h *health) set(o owner, svc *corev1.Service, local int) {
	port := healthPort(svc)
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, c := range h.open {
		if c.service == o && p != port {
			_ = c.server.Close() // connections of who asks
			delete(h.open, p)
		}
	}
	if port == 0 {
		return
	}
	if c := h.open[port]; c != nil {
		c.local = local
		return
	}
	c := &check{service: o, local: local}
	server, err := serveHealth(net.JoinHostPort("", strconv.Itoa(int(port))), func(w http.ResponseWriter, _ *http.Request) { h.answer(w, c) })
	if err != nil {
		h.log.Error("load balancers cannot ask for a service's endpoints", "service", o.namespace+"/"+o.name, "port", port, "error", err)
		return
	}
	c.server = server
	h.open[port] = c
}

// healthPort is where load balancers ask for a service's endpoints on this node; 0: nowhere.
func healthPort(svc *corev1.Service) uint16 {
	if svc == nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return 0
	}
	return uint16(svc.Spec.HealthCheckNodePort)
}

func (h *health) answer(w http.ResponseWriter, c *check) {
	h.mu.Lock()
	local := c.local
	h.mu.Unlock()
	healthy := h.healthy()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	if local == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	type name struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	_ = json.NewEncoder(w).Encode(struct { // to who has gone, perhaps
		Service             name `json:"service"`
		LocalEndpoints      int  `json:"localEndpoints"`
		ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
	}{name{c.service.namespace, c.service.name}, local, healthy})
}

func (h *health) healthy() bool {
	select {
	case <-h.ready:
		return true
	default:
		return false
	}
}

// run answers at the proxy's own port, if it has one, until ctx ends, and closes all ports then.
func (h *health) run(ctx context.Context, port int, eligible func() bool) error {
	defer h.close()
	if port == 0 {
		<-ctx.Done()
		return nil
	}
	server, err := serveHealth(net.JoinHostPort("", strconv.Itoa(port)), func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/livez":
		default:
			http.NotFound(w, r)
			return
		}
		now, ok, takes := time.Now(), h.healthy(), eligible()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !ok || !takes && r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, `{"lastUpdated": %q,"currentTime": %q, "nodeEligible": %v}`, now.String(), now.String(), takes)
	})
	if err != nil {
		return fmt.Errorf("answer load balancers: %w", err)
	}
	<-ctx.Done()
	return server.Close()
}

func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, c := range h.open {
		_ = c.server.Close() // connections of who asks
		delete(h.open, p)
	}
}

func serveHealth(at string, answer http.HandlerFunc) (*http.Server, error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: answer, ReadTimeout: healthTime, WriteTimeout: healthTime, IdleTimeout: time.Minute, MaxHeaderBytes: healthHeader}
	go s.Serve(l) //nolint:errcheck // that it was closed
	return s, nil
}
