package apiserver_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
	"github.com/proa-dev/proa/test/checker"
)

var (
	checkRounds = flag.Int("check.rounds", 2, "rounds of the checker")
	checkWrites = flag.Int("check.writes", 1000, "writes of each round")
	checkSeed   = flag.Uint64("check.seed", uint64(time.Now().UnixNano()), "what the clients do")
)

// What clients are told over HTTP, in JSON and protobuf, is what etcd's own log says.
func TestChecked(t *testing.T) {
	address, etcd := newEtcd(t)
	h := newHouseOn(t, store.Config{Endpoints: []string{address}, Events: historyLength}, nil,
		func(api.Reader, *rules, *catalog.Catalog) []admission.Step { return nil })
	c := &checked{clients: []kubernetes.Interface{
		h.typed("root"), client(t, kubernetes.NewForConfig, h.protobuf("root")), client(t, kubernetes.NewForConfig, h.localConfig("root")),
	}}
	for _, name := range []string{"a", "b"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := c.clients[0].CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	maps, _ := h.store.Collection(corev1.Resource("configmaps"))
	head := func() int64 { // of the kind, which is ahead of the store for a moment
		snap, err := maps.Snapshot(context.Background(), store.Any)
		if err != nil {
			t.Error(err)
			return 0
		}
		return snap.Revision()
	}
	decoder := scheme.Codecs.UniversalDeserializer()
	result, err := checker.Run(t.Context(), checker.Config{
		Target: c, Etcd: etcd, Prefix: "/registry/configmaps/", Head: head, Forget: h.store.CompactTo,
		Decode: func(value []byte) (checker.Object, error) {
			m := &corev1.ConfigMap{}
			_, _, err := decoder.Decode(value, nil, m)
			return plainObject(m), err
		},
		Kept: historyLength, Seed: *checkSeed, Rounds: *checkRounds, Writes: *checkWrites,
		Writers: 6, Readers: 3, Watchers: 12, Keys: 10,
	})
	t.Log(result)
	if err != nil {
		t.Fatal(err)
	}
}

// newEtcd is an etcd that the test can look into.
func newEtcd(t *testing.T) (string, *clientv3.Client) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = local, local
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	address := "http://" + etcd.Clients[0].Addr().String()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return address, c
}

type checked struct{ clients []kubernetes.Interface }

func (c *checked) any(by string) kubernetes.Interface {
	n, _ := strconv.Atoi(by)
	return c.clients[n%len(c.clients)]
}

func checkedMap(o checker.Object, at int64) *corev1.ConfigMap {
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: map[string]string{"color": o.Color}},
		Data:       map[string]string{"value": o.Value},
	}
	if at != 0 {
		m.ResourceVersion = strconv.FormatInt(at, 10)
	}
	return m
}

func plainObject(m *corev1.ConfigMap) checker.Object {
	revision, _ := strconv.ParseInt(m.ResourceVersion, 10, 64)
	return checker.Object{Namespace: m.Namespace, Name: m.Name, Color: m.Labels["color"], Value: m.Data["value"], Revision: revision}
}

func answered(m *corev1.ConfigMap, err error) (checker.Object, error) {
	if err != nil {
		return checker.Object{}, inWords(err)
	}
	return plainObject(m), nil
}

func inWords(err error) error {
	switch {
	case apierrors.IsAlreadyExists(err):
		return checker.ErrExists
	case apierrors.IsConflict(err):
		return checker.ErrConflict
	case apierrors.IsNotFound(err):
		return checker.ErrNotFound
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return checker.ErrGone
	}
	return err
}

func (c *checked) Create(ctx context.Context, o checker.Object) (checker.Object, error) {
	return answered(c.any(o.Value).CoreV1().ConfigMaps(o.Namespace).Create(ctx, checkedMap(o, 0), metav1.CreateOptions{}))
}

func (c *checked) Update(ctx context.Context, o checker.Object, at int64) (checker.Object, error) {
	maps := c.any(o.Value).CoreV1().ConfigMaps(o.Namespace)
	if at == 0 && o.Value[len(o.Value)-1]%2 == 0 {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"color":%q}},"data":{"value":%q}}`, o.Color, o.Value)
		return answered(maps.Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{}))
	}
	return answered(maps.Update(ctx, checkedMap(o, at), metav1.UpdateOptions{}))
}

func (c *checked) Delete(ctx context.Context, namespace, name string, at int64) error {
	var opts metav1.DeleteOptions
	if at != 0 {
		opts.Preconditions = &metav1.Preconditions{ResourceVersion: ptr.To(strconv.FormatInt(at, 10))}
	}
	if err := c.clients[0].CoreV1().ConfigMaps(namespace).Delete(ctx, name, opts); err != nil {
		return inWords(err)
	}
	return nil
}

func (c *checked) Get(ctx context.Context, namespace, name string) (checker.Object, error) {
	return answered(c.any(name[1:]).CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{}))
}

func selected(want checker.Selection) metav1.ListOptions {
	var opts metav1.ListOptions
	if want.Color != "" {
		opts.LabelSelector = "color=" + want.Color
	}
	if want.Name != "" {
		opts.FieldSelector = "metadata.name=" + want.Name
	}
	return opts
}

func (c *checked) List(ctx context.Context, want checker.Selection, at int64, page int) (list []checker.Object, revision int64, err error) {
	opts := selected(want)
	if opts.Limit = int64(page); at != 0 {
		opts.ResourceVersion, opts.ResourceVersionMatch = strconv.FormatInt(at, 10), metav1.ResourceVersionMatchExact
	}
	for {
		answer, err := c.clients[page%len(c.clients)].CoreV1().ConfigMaps(want.Namespace).List(ctx, opts)
		if err != nil {
			return nil, revision, inWords(err)
		}
		of, _ := strconv.ParseInt(answer.ResourceVersion, 10, 64)
		if revision != 0 && of != revision {
			return nil, revision, fmt.Errorf("a page of %d follows one of %d", of, revision)
		}
		revision = of
		for i := range answer.Items {
			list = append(list, plainObject(&answer.Items[i]))
		}
		if opts.Continue = answer.Continue; opts.Continue == "" {
			return list, revision, nil
		}
		opts.ResourceVersion, opts.ResourceVersionMatch = "", ""
	}
}

func (c *checked) Watch(ctx context.Context, want checker.Selection, since int64) (checker.Stream, error) {
	opts := selected(want)
	opts.ResourceVersion, opts.AllowWatchBookmarks, opts.TimeoutSeconds = strconv.FormatInt(since, 10), true, ptr.To(1+since%2)
	w, err := c.clients[since%int64(len(c.clients))].CoreV1().ConfigMaps(want.Namespace).Watch(ctx, opts)
	if err != nil {
		return nil, inWords(err)
	}
	return checkedStream{w}, nil
}

type checkedStream struct{ watch.Interface }

func (s checkedStream) Next(ctx context.Context) (events []checker.Event, err error) {
	for len(events) < 10 {
		select {
		case e, ok := <-s.ResultChan():
			if !ok {
				return events, checker.ErrEnded
			}
			out, err := shown(e)
			if err != nil {
				return events, err
			}
			events = append(events, out)
			continue
		case <-ctx.Done():
			return events, ctx.Err()
		}
	}
	return events, nil
}

func shown(e watch.Event) (checker.Event, error) {
	if e.Type == watch.Error {
		return checker.Event{}, inWords(apierrors.FromObject(e.Object))
	}
	m, ok := e.Object.(*corev1.ConfigMap)
	if !ok {
		return checker.Event{}, errors.New("a watch of config maps shows " + fmt.Sprintf("%T", runtime.Object(e.Object)))
	}
	return checker.Event{Type: string(e.Type), Object: plainObject(m)}, nil
}
