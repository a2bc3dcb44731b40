package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/proa-dev/proa/test/checker"
)

var (
	checkServersRounds  = flag.Int("check.servers.rounds", 2, "rounds of the checker over three servers")
	checkServersLongest = flag.Duration("check.servers.longest", 12*time.Second, "of each round")
	checkServersWrites  = flag.Int("check.servers.writes", 1<<30, "writes of each round")
)

// The same over three servers, of which the second and third join while the first is in use,
// and which are then stopped, killed and started, at times so many that there is no majority.
func TestCheckedServers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	f := &fleet{t: t, ca: newAuthority(t)}
	f.join()
	defer f.stop()
	first := f.list[0].checked
	result, err := checker.Run(t.Context(), checker.Config{
		Target: f, EtcdNow: f.etcd, Prefix: first.folder, Decode: first.decodeValue, Head: f.head,
		Forget: f.forget, Restart: f.restart, Every: 1500 * time.Millisecond, Longest: *checkServersLongest,
		Kept: checkEvents, Seed: *checkSeed, Rounds: *checkServersRounds, Writes: *checkServersWrites,
		Writers: 8, Readers: 4, Watchers: 12, Keys: 12,
	})
	t.Log(result)
	t.Logf("%d servers, %d stopped, %d killed, %d times without a majority", len(f.list), f.stopped, f.killed, f.lonely)
	if err != nil {
		for i, s := range f.list {
			if s.checked != nil {
				e := s.checked.s.link.member.etcd.Server
				t.Logf("%d: cache %d, kind %d, etcd %d, applied %d of %d, term %d, leader %x of %x", i, s.checked.s.Revision(), s.checked.now().revision,
					e.KV().Rev(), e.AppliedIndex(), e.CommittedIndex(), e.Term(), uint64(e.Leader()), uint64(e.MemberID()))
			}
		}
		t.Fatal(err)
	}
}

// fleet is a Target of several servers; each request goes to any of them.
type fleet struct {
	t    *testing.T
	ca   *authority
	mu   sync.RWMutex // of list
	list []*ship
	top  atomic.Int64 // the newest revision of any of them

	stopped, killed, lonely int
}

// ship is one of them.
type ship struct {
	mu      sync.RWMutex // held while it is asked
	cfg     Config
	checked *checked // nil: it is down
}

// join adds a server.
func (f *fleet) join() {
	f.mu.RLock()
	at := len(f.list)
	f.mu.RUnlock()
	s := &ship{cfg: Config{Dir: f.t.TempDir(), Peers: f.ca.peers(f.t, fmt.Sprint("s", at)), Events: checkEvents}}
	if at > 0 {
		s.cfg.Peers.Join = must[map[string]string](f.t)(f.list[at-1].checked.s.AddMember(f.t.Context(), s.cfg.Peers.Name, s.cfg.Peers.URL))
	}
	s.start(f.t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, s)
}

func (s *ship) start(t *testing.T) {
	c := openCheckedWith(t, s.cfg)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = c
}

// stop does so in peace, or at once.
func (s *ship) stop(t *testing.T, kill bool) {
	if kill {
		s.checked.s.link.member.etcd.Server.HardStop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	closeChecked(t, s.checked)
	s.checked = nil
}

func (f *fleet) stop() {
	for _, s := range f.list {
		if s.checked != nil {
			s.stop(f.t, false)
		}
	}
}

// restart is called now and then: servers join, go and come.
func (f *fleet) restart(rnd *rand.Rand) error {
	if len(f.list) < 3 {
		f.join()
		return nil
	}
	n := 1
	if rnd.IntN(5) == 0 {
		n = 2
		f.lonely++
	}
	down := rnd.Perm(len(f.list))[:n]
	for i, s := range f.list {
		if leads, _ := s.checked.s.Leading(); leads && rnd.IntN(2) == 0 && !slices.Contains(down, i) {
			down[0] = i
		}
	}
	for _, i := range down {
		kill := rnd.IntN(2) == 0
		if kill {
			f.killed++
		} else {
			f.stopped++
		}
		f.list[i].stop(f.t, kill)
	}
	time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
	var wg sync.WaitGroup
	for _, i := range down {
		wg.Go(func() { f.list[i].start(f.t) })
	}
	wg.Wait()
	return nil
}

// any gives one that is up; what it returns is to be called when it was asked.
func (f *fleet) any() (*checked, func()) {
	for {
		f.mu.RLock()
		s := f.list[rand.IntN(len(f.list))]
		f.mu.RUnlock()
		if s.mu.TryRLock() {
			if c := s.checked; c != nil {
				return c, func() {
					f.saw(c)
					s.mu.RUnlock()
				}
			}
			s.mu.RUnlock()
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (f *fleet) saw(c *checked) {
	for now, old := c.now().revision, f.top.Load(); old < now && !f.top.CompareAndSwap(old, now); {
		old = f.top.Load()
	}
}

func (f *fleet) head() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, s := range f.list {
		if s.mu.TryRLock() {
			if s.checked != nil {
				f.saw(s.checked)
			}
			s.mu.RUnlock()
		}
	}
	return f.top.Load()
}

func (f *fleet) etcd() *clientv3.Client {
	c, done := f.any()
	defer done()
	client, _ := c.s.link.now()
	return client
}

func (f *fleet) forget(ctx context.Context, revision int64) error {
	c, done := f.any()
	defer done()
	return unsure(c.s.CompactTo(ctx, revision))
}

// unsure says that nothing follows from what is no answer.
func unsure(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{checker.ErrConflict, checker.ErrExists, checker.ErrNotFound, checker.ErrGone, checker.ErrEnded} {
		if errors.Is(err, known) && !errors.Is(err, ErrClosed) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", checker.ErrUnknown, err)
}

const fleetPatience = 3 * time.Second

func (f *fleet) Create(ctx context.Context, o checker.Object) (checker.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	c, done := f.any()
	defer done()
	got, err := c.Create(ctx, o)
	return got, unsureWrite(err)
}

func (f *fleet) Update(ctx context.Context, o checker.Object, at int64) (checker.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	c, done := f.any()
	defer done()
	got, err := c.Update(ctx, o, at)
	return got, unsureWrite(err)
}

func (f *fleet) Delete(ctx context.Context, namespace, name string, at int64) error {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	c, done := f.any()
	defer done()
	return unsureWrite(c.Delete(ctx, namespace, name, at))
}

// unsureWrite: that the watch cache is closed is no answer to a write.
func unsureWrite(err error) error {
	if errors.Is(err, checker.ErrEnded) || errors.Is(err, checker.ErrGone) {
		return fmt.Errorf("%w: %w", checker.ErrUnknown, err)
	}
	return unsure(err)
}

func (f *fleet) Get(ctx context.Context, namespace, name string) (checker.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	c, done := f.any()
	defer done()
	got, err := c.Get(ctx, namespace, name)
	return got, unsureWrite(err)
}

func (f *fleet) List(ctx context.Context, want checker.Selection, at int64, page int) ([]checker.Object, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	c, done := f.any()
	defer done()
	list, revision, err := c.List(ctx, want, at, page)
	if errors.Is(err, checker.ErrEnded) {
		err = fmt.Errorf("%w: %w", checker.ErrUnknown, err)
	}
	return list, revision, unsure(err)
}

func (f *fleet) Watch(ctx context.Context, want checker.Selection, since int64) (checker.Stream, error) {
	c, done := f.any()
	defer done()
	stream, err := c.Watch(ctx, want, since)
	if errors.Is(err, checker.ErrEnded) {
		err = fmt.Errorf("%w: %w", checker.ErrUnknown, err)
	}
	return stream, unsure(err)
}
