package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// write creates objects from several goroutines.
func (s *server) write(t *testing.T, prefix string, n int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			for k := i; k < n; k += 50 {
				if _, err := s.pods.Create(t.Context(), pod("a", fmt.Sprint(prefix, k), "n")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// A server that is so far behind that it is sent the database and not the changes, be it new or
// cut off for a while, has it all, and its watches have missed nothing.
func TestFarBehind(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("writes 20,000 objects")
	}
	ca := newAuthority(t)
	list := openServersOf(t, ca, 1)
	first := list[0]
	first.write(t, "before", 11_000) // more than etcd's log has between two of its snapshots
	for i := range 2 {
		s := &server{cfg: Config{Dir: t.TempDir(), Events: 100_000, Peers: ca.peers(t, fmt.Sprint("far", i))}}
		s.cfg.Peers.Join = must[map[string]string](t)(first.AddMember(t.Context(), s.cfg.Peers.Name, s.cfg.Peers.URL))
		s.start(t)
		t.Cleanup(func() { s.stop(t) })
		list = append(list, s)
	}
	leads := leader(t, list)
	far := others(list, leads)[0]
	w := must[*Watcher](t)(far.pods.Watch(t.Context(), WatchOptions{Since: far.Revision()}))
	defer w.Stop()
	if n := must[*Snapshot](t)(far.pods.Snapshot(t.Context(), Latest)).Len(""); n != 11_000 {
		t.Errorf("%d objects", n)
	}
	isolate(list, far)
	const more = 7000 // than the leader keeps
	leads.write(t, "meanwhile", more)
	mend(list, far)
	if n := must[*Snapshot](t)(far.pods.Snapshot(t.Context(), Latest)).Len(""); n != 11_000+more {
		t.Errorf("%d objects", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := 0
	for last := int64(0); seen < more; {
		events, err := w.Next(ctx)
		if errors.Is(err, ErrCompacted) {
			return // it says so
		}
		if err != nil {
			t.Fatalf("%v after %d events", err, seen)
		}
		for _, e := range events {
			if seen++; e.Type != Added || e.Revision <= last {
				t.Fatalf("%v at %d after %d", e.Type, e.Revision, last)
			}
			last = e.Revision
		}
	}
}

// isolate has no message pass between one and the others, mend lets them pass again.
func isolate(list []*server, one *server) {
	each(list, one, func(a, b *server) { a.link.member.etcd.Server.CutPeer(b.id()) })
}

func mend(list []*server, one *server) {
	each(list, one, func(a, b *server) { a.link.member.etcd.Server.MendPeer(b.id()) })
}

func each(list []*server, one *server, do func(a, b *server)) {
	for _, other := range others(list, one) {
		do(one, other)
		do(other, one)
	}
}

func (s *server) id() types.ID { return s.link.member.etcd.Server.MemberID() }
