// Package runtime runs the container runtime of a node: containerd, compiled into the proa
// binary and run as a child process of its own session.
//
// The one idea: the child outlives proa. A proa that starts finds the runtime by its socket
// and adopts it when it runs the same program with the same configuration; it starts it
// anew otherwise, which no container notices, since each pod's shim is a process of its own.
//
// Used by cluster, which hands Conn to the kubelet; package images fills it with images.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/runtime/helpers"
)

// Runtime is the embedded containerd of one node.
type Runtime struct {
	cfg     Config
	helpers string // folder of the extracted helpers
	config  string // text of containerd's configuration
	conn    *grpc.ClientConn
	ready   chan struct{}
	once    sync.Once
}

// New checks cfg and extracts the helper programs; the runtime is started by Run.
func New(cfg Config) (*Runtime, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	folder, err := helpers.Extract(cfg.HelpersDir)
	if err != nil {
		return nil, fmt.Errorf("extract helper programs: %w", err)
	}
	identity, err := identify(cfg.Self[0])
	if err != nil {
		return nil, fmt.Errorf("identify own program: %w", err)
	}
	mayLower := mayLowerOOMScore()
	if !mayLower {
		cfg.Log.Warn("this machine does not allow lowering oom_score_adj (no CAP_SYS_RESOURCE): guaranteed pods are not protected from the out-of-memory killer")
	}
	conn, err := Dial(cfg.Socket)
	if err != nil {
		return nil, err
	}
	return &Runtime{
		cfg:     cfg,
		helpers: folder,
		config:  cfg.configFile(folder, identity, !mayLower),
		conn:    conn,
		ready:   make(chan struct{}),
	}, nil
}

// Conn is the connection to the runtime, for CRI and for containerd's own API; it stays
// valid over restarts of the runtime. Closed when Run returns.
func (r *Runtime) Conn() *grpc.ClientConn { return r.conn }

// Endpoint is the CRI endpoint as kubelet flags write it.
func (r *Runtime) Endpoint() string { return "unix://" + r.cfg.Socket }

// Helpers is the folder with the extracted helper programs.
func (r *Runtime) Helpers() string { return r.helpers }

// Ready is closed when CRI has answered for the first time.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

const (
	startTimeout = 60 * time.Second // from start to the first answer, on a slow disk after a crash
	minRestart   = 100 * time.Millisecond
	maxRestart   = 10 * time.Second
	steady       = time.Minute // a runtime that lived so long is restarted without delay
)

// Run adopts or starts the runtime and starts it again whenever it ends. When ctx ends it
// returns and leaves the runtime running: Stop ends it.
func (r *Runtime) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.conn.Close()) }()
	if err := r.prepare(); err != nil {
		return err
	}
	delay := minRestart
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.life(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(begun) > steady {
			delay = minRestart
		}
		r.cfg.Log.Error("the container runtime ended; containers keep running, it is started again", "error", err, "after", delay, "log", r.logPath())
		if !wait(ctx, delay) {
			break
		}
		delay = min(2*delay, maxRestart)
	}
	return nil
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// prepare notes what the runtime will change on the machine, in the order whose reverse
// undoes it: processes first, then mounts, then folders.
func (r *Runtime) prepare() error {
	changes := []host.Change{
		{Kind: host.Path, Name: r.cfg.HelpersDir},
		{Kind: host.Path, Name: r.cfg.Root},
		{Kind: host.Path, Name: r.cfg.State, Volatile: true},
		{Kind: host.Mounts, Name: r.cfg.Root},
		{Kind: host.Mounts, Name: r.cfg.State},
		{Kind: host.Process, Name: r.cfg.HelpersDir},
	}
	if r.cfg.CgroupRoot != "" {
		changes = append(changes, host.Change{Kind: host.Cgroup, Name: r.cfg.CgroupRoot})
	}
	for _, c := range changes {
		if err := r.cfg.Host.Record(c); err != nil {
			return fmt.Errorf("note change of the machine: %w", err)
		}
	}
	for _, dir := range []string{r.cfg.Root, r.cfg.State, filepath.Join(r.cfg.State, "s"), filepath.Dir(r.cfg.Socket), r.cfg.HostsDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make runtime folder: %w", err)
		}
	}
	return makeUnifiedCgroup(r.cfg.cgroup())
}

// life runs one life of the runtime: until it ends or ctx does.
func (r *Runtime) life(ctx context.Context) error {
	child, err := r.adopt(ctx)
	if err != nil {
		return err
	}
	if child == nil {
		if child, err = r.start(); err != nil {
			return err
		}
	}
	defer child.release()
	begun := time.Now()
	answered, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		defer close(stop)
		err := child.wait(ctx)
		ended <- err
		cancel()
	}()
	version, err := Answers(answered, r.conn)
	if err == nil {
		r.cfg.Log.Info("container runtime ready", "name", version.RuntimeName, "version", version.RuntimeVersion, "pid", child.pid, "took", time.Since(begun))
		r.once.Do(func() { close(r.ready) })
	} else if ctx.Err() == nil && len(ended) == 0 {
		err = errors.Join(err, child.signalKill())
	}
	<-stop
	return errors.Join(err, <-ended)
}
