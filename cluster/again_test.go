package cluster

import (
	"context"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// thing is an object that a cluster cannot do without.
type thing struct {
	get    func(context.Context, string, metav1.GetOptions) (metav1.Object, error)
	delete func(context.Context, string, metav1.DeleteOptions) error
}

func thingOf[T metav1.Object](client interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}) thing {
	return thing{delete: client.Delete, get: func(ctx context.Context, name string, opts metav1.GetOptions) (metav1.Object, error) {
		return client.Get(ctx, name, opts)
	}}
}

// What every cluster has comes back when somebody deletes it, with what is in it.
func TestDeletedEssentialsComeBack(t *testing.T) {
	c := newHouse(t, nil)
	core, discovery := c.client.CoreV1(), c.client.DiscoveryV1()
	leases := c.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if _, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Run("back", func(t *testing.T) { // ends when all rows have
		for what, row := range map[string]struct {
			of   thing
			name string
		}{
			"namespace of leases":  {thingOf(core.Namespaces()), corev1.NamespaceNodeLease},
			"service of the API":   {thingOf(core.Services("default")), "kubernetes"},
			"slice of the API":     {thingOf(discovery.EndpointSlices("default")), "kubernetes"},
			"endpoints of the API": {thingOf(core.Endpoints("default")), "kubernetes"},
			"service of names":     {thingOf(core.Services("kube-system")), "kube-dns"},
			"facts for nodes":      {thingOf(core.ConfigMaps("kube-public")), factsName},
			"trust of backends":    {thingOf(core.ConfigMaps("kube-system")), "extension-apiserver-authentication"},
			"role of nodes":        {thingOf(c.client.RbacV1().ClusterRoles()), nodeRole},
			"role of metrics":      {thingOf(c.client.RbacV1().ClusterRoles()), metricsRole},
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				uid := func() types.UID {
					obj, err := row.of.get(t.Context(), row.name, metav1.GetOptions{})
					if err != nil || obj.GetDeletionTimestamp() != nil {
						return ""
					}
					return obj.GetUID()
				}
				was, began := uid(), time.Now()
				if was == "" {
					t.Fatal("was never there")
				}
				if err := row.of.delete(t.Context(), row.name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				eventually(t, 20*time.Second, "it is back", func() bool { now := uid(); return now != "" && now != was })
				t.Logf("back after %v", time.Since(began))
			})
		}
	})
	service, err := core.Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != apiAddress(c.cfg.ServiceCIDR).String() {
		t.Errorf("%+v, %v", service, err)
	}
	eventually(t, 20*time.Second, "nodes can write their leases", func() bool {
		_, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{})
		return err == nil
	})
}
