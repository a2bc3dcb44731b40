package volumes

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// onDemand is an informer that begins with its first use: most nodes never need it.
type onDemand struct {
	make func() cache.SharedInformer
	once sync.Once
	got  cache.SharedInformer
}

// begin starts the informer once; it runs until ctx ends and all is done then.
func (o *onDemand) begin(ctx context.Context, all *sync.WaitGroup) cache.SharedInformer {
	o.once.Do(func() {
		o.got = o.make()
		all.Go(func() { o.got.Run(ctx.Done()) })
	})
	return o.got
}

// requestsOf watches the PodCertificateRequests for pods of one node.
func requestsOf(client kubernetes.Interface, node string, changed func(pod types.UID)) func() cache.SharedInformer {
	only := fields.OneTermEqualSelector("spec.nodeName", node).String()
	return func() cache.SharedInformer {
		lw := &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = only
				return client.CertificatesV1().PodCertificateRequests(metav1.NamespaceAll).List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				return client.CertificatesV1().PodCertificateRequests(metav1.NamespaceAll).Watch(ctx, o)
			},
		}
		tell := func(obj any) {
			if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok {
				changed(r.Spec.PodUID)
			}
		}
		return informer(cache.ToListWatcherWithWatchListSemantics(lw, client), &certificatesv1.PodCertificateRequest{}, tell)
	}
}

// bundlesOf watches the cluster's trust bundles.
func bundlesOf(client kubernetes.Interface, changed func()) func() cache.SharedInformer {
	return func() cache.SharedInformer {
		lw := &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return client.CertificatesV1().ClusterTrustBundles().List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return client.CertificatesV1().ClusterTrustBundles().Watch(ctx, o)
			},
		}
		return informer(cache.ToListWatcherWithWatchListSemantics(lw, client), &certificatesv1.ClusterTrustBundle{}, func(any) { changed() })
	}
}

func informer(lw cache.ListerWatcher, of runtime.Object, tell func(any)) cache.SharedInformer {
	i := cache.NewSharedInformer(lw, of, 0)
	// the handler of an informer that has not begun is never refused
	_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, obj any) { tell(obj) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			tell(obj)
		}})
	return i
}

// request finds a PodCertificateRequest of this node.
func (m *Manager) request() lister {
	i := m.requests.begin(m.ctx, &m.watches)
	return func(namespace, name string) any {
		obj, _, err := i.GetStore().GetByKey(namespace + "/" + name)
		if err != nil {
			return nil
		}
		return obj
	}
}

// requestChanged is told of a pod one of whose requests changed.
func (m *Manager) requestChanged(pod types.UID) {
	m.certificates.changed(pod)
	m.ObjectsChanged([]types.UID{pod})
}

// bundlesChanged looks again at every pod that has trust bundles.
func (m *Manager) bundlesChanged() {
	var of []types.UID
	m.mu.Lock()
	for uid, p := range m.pods {
		if p.trusts.Load() {
			of = append(of, uid)
		}
	}
	m.mu.Unlock()
	m.ObjectsChanged(of)
}

// bundleFile adds the trust anchors of one bundle, or of all that a signer and labels select.
func (m *Manager) bundleFile(ctx context.Context, pod *corev1.Pod, out files, s *corev1.ClusterTrustBundleProjection, mode fs.FileMode) error {
	m.mu.Lock()
	if p := m.pods[pod.UID]; p != nil {
		p.trusts.Store(true)
	}
	m.mu.Unlock()
	i := m.bundles.begin(m.ctx, &m.watches)
	if !cache.WaitForCacheSync(ctx.Done(), i.HasSynced) {
		return fmt.Errorf("wait for trust bundles: %w", ctx.Err())
	}
	anchors, err := anchorsOf(i.GetStore(), s)
	if err != nil {
		return err
	}
	if err := checkPath(s.Path); err != nil {
		return errPermanent{err}
	}
	user := fsUser(pod)
	if user != nil || fsGroup(pod) != nil {
		mode = 0o600
	}
	out[path.Clean(s.Path)] = content{data: anchors, mode: mode, user: user}
	return nil
}

func anchorsOf(store cache.Store, s *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	optional := isTrue(s.Optional)
	if s.Name != nil {
		obj, _, err := store.GetByKey(*s.Name)
		b, ok := obj.(*certificatesv1.ClusterTrustBundle)
		switch {
		case err != nil:
			return nil, err
		case ok:
			return normalized([]byte(b.Spec.TrustBundle))
		case optional:
			return nil, nil
		}
		return nil, fmt.Errorf("clustertrustbundle %q not found", *s.Name)
	}
	if s.SignerName == nil {
		return nil, errPermanent{errors.New("a trust bundle needs a name or a signer")}
	}
	selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector) // none: nothing
	if err != nil {
		return nil, errPermanent{fmt.Errorf("label selector of trust bundles: %w", err)}
	}
	var all []byte
	found := false
	for _, obj := range store.List() {
		b, ok := obj.(*certificatesv1.ClusterTrustBundle)
		if ok && b.Spec.SignerName == *s.SignerName && selector.Matches(labels.Set(b.Labels)) {
			found = true
			all = append(append(all, b.Spec.TrustBundle...), '\n')
		}
	}
	if !found && !optional {
		return nil, fmt.Errorf("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return normalized(all)
}

// normalized is the PEM blocks of data, without headers and repetitions; a chain keeps its
// order, so does a set of anchors, which is as good as any.
func normalized(data []byte) ([]byte, error) {
	var seen [][]byte
	var out []byte
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %q is no certificate", b.Type)
		}
		if slices.ContainsFunc(seen, func(s []byte) bool { return bytes.Equal(s, b.Bytes) }) {
			continue
		}
		seen = append(seen, b.Bytes)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})...)
	}
	return out, nil
}
