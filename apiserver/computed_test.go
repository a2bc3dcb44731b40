package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
)

// newHouseEdited is newHouse of a changed configuration.
func newHouseEdited(t testing.TB, edit func(*apiserver.Config)) *house {
	return newHouseOn(t, store.Config{Dir: t.TempDir(), Events: historyLength}, nil,
		func(api.Reader, *rules, *catalog.Catalog) []admission.Step { return nil }, edit)
}

func withComponents(cfg *apiserver.Config) {
	cfg.Env.Components = []api.Component{
		{Name: "etcd-0", Check: func(context.Context) (corev1.ConditionStatus, error) { return corev1.ConditionTrue, nil }},
		{Name: "scheduler", Check: func(context.Context) (corev1.ConditionStatus, error) {
			return corev1.ConditionFalse, errors.New("it fell")
		}},
	}
}

func TestComponentStatus(t *testing.T) {
	h := newHouseEdited(t, withComponents)
	for name, c := range map[string]kubernetes.Interface{
		"JSON": h.typed("root"), "protobuf": client(t, kubernetes.NewForConfig, h.protobuf("root")),
	} {
		cs := c.CoreV1().ComponentStatuses()
		list, err := cs.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 || list.Items[1].Conditions[0].Error != "it fell" || list.ResourceVersion != "" {
			t.Fatalf("%s: %v, %+v", name, err, list)
		}
		one, err := cs.Get(t.Context(), "etcd-0", metav1.GetOptions{})
		want := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
		if err != nil || len(one.Conditions) != 1 || one.Conditions[0] != want {
			t.Errorf("%s: %v, %+v", name, err, one)
		}
		if _, err := cs.Get(t.Context(), "kubelet", metav1.GetOptions{}); !apierrors.IsNotFound(err) || err.Error() != `componentstatus "kubelet" not found` {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := cs.Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsMethodNotSupported(err) {
			t.Errorf("%s: watch: %v", name, err)
		}
		for selector, n := range map[string]int{"metadata.name=scheduler": 1, "metadata.name!=scheduler": 1, "metadata.name=x": 0} {
			if list, err := cs.List(t.Context(), metav1.ListOptions{FieldSelector: selector}); err != nil || len(list.Items) != n {
				t.Errorf("%s: %s: %v, %d", name, selector, err, len(list.Items))
			}
		}
		if list, err := cs.List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"}); err != nil || len(list.Items) != 0 {
			t.Errorf("%s: labels: %v, %d", name, err, len(list.Items))
		}
	}
}

func TestComponentStatusForPeople(t *testing.T) {
	h := newHouseEdited(t, withComponents)
	const path = "/api/v1/componentstatuses"
	a := h.do("GET", path, "", "Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
	want := `"rows":[{"cells":["etcd-0","Healthy","ok",""],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"etcd-0"}}},{"cells":["scheduler","Unhealthy","","it fell"]`
	if a.code != http.StatusOK || !strings.Contains(string(a.body), want) {
		t.Errorf("%d %s", a.code, a.body)
	}
	for path, want := range map[string]string{
		path:                "v1 ComponentStatus is deprecated in v1.19+",
		"/api/v1/endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
		"/apis/discovery.k8s.io/v1/endpointslices": "",
	} {
		a := h.do("GET", path, "")
		if w := a.header.Get("Warning"); w != "" && w != fmt.Sprintf("299 - %q", want) || w == "" && want != "" {
			t.Errorf("%s: warned of %s", path, w)
		}
	}
	if a := h.do("GET", "/metrics", ""); !strings.Contains(string(a.body), `apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1`) {
		t.Error("the metrics do not tell")
	}
	a = h.do("GET", path, "", "Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
	if !strings.Contains(string(a.body), `"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"etcd-0"}}`) {
		t.Errorf("%s", a.body)
	}
	for _, call := range []string{"POST ", "DELETE ", "PUT /etcd-0", "DELETE /etcd-0", "GET ?watch=1"} {
		method, rest, _ := strings.Cut(call, " ")
		if a := h.do(method, path+rest, "{}"); a.code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", call, a.code, a.body)
		}
	}
}
