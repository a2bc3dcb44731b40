// Package store keeps the cluster's objects: etcd underneath (embedded, or a cluster
// reached by its endpoints), a watch cache on top.
//
// The one idea: etcd is written to and watched once; everything else is answered from
// one copy-on-write tree per kind, whose items hold the decoded object, immutable, and
// its encodings. A snapshot is a root pointer, so lists, pages and the start of a watch
// are consistent and cost no locks. Acknowledged means fsynced; what a writer was told
// is in the cache before it is told so.
//
// Keys and values are upstream's (/registry/<prefix>/<namespace>/<name>, protobuf in the
// "k8s\x00" envelope without a resourceVersion), so an upstream cluster's etcd can be taken over.
//
// Used by apiserver alone (and by cluster, which opens it).
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/store/seal"
)

// root is the folder of everything in etcd, as upstream has it.
const root = "/registry/"

// Defaults of Config.
const (
	DefaultCompact = 5 * time.Minute
	DefaultEvents  = 10_000
)

// Config of a Store; Dir or Endpoints is needed.
type Config struct {
	Dir       string        // of the embedded etcd; empty with Endpoints
	Peers     *Peers        // makes the embedded etcd a member that others can join; nil: nobody can
	Listen    string        // URL (unix:///path) at which the embedded etcd answers others too, without asking who they are; empty: nowhere
	Endpoints []string      // an external etcd instead
	TLS       *tls.Config   // for Endpoints
	Log       *slog.Logger  // nil: slog.Default()
	Compact   time.Duration // how long old revisions are kept; default 5m, as upstream
	Seal      *seal.Keys    // seals the values of some kinds in etcd; nil: none
	Observer  Observer      // is told of each write; nil: nobody is
	Events    int           // watch events kept per kind, and the longest queue of one watcher; default 10000 (bounded in bytes too)
}

// Observer is told how long etcd took for each write: "create", "update" or "delete".
type Observer interface {
	Request(operation string, of schema.GroupResource, took time.Duration, err error)
}

// Store is an open store. Safe for concurrent use.
type Store struct {
	cfg       Config
	log       *slog.Logger
	link      link
	leading   leading
	joining   sync.Mutex    // one change of membership at a time
	removed   chan struct{} // closed when the others removed this server
	leases    leases
	disk      disk
	past      past
	encodings encodings
	resealing chan struct{} // has a token when there is something to seal anew
	compacted atomic.Int64  // snapshots before this revision are gone

	stop context.CancelFunc // ends the feed
	done chan struct{}      // closed when the feed has ended

	collections atomic.Pointer[map[string]*Collection] // by etcd folder "/registry/pods/"; copied on change

	revision atomic.Int64 // everything up to it is in the cache

	mu      sync.Mutex          // orders revisions
	pending map[int64][]change  // own commits whose predecessors are not applied yet
	waiters []waiter            // for revisions to come
	serving map[string]struct{} // folders being loaded or served
}

// Open starts or reaches etcd, and returns when it is ready. The caches are fed from
// then on, until Close.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Compact == 0 {
		cfg.Compact = DefaultCompact
	}
	if cfg.Events == 0 {
		cfg.Events = DefaultEvents
	}
	s := &Store{
		cfg: cfg, log: cfg.Log, done: make(chan struct{}), removed: make(chan struct{}), pending: map[int64][]change{},
		serving: map[string]struct{}{}, disk: disk{dir: cfg.Dir},
		past: past{turn: make(chan struct{}, 1)}, resealing: make(chan struct{}, 1),
	}
	s.collections.Store(&map[string]*Collection{})
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	revision, err := s.newest(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read etcd's revision: %w", err), s.disconnect())
	}
	s.revision.Store(revision)
	feed, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.feed(feed)
	return s, nil
}

func (s *Store) connect(ctx context.Context) (err error) {
	switch {
	case len(s.cfg.Endpoints) > 0:
		s.link.client, err = dial(ctx, s.cfg)
	case s.cfg.Dir != "":
		var m *member
		if m, err = startMember(ctx, s.cfg, s.log); err == nil {
			s.use(m)
		}
	default:
		err = errors.New("open the store: neither a folder nor endpoints are given")
	}
	return err
}

func (s *Store) disconnect() error {
	client, m := s.link.now()
	if m != nil {
		m.close()
		s.leading.set(false)
		return nil
	}
	return client.Close()
}

// Run compacts old revisions, and seals anew what is sealed with old keys, until ctx ends;
// ErrRemoved when the other servers removed this one.
func (s *Store) Run(ctx context.Context) error {
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() { s.reseal(ctx) })
	defer group.Wait()
	defer cancel()
	return s.compact(ctx)
}

// Close ends the feed, all watchers and the embedded etcd. Call it once, after the users are gone.
func (s *Store) Close() error {
	s.stop()
	<-s.done
	for _, c := range *s.collections.Load() {
		c.endWatchers(ErrClosed)
	}
	return s.disconnect()
}

// Revision is the newest revision in the cache.
func (s *Store) Revision() int64 { return s.revision.Load() }

// healthy is how long etcd may take to answer whether it is.
const healthy = 2 * time.Second

// Health tells whether etcd still answers, and of several members a majority; within 2 s.
func (s *Store) Health(ctx context.Context) error {
	if err := s.broken(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	if _, err := s.link.get(ctx, root+"health"); err != nil {
		if m := s.link.etcd(); m != nil && m.etcd.Server.Leader() == 0 {
			return fmt.Errorf("ask etcd: there is no leader, too few of the %d servers reach each other: %w", len(m.cluster().MemberIDs()), err)
		}
		return fmt.Errorf("ask etcd: %w", err)
	}
	return nil
}

// HealthAt tells whether an etcd outside answers at one of its endpoints, and can write.
func (s *Store) HealthAt(ctx context.Context, endpoint string) error {
	answer, err := s.link.status(ctx, endpoint)
	if err != nil {
		return fmt.Errorf("ask etcd at %s: %w", endpoint, err)
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("etcd at %s: %s", endpoint, strings.Join(answer.Errors, "; "))
	}
	return nil
}

// Size of the database file in bytes.
func (s *Store) Size(ctx context.Context) (int64, error) {
	if m := s.link.etcd(); m != nil {
		return m.etcd.Server.Backend().Size(), nil
	}
	answer, err := s.link.status(ctx, s.cfg.Endpoints[0])
	if err != nil {
		return 0, fmt.Errorf("ask etcd: %w", err)
	}
	return answer.DbSize, nil
}

// broken tells why etcd cannot write any more.
func (s *Store) broken() error {
	if m := s.link.etcd(); m != nil {
		return m.err()
	}
	return nil
}

// Collection gives a kind that is served.
func (s *Store) Collection(gr schema.GroupResource) (*Collection, bool) {
	for _, c := range *s.collections.Load() {
		if c.group == gr && c.live.Load() {
			return c, true
		}
	}
	return nil, false
}

// Collections gives all kinds that are served, in no order.
func (s *Store) Collections() []*Collection {
	var out []*Collection
	for _, c := range *s.collections.Load() {
		if c.live.Load() {
			out = append(out, c)
		}
	}
	return out
}
