package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apps"
	"github.com/proa-dev/proa/apis/authorization"
	"github.com/proa-dev/proa/apis/autoscaling"
	"github.com/proa-dev/proa/apis/coordination"
	"github.com/proa-dev/proa/apis/core"
	discoverykinds "github.com/proa-dev/proa/apis/discovery"
	"github.com/proa-dev/proa/apis/events"
	"github.com/proa-dev/proa/apis/networking"
	noderesources "github.com/proa-dev/proa/apis/node"
	"github.com/proa-dev/proa/apis/rbac"
	"github.com/proa-dev/proa/apis/resource"
	"github.com/proa-dev/proa/apis/storage"
	"github.com/proa-dev/proa/apis/storagemigration"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/discovery"
	"github.com/proa-dev/proa/apiserver/h2"
	"github.com/proa-dev/proa/apiserver/nodeproxy"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/store"
)

// tokens: the bearer's name, then his groups: "alice:dev,ops". "bad" is refused.
type tokens struct{}

func (tokens) Authenticate(r *http.Request) (*api.User, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok:
		return nil, nil
	case token == "bad":
		return nil, errors.New("bad token")
	}
	name, groups, _ := strings.Cut(token, ":")
	u := &api.User{Name: name, Groups: []string{"system:authenticated"}}
	if groups != "" {
		u.Groups = append(u.Groups, strings.Split(groups, ",")...)
	}
	return u, nil
}

// rules lets root do everything and others what allow says; it notes what it was asked.
type rules struct {
	mu    sync.Mutex
	asked []access.Attributes
	allow func(*access.Attributes) bool
}

func (z *rules) Authorize(_ context.Context, a *access.Attributes) (access.Decision, string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, *a)
	if len(z.asked) > 1000 {
		z.asked = z.asked[500:]
	}
	if a.User.Name == "root" || z.allow != nil && z.allow(a) {
		return access.Allow, ""
	}
	return access.NoOpinion, ""
}

func (z *rules) set(allow func(*access.Attributes) bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked, z.allow = nil, allow
}

func (z *rules) questions() []access.Attributes {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.asked)
}

// historyLength is how many events the store keeps per kind in tests: few, to get beyond it.
const historyLength = 100

// house is a whole API server on a store of its own.
type house struct {
	t      testing.TB
	store  *store.Store
	server *apiserver.Server
	rules  *rules
	front  *httptest.Server
	ready  func(context.Context) error // of the check "late"
}

func newHouse(t testing.TB, steps ...admission.Step) *house {
	return newHouseWith(t, func(api.Reader, *rules, *catalog.Catalog) []admission.Step { return steps })
}

// newHouseWith is newHouse with steps that read.
func newHouseWith(t testing.TB, steps func(api.Reader, *rules, *catalog.Catalog) []admission.Step) *house {
	t.Helper()
	return newHouseOn(t, store.Config{Dir: t.TempDir(), Events: historyLength}, nil, steps)
}

// newHouseOn is newHouseWith on an etcd of the caller's, with an audit log if he has one.
func newHouseOn(t testing.TB, cfg store.Config, audited *audit.Log, steps func(api.Reader, *rules, *catalog.Catalog) []admission.Step, edits ...func(*apiserver.Config)) *house {
	t.Helper()
	h := &house{t: t, rules: &rules{}}
	cfg.Log = slog.New(slog.DiscardHandler)
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.store = s
	t.Cleanup(func() { _ = s.Close() })
	kinds := slices.Concat(core.Kinds, apps.Kinds, coordination.Kinds, events.Kinds, rbac.Kinds, authorization.Kinds,
		networking.Kinds, noderesources.Kinds, storage.Kinds, autoscaling.Kinds, resource.Kinds, storagemigration.Kinds,
		admissionregistration.Kinds, discoverykinds.Kinds)
	var group errgroup.Group
	for _, k := range kinds {
		if k.Virtual == nil && k.Stored == nil {
			group.Go(func() error { _, err := s.Serve(t.Context(), k); return err })
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })

	list := catalog.New(kinds)
	env := &api.Env{Reader: s.Reader()}
	disco := discovery.New(list, "127.0.0.1:6443")
	whole := apiserver.Config{
		Store: s, Catalog: list, Env: env, Scheme: scheme.Scheme, Authenticator: tokens{}, Authorizer: h.rules,
		Nodes:     nodeproxy.New(nodeproxy.Config{Reader: s.Reader(), Log: log}),
		Audit:     audited,
		Admission: steps(s.Reader(), h.rules, list), Discovery: disco, OpenAPI: openapi.New(list), Log: log,
		Version: version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.1"},
		Ready: []apiserver.Check{{Name: "late", Ask: func(ctx context.Context) error {
			if h.ready != nil {
				return h.ready(ctx)
			}
			return nil
		}}},
		Open: map[string]http.Handler{"/open": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "open") })},
	}
	for _, edit := range edits {
		edit(&whole)
	}
	if whole.CBOR {
		disco.SpeakCBOR()
	}
	h.server, err = apiserver.New(whole)
	if err != nil {
		t.Fatal(err)
	}
	env.Writer = h.server.Writer()
	h.front = httptest.NewUnstartedServer(h.server.Handler())
	if err := h2.Configure(h.front.Config, h2.Config{}); err != nil {
		t.Fatal(err)
	}
	h.front.TLS, h.front.EnableHTTP2 = h.front.Config.TLSConfig, true // the latter for its clients
	h.front.StartTLS()
	t.Cleanup(func() { h.server.Close(); h.front.Close() })
	for _, name := range []string{"default", "kube-system"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := h.typed("root").CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return h
}

// testWriter shows the server's errors beside the test that caused them.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (h *house) config(user string) *rest.Config {
	ca := h.front.Certificate()
	return &rest.Config{
		Host: h.front.URL, BearerToken: user, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(ca.Raw)},
	}
}

func (h *house) protobuf(user string) *rest.Config {
	c := h.config(user)
	c.ContentType, c.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return c
}

func (h *house) localConfig(user string) *rest.Config {
	return &rest.Config{Host: "https://local", QPS: -1, Transport: h.server.LocalTransport(api.User{Name: user, Groups: []string{"system:authenticated"}})}
}

func (h *house) typed(user string) kubernetes.Interface {
	return client(h.t, kubernetes.NewForConfig, h.config(user))
}
func (h *house) dynamic() dynamic.Interface {
	return client(h.t, dynamic.NewForConfig, h.config("root"))
}
func (h *house) metadata() metadata.Interface {
	return client(h.t, metadata.NewForConfig, h.config("root"))
}

func client[T any](t testing.TB, make func(*rest.Config) (T, error), c *rest.Config) T {
	t.Helper()
	out, err := make(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// answer is what came back for a bare request.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (a answer) status(t testing.TB) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal(a.body, &s); err != nil {
		t.Fatalf("%d: not a Status: %v: %.300s", a.code, err, a.body)
	}
	return s
}

// do sends a bare request as root; headers come in pairs.
func (h *house) do(method, path, body string, headers ...string) answer {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, h.front.URL+path, bytes.NewBufferString(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer root")
	r.Header.Set("User-Agent", "test/1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Authorization" || headers[i] == "Content-Type" || headers[i] == "User-Agent" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := h.front.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil && ctx.Err() == nil {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, raw}
}
