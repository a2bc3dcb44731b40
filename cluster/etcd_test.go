package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/proa-dev/proa/apis/api"
)

// kept is an object and where and in which version Kubernetes 1.37 keeps it
// (test/integration/etcd of k8s.io/kubernetes tells).
type kept struct {
	Group, Version, Resource, Key string
	Stored                        string // group/version; "": that of the request
	Object                        json.RawMessage
}

func (k *kept) stored() schema.GroupVersion {
	if gv, err := schema.ParseGroupVersion(k.Stored); err == nil && k.Stored != "" {
		return gv
	}
	return schema.GroupVersion{Group: k.Group, Version: k.Version}
}

// A cluster that Kubernetes wrote can be taken over, and given back: the same keys, values in
// the same versions, and what client-go's serializer writes is served as it is.
func TestEtcdIsThatOfKubernetes(t *testing.T) {
	c := newTaken(t)
	c.define()
	raw, err := os.ReadFile("testdata/etcd.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []kept
	if err := json.Unmarshal(raw, &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		t.Run(row.Resource+"."+row.Version+"."+row.Group, func(t *testing.T) { c.in(t).take(&row) })
	}
}

// otherwise are kinds that are written in a form of our own, which Kubernetes reads as well as its own.
var otherwise = map[string]string{
	"customresourcedefinitions": "protobuf of v1 instead of JSON of v1beta1: smaller, and sent to clients as it is",
	"apiservices":               "protobuf instead of JSON",
}

func (c *taken) take(row *kept) {
	kind := c.kind(row)
	collection := c.collection(row)
	made := c.send("POST", collection, row.Object, "application/json")
	value := c.read(row.Key)
	var is metav1.TypeMeta
	if bytes.HasPrefix(value, []byte("k8s\x00")) {
		var u runtime.Unknown
		if err := u.Unmarshal(value[4:]); err != nil {
			c.t.Fatal(err)
		}
		is = metav1.TypeMeta{APIVersion: u.APIVersion, Kind: u.Kind}
	} else if err := json.Unmarshal(value, &is); err != nil {
		c.t.Fatal(err)
	}
	if want := row.stored().String(); is.APIVersion != want && otherwise[row.Resource] == "" {
		c.t.Errorf("stored as %s, not as %s", is.APIVersion, want)
	}
	if kind == nil {
		if value[0] != '{' {
			c.t.Errorf("custom resources are JSON, not %q", value[:4])
		}
		return
	}
	name := row.Key[strings.LastIndex(row.Key, "/")+1:]
	c.send("DELETE", collection+"/"+name+"?gracePeriodSeconds=0", nil, "")
	for how, value := range c.upstreams(kind, row, made) {
		c.write(row.Key, value)
		c.served(how, kind, collection+"/"+name, made)
		c.gone(row.Key)
	}
}

// upstreams are the forms in which Kubernetes may have stored an object.
func (c *taken) upstreams(kind *api.Kind, row *kept, made []byte) map[string][]byte {
	obj := kind.New()
	if err := json.Unmarshal(made, obj); err != nil {
		c.t.Fatal(err)
	}
	if kind.Stored != nil {
		obj = kind.ToStored(obj)
	}
	obj.SetResourceVersion("")
	gv, gk := row.stored(), kind.Kind
	out := map[string][]byte{}
	add := func(gv schema.GroupVersion, o runtime.Object) {
		o.GetObjectKind().SetGroupVersionKind(gv.WithKind(gk))
		text, err := json.Marshal(o)
		if err != nil {
			c.t.Fatal(err)
		}
		out["JSON of "+gv.Version] = append(text, '\n')
		var wire bytes.Buffer
		if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(o, &wire); err != nil {
			c.t.Fatal(err)
		}
		out["protobuf of "+gv.Version] = wire.Bytes()
	}
	switch o := obj.(type) {
	case *apiextensionsv1.CustomResourceDefinition:
		text, err := json.Marshal(beta(o))
		if err != nil {
			c.t.Fatal(err)
		}
		out["JSON of v1beta1"] = append(text, '\n')
	default:
		add(gv, o)
		for _, version := range kind.Alike {
			add(schema.GroupVersion{Group: kind.Group, Version: version}, o)
		}
	}
	if kind.Resource.Resource == "horizontalpodautoscalers" && kind.Stored != nil {
		old := &autoscalingv1.HorizontalPodAutoscaler{}
		if err := json.Unmarshal(made, old); err != nil {
			c.t.Fatal(err)
		}
		add(autoscalingv1.SchemeGroupVersion, old)
	}
	return out
}

// beta is a definition as Kubernetes stores it when all versions have the same columns and schema.
func beta(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1beta1.CustomResourceDefinition {
	schemaOf := &apiextensionsv1beta1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1beta1.JSONSchemaProps{Type: "object"}}
	no := false
	out := &apiextensionsv1beta1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1beta1", Kind: d.Kind},
		ObjectMeta: d.ObjectMeta,
		Spec: apiextensionsv1beta1.CustomResourceDefinitionSpec{
			Group: d.Spec.Group, Version: d.Spec.Versions[0].Name, Names: apiextensionsv1beta1.CustomResourceDefinitionNames(d.Spec.Names),
			Scope: apiextensionsv1beta1.ResourceScope(d.Spec.Scope), Validation: schemaOf, PreserveUnknownFields: &no,
			Conversion: &apiextensionsv1beta1.CustomResourceConversion{Strategy: "None"},
		},
	}
	for _, v := range d.Spec.Versions {
		out.Spec.Versions = append(out.Spec.Versions, apiextensionsv1beta1.CustomResourceDefinitionVersion{Name: v.Name, Served: v.Served, Storage: v.Storage})
	}
	out.Status.StoredVersions = d.Status.StoredVersions
	out.Status.AcceptedNames = apiextensionsv1beta1.CustomResourceDefinitionNames(d.Status.AcceptedNames)
	return out
}

// served compares what clients get, in both forms, with what the creator got.
func (c *taken) served(how string, kind *api.Kind, path string, made []byte) {
	c.t.Helper()
	want := c.object(kind, made)
	text := c.await(path, "application/json")
	if got := c.object(kind, text); !apiequality.Semantic.DeepEqual(got, want) {
		c.t.Errorf("%s is served as\n%s\nmade\n%s", how, text, made)
	}
	wire := c.await(path, "application/vnd.kubernetes.protobuf")
	var u runtime.Unknown
	if err := u.Unmarshal(wire[4:]); err != nil {
		c.t.Fatal(err)
	}
	if u.APIVersion != kind.GroupVersion().String() {
		c.t.Errorf("%s is served as protobuf of %s", how, u.APIVersion)
	}
	obj := kind.New()
	if err := obj.(interface{ Unmarshal([]byte) error }).Unmarshal(u.Raw); err != nil {
		c.t.Fatal(err)
	}
	text, err := json.Marshal(obj)
	if err != nil {
		c.t.Fatal(err)
	}
	if got := c.object(kind, text); !apiequality.Semantic.DeepEqual(got, want) {
		c.t.Errorf("%s is served in protobuf as\n%s\nmade\n%s", how, text, made)
	}
}

// object is JSON as it compares: without what differs between two writes.
func (c *taken) object(kind *api.Kind, text []byte) api.Object {
	c.t.Helper()
	out := kind.New()
	if err := json.Unmarshal(text, out); err != nil {
		c.t.Fatalf("%v: %.300s", err, text)
	}
	out.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	out.SetResourceVersion("")
	out.SetManagedFields(nil)
	if d, ok := out.(*apiextensionsv1.CustomResourceDefinition); ok {
		d.Status = apiextensionsv1.CustomResourceDefinitionStatus{} // is written by what serves it
	}
	return out
}

// taken is an API server on an etcd that the test writes to as well.
type taken struct {
	t     *testing.T
	etcd  *clientv3.Client
	plane *controlPlane
	front http.RoundTripper
}

func (c *taken) in(t *testing.T) *taken { return &taken{t, c.etcd, c.plane, c.front} }

func newTaken(t *testing.T) *taken {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = local, local
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	address := "http://" + etcd.Clients[0].Addr().String()
	c := &taken{t: t}
	if c.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{address}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.etcd.Close() })
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.yaml") // what is compared is what lies beneath the seal
	if err := os.WriteFile(plain, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [{identity: {}}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sc := &ServerConfig{
		EncryptionConfig: plain,
		Place:            &Place{Name: "taken", Roots: Roots{Data: dir, Run: dir, Config: dir}},
		AdvertiseAddress: netip.MustParseAddr("192.0.2.1"), EtcdServers: []string{address},
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), ClusterCIDR: netip.MustParsePrefix("10.97.0.0/16"),
	}
	if err := sc.complete(); err != nil {
		t.Fatal(err)
	}
	plane, err := newControlPlane(t.Context(), sc, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.custom.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		plane.server.Close()
		if err := plane.store.Close(); err != nil {
			t.Error(err)
		}
	})
	<-plane.custom.Ready()
	c.plane = plane
	c.front = plane.server.LocalTransport(api.User{Name: "root", Groups: []string{"system:masters", "system:authenticated"}})
	c.send("POST", "/api/v1/namespaces", []byte(`{"metadata":{"name":"test"}}`), "application/json")
	c.send("POST", "/api/v1/namespaces/test/serviceaccounts", []byte(`{"metadata":{"name":"default"}}`), "application/json")
	return c
}

// define makes the kinds of the custom resources among the examples.
func (c *taken) define() {
	for _, d := range []struct{ group, plural, kind, scope, versions string }{
		{"cr.bar.com", "foos", "Foo", "Namespaced", "v1"}, {"custom.fancy.com", "pants", "Pant", "Cluster", "v2"},
		{"random.numbers.com", "integers", "Integer", "Cluster", "v1"}, {"awesome.bears.com", "pandas", "Panda", "Cluster", "v1 v3"},
	} {
		var versions []string
		for i, v := range strings.Fields(d.versions) {
			versions = append(versions, fmt.Sprintf(`{"name":%q,"served":true,"storage":%t,
				"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}`, v, i == 0))
		}
		c.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", fmt.Appendf(nil,
			`{"metadata":{"name":"%s.%s"},"spec":{"group":%q,"scope":%q,"names":{"plural":%q,"kind":%q},"versions":[%s]}}`,
			d.plural, d.group, d.group, d.scope, d.plural, d.kind, strings.Join(versions, ",")), "application/json")
		c.await("/apis/"+d.group+"/"+strings.Fields(d.versions)[0]+"/"+d.plural, "application/json")
	}
}

// kind is nil for a custom resource.
func (c *taken) kind(row *kept) *api.Kind {
	for _, k := range Kinds() {
		if k.Resource == (schema.GroupVersionResource{Group: row.Group, Version: row.Version, Resource: row.Resource}) {
			return k
		}
	}
	return nil
}

func (c *taken) collection(row *kept) string {
	path := "/apis/" + row.Group + "/" + row.Version
	if row.Group == "" {
		path = "/api/v1"
	}
	if strings.Contains(row.Key, "/test/") {
		path += "/namespaces/test"
	}
	return path + "/" + row.Resource
}

func (c *taken) do(method, path string, body []byte, contentType, accept string) (int, []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "https://local"+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Accept", accept)
	resp, err := c.front.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func (c *taken) send(method, path string, body []byte, contentType string) []byte {
	c.t.Helper()
	code, answer := c.do(method, path, body, contentType, "application/json")
	if code >= 300 {
		c.t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}
	return answer
}

// await reads what will be there soon.
func (c *taken) await(path, accept string) []byte {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		code, answer := c.do("GET", path, nil, "", accept)
		if code == 200 {
			return answer
		}
		if time.Now().After(end) {
			c.t.Fatalf("GET %s: %d %s", path, code, answer)
		}
	}
}

func (c *taken) read(key string) []byte {
	c.t.Helper()
	answer, err := c.etcd.Get(c.t.Context(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(answer.Kvs) != 1 {
		c.t.Fatalf("nothing is stored under %s", key)
	}
	return answer.Kvs[0].Value
}

func (c *taken) write(key string, value []byte) {
	c.t.Helper()
	if _, err := c.etcd.Put(c.t.Context(), key, string(value)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *taken) gone(key string) {
	c.t.Helper()
	if _, err := c.etcd.Delete(c.t.Context(), key); err != nil {
		c.t.Fatal(err)
	}
}
