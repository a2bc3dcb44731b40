// Package apiserver is the front door: it turns HTTP requests into operations on the
// store, exactly as the Kubernetes API defines them.
//
// The one idea: one pipeline for every request, remote or from this process (identity ->
// limits -> authorization -> route -> decode -> default -> mutate -> validate -> commit ->
// answer from the object in hand), and generic verbs that know kinds only through
// *api.Kind. Reads are answered with bytes that the store keeps.
//
// Used by cluster.
package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/fairness"
	"github.com/proa-dev/proa/apiserver/metrics"
	"github.com/proa-dev/proa/apiserver/nodeproxy"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// Limits of what is let in.
const (
	maxBody          = 3 << 20          // bytes of a request's body
	requestTimeout   = time.Minute      // default of Config.RequestTimeout
	defaultWatch     = 30 * time.Minute // a watch without timeoutSeconds ends between this and twice this
	maxGenerateTries = 8
)

// Config of a Server.
type Config struct {
	Store         *store.Store
	Catalog       *catalog.Catalog
	Env           *api.Env
	Scheme        *runtime.Scheme
	Authenticator access.Authenticator
	Authorizer    access.Authorizer
	Admission     admission.Chain
	Audit         *audit.Log   // nil: nothing is kept of requests
	Discovery     http.Handler // /api, /apis and below, but for resources
	OpenAPI       http.Handler // /openapi
	Nodes         *nodeproxy.Proxy
	Fairness      *fairness.Fairness      // default: one with what every cluster has
	Paths         map[string]http.Handler // further paths, by prefix ("/openid/", "/metrics"), authorized as such
	Open          map[string]http.Handler // paths that need no identity ("/cacerts")
	Metrics       []prometheus.Collector  // further ones of /metrics
	Version       version.Info
	CBOR          bool    // clients may speak it too
	Ready         []Check // of /readyz, beside those of the server itself
	// Started is closed once what every cluster has is there; until then the server is neither
	// healthy nor ready. nil: it is.
	Started <-chan struct{}
	Log     *slog.Logger
	Now     func() time.Time // default time.Now
	// RequestTimeout is how long a request may take that is neither a watch nor a tunnel,
	// the time its client takes included; default one minute.
	RequestTimeout time.Duration
}

// Server serves the API; safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	env      *api.Env
	table    atomic.Pointer[table]
	fairness *fairness.Fairness
	metrics  *metrics.Registry
	frames   frames
	closing  context.Context // ends when the server goes away: watches end
	close    context.CancelFunc
}

// table is one state of the catalog with what requests need at hand.
type table struct {
	*catalog.State
	kinds  map[*api.Kind]*served
	stored map[schema.GroupResource]*served
}

// find gives the kind that answers for a resource, nil when there is none.
func (t *table) find(gv schema.GroupVersion, plural string) *served {
	k, _ := t.Kind(gv, plural)
	return t.kinds[k]
}

// served is a kind with what its requests need at hand.
type served struct {
	*api.Kind
	collection *store.Collection // nil for virtual kinds
	slot       slots
	deprecated string // what clients are warned of
	fieldsOnce sync.Once
	fields     *patch.Fields
	fieldsErr  error
	// present ends when the kind is replaced by another, or gone, or the server goes away: so
	// do watches.
	present context.Context
	leave   context.CancelFunc
}

// slots are where a kind's encodings are kept with each item.
type slots struct{ json, protobuf, meta, cbor int }

// New makes a server. Every stored kind must be served by the store already.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Catalog == nil || cfg.Env == nil || cfg.Authenticator == nil || cfg.Authorizer == nil || cfg.Log == nil || cfg.Scheme == nil {
		return nil, errors.New("apiserver: Store, Catalog, Env, Scheme, Authenticator, Authorizer and Log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = requestTimeout
	}
	if cfg.Fairness == nil {
		cfg.Fairness = fairness.New(fairness.Config{})
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, env: cfg.Env,
		fairness: cfg.Fairness,
		metrics: metrics.New(append([]prometheus.Collector{
			metrics.Objects(cfg.Store), metrics.Size(cfg.Store), metrics.Fairness(cfg.Fairness), metrics.Audit(cfg.Audit), metrics.Build(cfg.Version),
		}, cfg.Metrics...)...),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	var err error
	cfg.Catalog.Follow(func(state *catalog.State) { err = s.follow(state) })
	return s, err
}

// follow makes the table of a state. A kind that cannot be served is left out and said.
func (s *Server) follow(state *catalog.State) error {
	t := &table{State: state, kinds: map[*api.Kind]*served{}, stored: map[schema.GroupResource]*served{}}
	old := s.table.Load()
	var errs []error
	for _, k := range state.Kinds {
		var one *served
		if old != nil {
			one = old.kinds[k]
		}
		if one == nil {
			var err error
			if one, err = s.serve(k); err != nil {
				s.log.Error("a kind is not served", "err", err)
				errs = append(errs, err)
				continue
			}
		}
		t.kinds[k] = one
		if k.Virtual == nil && k.Stored == nil {
			t.stored[k.GroupResource()] = one
		}
	}
	s.table.Store(t)
	if old != nil {
		for k, one := range old.kinds {
			if t.kinds[k] == nil {
				one.leave()
			}
		}
	}
	return errors.Join(errs...)
}

// serve gets a kind ready for requests.
func (s *Server) serve(k *api.Kind) (*served, error) {
	one := &served{Kind: k, deprecated: deprecated(k), slot: slots{json: 0, meta: 1, cbor: 5}}
	one.present, one.leave = context.WithCancel(s.closing)
	if k.Virtual != nil {
		return one, nil
	}
	gr := k.GroupResource()
	if k.Stored != nil {
		gr.Group = k.Stored.Group
		one.slot = slots{json: 2, protobuf: 3, meta: 4, cbor: 6}
	}
	if k.Custom != nil {
		one.slot = slots{json: k.Custom.Slot}
	}
	var ok bool
	if one.collection, ok = s.cfg.Store.Collection(gr); !ok {
		return nil, errors.New("apiserver: " + gr.String() + " is not stored")
	}
	return one, nil
}

// managed gives the kind's field manager, made on first use: it reads a large schema.
func (k *served) managed(scheme *runtime.Scheme) (*patch.Fields, error) {
	k.fieldsOnce.Do(func() { k.fields, k.fieldsErr = patch.NewFields(k.Kind, scheme) })
	return k.fields, k.fieldsErr
}

// hasProtobuf: custom resources have JSON alone.
func (k *served) hasProtobuf() bool {
	return reflect.PointerTo(k.Type).Implements(reflect.TypeFor[protoMessage]())
}

// Close ends the watches, so that the HTTP server can shut down.
func (s *Server) Close() { s.close() }

// userKey is where a request's context carries an identity that is known already.
type userKey struct{}

// withUser marks a request as coming from this process.
func withUser(ctx context.Context, u *api.User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}
