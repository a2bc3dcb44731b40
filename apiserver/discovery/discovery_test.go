package discovery

import (
	"net/http"
	"net/http/httptest"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	client "k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/coordination"
	"github.com/proa-dev/proa/apiserver/catalog"
)

func kinds() []*api.Kind {
	return []*api.Kind{
		api.Define(api.Resource[*appsv1.Deployment]{
			Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments", Namespaced: true,
			Short: []string{"deploy"}, Categories: []string{"all"}, HasStatus: true,
			Scale: &api.Scale[*appsv1.Deployment]{
				Get: func(*appsv1.Deployment) *autoscalingv1.Scale { return nil },
				Set: func(*appsv1.Deployment, int32) {},
			},
		}),
		api.Define(api.Resource[*corev1.Pod]{
			Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true, Short: []string{"po"}, HasStatus: true,
			Actions: []api.Action{{
				Name: "eviction", Group: "policy", Version: "v1", Kind: "Eviction",
				New: func() runtime.Object { return &policyv1.Eviction{} },
			}},
			Connects: []api.Connect{{Name: "log", Kind: "Pod", Verbs: []string{"get"}}},
		}),
	}
}

func serve(t *testing.T) (*httptest.Server, *catalog.Catalog) {
	list := catalog.New(kinds())
	s := httptest.NewServer(New(list, "127.0.0.1:6443"))
	t.Cleanup(s.Close)
	return s, list
}

func TestClients(t *testing.T) {
	s, _ := serve(t)
	for _, legacy := range []bool{false, true} {
		c := client.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: s.URL})
		c.UseLegacyDiscovery = legacy
		groups, lists, err := c.ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		if len(groups) != 2 || groups[0].Name != "" || groups[1].PreferredVersion.GroupVersion != "apps/v1" {
			t.Errorf("legacy %v: groups %+v", legacy, groups)
		}
		got := map[string]string{}
		for _, l := range lists {
			for _, r := range l.APIResources {
				got[l.GroupVersion+" "+r.Name] = r.Group + "/" + r.Version + " " + r.Kind
			}
		}
		for name, want := range map[string]string{
			"v1 pods":                   "/ Pod",
			"v1 pods/eviction":          "policy/v1 Eviction",
			"v1 pods/log":               "/ Pod",
			"apps/v1 deployments/scale": "autoscaling/v1 Scale",
		} {
			// The client fills in the group version of aggregated entries.
			if got[name] != want && got[name] != map[string]string{"v1 pods": "/v1 Pod", "v1 pods/log": "/v1 Pod"}[name] {
				t.Errorf("legacy %v: %s is %q, want %q", legacy, name, got[name], want)
			}
		}
	}
}

func TestForms(t *testing.T) {
	s, list := serve(t)
	get := func(path, accept, etag string) *http.Response {
		req, _ := http.NewRequest("GET", s.URL+path, nil)
		req.Header.Set("Accept", accept)
		req.Header.Set("If-None-Match", etag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	r := get("/apis", v2+",application/json", "")
	if ct := r.Header.Get("Content-Type"); ct != v2 {
		t.Errorf("aggregated content type %q", ct)
	}
	if again := get("/apis", v2, r.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.StatusCode)
	}
	list.SetCustom(coordination.Kinds)
	if after := get("/apis", v2, r.Header.Get("ETag")); after.StatusCode != http.StatusOK {
		t.Errorf("after a new group: %d", after.StatusCode)
	}
	for path, code := range map[string]int{"/apis/none": 404, "/api/v2": 404, "/apis/apps/v1": 200, "/apis/apps/v1/x": 404} {
		if r := get(path, "application/json", ""); r.StatusCode != code {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, code)
		}
	}
	if r := get("/apis", "text/html", ""); r.StatusCode != http.StatusNotAcceptable {
		t.Errorf("text/html: %d", r.StatusCode)
	}
}
