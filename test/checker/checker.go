// Package checker tells whether a store of objects, or an API over it, keeps its word:
// writes are linearizable, reads and lists show the state of their revision, watches show
// every change once, in order, and are refused only where the past is gone.
//
// The one idea: etcd's own log, watched from beside the cache that is tested, is the truth.
// Clients do what they like, at random, and note what they were told; each round ends in
// silence, and every note is held against the truth.
//
// Used by the tests of store and apiserver.
package checker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What a Target answers with, wrapped or not.
var (
	ErrConflict = errors.New("the object has changed")
	ErrExists   = errors.New("the object exists")
	ErrNotFound = errors.New("there is no such object")
	ErrGone     = errors.New("the revision is gone")
	ErrEnded    = errors.New("the watch has ended") // and may be resumed
	ErrUnknown  = errors.New("no answer came")      // and what was asked for was done, or was not
)

// Object is what is written and seen; Value is unique for each write.
type Object struct {
	Namespace, Name, Value, Color string
	Revision                      int64
}

func (o *Object) key() string { return o.Namespace + "/" + o.Name }

// Kinds of events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
	Bookmark = "BOOKMARK"
)

// Event is what a watch shows.
type Event struct {
	Type string
	Object
}

// Selection narrows lists and watches; empty fields select all.
type Selection struct{ Namespace, Name, Color string }

func (s *Selection) selects(o *Object) bool {
	return (s.Namespace == "" || s.Namespace == o.Namespace) && (s.Name == "" || s.Name == o.Name) && (s.Color == "" || s.Color == o.Color)
}

// Stream is a running watch, used by one goroutine.
type Stream interface {
	Next(ctx context.Context) ([]Event, error) // blocks; ctx's error, ErrEnded or ErrGone
	Stop()
}

// Target is what is checked. A revision of 0 stands for the present; writes with one are
// refused (ErrConflict) when the object has another.
type Target interface {
	Create(ctx context.Context, o Object) (Object, error)
	Update(ctx context.Context, o Object, at int64) (Object, error)
	Delete(ctx context.Context, namespace, name string, at int64) error
	Get(ctx context.Context, namespace, name string) (Object, error)
	// List gives all pages of the state at a revision, or the present one. The revision is given
	// with ErrGone too, when a page came before.
	List(ctx context.Context, s Selection, at int64, page int) ([]Object, int64, error)
	// Watch shows what comes after a revision.
	Watch(ctx context.Context, s Selection, since int64) (Stream, error)
}

// Config of a Run.
type Config struct {
	Target                     Target
	Etcd                       *clientv3.Client
	EtcdNow                    func() *clientv3.Client                         // instead of Etcd, where that changes
	Prefix                     string                                          // of the objects' keys in etcd, with a slash at its end
	Decode                     func(value []byte) (Object, error)              // of what etcd keeps, but for its revision
	Head                       func() int64                                    // a revision that everything acknowledged is part of
	Forget                     func(ctx context.Context, revision int64) error // compacts; nil: never
	Again                      func() (Target, *clientv3.Client)               // restarts between rounds; nil: never
	Restart                    func(rnd *rand.Rand) error                      // of the server, while it is used; nil: never
	Every                      time.Duration                                   // about so often it is restarted
	Kept                       int64                                           // at least so many revisions can be watched from
	Seed                       uint64
	Rounds, Writes             int           // writes of each round
	Longest                    time.Duration // a round ends before its writes are done; 0: never
	Writers, Readers, Watchers int
	Keys                       int // per namespace
}

// Result counts what was done and held.
type Result struct {
	Writes, Refused, Reads, Lists, Events, Resumed, Gone, Bookmarks, Unknown, Restarts atomic.Int64
}

func (r *Result) String() string {
	return fmt.Sprintf("%d writes, %d refused, %d reads, %d lists, %d events, %d watches resumed, %d gone, %d bookmarks, %d restarts, %d without an answer",
		r.Writes.Load(), r.Refused.Load(), r.Reads.Load(), r.Lists.Load(), r.Events.Load(), r.Resumed.Load(), r.Gone.Load(), r.Bookmarks.Load(), r.Restarts.Load(), r.Unknown.Load())
}

var (
	namespaces = []string{"a", "b"}
	colors     = []string{"red", "green", "blue"}
)

// etcd is what the truth is asked of.
func (cfg *Config) etcd() *clientv3.Client {
	if cfg.EtcdNow != nil {
		return cfg.EtcdNow()
	}
	return cfg.Etcd
}

// run is one Run.
type run struct {
	cfg     Config
	truth   *truth
	result  Result
	serial  atomic.Int64 // values
	acked   atomic.Int64 // the newest revision that a client was told of
	gone    atomic.Int64 // compacted
	mu      sync.Mutex
	wrong   []error
	notes   []note
	last    map[string]int64  // newest revision of a key that somebody saw
	maybe   map[string]string // keys of values that may come to be, from writes without an answer
	checked int64             // changes up to it were checked
	watches []*watching
}

// Run gives what it did, and all that was wrong.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	start := cfg.Head()
	r := &run{cfg: cfg, last: map[string]int64{}, maybe: map[string]string{}, checked: start}
	r.acked.Store(start)
	r.truth = newTruth(&r.cfg, start)
	for i := range cfg.Watchers {
		r.watches = append(r.watches, newWatching(r, i, start))
	}
	for round := range cfg.Rounds {
		if err := r.round(ctx, cfg.Seed+uint64(round)*1000); err != nil {
			return &r.result, fmt.Errorf("round %d: %w", round, err)
		}
		if len(r.wrong) > 0 {
			return &r.result, fmt.Errorf("round %d of seed %d: %w", round, cfg.Seed, errors.Join(r.wrong[:min(len(r.wrong), 10)]...))
		}
		if cfg.Again != nil && round < cfg.Rounds-1 {
			r.cfg.Target, r.cfg.Etcd = cfg.Again()
		}
	}
	return &r.result, nil
}

// round runs all clients until the writes are done, and checks what they saw.
func (r *run) round(ctx context.Context, seed uint64) error {
	following, stop := context.WithCancel(ctx)
	ended := r.truth.follow(following)
	defer func() { stop(); <-ended }()
	active, quiet := context.WithCancel(ctx)
	var writers, others sync.WaitGroup
	left := atomic.Int64{}
	left.Store(int64(r.cfg.Writes))
	if r.cfg.Longest > 0 {
		late := time.AfterFunc(r.cfg.Longest, func() { left.Store(math.MinInt32) })
		defer late.Stop()
	}
	random := func(i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i))) }
	for i := range r.cfg.Writers {
		writers.Go(func() {
			for rnd := random(i); left.Add(-1) >= 0 && ctx.Err() == nil; {
				if !r.write(ctx, rnd) {
					left.Add(1)
				}
			}
		})
	}
	for i := range r.cfg.Readers {
		others.Go(func() {
			for rnd := random(1000 + i); active.Err() == nil; {
				r.read(ctx, rnd)
				time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond)
			}
		})
	}
	for i, w := range r.watches {
		others.Go(func() { w.watch(ctx, active, random(2000+i)) })
	}
	if r.cfg.Forget != nil {
		others.Go(func() { r.forget(active, random(3000)) })
	}
	upset, calm := context.WithCancel(ctx)
	var restarts sync.WaitGroup
	if r.cfg.Restart != nil {
		restarts.Go(func() { r.restart(upset, random(4000)) })
	}
	writers.Wait()
	calm()
	restarts.Wait()
	head := r.cfg.Head()
	err := r.truth.reach(ctx, head, 10*time.Second)
	quiet()
	others.Wait()
	if err != nil {
		return err
	}
	r.check(head)
	for _, w := range r.watches {
		w.check(head)
	}
	r.truth.trim(head)
	return ctx.Err()
}

// restart does so now and then, and leaves the server running.
func (r *run) restart(ctx context.Context, rnd *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.cfg.Every/2 + time.Duration(rnd.Int64N(int64(r.cfg.Every)))):
		}
		r.result.Restarts.Add(1)
		if err := r.cfg.Restart(rnd); err != nil {
			r.fail("restart: %v", err)
			return
		}
	}
}

// unknown says that nothing follows from an error, and waits for the server to come back.
func (r *run) unknown(err error) bool {
	if !errors.Is(err, ErrUnknown) {
		return false
	}
	r.result.Unknown.Add(1)
	time.Sleep(5 * time.Millisecond)
	return true
}

// forget compacts now and then, never what the truth has not seen.
func (r *run) forget(ctx context.Context, rnd *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rnd.IntN(400)) * time.Millisecond):
		}
		to := r.truth.seen() - int64(rnd.IntN(int(2*r.cfg.Kept)))
		if to <= r.gone.Load() {
			continue
		}
		r.gone.Store(to)
		if err := r.cfg.Forget(ctx, to); err != nil && ctx.Err() == nil && !r.unknown(err) {
			r.fail("compact to %d: %v", to, err)
		}
	}
}

func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) < 100 {
		r.wrong = append(r.wrong, fmt.Errorf(format, args...))
	}
}
