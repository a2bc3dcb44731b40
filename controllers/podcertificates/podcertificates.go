// Package podcertificates deletes the requests by which kubelets ask for pods' certificates
// once they are of no more use: a quarter of an hour after they were made, whatever became of
// them. Signing them is the affair of each signer; the cluster has none of its own, as
// Kubernetes has none (kubernetes.io/kube-apiserver-client-pod is reserved and not served).
//
// Used by controllers.All.
package podcertificates

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certlisters "k8s.io/client-go/listers/certificates/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// stay is how long a request is kept: kubelet and signer are done with it much sooner.
const stay = 15 * time.Minute

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	requests certlisters.PodCertificateRequestLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	requests := deps.Informers.Certificates().V1().PodCertificateRequests()
	c := &Controller{deps: deps, requests: requests.Lister()}
	c.Loop = loop.New("podcertificates", deps, c.reconcile)
	c.Watch(requests.Informer(), func(obj any) []loop.Key {
		k, ok := loop.KeyOf(obj)
		if !ok {
			return nil
		}
		return []loop.Key{k}
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	r, err := c.requests.PodCertificateRequests(k.Namespace).Get(k.Name)
	if err != nil || r.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	if wait := r.CreationTimestamp.Add(stay).Sub(c.deps.Clock.Now()); wait > 0 {
		c.AddAfter(k, wait)
		return nil
	}
	return loop.Gone(c.deps.Client.CertificatesV1().PodCertificateRequests(k.Namespace).Delete(ctx, k.Name,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))}))
}
