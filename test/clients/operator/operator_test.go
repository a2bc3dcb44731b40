package operator

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/go-logr/logr"
)

const (
	namespace = "clients-operator"
	limit     = 90 * time.Second
)

// world is what a test has to do with: a client that reads from the server, not from a cache.
type world struct {
	*testing.T
	client.WithWatch
	ctx      context.Context
	left     chan string
	warnings []string
}

func (w *world) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.warnings = append(w.warnings, text)
}

// start installs the definitions and runs the manager until the test ends; the manager has ended then.
func start(t *testing.T) *world {
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("needs KUBECONFIG: see make clients")
	}
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	register(scheme)
	config, err := ctrl.GetConfig()
	must(t, err)
	existing := true
	env := &envtest.Environment{Scheme: scheme, Config: config, UseExistingCluster: &existing, CRDs: definitions(), WebhookInstallOptions: webhooks()}
	config, err = env.Start()
	t.Cleanup(func() { must(t, env.Stop()) })
	must(t, err)

	w := &world{T: t, left: make(chan string, 100)}
	mine := rest.CopyConfig(config)
	mine.WarningHandlerWithContext = w
	w.WithWatch, err = client.NewWithWatch(mine, client.Options{Scheme: scheme})
	must(t, err)
	var end context.CancelFunc
	w.ctx, end = context.WithTimeout(context.Background(), limit)
	must(t, client.IgnoreAlreadyExists(w.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})))

	hooks := env.WebhookInstallOptions
	m, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: "harbour", LeaderElectionNamespace: namespace, LeaderElectionReleaseOnCancel: true,
		WebhookServer: webhook.NewServer(webhook.Options{Host: hooks.LocalServingHost, Port: hooks.LocalServingPort, CertDir: hooks.LocalServingCertDir})})
	must(t, err)
	h := &harbour{Client: m.GetClient(), recorder: m.GetEventRecorder("harbour"), left: func(name string) { w.left <- name }}
	must(t, h.setup(w.ctx, m))
	ended := make(chan error, 1)
	go func() { ended <- m.Start(w.ctx) }()
	t.Cleanup(func() {
		_ = w.DeleteAllOf(w.ctx, &Boat{}, client.InNamespace(namespace)) // of a test that failed
		w.settle()
		end()
		must(t, <-ended)
		w.ctx = context.Background()
		w.released()
		must(t, w.Delete(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	})
	select {
	case <-m.Elected():
	case err := <-ended:
		ended <- err
		t.Fatalf("the manager ended: %v", err)
	case <-w.ctx.Done():
		t.Fatal("nobody was elected")
	}
	w.eventually("the webhook server answers", func() bool { return m.GetWebhookServer().StartedChecker()(nil) == nil })
	return w
}

// released checks that the lease was given back at the end.
func (w *world) released() {
	var lease coordinationv1.Lease
	must(w.T, w.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: "harbour"}, &lease))
	if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
		w.Errorf("lease is still held by %s", *lease.Spec.HolderIdentity)
	}
}

// settle waits until no boat is left: the namespace could not go while the webhooks do not answer.
func (w *world) settle() {
	for range 100 {
		var l BoatList
		if err := w.List(w.ctx, &l, client.InNamespace(namespace)); err != nil || len(l.Items) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leaver waits for the next boat whose finalizer runs.
func (w *world) leaver() string {
	select {
	case name := <-w.left:
		return name
	case <-w.ctx.Done():
		return "nobody"
	}
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for range 400 {
		if ok() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	w.Fatalf("not within 10 s: %s", what)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) boat(name string) *Boat {
	var b Boat
	must(w.T, w.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &b))
	return &b
}

func (w *world) berth(name string) (*corev1.ConfigMap, error) {
	var c corev1.ConfigMap
	return &c, w.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &c)
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }

func TestOperator(t *testing.T) {
	w := start(t)
	for _, step := range []struct {
		name string
		run  func(*world)
	}{
		{"a boat gets a berth", (*world).moors},
		{"both versions are the same boat", (*world).converts},
		{"the webhooks refuse and warn", (*world).refuses},
		{"what others do to a berth is undone", (*world).heals},
		{"a secret is followed", (*world).follows},
		{"old copies do not win", (*world).conflicts},
		{"deletion waits for the finalizer and takes the berth along", (*world).leaves},
		{"lists come in pages, collections go at once", (*world).many},
	} {
		if !t.Run(step.name, func(t *testing.T) { w.T = t; step.run(w) }) {
			break
		}
	}
	w.T = t
}

func (w *world) moors() {
	must(w.T, w.Create(w.ctx, &Boat{ObjectMeta: named("proa")}))
	w.eventually("status", func() bool {
		b := w.boat("proa")
		return meta.IsStatusConditionTrue(b.Status.Conditions, "Ready") && b.Status.Sailors == 2
	})
	c, err := w.berth("proa")
	must(w.T, err)
	if c.Data["sailors"] != "2" || !metav1.IsControlledBy(c, w.boat("proa")) {
		w.Errorf("berth %v of %v", c.Data, c.OwnerReferences)
	}
	w.eventually("event", func() bool {
		var l eventsv1.EventList
		must(w.T, w.List(w.ctx, &l, client.InNamespace(namespace)))
		return slices.ContainsFunc(l.Items, func(e eventsv1.Event) bool { return e.Note == "2 sailors" && e.Regarding.Name == "proa" })
	})
}

func (w *world) converts() {
	var old OldBoat
	must(w.T, w.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: "proa"}, &old))
	if old.Spec.Crew != 2 {
		w.Errorf("crew is %d", old.Spec.Crew)
	}
	before := old.DeepCopyObject().(*OldBoat)
	old.Spec.Crew = 3
	must(w.T, w.Patch(w.ctx, &old, client.MergeFrom(before)))
	w.eventually("berth of three", func() bool { c, err := w.berth("proa"); return err == nil && c.Data["sailors"] == "3" })
	if b := w.boat("proa"); b.Spec.Sailors != 3 || b.Generation != 2 {
		w.Errorf("%d sailors, generation %d", b.Spec.Sailors, b.Generation)
	}
}

func (w *world) refuses() {
	err := w.Create(w.ctx, &Boat{ObjectMeta: named("full"), Spec: BoatSpec{Sailors: 10}})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "a boat of 10 sailors sinks") {
		w.Errorf("ten sailors: %v", err)
	}
	w.warnings = nil
	must(w.T, client.NewDryRunClient(w).Create(w.ctx, &Boat{ObjectMeta: named("full"), Spec: BoatSpec{Sailors: 6}}))
	if len(w.warnings) != 1 || w.warnings[0] != "a crowded boat" {
		w.Errorf("warnings: %q", w.warnings)
	}
	must(w.T, w.Create(w.ctx, &Boat{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kept", Annotations: map[string]string{"keep": "yes"}}}))
	if err := w.Delete(w.ctx, w.boat("kept")); !apierrors.IsForbidden(err) {
		w.Errorf("delete what is kept: %v", err)
	}
	kept := w.boat("kept")
	must(w.T, w.Patch(w.ctx, kept, client.RawPatch("application/json-patch+json", []byte(`[{"op":"remove","path":"/metadata/annotations"}]`))))
	must(w.T, w.Delete(w.ctx, kept))
	if name := w.leaver(); name != "kept" {
		w.Errorf("%s left", name)
	}
}

func (w *world) heals() {
	c, err := w.berth("proa")
	must(w.T, err)
	uid := c.UID
	c.Data["sailors"], c.Data["mine"] = "99", "kept"
	must(w.T, w.Update(w.ctx, c))
	w.eventually("data is restored", func() bool { c, err = w.berth("proa"); return err == nil && c.Data["sailors"] == "3" })
	if c.Data["mine"] != "kept" {
		w.Error("the field of another owner is gone")
	}
	must(w.T, w.Delete(w.ctx, c, client.Preconditions{UID: &uid}))
	w.eventually("berth is made again", func() bool { c, err = w.berth("proa"); return err == nil && c.UID != uid })
}

func (w *world) follows() {
	secret := &corev1.Secret{ObjectMeta: named("orders"), StringData: map[string]string{"to": "Majuro"}}
	must(w.T, w.Create(w.ctx, secret))
	must(w.T, w.Create(w.ctx, &Boat{ObjectMeta: named("trader"), Spec: BoatSpec{Orders: "orders"}}))
	w.eventually("orders", func() bool { return w.boat("trader").Status.Orders == "Majuro" })
	secret.StringData = map[string]string{"to": "Jaluit"}
	must(w.T, w.Update(w.ctx, secret))
	w.eventually("new orders", func() bool { return w.boat("trader").Status.Orders == "Jaluit" })
}

func (w *world) conflicts() {
	old := w.boat("proa")
	fresh := w.boat("proa")
	fresh.Labels = map[string]string{"a": "b"}
	must(w.T, w.Update(w.ctx, fresh))
	old.Labels = map[string]string{"a": "c"}
	if err := w.Update(w.ctx, old); !apierrors.IsConflict(err) {
		w.Errorf("update of an old copy: %v", err)
	}
	before := old.DeepCopyObject().(*Boat)
	old.Labels["a"] = "d"
	if err := w.Patch(w.ctx, old, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); !apierrors.IsConflict(err) {
		w.Errorf("patch of an old copy: %v", err)
	}
	ready := w.boat("proa")
	ready.Status.Sailors, ready.Spec.Sailors = 77, 8
	must(w.T, w.Status().Update(w.ctx, ready))
	if ready.Spec.Sailors != 3 {
		w.Error("a status update changed the spec")
	}
}

func (w *world) leaves() {
	boat := w.boat("proa")
	must(w.T, w.Delete(w.ctx, boat))
	if name := w.leaver(); name != "proa" {
		w.Errorf("%s left", name)
	}
	w.eventually("boat is gone", func() bool { return apierrors.IsNotFound(w.Get(w.ctx, client.ObjectKeyFromObject(boat), boat)) })
	w.eventually("berth is gone", func() bool { _, err := w.berth("proa"); return apierrors.IsNotFound(err) })
}

func (w *world) many() {
	for _, name := range []string{"a", "b", "c"} {
		must(w.T, w.Create(w.ctx, &Boat{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"fleet": "one"}}}))
	}
	fleet := client.MatchingLabels{"fleet": "one"}
	watch, err := w.Watch(w.ctx, &BoatList{}, client.InNamespace(namespace), fleet)
	must(w.T, err)
	defer watch.Stop()
	page := &BoatList{}
	must(w.T, w.List(w.ctx, page, client.InNamespace(namespace), fleet, client.Limit(2)))
	rest := &metav1.PartialObjectMetadataList{}
	rest.SetGroupVersionKind(boatKind().GroupVersion().WithKind("BoatList"))
	must(w.T, w.List(w.ctx, rest, client.InNamespace(namespace), fleet, client.Limit(2), client.Continue(page.Continue)))
	if len(page.Items) != 2 || len(rest.Items) != 1 || rest.Items[0].Name != "c" {
		w.Errorf("pages of %d and %d", len(page.Items), len(rest.Items))
	}
	must(w.T, w.DeleteAllOf(w.ctx, &Boat{}, client.InNamespace(namespace), fleet))
	w.eventually("all are gone", func() bool {
		must(w.T, w.List(w.ctx, page, client.InNamespace(namespace), fleet))
		return len(page.Items) == 0
	})
}
