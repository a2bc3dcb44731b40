package custom_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/custom"
	"github.com/proa-dev/proa/apiserver/custom/convert"
	"github.com/proa-dev/proa/apiserver/discovery"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/store"
)

type nobody struct{}

func (nobody) Authenticate(*http.Request) (*api.User, error) { return nil, nil }

type everything struct{}

func (everything) Authorize(context.Context, *access.Attributes) (access.Decision, string) {
	return access.Allow, ""
}

// house is an API that serves definitions and what they define, in a folder.
type house struct {
	t       testing.TB
	config  *rest.Config
	defs    apiextensionsclient.Interface
	objects dynamic.Interface
	stop    func()
}

func newHouse(t testing.TB, resolve convert.Resolve) *house {
	return openHouse(t, t.TempDir(), resolve)
}

func openHouse(t testing.TB, dir string, resolve convert.Resolve) *house {
	return openHouseWith(t, dir, resolve, apiextensions.Kinds, func(api.Reader, *catalog.Catalog, func() *apiserver.Server) admission.Chain { return nil })
}

// openHouseWith is openHouse with more kinds, and admission.
func openHouseWith(t testing.TB, dir string, resolve convert.Resolve, kinds []*api.Kind, chain func(api.Reader, *catalog.Catalog, func() *apiserver.Server) admission.Chain) *house {
	t.Helper()
	log := slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	for _, k := range kinds {
		_, err := s.Serve(t.Context(), k)
		check(t, err)
	}
	list := catalog.New(kinds)
	env := &api.Env{Reader: s.Reader()}
	var server *apiserver.Server
	server, err = apiserver.New(apiserver.Config{
		Admission: chain(s.Reader(), list, func() *apiserver.Server { return server }),
		Store:     s, Catalog: list, Env: env, Scheme: scheme.Scheme, Authenticator: nobody{}, Authorizer: everything{}, Log: log,
		Discovery: discovery.New(list, "127.0.0.1:6443"), OpenAPI: openapi.New(list), CBOR: true,
	})
	check(t, err)
	env.Writer = server.Writer()
	defs, err := custom.New(custom.Config{Store: s, Catalog: list, Env: env, Resolve: resolve, Log: log})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { _ = s.Run(ctx); ended <- struct{}{} }()
	go func() {
		if err := defs.Run(ctx); err != nil {
			t.Error(err)
		}
		ended <- struct{}{}
	}()
	<-defs.Ready()
	stopped := false
	h := &house{t: t, config: &rest.Config{Host: "https://local", QPS: -1, Transport: server.LocalTransport(api.User{Name: "root"})}}
	h.stop = func() {
		if !stopped {
			stopped = true
			server.Close()
			cancel()
			<-ended
			<-ended
			_ = s.Close()
		}
	}
	t.Cleanup(h.stop)
	h.defs, err = apiextensionsclient.NewForConfig(h.config)
	check(t, err)
	h.objects, err = dynamic.NewForConfig(h.config)
	check(t, err)
	return h
}

type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q\nlacks %q", err, text)
		}
	}
}

// definition reads one from YAML.
func definition(t testing.TB, text string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	check(t, yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "\t", "  ")), d))
	return d
}

// object reads one from YAML.
func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	raw, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "\t", "  ")))
	check(t, err)
	check(t, u.UnmarshalJSON(raw))
	return u
}

// define creates a definition and waits until it is established.
func (h *house) define(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	h.t.Helper()
	d, err := h.defs.ApiextensionsV1().CustomResourceDefinitions().Create(h.t.Context(), d, metav1.CreateOptions{})
	check(h.t, err)
	return h.await(d.Name, apiextensionsv1.Established, apiextensionsv1.ConditionTrue)
}

// await waits for a condition.
func (h *house) await(name string, kind apiextensionsv1.CustomResourceDefinitionConditionType, status apiextensionsv1.ConditionStatus) *apiextensionsv1.CustomResourceDefinition {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	w, err := h.defs.ApiextensionsV1().CustomResourceDefinitions().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	check(h.t, err)
	defer w.Stop()
	for e := range w.ResultChan() {
		if d, ok := e.Object.(*apiextensionsv1.CustomResourceDefinition); ok {
			if c := apiextensions.Condition(d, kind); c != nil && c.Status == status {
				return d
			}
		}
	}
	h.t.Fatalf("%s does not become %s=%s", name, kind, status)
	return nil
}

func (h *house) of(d *apiextensionsv1.CustomResourceDefinition, version string) dynamic.NamespaceableResourceInterface {
	return h.objects.Resource(schema.GroupVersionResource{Group: d.Spec.Group, Version: version, Resource: d.Spec.Names.Plural})
}

// gone waits until a definition is deleted.
func (h *house) gone(name string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	w, err := h.defs.ApiextensionsV1().CustomResourceDefinitions().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	check(h.t, err)
	defer w.Stop()
	if _, err := h.defs.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{}); err != nil {
		return
	}
	for e := range w.ResultChan() {
		if e.Type == "DELETED" {
			return
		}
	}
	h.t.Fatalf("%s does not go", name)
}
