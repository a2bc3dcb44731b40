package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// kills is how often the server is killed.
const kills = 30

// TestKilledServer kills the server again and again under a client that writes and one
// that watches: nothing acknowledged is lost, no event is skipped, no container restarts.
func TestKilledServer(t *testing.T) {
	s := up(t)
	s.loadDemo()
	s.twoPods()
	before := s.containers()
	client := s.client()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{client: client, acknowledged: map[string]string{}}
	seen := &watcher{client: client, versions: map[string]string{}}
	writing, stopWriter := context.WithCancel(ctx)
	w.done.Go(func() { w.run(writing) })
	var group sync.WaitGroup
	group.Go(func() { seen.run(ctx) })

	var outages []time.Duration
	for range kills {
		outages = append(outages, s.killAndStart(client))
		time.Sleep(200 * time.Millisecond) // some writes go through
	}
	stopWriter()
	w.done.Wait()
	seen.catchUp(t)
	cancel()
	group.Wait()

	slices.Sort(outages)
	t.Logf("%d kills: served again after %s at best, %s in the middle, %s at worst; %d writes acknowledged, %d watches, %d of them ended by 410",
		kills, outages[0], outages[kills/2], outages[kills-1], w.count, seen.watches, seen.gone)
	if middle := outages[kills/2]; middle > time.Second {
		t.Errorf("half of the times requests were served only after %s", middle)
	}
	w.check(t)
	seen.check(t, w)
	if after := s.containers(); after != before {
		t.Errorf("containers before\n%s\nand after\n%s", before, after)
	}
	s.kubectl("create", "deployment", "after", "--image=proa.local/demo:v1")
	s.kubectl("rollout", "status", "deployment/after", "--timeout=60s")
}

func (s *site) client() kubernetes.Interface {
	s.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func (s *site) containers() string {
	s.t.Helper()
	return s.kubectl("get", "pods", "-A", "--sort-by=.metadata.name", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
}

// killAndStart kills the server, starts it again at once, and says how long no request was
// answered after the start.
func (s *site) killAndStart(client kubernetes.Interface) time.Duration {
	s.t.Helper()
	args := s.serverArgs()
	s.kill("server")
	log, err := os.OpenFile(filepath.Join(s.dir, "data", s.name, "log", "server.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // it is killed by the next turn, or ended by uninstall
	eventually(s.t, 20*time.Second, "an answer of the server after it was killed", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// One attempt: by itself the client tries again only after a second.
		err := client.CoreV1().RESTClient().Get().MaxRetries(0).AbsPath("/api/v1/namespaces/default").Do(ctx).Error()
		return err == nil
	})
	took := time.Since(begun).Round(time.Millisecond)
	eventually(s.t, 20*time.Second, "the server's pid file", func() bool { return s.pid("server") == cmd.Process.Pid })
	return took
}

// serverArgs is the server's command line.
func (s *site) serverArgs() []string {
	s.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(s.pid("server")) + "/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

const crashNamespace = "default"

// writer creates and updates objects and keeps what was acknowledged.
type writer struct {
	client       kubernetes.Interface
	count        int
	acknowledged map[string]string // name: the last value that was acknowledged
	done         sync.WaitGroup
}

func (w *writer) run(ctx context.Context) {
	maps := w.client.CoreV1().ConfigMaps(crashNamespace)
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("written-%06d", i)
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"written": "yes"}}, Data: map[string]string{"n": "1"}}
		created, err := maps.Create(ctx, object, metav1.CreateOptions{})
		if err != nil {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		w.note(name, "1")
		created.Data["n"] = "2"
		if _, err := maps.Update(ctx, created, metav1.UpdateOptions{}); err != nil {
			w.acknowledged[name] = "1 or 2"
			continue
		}
		w.note(name, "2")
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *writer) note(name, value string) {
	w.count++
	w.acknowledged[name] = value
}

func (w *writer) check(t *testing.T) {
	t.Helper()
	list, err := w.client.CoreV1().ConfigMaps(crashNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: "written=yes"})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for _, item := range list.Items {
		there[item.Name] = item.Data["n"]
	}
	for name, want := range w.acknowledged {
		if got := there[name]; got != want && (want != "1 or 2" || got == "") {
			t.Errorf("%s was acknowledged as %s and holds %q", name, want, got)
		}
	}
}

// watcher follows the objects over all kills, resuming where it was.
type watcher struct {
	client   kubernetes.Interface
	versions map[string]string // by name: what the last event said
	watches  int
	gone     int
	backward []string
	last     atomic.Int64
}

func (o *watcher) run(ctx context.Context) {
	since := ""
	for ctx.Err() == nil {
		if since == "" {
			since = o.list(ctx)
			continue
		}
		w, err := o.client.CoreV1().ConfigMaps(crashNamespace).Watch(ctx, metav1.ListOptions{
			LabelSelector: "written=yes", ResourceVersion: since, AllowWatchBookmarks: true,
		})
		if err != nil {
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				o.gone++
				since = ""
			}
			pause(ctx, 10*time.Millisecond)
			continue
		}
		o.watches++
		since = o.follow(ctx, w, since)
	}
}

// list starts anew; it gives the version to watch from, or nothing.
func (o *watcher) list(ctx context.Context) string {
	list, err := o.client.CoreV1().ConfigMaps(crashNamespace).List(ctx, metav1.ListOptions{LabelSelector: "written=yes"})
	if err != nil {
		pause(ctx, 10*time.Millisecond)
		return ""
	}
	for _, item := range list.Items {
		o.versions[item.Name] = item.Data["n"]
	}
	return list.ResourceVersion
}

func (o *watcher) follow(ctx context.Context, w watch.Interface, since string) string {
	defer w.Stop()
	for {
		var event watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return since
		case event, open = <-w.ResultChan():
		}
		if !open {
			return since
		}
		switch object := event.Object.(type) {
		case *corev1.ConfigMap:
			since = object.ResourceVersion
			o.see(event.Type, object)
		case *metav1.Status:
			if err := apierrors.FromObject(object); apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				o.gone++
				return ""
			}
			return since
		}
	}
}

func (o *watcher) see(kind watch.EventType, object *corev1.ConfigMap) {
	revision, err := strconv.ParseInt(object.ResourceVersion, 10, 64)
	if err != nil || revision <= o.last.Load() && kind != watch.Bookmark {
		o.backward = append(o.backward, fmt.Sprintf("%s %s at %s after %d", kind, object.Name, object.ResourceVersion, o.last.Load()))
	}
	o.last.Store(max(o.last.Load(), revision))
	if kind == watch.Bookmark {
		return
	}
	before, known := o.versions[object.Name]
	if known == (kind == watch.Added) {
		o.backward = append(o.backward, fmt.Sprintf("%s %s, known before: %v (%s)", kind, object.Name, known, before))
	}
	o.versions[object.Name] = object.Data["n"]
}

// catchUp waits until what was written last has been watched.
func (o *watcher) catchUp(t *testing.T) {
	t.Helper()
	list, err := o.client.CoreV1().ConfigMaps(crashNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: "written=yes"})
	if err != nil {
		t.Fatal(err)
	}
	var newest int64
	for _, item := range list.Items {
		revision, err := strconv.ParseInt(item.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		newest = max(newest, revision)
	}
	eventually(t, 20*time.Second, "all writes were watched", func() bool { return o.last.Load() >= newest })
}

func (o *watcher) check(t *testing.T, w *writer) {
	t.Helper()
	if len(o.backward) > 0 {
		t.Errorf("%d events out of order, invented or skipped: %v", len(o.backward), o.backward[:min(5, len(o.backward))])
	}
	missing := 0
	var last string
	for name, want := range w.acknowledged {
		if got := o.versions[name]; got != want && want != "1 or 2" {
			missing++
			last = fmt.Sprintf("%s acknowledged as %s, watched %q", name, want, got)
		}
	}
	if missing > 0 {
		t.Errorf("%d acknowledged writes were not watched, such as %s", missing, last)
	}
}
