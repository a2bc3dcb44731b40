package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
	"github.com/proa-dev/proa/test/checker"
)

var (
	checkEvery    = flag.Duration("check.every", 1200*time.Millisecond, "about so often the server is restarted")
	checkWriters  = flag.Int("check.writers", 6, "clients that write while the server is restarted")
	checkWatchers = flag.Int("check.watchers", 12, "clients that watch while the server is restarted")
)

// checkedFolder names, to the process that TestCheckedServer is for, where it finds its data and sockets.
const checkedFolder = "CHECKED_FOLDER"

// What clients are told over HTTP stays true while the server is restarted under them, be it
// asked to end or killed: nothing acknowledged is lost, nothing is done twice, and no watch
// that is resumed skips or repeats a change.
func TestCheckedOverRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes for some 20 s")
	}
	s := &restarted{t: t, dir: t.TempDir()}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	defer s.end(syscall.SIGKILL)
	soon := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond}, MinConnectTimeout: time.Second}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + filepath.Join(s.dir, "etcd.sock")}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(soon), grpc.WithContextDialer(s.dialEtcd)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	c := &unsure{checked: checked{clients: []kubernetes.Interface{
		client(t, kubernetes.NewForConfig, s.config("application/json")), client(t, kubernetes.NewForConfig, s.config("application/vnd.kubernetes.protobuf")),
	}}, server: s}
	for _, name := range []string{"a", "b"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := c.clients[0].CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	decoder := scheme.Codecs.UniversalDeserializer()
	result, err := checker.Run(t.Context(), checker.Config{
		Target: c, Etcd: etcd, Prefix: "/registry/configmaps/", Head: func() int64 { return newest(t.Context(), etcd) }, Forget: c.forget,
		Restart: s.again, Every: *checkEvery,
		Decode: func(value []byte) (checker.Object, error) {
			m := &corev1.ConfigMap{}
			_, _, err := decoder.Decode(value, nil, m)
			return plainObject(m), err
		},
		Kept: historyLength, Seed: *checkSeed, Rounds: *checkRounds, Writes: 4 * *checkWrites,
		Writers: *checkWriters, Readers: 3, Watchers: *checkWatchers, Keys: 10,
	})
	t.Log(result)
	if err != nil {
		t.Fatal(err)
	}
}

// newest is etcd's revision, which everything acknowledged is part of.
func newest(ctx context.Context, etcd *clientv3.Client) int64 {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := etcd.Get(limited, "/")
		cancel()
		if err == nil {
			return answer.Header.Revision
		}
		time.Sleep(time.Millisecond)
	}
	return 0
}

// TestCheckedServer is no test, but the server of TestCheckedOverRestarts.
func TestCheckedServer(t *testing.T) {
	dir := os.Getenv(checkedFolder)
	if dir == "" {
		t.Skip("is run by TestCheckedOverRestarts")
	}
	asked, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	var h *house
	compact := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := strconv.ParseInt(r.FormValue("to"), 10, 64)
		if err == nil {
			err = h.store.CompactTo(r.Context(), to)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	h = newHouseOn(t, store.Config{Dir: filepath.Join(dir, "etcd"), Listen: "unix://" + filepath.Join(dir, "etcd.sock"), Events: historyLength}, nil,
		func(api.Reader, *rules, *catalog.Catalog) []admission.Step { return nil },
		func(cfg *apiserver.Config) { cfg.Open["/compact"] = compact })
	socket := filepath.Join(dir, "api.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(h.server.Handler())
	front.Listener.Close()
	front.Listener, front.EnableHTTP2 = listener, true
	front.StartTLS()
	<-asked.Done()
	h.server.Close()
	front.Close()
}

// restarted is a server in a process of its own.
type restarted struct {
	t       *testing.T
	dir     string
	process *exec.Cmd
	output  bytes.Buffer
	times   atomic.Int64             // odd while it is restarted
	beside  atomic.Pointer[net.Conn] // to etcd
}

func (s *restarted) start() error {
	s.output.Reset()
	s.process = exec.Command(os.Args[0], "-test.run=^TestCheckedServer$", "-test.timeout=0")
	s.process.Env = append(os.Environ(), checkedFolder+"="+s.dir)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		return err
	}
	probe := &http.Client{Transport: &http.Transport{DialContext: s.dial}}
	defer probe.CloseIdleConnections()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		// It speaks TLS alone: any answer will do.
		if resp, err := probe.Get("http://checked/"); err == nil {
			return resp.Body.Close()
		}
	}
	s.end(syscall.SIGKILL)
	return fmt.Errorf("the server does not start: %s", s.output.String())
}

func (s *restarted) end(sig syscall.Signal) {
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.process.Wait() }()
	for again := time.Tick(20 * time.Millisecond); ; {
		select {
		case err := <-ended:
			if err != nil && sig == syscall.SIGTERM {
				s.t.Errorf("the server ended badly: %v: %s", err, s.output.String())
			}
			return
		case <-again: // etcd's server waits for its clients to go
			if conn := s.beside.Swap(nil); conn != nil {
				_ = (*conn).Close()
			}
		}
	}
}

// again asks it to end, or kills it, and starts it anew.
func (s *restarted) again(rnd *rand.Rand) error {
	s.times.Add(1)
	defer s.times.Add(1)
	s.end([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[rnd.IntN(2)])
	err := s.start()
	time.Sleep(100 * time.Millisecond) // clients notice that their connections are gone
	return err
}

func (s *restarted) dialEtcd(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(s.dir, "etcd.sock"))
	if err == nil {
		s.beside.Store(&conn)
	}
	return conn, err
}

func (s *restarted) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(s.dir, "api.sock"))
}

func (s *restarted) config(accepts string) *rest.Config {
	c := &rest.Config{Host: "https://checked", BearerToken: "root", QPS: -1, Dial: s.dial, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	c.ContentType, c.AcceptContentTypes = accepts, accepts+",application/json"
	return c
}

// unsure knows which errors come of restarts.
type unsure struct {
	checked
	server *restarted
}

// since gives err, or that there was no answer, if the server was restarted since.
func (u *unsure) since(times int64, err error) error {
	for _, known := range []error{checker.ErrExists, checker.ErrConflict, checker.ErrNotFound, checker.ErrGone, checker.ErrEnded} {
		if errors.Is(err, known) {
			return err
		}
	}
	if err == nil || times%2 == 0 && u.server.times.Load() == times {
		return err
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError && status.Status().Code != http.StatusTooManyRequests {
		return err
	}
	return fmt.Errorf("%w: %w", checker.ErrUnknown, err)
}

func (u *unsure) forget(ctx context.Context, revision int64) error {
	times := u.server.times.Load()
	result := u.clients[0].CoreV1().RESTClient().Post().AbsPath("/compact").Param("to", strconv.FormatInt(revision, 10)).Do(ctx)
	return u.since(times, result.Error())
}

func (u *unsure) Create(ctx context.Context, o checker.Object) (checker.Object, error) {
	times := u.server.times.Load()
	got, err := u.checked.Create(ctx, o)
	return got, u.since(times, err)
}

func (u *unsure) Update(ctx context.Context, o checker.Object, at int64) (checker.Object, error) {
	times := u.server.times.Load()
	got, err := u.checked.Update(ctx, o, at)
	return got, u.since(times, err)
}

func (u *unsure) Delete(ctx context.Context, namespace, name string, at int64) error {
	times := u.server.times.Load()
	return u.since(times, u.checked.Delete(ctx, namespace, name, at))
}

func (u *unsure) Get(ctx context.Context, namespace, name string) (checker.Object, error) {
	times := u.server.times.Load()
	got, err := u.checked.Get(ctx, namespace, name)
	return got, u.since(times, err)
}

func (u *unsure) List(ctx context.Context, want checker.Selection, at int64, page int) ([]checker.Object, int64, error) {
	times := u.server.times.Load()
	list, revision, err := u.checked.List(ctx, want, at, page)
	return list, revision, u.since(times, err)
}

func (u *unsure) Watch(ctx context.Context, want checker.Selection, since int64) (checker.Stream, error) {
	times := u.server.times.Load()
	stream, err := u.checked.Watch(ctx, want, since)
	if err != nil {
		return nil, u.since(times, err)
	}
	return &unsureStream{stream, u, times}, nil
}

type unsureStream struct {
	checker.Stream
	of    *unsure
	times int64
}

// Next says of a watch that a restart cut off that it has ended.
func (s *unsureStream) Next(ctx context.Context) ([]checker.Event, error) {
	events, err := s.Stream.Next(ctx)
	if ctx.Err() == nil && errors.Is(s.of.since(s.times, err), checker.ErrUnknown) {
		return events, checker.ErrEnded
	}
	return events, err
}
