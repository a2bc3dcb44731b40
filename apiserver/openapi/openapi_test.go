package openapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi3"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/spec3"
	explain "k8s.io/kubectl/pkg/explain/v2"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apiserver/catalog"
)

func kinds() []*api.Kind {
	return append(slices.Clone(core.Kinds), api.Define(api.Resource[*appsv1.Deployment]{
		Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments", Namespaced: true, HasStatus: true,
		Scale: &api.Scale[*appsv1.Deployment]{
			Get: func(*appsv1.Deployment) *autoscalingv1.Scale { return nil },
			Set: func(*appsv1.Deployment, int32) {},
		},
	}))
}

func serve(t testing.TB) (*httptest.Server, *discovery.DiscoveryClient) {
	s := httptest.NewServer(New(catalog.New(kinds())))
	t.Cleanup(s.Close)
	return s, discovery.NewDiscoveryClientForConfigOrDie(&rest.Config{Host: s.URL})
}

func TestExplain(t *testing.T) {
	_, c := serve(t)
	for _, test := range []struct {
		resource  schema.GroupVersionResource
		fields    []string
		recursive bool
		want      []string
	}{
		{gvr("", "v1", "pods"), nil, false, []string{"KIND:       Pod", "VERSION:    v1", "apiVersion\t<string>", "spec\t<PodSpec>"}},
		{gvr("", "v1", "pods"), []string{"spec", "containers"}, false, []string{
			"FIELD: containers <[]Container>", "name\t<string> -required-", "imagePullPolicy\t<string>", "enum: Always, IfNotPresent, Never", "ports\t<[]ContainerPort>",
		}},
		{gvr("", "v1", "pods"), []string{"spec", "containers", "resources", "limits"}, false, []string{"FIELD: limits <map[string]Quantity>"}},
		{gvr("apps", "v1", "deployments"), []string{"spec"}, true, []string{"GROUP:      apps", "selector\t<LabelSelector> -required-", "maxUnavailable\t<IntOrString>", "creationTimestamp\t<string>"}},
		{gvr("", "v1", "configmaps"), nil, false, []string{"data\t<map[string]string>", "binaryData\t<map[string]string>"}},
	} {
		var out bytes.Buffer
		err := explain.PrintModelDescription(test.fields, &out, c.OpenAPIV3(), test.resource, test.recursive, 0, "plaintext")
		if err != nil {
			t.Errorf("%v %v: %v", test.resource, test.fields, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v %v: no %q in\n%s", test.resource, test.fields, want, out.String())
			}
		}
	}
}

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

func TestVersion3(t *testing.T) {
	_, c := serve(t)
	doc, err := openapi3.NewRoot(c.OpenAPIV3()).GVSpec(schema.GroupVersion{Group: "apps", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	path := doc.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
	if path == nil || path.Patch == nil || path.Delete == nil || path.Get == nil || path.Put == nil {
		t.Fatalf("the deployment's path is %+v", path)
	}
	for _, name := range []string{"dryRun", "fieldValidation", "fieldManager", "force"} {
		if !slices.ContainsFunc(path.Patch.Parameters, func(p *spec3.Parameter) bool { return p.Name == name && p.In == "query" }) {
			t.Errorf("PATCH lacks parameter %s", name)
		}
	}
	if _, ok := path.Patch.RequestBody.Content["application/strategic-merge-patch+json"]; !ok {
		t.Errorf("PATCH does not take strategic merge patches")
	}
	if path.Get.OperationId != "readAppsV1NamespacedDeployment" {
		t.Errorf("operation id %q", path.Get.OperationId)
	}
	container := doc.Components.Schemas["io.k8s.api.core.v1.Container"]
	ports := container.Properties["ports"]
	if keys, _ := ports.Extensions["x-kubernetes-list-map-keys"].([]any); len(keys) != 2 {
		t.Errorf("ports have list map keys %v", keys)
	}
	if ports.Extensions["x-kubernetes-patch-merge-key"] != "containerPort" {
		t.Errorf("ports have extensions %v", ports.Extensions)
	}
	protocol := doc.Components.Schemas["io.k8s.api.core.v1.ContainerPort"].Properties["protocol"]
	if protocol.Default != "TCP" || len(protocol.Enum) != 3 {
		t.Errorf("protocol: default %v, enum %v", protocol.Default, protocol.Enum)
	}
}

func TestVersion2(t *testing.T) {
	_, c := serve(t)
	doc, err := c.OpenAPISchema() // protobuf
	if err != nil {
		t.Fatal(err)
	}
	if doc.Swagger != "2.0" || len(doc.Definitions.AdditionalProperties) < 200 {
		t.Errorf("swagger %s with %d definitions", doc.Swagger, len(doc.Definitions.AdditionalProperties))
	}
}

func TestCaching(t *testing.T) {
	s, _ := serve(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(path, accept, etag string) *http.Response {
		req, err := http.NewRequest("GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("If-None-Match", etag)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := get("/openapi/v3/api/v1", "application/json", "")
	if again := get("/openapi/v3/api/v1", "application/json", first.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.StatusCode)
	}
	hash := strings.Trim(first.Header.Get("ETag"), `"`)
	if r := get("/openapi/v3/api/v1?hash="+hash, "", ""); r.Header.Get("Cache-Control") != "public, immutable" {
		t.Errorf("with its hash: %v", r.Header)
	}
	if r := get("/openapi/v3/api/v1?hash=OLD", "", ""); r.StatusCode != http.StatusMovedPermanently || r.Header.Get("Location") != "/openapi/v3/api/v1?hash="+hash {
		t.Errorf("with an old hash: %d %v", r.StatusCode, r.Header)
	}
	for path, code := range map[string]int{"/openapi/v3/api/v2": 404, "/openapi/v3/": 200, "/openapi/v2": 200, "/openapi/v4": 404} {
		if r := get(path, "application/json", ""); r.StatusCode != code {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, code)
		}
	}
	if r := get("/openapi/v2", "text/html", ""); r.StatusCode != http.StatusNotAcceptable {
		t.Errorf("text/html: %d", r.StatusCode)
	}
}
