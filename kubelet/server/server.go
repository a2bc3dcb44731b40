// Package server is the node agent's HTTPS API: logs, exec, attach and port-forward for the
// API server, pods and figures for whoever may see them.
//
// The one idea: a route names, where it is registered, what asking for it takes; nothing is
// decided by the shape of a path or by the method of a request. Every route needs a client
// certificate of the cluster or a token that the API server vouches for, and a
// SubjectAccessReview; there is no anonymous door and no read-only port.
//
// cluster/ wires it beside the kubelet, which it sees as Pods.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/logs"
	"github.com/proa-dev/proa/kubelet/usage"
)

// Pods is what the server asks the kubelet. Objects are read-only.
type Pods interface {
	Pods() []*corev1.Pod
	Pod(namespace, name string) (*corev1.Pod, bool)
	ContainerID(uid types.UID, name string, previous bool) (string, bool)
	SandboxID(uid types.UID) (string, bool)
	LogPath(uid types.UID, name string, previous bool) (string, bool)
}

// Config of a Server. Everything is required unless told otherwise.
type Config struct {
	Addr      string               // such as ":10250"; or Listener
	Listener  net.Listener         // plain TCP; closed when Run ends
	TLS       *tls.Config          // with the serving certificate
	ClientCAs *x509.CertPool       // whose client certificates are believed; nil: none are
	NodeName  string               // whose subresources are asked for
	Client    kubernetes.Interface // for TokenReview and SubjectAccessReview
	Runtime   runtimeapi.RuntimeServiceClient
	Images    runtimeapi.ImageServiceClient // optional: figures of the image filesystem
	Pods      Pods
	Logs      *logs.Reader        // optional; nil: one that only this server uses
	Metrics   prometheus.Gatherer // of /metrics; optional
	Probes    prometheus.Gatherer // of /metrics/probes; optional
	// Cgroup is the control group of a pod, and CgroupRoot the one that all pods' are in; optional,
	// without them nothing is known of what pods use.
	Cgroup     func(*corev1.Pod) string
	CgroupRoot string
	// Volumes are the places of a pod's volumes, by name; optional.
	Volumes      func(types.UID) map[string]string
	SandboxImage string // of the containers that hold pods' namespaces, for metrics; optional
	// RemoveLocal removes the folder of a local volume, by name; optional.
	RemoveLocal func(name string) error
	Configz     any // what /configz shows, without secrets; optional
	Log         *slog.Logger
}

// Server is the node agent's HTTPS API.
type Server struct {
	cfg   Config
	log   *slog.Logger
	tls   *tls.Config
	guard *guard
	logs  *logs.Reader
	own   bool // logs is ours to run
	mux   *http.ServeMux
	ready chan struct{}

	usage   *usage.Reader
	samples *sampler
}

const (
	maxConnections = 2048
	maxHeader      = 64 << 10
	headerTime     = 10 * time.Second
	idleTime       = 90 * time.Second
	goodbyeTime    = 5 * time.Second
)

// New checks the configuration; it starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Addr == "" && cfg.Listener == nil || cfg.TLS == nil || cfg.NodeName == "" || cfg.Client == nil || cfg.Runtime == nil || cfg.Pods == nil || cfg.Log == nil {
		return nil, errors.New("kubelet server: Addr or Listener, TLS, NodeName, Client, Runtime, Pods and Log are required")
	}
	s := &Server{cfg: cfg, log: cfg.Log, guard: newGuard(cfg.Client, cfg.NodeName, cfg.Log), logs: cfg.Logs, usage: usage.New(""), ready: make(chan struct{})}
	s.samples = newSampler(func() (*reading, error) { return s.read(s.usage.Brief) })
	if s.logs == nil {
		reader, err := logs.New(logs.Config{Log: cfg.Log})
		if err != nil {
			return nil, err
		}
		s.logs, s.own = reader, true
	}
	s.tls = cfg.TLS.Clone()
	s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
	s.tls.NextProtos = []string{"http/1.1"} // upgrades need it, and nothing here gains by HTTP/2
	if cfg.ClientCAs != nil {
		s.tls.ClientAuth, s.tls.ClientCAs = tls.VerifyClientCertIfGiven, cfg.ClientCAs
	}
	s.routes()
	return s, nil
}

// Ready is closed once connections are accepted.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends and every request has ended; streams are cut.
func (s *Server) Run(ctx context.Context) error {
	l := s.cfg.Listener
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("listen for the kubelet API: %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	if s.own {
		group.Go(func() error { return s.logs.Run(ctx) })
	}
	conns := newConnections(l, maxConnections)
	var requests sync.WaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			defer requests.Done()
			s.mux.ServeHTTP(w, r)
		}),
		TLSConfig: s.tls, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		BaseContext:  func(net.Listener) context.Context { return ctx },
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		if err := srv.ServeTLS(conns, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the kubelet API: %w", err)
		}
		return nil
	})
	close(s.ready)
	<-ctx.Done()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer cancel()
	err := srv.Shutdown(bye)
	conns.closeAll()
	requests.Wait()
	return errors.Join(ignoreDeadline(err), group.Wait())
}

func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // what was left has been cut
	}
	return err
}
