package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/metrics/pkg/client/clientset/versioned"
)

// The metrics API is answered here until another server is registered for it, and again when
// that one is gone.
func TestMetricsAPIGivesWay(t *testing.T) {
	h := newHouse(t, nil)
	config := h.local("administrator", "system:masters")
	client := h.client
	services, err := aggregator.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := versioned.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(path string) (string, error) {
		body, err := client.CoreV1().RESTClient().Get().AbsPath(path).MaxRetries(0).SetHeader("Accept", "application/json").DoRaw(t.Context())
		return string(body), err
	}
	ours := func() bool {
		body, err := raw("/apis/metrics.k8s.io/v1beta1")
		return err == nil && strings.Contains(body, `{"name":"nodes","singularName":"nodemetrics","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]}`) &&
			strings.Contains(body, `{"name":"pods","singularName":"podmetrics","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}`)
	}
	if !ours() {
		body, err := raw("/apis/metrics.k8s.io/v1beta1")
		t.Fatalf("discovery: %v %s", err, body)
	}
	if body, err := raw("/openapi/v3/apis/metrics.k8s.io/v1beta1"); err != nil || !strings.Contains(body, "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}") || !strings.Contains(body, `"/apis/metrics.k8s.io/v1beta1/pods"`) {
		t.Errorf("OpenAPI: %v %.300s", err, body)
	}
	if body, err := raw("/apis/metrics.k8s.io/v1beta1/nodes"); err != nil || !strings.Contains(body, `"items":[]`) {
		t.Errorf("nodes: %v %s", err, body)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = metrics.MetricsV1beta1().NodeMetricses().Get(t.Context(), "n", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) || err.Error() != `nodemetrics.metrics.k8s.io "n" not found` {
		t.Errorf("a node that does not answer: %v", err)
	}
	if _, err := metrics.MetricsV1beta1().PodMetricses("").Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("watch: %v", err)
	}

	const name = "v1beta1.metrics.k8s.io"
	all := services.ApiregistrationV1().APIServices()
	if _, err := all.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("an APIService stands in the way of whoever brings his own: %v", err)
	}
	other := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: apiregistrationv1.APIServiceSpec{
		Group: "metrics.k8s.io", Version: "v1beta1", GroupPriorityMinimum: 100, VersionPriority: 100, InsecureSkipTLSVerify: true,
		Service: &apiregistrationv1.ServiceReference{Namespace: "kube-system", Name: "metrics-server"},
	}}
	for range 2 { // he may come again
		if _, err := all.Create(t.Context(), other.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the other server is asked", func() bool {
			_, err := raw("/apis/metrics.k8s.io/v1beta1/nodes")
			return apierrors.IsServiceUnavailable(err)
		})
		if ours() {
			t.Error("discovery still tells of ours")
		}
		if err := all.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "ours is back", ours)
		if body, err := raw("/apis/metrics.k8s.io/v1beta1/nodes"); err != nil {
			t.Errorf("nodes: %v %s", err, body)
		}
	}
}

// Whoever may see pods may see what they use.
func TestViewersSeeMetrics(t *testing.T) {
	h := newHouse(t, nil)
	view := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "viewer"}}}
	if _, err := h.client.RbacV1().ClusterRoleBindings().Create(t.Context(), view, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	viewer, err := versioned.NewForConfig(h.local("viewer"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a viewer sees metrics", func() bool {
		_, err := viewer.MetricsV1beta1().PodMetricses("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
}
