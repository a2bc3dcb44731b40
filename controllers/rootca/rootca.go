// Package rootca publishes the cluster's CA certificate to each namespace, where pods
// mount it with their service account's token.
//
// Used by controllers.All.
package rootca

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	name        = "kube-root-ca.crt"
	annotation  = "kubernetes.io/description"
	description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps loop.Deps
	maps corelisters.ConfigMapLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	configs := deps.Informers.Core().V1().ConfigMaps()
	c := &Controller{deps: deps, maps: configs.Lister()}
	c.Loop = loop.InEachNamespace("rootca", deps, name, configs.Informer(), c.ensure)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

func (c *Controller) ensure(ctx context.Context, namespace string) error {
	want := map[string]string{"ca.crt": string(c.deps.RootCA)}
	client := c.deps.Client.CoreV1().ConfigMaps(namespace)
	now, err := c.maps.ConfigMaps(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: map[string]string{annotation: description}},
			Data:       want,
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil || maps.Equal(now.Data, want) && now.Annotations[annotation] == description {
		return err
	}
	changed := now.DeepCopy()
	changed.Data = want
	metav1.SetMetaDataAnnotation(&changed.ObjectMeta, annotation, description)
	_, err = client.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}
