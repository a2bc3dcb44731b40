package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// Of an etcd with other members: they must notice soon that the leader is gone. Entries of the log
// stay in memory, each as large as a request may be; who is further behind is sent the database.
const (
	peersTickMs     = 100
	peersElectionMs = 1000
	peersCatchUp    = 1000
)

// Peers makes the embedded etcd a member that others can join.
type Peers struct {
	Name string // of this member, unique in the cluster (the server's node name)
	URL  string // https://10.0.0.5:2380, where the others reach it; the port is opened once there is, or is about to be, another member

	// Files, for serving and for dialling (mutual TLS; the certificate is for servers and
	// clients). Who has a certificate of CA may do anything to the data: it should certify
	// members alone. Cert and Key are read anew with each connection, CA when etcd starts.
	Cert, Key, CA string

	Join  map[string]string // name -> URL of all members, this one included, as AddMember of another one answered; used only while Dir holds no data, to be given until Open has succeeded once. nil: the first one
	Reset bool              // begin a cluster of this member alone with the data that is there: the others are lost for good. Without effect when it is alone
}

func (p *Peers) validate() error {
	u, err := url.Parse(p.URL)
	switch {
	case p.Name == "":
		return errors.New("a member needs a name")
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.Path != "":
		return fmt.Errorf("members reach each other at https://<host>:<port>, not at %q", p.URL)
	case p.Cert == "" || p.Key == "" || p.CA == "":
		return errors.New("members need a certificate, its key and an authority")
	case p.Join != nil && p.Join[p.Name] != p.URL:
		return fmt.Errorf("the member %s at %s is not among those of the cluster that it shall join: %v", p.Name, p.URL, p.Join)
	}
	return nil
}

// configure says who the member is and, when there are others, how they talk.
func (p *Peers) configure(cfg *embed.Config, several bool) error {
	u, err := url.Parse(p.URL)
	if err != nil {
		return err
	}
	cfg.Name, cfg.AdvertisePeerUrls = p.Name, []url.URL{*u}
	cfg.InitialCluster = p.Name + "=" + p.URL
	if !several {
		return nil
	}
	if p.Join != nil {
		var all []string
		for name, at := range p.Join {
			all = append(all, name+"="+at)
		}
		slices.Sort(all)
		cfg.InitialCluster, cfg.ClusterState = strings.Join(all, ","), embed.ClusterStateFlagExisting
	}
	cfg.PeerTLSInfo = p.tls()
	cfg.TickMs, cfg.ElectionMs = peersTickMs, peersElectionMs
	cfg.SnapshotCatchUpEntries = peersCatchUp
	return nil
}

// tls is for both directions. The authority vouches for the other side; its address may be
// another one than it is known by.
func (p *Peers) tls() transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: p.Cert, KeyFile: p.Key, TrustedCAFile: p.CA,
		ClientCertAuth: true, SkipClientSANVerify: true, MinVersion: tls.VersionTLS13,
	}
}

// listen opens the port at the address of the URL, or at all where that is a name.
func (p *Peers) listen() (net.Listener, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, err
	}
	at := u.Host
	if net.ParseIP(u.Hostname()) == nil {
		at = net.JoinHostPort("", u.Port())
	}
	info := p.tls()
	l, err := transport.NewListenerWithOpts(at, u.Scheme, transport.WithTLSInfo(&info), transport.WithTimeout(rafthttp.ConnReadTimeout, rafthttp.ConnWriteTimeout))
	if err != nil {
		return nil, fmt.Errorf("open the port for other servers: %w", err)
	}
	return l, nil
}

// slowest is how long a member may take to send a request, which may be a whole database.
const slowest = 5 * time.Minute

// serve answers the other members until the server is closed.
func (m *member) serve(l net.Listener, log *slog.Logger) {
	m.peers = &http.Server{
		Handler: etcdhttp.NewPeerHandler(m.etcd.GetLogger(), m.etcd.Server), ReadTimeout: slowest,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // who comes without a certificate
	}
	m.watched.Go(func() {
		if err := m.peers.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("serve other members", "error", err)
		}
	})
}

// prepare makes the folder, and tells from what is in it whether there are other members.
func prepare(cfg Config, log *slog.Logger) (mode, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return alone, fmt.Errorf("make the data folder: %w", err)
	}
	if cfg.Peers != nil {
		if err := cfg.Peers.validate(); err != nil {
			return alone, err
		}
	}
	known, err := knownMembers(cfg.Dir)
	if err != nil {
		return alone, err
	}
	p := cfg.Peers
	switch {
	case len(known) > 1 && p == nil:
		return alone, fmt.Errorf("%w: it cannot start without them", errSeveral)
	case len(known) > 1 && p.Reset:
		return anew, commitAll(cfg.Dir, log)
	case len(known) > 1:
		return several, nil
	case p == nil || p.Join == nil:
		return alone, nil
	case len(known) == 1 && slices.Contains(known[0].PeerURLs, p.URL): // itself; not one that it was about to join
		return alone, nil
	}
	return several, nil
}

// knownMembers are those in etcd's database, which may lack what its log has; none before
// the first start.
func knownMembers(dir string) ([]membership.Member, error) {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("look for other members: %w", err)
	}
	defer func() { _ = db.Close() }() // nothing was written
	var list []membership.Member
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("members"))
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, value []byte) error {
			var m membership.Member
			list = append(list, m)
			return json.Unmarshal(value, &list[len(list)-1])
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the members of %s: %w", path, err)
	}
	return list, nil
}

// commitAll says in etcd's log that all of it was agreed upon. A member that begins
// anew without the others drops what it does not know to be so, and it may not have heard
// yet of what was acknowledged last.
func commitAll(dir string, log *slog.Logger) error {
	lg := zap.New(&bridge{log: log})
	folder := filepath.Join(dir, "member", "wal")
	snapshots, err := wal.ValidSnapshotEntries(lg, folder)
	if err != nil {
		return fmt.Errorf("read etcd's log: %w", err)
	}
	if len(snapshots) == 0 {
		return fmt.Errorf("read etcd's log: %s has no beginning", folder)
	}
	w, err := wal.Open(lg, folder, snapshots[len(snapshots)-1])
	if err != nil {
		return fmt.Errorf("open etcd's log: %w", err)
	}
	_, state, entries, err := w.ReadAll()
	if err != nil {
		return errors.Join(fmt.Errorf("read etcd's log: %w", err), w.Close())
	}
	if n := len(entries); n > 0 {
		last := max(entries[n-1].GetIndex(), state.GetCommit())
		state.Commit = &last
		if err := w.Save(state, nil); err != nil {
			return errors.Join(fmt.Errorf("write etcd's log: %w", err), w.Close())
		}
	}
	return w.Close()
}

// cluster is what the member knows of the others.
func (m *member) cluster() *membership.RaftCluster {
	c, _ := m.etcd.Server.Cluster().(*membership.RaftCluster) // there is no other
	return c
}

// voters tells how many members there are, and whether this one is the only one with a vote.
func (m *member) voters() (all int, sole bool) {
	c := m.cluster()
	ids := c.VotingMemberIDs()
	return len(c.MemberIDs()), len(ids) == 1 && ids[0] == m.etcd.Server.MemberID()
}

// Of a member that was sent the database in place of the log etcd does not note how far that
// is before the next entry of the log, and refuses its own proposals meanwhile: for ever,
// if nobody else writes.
const (
	etcdGap     = 5000 // entries
	nudgeWithin = time.Second
)

// nudge makes an entry for such a member: a change of membership that changes nothing is not refused.
func (m *member) nudge(ctx context.Context, p *Peers) error {
	server := m.etcd.Server
	if server.Leader() == 0 || server.CommittedIndex() <= server.AppliedIndex()+etcdGap {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, nudgeWithin)
	defer cancel()
	_, err := m.client.MemberUpdate(ctx, uint64(server.MemberID()), []string{p.URL})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("make an entry in the log: %w", err)
	}
	return nil // it is tried again
}

// promoteAgain is the pause before a learner asks again to become a voter.
const promoteAgain = 100 * time.Millisecond

// join returns when the member is a voter that the others know where to reach.
func (m *member) join(ctx context.Context, p *Peers, log *slog.Logger) error {
	server := m.etcd.Server
	again := time.NewTicker(promoteAgain)
	defer again.Stop()
	for server.IsLearner() {
		_, err := m.client.MemberPromote(ctx, uint64(server.MemberID()))
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotLearner) {
			break
		}
		log.Debug("ask to become a voter", "error", err)
		select {
		case <-again.C:
		case <-server.StopNotify():
			return ErrRemoved
		case <-ctx.Done():
			return fmt.Errorf("become a voter: %w", errors.Join(ctx.Err(), err))
		}
	}
	return m.publish(ctx, p)
}

// publish corrects the address that the others have of this member.
func (m *member) publish(ctx context.Context, p *Peers) error {
	self := m.cluster().Member(m.etcd.Server.MemberID())
	if self != nil && slices.Equal(self.PeerURLs, []string{p.URL}) {
		return nil
	}
	if _, err := m.client.MemberUpdate(ctx, uint64(m.etcd.Server.MemberID()), []string{p.URL}); err != nil {
		return fmt.Errorf("tell the other members about %s: %w", p.URL, err)
	}
	return nil
}

// watchRemoval notes why etcd stops by itself: the others have told it that it was removed.
func (m *member) watchRemoval(removed chan<- struct{}) {
	select {
	case <-m.etcd.Server.StopNotify():
		select {
		case <-m.closing:
		default:
			m.fail(ErrRemoved)
			close(removed)
		}
	case <-m.closing:
	}
}
