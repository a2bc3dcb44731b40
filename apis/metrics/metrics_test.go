package metrics

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/nodeusage"
)

// cluster is what a cache has, and what nodes say.
type cluster struct {
	objects map[schema.GroupResource][]api.Object
	says    map[string]*nodeusage.Report
	asked   []string
}

func (c *cluster) Get(of schema.GroupResource, namespace, name string) (api.Object, bool) {
	for _, o := range c.objects[of] {
		if o.GetNamespace() == namespace && o.GetName() == name {
			return o, true
		}
	}
	return nil, false
}

func (c *cluster) List(of schema.GroupResource, namespace string) []api.Object {
	return slices.DeleteFunc(slices.Clone(c.objects[of]), func(o api.Object) bool { return namespace != "" && o.GetNamespace() != namespace })
}

func (c *cluster) Revision(schema.GroupResource) int64 { return 1 }

func (c *cluster) Of(_ context.Context, nodes []string) map[string]*nodeusage.Report {
	c.asked = nodes
	out := map[string]*nodeusage.Report{}
	for _, n := range nodes {
		if c.says[n] != nil {
			out[n] = c.says[n]
		}
	}
	return out
}

func newCluster() (*cluster, *api.Env) {
	c := &cluster{objects: map[schema.GroupResource][]api.Object{}, says: map[string]*nodeusage.Report{}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	use := func(cpu, memory uint64) nodeusage.Use {
		return nodeusage.Use{At: at, Window: 15*time.Second + 123456, CPU: cpu, Memory: memory}
	}
	for _, name := range []string{"a", "b", "dead"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node": name}}}
		ready := corev1.ConditionTrue
		if name == "dead" {
			ready = corev1.ConditionUnknown
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
		c.objects[corev1.Resource("nodes")] = append(c.objects[corev1.Resource("nodes")], n)
	}
	for _, p := range []struct{ namespace, name, node string }{{"x", "one", "a"}, {"x", "two", "b"}, {"y", "one", "a"}, {"y", "lost", "dead"}, {"y", "waits", ""}} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, UID: types.UID(p.namespace + p.name), Labels: map[string]string{"app": p.name}}}
		pod.Spec.NodeName, pod.Status.Phase = p.node, corev1.PodRunning
		pod.Spec.Containers = []corev1.Container{{Name: "c"}, {Name: "d"}}
		c.objects[corev1.Resource("pods")] = append(c.objects[corev1.Resource("pods")], pod)
	}
	pod := func(uid string) nodeusage.Pod {
		return nodeusage.Pod{UID: uid, Containers: []nodeusage.Container{{Name: "c", Use: use(1234567, 3<<20)}, {Name: "d", Use: use(1, 4096)}}}
	}
	c.says["a"] = &nodeusage.Report{Node: use(250e6, 1<<30), Pods: []nodeusage.Pod{pod("xone"), pod("yone")}}
	c.says["b"] = &nodeusage.Report{Node: use(250e6, 1<<30)} // two has just begun
	return c, &api.Env{Reader: c, Usage: c}
}

func TestAsked(t *testing.T) {
	c, env := newCluster()
	for _, row := range []struct {
		kind             *api.Kind
		ask              api.Ask
		label, field     string
		want, nodes, err string
	}{
		{kind: nodes, want: "a b", nodes: "a b"},
		{kind: nodes, label: "node=b", want: "b", nodes: "b"},
		{kind: nodes, field: "metadata.name!=b", want: "a", nodes: "a"},
		{kind: nodes, ask: api.Ask{Name: "a"}, want: "a", nodes: "a"},
		{kind: nodes, ask: api.Ask{Name: "dead"}, err: `nodemetrics.metrics.k8s.io "dead" not found`},
		{kind: nodes, ask: api.Ask{Name: "none"}, err: `nodes "none" not found`},
		{kind: pods, want: "x/one y/one", nodes: "a b"},
		{kind: pods, ask: api.Ask{Namespace: "y"}, want: "y/one", nodes: "a"},
		{kind: pods, label: "app=two", nodes: "b"},
		{kind: pods, field: "metadata.namespace=x", want: "x/one", nodes: "a b"},
		{kind: pods, ask: api.Ask{Namespace: "x", Name: "one"}, want: "x/one", nodes: "a"},
		{kind: pods, ask: api.Ask{Namespace: "x", Name: "two"}, nodes: "b", err: `podmetrics.metrics.k8s.io "x/two" not found`},
		{kind: pods, ask: api.Ask{Namespace: "y", Name: "waits"}, err: `podmetrics.metrics.k8s.io "y/waits" not found`},
		{kind: pods, ask: api.Ask{Namespace: "x", Name: "none"}, err: `pods "none" not found`},
	} {
		c.asked = nil
		row.ask.Labels, row.ask.Fields = selectors(t, row.label, row.field)
		got, err := row.kind.Computed.Make(t.Context(), env, row.ask)
		var names []string
		for _, o := range got {
			names = append(names, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if have := strings.Join(names, " "); have != row.want || text != row.err || strings.Join(c.asked, " ") != row.nodes {
			t.Errorf("%s %+v: %q by asking %q (%v), want %q by asking %q (%s)", row.kind.Kind, row.ask, have, c.asked, err, row.want, row.nodes, row.err)
		}
	}
}

func selectors(t *testing.T, label, field string) (labels.Selector, fields.Selector) {
	t.Helper()
	l, err := labels.Parse(label)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fields.ParseSelector(field)
	if err != nil {
		t.Fatal(err)
	}
	return l, f
}

func TestForm(t *testing.T) {
	_, env := newCluster()
	got, err := pods.Computed.Make(t.Context(), env, api.Ask{Namespace: "x", Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	m := got[0].(*metricsv1beta1.PodMetrics)
	m.CreationTimestamp = metav1.Time{}
	raw, err := json.Marshal(m)
	want := `{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1","metadata":{"name":"one","namespace":"x","labels":{"app":"one"}},"timestamp":"2026-01-02T03:04:05Z","window":"15s",` +
		`"containers":[{"name":"c","usage":{"cpu":"1234567n","memory":"3Mi"}},{"name":"d","usage":{"cpu":"1n","memory":"4Ki"}}]}`
	if err != nil || string(raw) != want {
		t.Errorf("%v\n got %s\nwant %s", err, raw, want)
	}
	var cells []any
	for _, c := range pods.Columns {
		cells = append(cells, c.Value(m))
	}
	if !slices.Equal(cells, []any{"1234568n", "3076Ki", "15s"}) {
		t.Errorf("%q", cells)
	}
}

// A node can lie about its own pods, and harm nobody else.
func TestAttackReports(t *testing.T) {
	good := nodeusage.Use{At: time.Now(), Window: time.Second, CPU: 1, Memory: 1}
	bad := func(change func(*nodeusage.Use)) nodeusage.Use {
		u := good
		change(&u)
		return u
	}
	for what, pod := range map[string]nodeusage.Pod{
		"a pod of another node": {UID: "xtwo", Containers: []nodeusage.Container{{Name: "c", Use: good}}},
		"no containers":         {UID: "xone"},
		"an unknown container":  {UID: "xone", Containers: []nodeusage.Container{{Name: "evil", Use: good}}},
		"a container twice":     {UID: "xone", Containers: []nodeusage.Container{{Name: "c", Use: good}, {Name: "c", Use: good}}},
		"CPU without end":       {UID: "xone", Containers: []nodeusage.Container{{Name: "c", Use: bad(func(u *nodeusage.Use) { u.CPU = 1 << 63 })}}},
		"memory without end":    {UID: "xone", Containers: []nodeusage.Container{{Name: "c", Use: bad(func(u *nodeusage.Use) { u.Memory = 1 << 63 })}}},
		"a year without end":    {UID: "xone", Containers: []nodeusage.Container{{Name: "c", Use: bad(func(u *nodeusage.Use) { u.At = u.At.AddDate(99999, 0, 0) })}}},
		"a window of the past":  {UID: "xone", Containers: []nodeusage.Container{{Name: "c", Use: bad(func(u *nodeusage.Use) { u.Window = -1 })}}},
	} {
		c, env := newCluster()
		c.says["a"] = &nodeusage.Report{Node: bad(func(u *nodeusage.Use) { u.At = u.At.AddDate(99999, 0, 0) }), Pods: []nodeusage.Pod{pod}}
		l, f := selectors(t, "", "")
		got, err := pods.Computed.Make(t.Context(), env, api.Ask{Labels: l, Fields: f})
		if err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %d pods", what, err, len(got))
		}
		if got, err := nodes.Computed.Make(t.Context(), env, api.Ask{Labels: l, Fields: f}); err != nil || len(got) != 1 || got[0].GetName() != "b" {
			t.Errorf("%s: %v, %d nodes", what, err, len(got))
		}
	}
}
