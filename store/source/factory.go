package source

import (
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/admissionregistration"
	"k8s.io/client-go/informers/apiserverinternal"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/autoscaling"
	"k8s.io/client-go/informers/batch"
	"k8s.io/client-go/informers/certificates"
	"k8s.io/client-go/informers/coordination"
	"k8s.io/client-go/informers/core"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/discovery"
	"k8s.io/client-go/informers/events"
	"k8s.io/client-go/informers/extensions"
	"k8s.io/client-go/informers/flowcontrol"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/lifecycle"
	"k8s.io/client-go/informers/networking"
	"k8s.io/client-go/informers/node"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/rbac"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/scheduling"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/informers/storagemigration"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/store"
)

// NewFactory gives a shared informer factory whose informers read the store for every
// kind that it serves at the time the informer is first asked for, and client for all others.
func NewFactory(s *store.Store, client kubernetes.Interface) informers.SharedInformerFactory {
	return &factory{SharedInformerFactory: informers.NewSharedInformerFactory(client, 0), s: s}
}

// factory is client-go's own, but for where a new informer gets its objects from. The
// groups are handed this factory instead of the one inside, so that all ways to an
// informer lead through InformerFor.
type factory struct {
	informers.SharedInformerFactory
	s *store.Store
}

// InformerFor gives the one informer of a type.
func (f *factory) InformerFor(obj runtime.Object, make internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	if c := f.serving(obj); c != nil {
		make = func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
			return informer(c, Options{}, obj)
		}
	}
	return f.SharedInformerFactory.InformerFor(obj, make)
}

// ForResource registers the local informer before client-go looks for one. Of kinds that
// client-go does not know (definitions, custom resources) there is none.
func (f *factory) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	if c, ok := f.s.Collection(gvr.GroupResource()); ok && c.Kind().Resource == gvr && scheme.Scheme.Recognizes(c.Kind().GroupVersionKind) {
		f.InformerFor(c.Kind().New(), nil)
	}
	generic, err := f.SharedInformerFactory.ForResource(gvr)
	if err != nil {
		return nil, fmt.Errorf("informer for %s: %w", gvr, err)
	}
	return generic, nil
}

func (f *factory) serving(obj runtime.Object) *store.Collection {
	t := reflect.TypeOf(obj).Elem()
	for _, c := range f.s.Collections() {
		if c.Kind().Type == t {
			return c
		}
	}
	return nil
}

func informer(c *store.Collection, opts Options, example runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformerWithOptions(&source{c: c, opts: opts}, example, cache.SharedIndexInformerOptions{
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
	})
}

// PodsOfNode gives an informer of the pods bound to one node. It belongs to no factory:
// the caller runs it.
func PodsOfNode(s *store.Store, node string) (coreinformers.PodInformer, error) {
	c, ok := s.Collection(corev1.Resource("pods"))
	if !ok {
		return nil, fmt.Errorf("pods of node %s: pods are not served", node)
	}
	return podsOfNode{informer(c, Options{Index: "spec.nodeName", Value: node}, &corev1.Pod{})}, nil
}

type podsOfNode struct{ shared cache.SharedIndexInformer }

func (p podsOfNode) Informer() cache.SharedIndexInformer { return p.shared }
func (p podsOfNode) Lister() corelisters.PodLister {
	return corelisters.NewPodLister(p.shared.GetIndexer())
}

func (f *factory) Admissionregistration() admissionregistration.Interface {
	return admissionregistration.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Internal() apiserverinternal.Interface {
	return apiserverinternal.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Apps() apps.Interface { return apps.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Autoscaling() autoscaling.Interface {
	return autoscaling.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Batch() batch.Interface { return batch.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Certificates() certificates.Interface {
	return certificates.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Coordination() coordination.Interface {
	return coordination.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Core() core.Interface           { return core.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Discovery() discovery.Interface { return discovery.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Events() events.Interface       { return events.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Extensions() extensions.Interface {
	return extensions.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Flowcontrol() flowcontrol.Interface {
	return flowcontrol.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Lifecycle() lifecycle.Interface { return lifecycle.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Networking() networking.Interface {
	return networking.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Node() node.Interface         { return node.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Policy() policy.Interface     { return policy.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Rbac() rbac.Interface         { return rbac.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Resource() resource.Interface { return resource.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Scheduling() scheduling.Interface {
	return scheduling.New(f, metav1.NamespaceAll, nil)
}
func (f *factory) Storage() storage.Interface { return storage.New(f, metav1.NamespaceAll, nil) }
func (f *factory) Storagemigration() storagemigration.Interface {
	return storagemigration.New(f, metav1.NamespaceAll, nil)
}
