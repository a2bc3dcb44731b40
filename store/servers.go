package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Member is a server that has a copy of the data.
type Member struct {
	ID                    uint64
	Name                  string // empty: added, not started yet
	URL                   string // where the others reach it
	Learner, Leader, Self bool   // a learner has no vote yet
}

// errOutside refuses what the embedded etcd alone can do.
var errOutside = errors.New("the members of an etcd outside are not changed from here")

// Members of the cluster. Where no majority answers it is what this one knows.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	client, m := s.link.now()
	if m == nil {
		answer, err := client.MemberList(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the members: %w", err)
		}
		return members(answer.Members), nil
	}
	if err := m.gone(); err != nil {
		return nil, fmt.Errorf("list the members: %w", err)
	}
	if !m.alone && m.etcd.Server.Leader() != 0 {
		limited, cancel := context.WithTimeout(ctx, healthy)
		defer cancel()
		if _, err := client.MemberList(limited); err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("list the members: %w", err)
		} // this one has applied now what it told
	}
	return m.list(), nil
}

// list is what the member knows.
func (m *member) list() (out []Member) {
	leader, self := m.etcd.Server.Leader(), m.etcd.Server.MemberID()
	for _, k := range m.cluster().Members() {
		out = append(out, Member{
			ID: uint64(k.ID), Name: k.Name, URL: strings.Join(k.PeerURLs, ","),
			Learner: k.IsLearner, Leader: k.ID == leader, Self: k.ID == self,
		})
	}
	return out
}

func members(list []*etcdserverpb.Member) (out []Member) {
	for _, k := range list {
		out = append(out, Member{ID: k.ID, Name: k.Name, URL: strings.Join(k.PeerURLs, ","), Learner: k.IsLearner})
	}
	return out
}

// How long a change of membership may take, and how long it is tried again while the members
// have not been connected for the five seconds that etcd asks for.
const (
	changeWithin = 15 * time.Second
	changeAgain  = 500 * time.Millisecond
)

// AddMember makes room for another server, as a learner until it has started and caught up.
// What it gives is for that server's Peers.Join. It may be asked again for one that never
// started; otherwise etcd refuses what it has (rpctypes.ErrPeerURLExist), a second one that
// has not caught up (ErrTooManyLearners), and, after seconds of waiting, what would lose
// the quorum (ErrUnhealthy). A server that was alone opens its port for that.
func (s *Store) AddMember(ctx context.Context, name, at string) (map[string]string, error) {
	s.joining.Lock()
	defer s.joining.Unlock()
	if err := s.becomeSeveral(ctx); err != nil {
		return nil, fmt.Errorf("add the member %s: %w", name, err)
	}
	if err := s.Health(ctx); err != nil { // soon, where a change would wait for a majority
		return nil, fmt.Errorf("add the member %s: %w", name, err)
	}
	client, m := s.link.now()
	if err := m.publish(ctx, s.cfg.Peers); err != nil {
		return nil, fmt.Errorf("add the member %s: %w", name, err)
	}
	known, err := s.Members(ctx)
	if err != nil {
		return nil, err
	}
	added := false
	for _, k := range known {
		switch {
		case k.URL == at && k.Name == "":
			added = true
		case k.Name == name:
			return nil, fmt.Errorf("add the member %s: there is one of that name at %s: %w", name, k.URL, rpctypes.ErrMemberExist)
		}
	}
	if !added {
		err := again(ctx, func(ctx context.Context) error {
			_, err := client.MemberAddAsLearner(ctx, []string{at})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("add the member %s at %s: %w", name, at, err)
		}
	}
	join := map[string]string{name: at}
	for _, k := range m.list() {
		switch {
		case k.Self:
			join[s.cfg.Peers.Name] = s.cfg.Peers.URL
		case k.URL != at:
			join[k.Name] = k.URL
		}
	}
	return join, nil
}

// again tries while etcd says that its members are not connected, as it does for five
// seconds after they are.
func again(ctx context.Context, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	tick := time.NewTicker(changeAgain)
	defer tick.Stop()
	for {
		err := change(ctx)
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// RemoveMember takes a server's vote and copy away: its name, or the URL or ID (hexadecimal)
// of one that never started. Refused for the last one, and for one without which the others
// are no majority. A leader that removes itself hands the leadership over first. Without a
// majority nothing can be removed: see Peers.Reset.
func (s *Store) RemoveMember(ctx context.Context, name string) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	client, m := s.link.now()
	if m == nil {
		return errOutside
	}
	if err := s.Health(ctx); err != nil {
		return fmt.Errorf("remove the member %s: %w", name, err)
	}
	known, err := s.Members(ctx)
	if err != nil {
		return err
	}
	gone, voters := (*Member)(nil), 0
	for i, k := range known {
		if k.Name == name || k.Name == "" && (k.URL == name || strconv.FormatUint(k.ID, 16) == name) {
			gone = &known[i]
		}
		if !k.Learner {
			voters++
		}
	}
	switch {
	case gone == nil:
		return fmt.Errorf("remove the member %s: %w", name, rpctypes.ErrMemberNotFound)
	case voters == 1 && !gone.Learner:
		return fmt.Errorf("remove the member %s: it is the last one", name)
	case gone.Self && gone.Leader:
		if err := m.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
			return fmt.Errorf("hand over the leadership: %w", err)
		}
	}
	err = again(ctx, func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, gone.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove the member %s: %w", name, err)
	}
	return nil
}

// restartWithin bounds how long a new etcd may take to start in place of another.
const restartWithin = 30 * time.Second

// becomeSeveral replaces an etcd that is alone, without a port and with a slow clock, by
// one that others can join. Requests wait meanwhile; the feed goes on where it was.
func (s *Store) becomeSeveral(ctx context.Context) error {
	m := s.link.etcd()
	switch {
	case m == nil:
		return errOutside
	case s.cfg.Peers == nil:
		return errors.New("this server was started without an address for others (Peers)")
	case m.err() != nil:
		return m.err()
	case !m.alone:
		return nil
	}
	l, err := s.cfg.Peers.listen() // before anything is stopped for it
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartWithin)
	defer cancel()
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	begun := time.Now()
	m.close()
	next, err := start(ctx, s.cfg, several, l, s.log)
	if err == nil {
		s.useLocked(next)
		s.log.Info("etcd can be joined by others", "at", s.cfg.Peers.URL, "took", time.Since(begun))
		return nil
	}
	next, back := start(ctx, s.cfg, alone, nil, s.log)
	if back != nil {
		m.fail(fmt.Errorf("%w: etcd could not be started again: %w", ErrClosed, errors.Join(err, back)))
		return m.err()
	}
	s.useLocked(next)
	return err
}

// use makes a member the one that is asked.
func (s *Store) use(m *member) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.useLocked(m)
}

func (s *Store) useLocked(m *member) {
	s.link.client, s.link.member = m.client, m
	s.leading.set(m.leads())
	if !m.alone {
		m.watched.Go(func() { m.watchLeader(&s.leading) })
		m.watched.Go(func() { m.watchRemoval(s.removed) })
	}
}

// alone tells that nobody else can write: the cache has all there is.
func (s *Store) alone() bool {
	m := s.link.etcd()
	return m != nil && m.alone
}

// Shared tells whether other servers may write too.
func (s *Store) Shared() bool { return !s.alone() }

// Elects tells whether the servers have one leader among them, which Leading is about:
// with an etcd outside they do not.
func (s *Store) Elects() bool { return s.link.etcd() != nil }

// Leading tells whether this server leads the others; one that is alone always does. changed
// is closed when that may be otherwise. Two may believe so for a moment, but of the older one no
// write succeeds any more. With an etcd outside nobody ever leads, see Elects.
func (s *Store) Leading() (leads bool, changed <-chan struct{}) { return s.leading.get() }

// leading is whether this server leads.
type leading struct {
	mu      sync.Mutex
	leads   bool
	changed chan struct{} // made when first asked for
}

func (l *leading) get() (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.leads, l.changed
}

func (l *leading) set(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if leads == l.leads {
		return
	}
	l.leads = leads
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (m *member) leads() bool {
	return m.err() == nil && m.etcd.Server.Leader() == m.etcd.Server.MemberID()
}

// lookAgain is how often a leader looks whether it still is: etcd tells everyone of a new
// leader, but nobody that there is none. It has a heartbeat to send more often than that.
const lookAgain = 200 * time.Millisecond

// watchLeader follows who leads, until the member is closed.
func (m *member) watchLeader(l *leading) {
	look := time.NewTicker(lookAgain)
	look.Stop()
	defer look.Stop()
	for {
		changed := m.etcd.Server.LeaderChangedNotify() // before it is asked who leads
		leads := m.leads()
		l.set(leads)
		if leads {
			look.Reset(lookAgain)
		} else {
			look.Stop()
		}
		select {
		case <-changed:
		case <-look.C:
		case <-m.failed:
			l.set(false)
			return
		case <-m.closing:
			return
		}
	}
}
