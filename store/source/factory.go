package source

import (
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/store"
)

// NewFactory gives a factory whose informers read the store for every kind that it serves
// at the time the informer is first asked for, and client for all others.
func NewFactory(s *store.Store, client kubernetes.Interface) *informers.Factory {
	return informers.New(client, served{s})
}

// served is the store as the source of a factory.
type served struct{ s *store.Store }

func (v served) ListerWatcher(example runtime.Object) cache.ListerWatcher {
	t := reflect.TypeOf(example).Elem()
	for _, c := range v.s.Collections() {
		if c.Kind().Type == t {
			return &source{c: c}
		}
	}
	return nil
}

// Example has none of kinds that client-go does not know (definitions, custom resources).
func (v served) Example(resource schema.GroupVersionResource) runtime.Object {
	c, ok := v.s.Collection(resource.GroupResource())
	if !ok || c.Kind().Resource != resource || !scheme.Scheme.Recognizes(c.Kind().GroupVersionKind) {
		return nil
	}
	return c.Kind().New()
}

// PodsOfNode gives an informer of the pods bound to one node. It belongs to no factory:
// the caller runs it.
func PodsOfNode(s *store.Store, node string) (informers.Pods, error) {
	c, ok := s.Collection(corev1.Resource("pods"))
	if !ok {
		return informers.Pods{}, fmt.Errorf("pods of node %s: pods are not served", node)
	}
	opts := Options{Index: "spec.nodeName", Value: node}
	return informers.PodsIn(informers.Unshared(&source{c: c, opts: opts}, &corev1.Pod{})), nil
}
