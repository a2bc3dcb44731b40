package store

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Of the embedded etcd. A single member needs no heartbeat: a slow tick leaves it asleep,
// and it is told to elect itself instead of waiting for ticks to pass. What is acknowledged
// is in its log, so its database may be written late.
const (
	tickMs     = 1000
	electionMs = 5000
	flush      = time.Second
	quota      = 8 << 30 // bytes; etcd's own advice for the most
	catchUp    = 100     // entries of the log that stay in memory; there is no follower to send more to
	// name is never dialled: it only has to stay the same, as etcd keeps it in its data.
	memberURL = "http://127.0.0.1:1"
)

// member is the embedded etcd. Alone it listens nowhere.
type member struct {
	etcd    *embed.Etcd
	client  *clientv3.Client
	alone   bool                  // the only member, and nobody can join it
	broken  atomic.Pointer[error] // why etcd gave up (a full or failing disk), or was made to
	failed  chan struct{}
	closing chan struct{}
	peers   *http.Server   // answers the others; nil when alone
	watched sync.WaitGroup // what looks at a member that is not alone
}

// starting has members of one process start one after another, see replayed.
var starting sync.Mutex

// errSeveral tells that the data is of one of several members.
var errSeveral = errors.New("the data is of one of several servers")

// startMember gives an etcd that is ready: it has elected itself, or is a voter among others.
func startMember(ctx context.Context, cfg Config, log *slog.Logger) (*member, error) {
	how, err := prepare(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	if how != several {
		m, err := start(ctx, cfg, how, nil, log)
		if !errors.Is(err, errSeveral) || cfg.Peers == nil {
			return m, err
		} // its log knew more than its database
	}
	l, err := cfg.Peers.listen()
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	return start(ctx, cfg, several, l, log)
}

// mode is how an etcd is started.
type mode int

const (
	alone   mode = iota // the only member
	several             // one of several, or the first one of them
	anew                // without the others that it had
)

// start does so; l is where one of several hears the others, and is closed with it.
func start(ctx context.Context, whole Config, how mode, l net.Listener, log *slog.Logger) (m *member, err error) {
	m = &member{alone: how != several, failed: make(chan struct{}), closing: make(chan struct{})}
	cfg, err := m.config(whole, log)
	if err != nil {
		return nil, err
	}
	cfg.ForceNewCluster = how == anew
	starting.Lock()
	begun := sync.OnceFunc(starting.Unlock)
	defer begun()
	if m.etcd, err = embed.StartEtcd(cfg); err != nil {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
		return nil, fmt.Errorf("start etcd in %s: %w", whole.Dir, err)
	}
	if l != nil {
		m.serve(l, log)
	}
	m.client = v3client.New(m.etcd.Server)
	if err := m.elect(ctx, whole.Peers, begun); err != nil {
		m.close()
		return nil, fmt.Errorf("start etcd in %s: %w", whole.Dir, err)
	}
	if how == several {
		if err := m.join(ctx, whole.Peers, log); err != nil {
			m.close()
			return nil, fmt.Errorf("start etcd in %s: %w", whole.Dir, err)
		}
	}
	return m, nil
}

func (m *member) config(whole Config, log *slog.Logger) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Dir = whole.Dir
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	if whole.Listen != "" {
		at, err := url.Parse(whole.Listen)
		if err != nil {
			return nil, fmt.Errorf("where etcd shall listen: %w", err)
		}
		cfg.ListenClientUrls = []url.URL{*at}
	}
	u, err := url.Parse(memberURL)
	if err != nil {
		return nil, err
	}
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = []url.URL{*u}, []url.URL{*u}
	cfg.InitialCluster = cfg.Name + "=" + memberURL
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	cfg.BackendBatchInterval = flush
	cfg.QuotaBackendBytes = quota
	cfg.SnapshotCatchUpEntries = catchUp
	cfg.MaxRequestBytes = embed.DefaultMaxRequestBytes
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&bridge{log: log}, zap.WithFatalHook(m)))
	if whole.Peers == nil {
		return cfg, nil
	}
	return cfg, whole.Peers.configure(cfg, !m.alone)
}

// electAgain is how often a starting member is looked at.
const (
	electAgain = 2 * time.Millisecond
	electLater = 100 * time.Millisecond // of one that waits for others
)

// elect returns when the member is ready. The only voter is made to lead; another one waits
// for a quorum, while other members of this process may start (begun).
func (m *member) elect(ctx context.Context, peers *Peers, begun func()) error {
	server := m.etcd.Server
	id := uint64(server.MemberID())
	again := time.NewTicker(electAgain)
	defer again.Stop()
	for last := uint64(0); ; {
		switch all, sole := m.voters(); {
		case m.alone && all > 1 && server.AppliedIndex() >= server.CommittedIndex() && replayed():
			return errSeveral
		case !m.alone && !sole:
			begun()
			again.Reset(electLater)
			if at := server.AppliedIndex(); at != last {
				last = at
			} else if err := m.nudge(ctx, peers); err != nil {
				return err
			}
		case server.Leader() == 0 && replayed():
			if err := server.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &id, To: &id}); err != nil {
				return fmt.Errorf("ask for an election: %w", err)
			}
		}
		select {
		case <-server.ReadyNotify():
			return nil
		case <-m.failed:
			return m.err()
		case <-server.StopNotify():
			return ErrRemoved
		case <-ctx.Done():
			return fmt.Errorf("wait for a leader: %w", ctx.Err())
		case <-again.C:
		}
	}
}

// replayed tells whether raft has handed out its whole log. Asked to elect itself before,
// it looks for changes of membership in entries that etcd may have dropped already, and
// panics. etcd publishes no more than the status of the member started last, which is
// the only one outside of tests.
func replayed() bool {
	published, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	status, ok := published().(raft.Status)
	return ok && status.Applied > 0 && status.Applied >= status.GetCommit()
}

// OnWrite takes the place of os.Exit where etcd gives up: the goroutine that cannot go
// on ends, writes fail from here on, and reads are still answered from the cache.
func (m *member) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("etcd stopped: %s", entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("etcd stopped: %s: %w", entry.Message, cause)
		}
	}
	m.fail(err)
	runtime.Goexit()
}

func (m *member) fail(err error) {
	if m.broken.CompareAndSwap(nil, &err) {
		close(m.failed)
	}
}

func (m *member) err() error {
	if e := m.broken.Load(); e != nil {
		return *e
	}
	return nil
}

// gone tells that nothing can be read from etcd either: it is stopped.
func (m *member) gone() error {
	if err := m.err(); errors.Is(err, ErrRemoved) || errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// applied is the newest revision that etcd has applied: of a single member, nothing
// newer can have been acknowledged.
func (m *member) applied() int64 { return m.etcd.Server.KV().Rev() }

// close ends the member; a leader hands the leadership over first.
func (m *member) close() {
	close(m.closing)
	m.client.Close()
	if m.err() == nil || m.gone() != nil {
		m.etcd.Close()
	}
	if m.peers != nil {
		m.peers.Close()
	}
	m.watched.Wait()
}

// bridge hands etcd's warnings and errors to slog.
type bridge struct {
	log   *slog.Logger
	attrs []slog.Attr
}

func (b *bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, attrs: append(b.attrs[:len(b.attrs):len(b.attrs)], attributes(fields)...)}
}

func (b *bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) && !quiet[e.Message] {
		return c.AddCore(e, b)
	}
	return c
}

// quiet is what etcd warns of in every process that embeds it, and what it says again and again
// of a member that is down, which it has said before ("peer became inactive").
var quiet = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.":                                  true,
	"rejecting member add request; local member has not been connected to majority peers, reconfigure breaks active quorum": true, // it is tried again
	"rejecting member remove request; local member has not been connected to all peers, reconfigure breaks active quorum":   true,
	"prober detected unhealthy status":                       true,
	"failed to reach the peer URL":                           true,
	"failed to get version":                                  true,
	"failed to publish local member to cluster through raft": true, // until it has its log, which start waits for
	"simple token is not cryptographically signed":           true,
}

func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	b.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, append(b.attrs[:len(b.attrs):len(b.attrs)], attributes(fields)...)...)
	return nil
}

func (b *bridge) Sync() error { return nil }

func attributes(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}

// dial reaches an etcd outside.
func dial(ctx context.Context, cfg Config) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Context:              context.WithoutCancel(ctx),
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		MaxCallRecvMsgSize:   1 << 30,
		Logger:               zap.New(&bridge{log: cfg.Log}),
	})
	if err != nil {
		return nil, fmt.Errorf("reach etcd at %v: %w", cfg.Endpoints, err)
	}
	return client, nil
}
