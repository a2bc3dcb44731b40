// Package overload offers a server ten times the load that it can take, from the outside.
//
// The server, the load and the nodes whose leases must go on being renewed are processes of
// their own (this test's binary with a role), so that the server's memory and the nodes' view
// of its answers are not mixed up with the load's.
package overload

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/proa-dev/proa/cluster"
)

// Environment of a process with a role.
const (
	roleKey = "PROA_OVERLOAD_ROLE" // server or nodes
	dirKey  = "PROA_OVERLOAD_DIR"
	portKey = "PROA_OVERLOAD_PORT"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleKey) {
	case "server":
		err = beServer()
	case "nodes":
		err = beNodes()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func place(dir string) (*cluster.Place, error) {
	roots := cluster.Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}
	return cluster.ClaimPlace(roots, "overload", func(netip.Prefix) bool { return false })
}

func beServer() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := place(os.Getenv(dirKey))
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(os.Getenv(portKey))
	if err != nil {
		return err
	}
	steps, err := cluster.NewProgress("", time.Now())
	if err != nil {
		return err
	}
	cfg := cluster.ServerConfig{Place: p, BindAddress: netip.MustParseAddr("127.0.0.1"), HTTPSPort: port}
	return cluster.RunServer(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})), steps)
}

// server is a running one.
type server struct {
	cmd        *exec.Cmd
	dir        string
	kubeconfig string
	ended      chan struct{}
}

func startServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	p, err := place(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := role("server", dir)
	cmd.Env = append(cmd.Env, portKey+"="+strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: cmd, dir: dir, kubeconfig: p.Kubeconfig(), ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(s.ended) }() // how it ended is told by when
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-s.ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-s.ended
		}
		if err := cluster.Uninstall(context.Background(), p, func(string) {}); err != nil {
			t.Error(err)
		}
	})
	return s
}

func role(name, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleKey+"="+name, dirKey+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// rss is the memory of the server in MiB.
func (s *server) rss(t *testing.T) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatal("the server is gone")
	return 0
}

// renewals is what nodes saw, in milliseconds.
type renewals struct {
	N, Failed     int
	P50, P99, Max float64
	First         string // the first failure
}

// nodes renews leases for a while, in a process of its own.
func (s *server) nodes(t *testing.T) func() renewals {
	t.Helper()
	cmd := role("nodes", s.kubeconfig)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (r renewals) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
			t.Fatal(err, out.String())
		}
		return r
	}
}
