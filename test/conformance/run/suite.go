package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/proa-dev/proa/test/conformance/report"
)

// suite runs the specs on one cluster.
type suite struct {
	options
	*programs
	kubeconfig string
}

// turn is one call of ginkgo.
type turn struct {
	name   string // of the files it writes
	labels string
	procs  int
}

// turns are the parallel specs first, then those that want the cluster for themselves.
func turns(o options) []turn {
	const alone = "(Serial || Disruptive)"
	var all []turn
	if o.parallel {
		all = append(all, turn{"parallel", fmt.Sprintf("(%s) && !%s", o.labels, alone), o.procs})
	}
	if o.serial {
		all = append(all, turn{"serial", fmt.Sprintf("(%s) && %s", o.labels, alone), 1})
	}
	return all
}

// Time that the suite gets to end by itself, and to clean up when it is interrupted.
const (
	reserve  = 3 * time.Minute
	patience = 2 * time.Minute
)

// run gives the outcome of the specs. A spec that failed is no error; that there is no
// report is.
func (s *suite) run(ctx context.Context, t turn) ([]report.Spec, error) {
	file := filepath.Join(s.results, t.name+".json")
	log, err := os.Create(filepath.Join(s.results, t.name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, s.path("ginkgo"), s.arguments(ctx, t)...)
	told, tell := io.Pipe()
	both := io.MultiWriter(log, tell)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.results, both, both
	// A group of its own: the terminal's interrupt reaches this program alone, which passes
	// it on once, to ginkgo and its processes; a second one would make them give up without a
	// report.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = patience
	followed := make(chan error, 1)
	go func() { followed <- (&report.Progress{Out: os.Stdout, Every: 10 * time.Second}).Follow(told) }()
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH when all have ended, as they should
	}
	err = errors.Join(err, tell.Close(), <-followed, log.Close())
	specs, readErr := readReport(file)
	if errors.Is(readErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("the %s specs left no report, see %s: %w", t.name, log.Name(), errors.Join(err, readErr))
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		readErr = errors.Join(readErr, errors.New("interrupted"))
	}
	return specs, readErr
}

func (s *suite) arguments(ctx context.Context, t turn) []string {
	args := []string{
		"--procs=" + strconv.Itoa(t.procs), "--no-color", "--silence-skips", "--keep-going",
		"--output-dir=" + s.results, "--json-report=" + t.name + ".json", "--junit-report=junit_" + t.name + ".xml",
		"--label-filter=" + t.labels,
	}
	if deadline, ok := ctx.Deadline(); ok {
		args = append(args, "--timeout="+max(time.Minute, time.Until(deadline)-reserve).Round(time.Second).String())
	}
	if s.focus != "" {
		args = append(args, "--focus="+s.focus)
	}
	if s.skip != "" {
		args = append(args, "--skip="+s.skip)
	}
	return append(args, s.path("e2e.test"), "--",
		"--kubeconfig="+s.kubeconfig, "--kubectl-path="+s.path("kubectl"), "--provider=local",
		"--report-dir="+filepath.Join(s.results, t.name),
		"--max-nodes-to-gather-from=1") // what specs did is in their logs; asking every node after each failure takes minutes
}

// serveAt serves a handler on an address of this machine until stop is called.
func serveAt(host string, h http.Handler) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			say("server on %s: %v", l.Addr(), err)
		}
	}()
	stop = func() {
		if err := server.Close(); err != nil {
			say("close server on %s: %v", l.Addr(), err)
		}
		<-done
	}
	return "http://" + l.Addr().String(), stop, nil
}
