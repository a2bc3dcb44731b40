package admission

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

// oneByOne is a writer on the memory that readers see.
type oneByOne struct {
	mu sync.Mutex
	r  *memory.Reader
}

func (w *oneByOne) Update(_ context.Context, gr schema.GroupResource, namespace, name string, _ bool, change func(api.Object) error) (api.Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cur, _ := w.r.Get(gr, namespace, name)
	obj := cur.DeepCopyObject().(api.Object)
	if err := change(obj); err != nil {
		return nil, err
	}
	w.r.Put(gr, obj)
	return obj, nil
}

func (w *oneByOne) Delete(context.Context, schema.GroupResource, string, string, *metav1.DeleteOptions) error {
	return nil
}

func amounts(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func newQuota(name string, hard, used corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used},
	}
}

func TestQuotaRefusals(t *testing.T) {
	for want, q := range map[string]*corev1.ResourceQuota{
		"exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5":                               newQuota("q", amounts("pods", "5"), amounts("pods", "5")),
		"exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1": newQuota("q", amounts("requests.cpu", "1", "pods", "9"), amounts("requests.cpu", "500m", "pods", "1")),
		"failed quota: q: must specify limits.cpu for: c; limits.memory for: c":                             newQuota("q", amounts("limits.cpu", "1", "limits.memory", "1Gi"), amounts("limits.cpu", "0", "limits.memory", "0")),
		"status unknown for quota: q, resources: pods":                                                      newQuota("q", amounts("pods", "5"), nil),
		"": newQuota("q", amounts("pods", "5", "secrets", "0"), amounts("pods", "4")),
	} {
		r := memory.New()
		r.Put(quotas, q)
		step := ResourceQuota(r, func() api.Writer { return &oneByOne{r: r} }, time.Now)
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "600m")},
		}}}}
		err := step.Validate(t.Context(), createPod(p))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
}

// Of many at once only as many get in as fit; what the second of two quotas refuses is not
// charged to the first.
func TestQuotaIsNotOverdrawn(t *testing.T) {
	r := memory.New()
	r.Put(quotas, newQuota("a", amounts("pods", "50"), amounts("pods", "0")), newQuota("b", amounts("count/pods", "7"), amounts("count/pods", "0")))
	w := &oneByOne{r: r}
	step := ResourceQuota(r, func() api.Writer { return w }, time.Now)
	var in atomic.Int32
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			if step.Validate(t.Context(), createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}})) == nil {
				in.Add(1)
			}
		})
	}
	group.Wait()
	for name, of := range map[string]corev1.ResourceName{"a": "pods", "b": "count/pods"} {
		obj, _ := r.Get(quotas, "ns", name)
		if used := obj.(*corev1.ResourceQuota).Status.Used[of]; used.Value() != 7 || in.Load() != 7 {
			t.Errorf("%d pods got in, %s has %s used", in.Load(), name, used.String())
		}
	}
}

// A pod that comes under another quota by a change is charged to it, or not changed.
func TestQuotaByChange(t *testing.T) {
	r := memory.New()
	q := newQuota("q", amounts("pods", "1"), amounts("pods", "0"))
	q.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating}
	r.Put(quotas, q)
	step := ResourceQuota(r, func() api.Writer { return &oneByOne{r: r} }, time.Now)
	second := int64(1)
	change := func() error {
		old := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		a := createPod(old.DeepCopy())
		a.Operation, a.Old = Update, old
		a.Object.(*corev1.Pod).Spec.ActiveDeadlineSeconds = &second
		return step.Validate(t.Context(), a)
	}
	if err := change(); err != nil {
		t.Fatal(err)
	}
	if err := change(); err == nil {
		t.Error("a second pod has come under a quota for one")
	}
}
