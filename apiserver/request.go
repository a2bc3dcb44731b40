package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/fairness"
	"github.com/proa-dev/proa/apiserver/metrics"
	"github.com/proa-dev/proa/apiserver/nodeproxy"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// request is one request on its way through the pipeline.
type request struct {
	s     *Server
	now   *table // what is served while this request runs
	w     http.ResponseWriter
	r     *http.Request
	query url.Values
	user  *api.User

	// Of a request for a resource; resource is "" for any other path.
	gv              schema.GroupVersion
	resource        string
	kind            *served // nil: not served
	sub             string
	namespace, name string
	verb            string
	rest            string // of a proxy: the path after it
	watching        bool   // by the old form of the path
	connect         *api.Connect
	scaled          bool         // the object is changed through its Scale
	remote          http.Handler // set when another server answers

	asked   *access.Attributes // what was authorized
	record  *audit.Record      // nil: nothing is kept
	refused *metav1.Status     // what audit says of a user who is not known
	place   fairness.Place     // among the requests that run at once
	sent    sent               // the way to the client
	began   bool               // counted as one that lasts
	events  *metrics.Events    // of a watch
	// elsewhere is how long others were waited for: a queue, webhooks.
	elsewhere time.Duration
	out       *choice // how to answer
	started   bool    // the answer has begun
	warned    map[string]bool
	shown     map[*store.Item]api.Object // views that are ready, see show
}

// route reads the path.
func (r *request) route() error {
	path := r.r.URL.Path
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if strings.HasPrefix(path, "//") || slices.Contains(parts[1:], "") && !strings.Contains(path, "/proxy/") {
		return nil // a path with a hole in it is no resource's
	}
	var rest []string
	switch {
	case parts[0] == "api" && len(parts) >= 3:
		r.gv, rest = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case parts[0] == "apis" && len(parts) >= 4:
		r.gv, rest = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return nil
	}
	if rest[0] == "watch" && len(rest) > 1 && r.now.find(r.gv, "watch") == nil {
		rest = rest[1:] // the old form of watching a collection
		r.query.Set("watch", "true")
		r.watching = true
	}
	// A namespace is a prefix of what is in it, and a resource itself; what follows its
	// name is then a resource or one of its own subresources.
	if rest[0] == "namespaces" && len(rest) > 2 && !(len(rest) == 3 && (rest[2] == "status" || rest[2] == "finalize")) {
		r.namespace, rest = rest[1], rest[2:]
	}
	r.resource = rest[0]
	if len(rest) > 1 {
		r.name = rest[1]
	}
	if len(rest) > 2 {
		r.sub = rest[2]
	}
	if len(rest) > 3 {
		if r.sub != "proxy" {
			r.kind = nil
			return r.settle(false)
		}
		r.rest = proxied(r.r.URL.Path, len(parts)-len(rest)+3)
	}
	if r.resource == "namespaces" && r.name != "" && r.gv.Group == "" {
		r.namespace = r.name // authorization looks at a namespace as being in itself
	}
	r.kind = r.now.find(r.gv, r.resource)
	return r.settle(true)
}

// proxied is what follows the first n segments of a path, slashes and all.
func proxied(path string, n int) string {
	path = strings.TrimPrefix(path, "/")
	for range n {
		_, after, found := strings.Cut(path, "/")
		if !found {
			return ""
		}
		path = after
	}
	return "/" + path
}

// on reads a switch of the query as clients of all languages write it: anything but
// "false" and "0" means yes.
func (r *request) on(name string) bool {
	values, present := r.query[name]
	return present && (len(values) == 0 || values[0] != "0" && !strings.EqualFold(values[0], "false"))
}

// settle finds the verb and refuses what cannot be part of a key.
func (r *request) settle(exists bool) error {
	for _, part := range []string{r.namespace, r.name} {
		msgs := pathvalidation.IsValidPathSegmentName(part)
		if strings.Contains(part, "\x00") {
			msgs = append(msgs, "may not contain a zero byte")
		}
		if len(msgs) > 0 {
			return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", part, strings.Join(msgs, ";")))
		}
	}
	switch r.r.Method {
	case http.MethodGet, http.MethodHead:
		r.verb = "get"
		if r.name == "" {
			r.verb = "list"
		}
		if r.watching || r.name == "" && r.on("watch") {
			r.verb = "watch"
		}
	case http.MethodPost:
		r.verb = "create"
	case http.MethodPut:
		r.verb = "update"
	case http.MethodPatch:
		r.verb = "patch"
	case http.MethodDelete:
		r.verb = "delete"
		if r.name == "" {
			r.verb = "deletecollection"
		}
	default:
		r.verb = strings.ToLower(r.r.Method)
	}
	if !exists {
		r.kind = nil
	}
	if r.kind != nil {
		for i := range r.kind.Connects {
			if r.kind.Connects[i].Name == r.sub && r.name != "" {
				r.connect = &r.kind.Connects[i]
			}
		}
	}
	return nil
}

// delegate is the handler of what another server answers for, nil for all else: resources
// of its group version, the list of them, their schemas.
func (r *request) delegate() http.Handler {
	gv := r.gv
	if r.resource == "" {
		path := strings.TrimPrefix(strings.Trim(r.r.URL.Path, "/"), "openapi/v3/")
		parts := strings.Split(path, "/")
		if len(parts) != 3 || parts[0] != "apis" {
			return nil
		}
		gv = schema.GroupVersion{Group: parts[1], Version: parts[2]}
	}
	if remote, ok := r.now.Delegate(gv); ok {
		return remote.Handler
	}
	return nil
}

// dispatch serves a request that is allowed.
func (r *request) dispatch() {
	if r.remote != nil {
		if r.long() {
			r.settled() // the other server has limits of its own
		}
		r.r.Header.Set("Audit-Id", r.w.Header().Get("Audit-Id")) // its events are found by the same id
		r.remote.ServeHTTP(r.w, r.r.WithContext(catalog.WithUser(r.r.Context(), r.user)))
		return
	}
	if r.resource == "" {
		r.path()
		return
	}
	if r.kind == nil || r.scopeWrong() {
		r.notFound()
		return
	}
	if r.connect != nil {
		r.connectTo()
		return
	}
	var err error
	if r.out, err = r.offer().choose(r.r.Header.Get("Accept")); err == nil {
		err = r.operate()
	}
	if err != nil {
		r.fail(err)
	}
}

// offer is what this request can be answered with.
func (r *request) offer() offer {
	return offer{custom: r.kind.Custom != nil, watch: r.verb == "watch", protobuf: r.kind.hasProtobuf(), cbor: r.s.cfg.CBOR}
}

// scopeWrong: a namespaced kind needs a namespace for all but lists, a cluster-scoped one
// has none; anything else does not exist.
func (r *request) scopeWrong() bool {
	if r.resource == "namespaces" && r.gv.Group == "" {
		return false
	}
	if r.kind.Namespaced {
		return r.namespace == "" && r.name != ""
	}
	return r.namespace != ""
}

// operate performs the verb.
func (r *request) operate() error {
	r.warnDeprecated()
	if err := r.checkForm(); err != nil {
		return err
	}
	if r.r.Method == http.MethodHead || r.kind.Namespaced && r.namespace == "" && r.verb != "list" && r.verb != "watch" {
		return r.notAllowed()
	}
	if r.kind.Computed != nil {
		return r.computed()
	}
	if r.kind.Virtual != nil {
		if r.name != "" {
			r.notFound()
			return nil
		}
		if r.verb != "create" {
			return r.notAllowed()
		}
		if r.out.as != "" { // it has no metadata, and a table shows objects
			return r.offer().notAcceptable(r.r.Header.Get("Accept"))
		}
		return r.act(r.kind.Virtual)
	}
	if r.resource == "namespaces" && r.gv.Group == "" {
		r.namespace = ""
	}
	if r.sub != "" {
		return r.subresource()
	}
	switch r.verb {
	case "get":
		return r.get()
	case "list":
		return r.list()
	case "watch":
		return r.watch()
	case "create":
		if r.name != "" {
			return r.notAllowed()
		}
		return r.create()
	case "update":
		if r.name == "" {
			return r.notAllowed()
		}
		return r.update()
	case "patch":
		if r.name == "" {
			return r.notAllowed()
		}
		return r.patch()
	case "delete":
		return r.delete()
	case "deletecollection":
		if r.kind.NoDeleteCollection {
			return r.notAllowed()
		}
		return r.deleteCollection()
	}
	return r.notAllowed()
}

// checkForm refuses a form of answer that does not go with what is asked for.
func (r *request) checkForm() error {
	list := r.verb == "list" || r.verb == "deletecollection"
	kind := patch.InternalName(r.kind.Group) + "." + r.kind.GroupVersionKind.Kind
	switch {
	case r.out.as == "Table":
		o := &metav1.TableOptions{IncludeObject: metav1.IncludeObjectPolicy(r.query.Get("includeObject"))}
		if errs := metav1validation.ValidateTableOptions(o); len(errs) > 0 {
			return apierrors.NewBadRequest("Unable to convert to Table as requested: " + errs.ToAggregate().Error())
		}
	case r.out.as == "PartialObjectMetadata" && list:
		return notAcceptable(fmt.Sprintf("you requested PartialObjectMetadata, but the requested object is a list (*%sList)", kind))
	case r.out.as == "PartialObjectMetadataList" && !list && r.verb != "watch":
		return notAcceptable(fmt.Sprintf("you requested PartialObjectMetadataList, but the requested object is not a list (*%s)", kind))
	}
	return nil
}

var noResource schema.GroupResource

// notAllowed refuses a verb that a path has not; what is deprecated is not said then.
func (r *request) notAllowed() error {
	r.w.Header().Del("Warning")
	if r.kind != nil && r.kind.Custom != nil {
		return apierrors.NewMethodNotSupported(r.groupResource(), r.verb)
	}
	return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", noResource, "", "", 0, false)
}

// notFound answers for a path that names no resource: in the API's own form where there is a
// group, or another part of the API, that could have it.
func (r *request) notFound() {
	parts := strings.Split(strings.Trim(r.r.URL.Path, "/"), "/")
	named := parts[0] == "apis" && len(parts) > 1 && r.now.HasGroup(parts[1])
	if strings.HasPrefix(r.r.URL.Path, "//") || !named && parts[0] != "api" && parts[0] != "version" {
		http.NotFound(r.w, r.r)
		return
	}
	r.fail(apierrors.NewGenericServerResponse(http.StatusNotFound, "", noResource, "", "", 0, false))
}

func (r *request) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.gv.Group, Resource: r.resource}
}

// path serves what is not a resource.
func (r *request) path() {
	p := r.r.URL.Path
	switch {
	case p == "/healthz" || p == "/livez" || p == "/readyz" || strings.HasPrefix(p, "/healthz/") || strings.HasPrefix(p, "/livez/") || strings.HasPrefix(p, "/readyz/"):
		r.health()
	case p == "/metrics":
		r.s.metrics.ServeHTTP(r.w, r.r)
	case p == fairness.DumpPath:
		r.s.fairness.Dump(r.w, r.r)
	case p == "/metrics/slis":
		r.slis()
	case (p == "/version" || p == "/version/") && r.r.Method == http.MethodGet:
		r.version()
	case p == "/version" || p == "/version/":
		r.fail(r.notAllowed())
	case strings.HasPrefix(p, "/version/"):
		r.notFound()
	case p == "/":
		r.index()
	case strings.HasPrefix(p, "/openapi/") && r.s.cfg.OpenAPI != nil:
		r.s.cfg.OpenAPI.ServeHTTP(r.w, r.r)
	case p == "/api" || p == "/apis" || strings.HasPrefix(p, "/api/") || strings.HasPrefix(p, "/apis/"):
		if r.s.cfg.Discovery == nil {
			r.notFound()
			return
		}
		r.s.cfg.Discovery.ServeHTTP(r.w, r.r)
	default:
		for prefix, h := range r.s.cfg.Paths {
			if p == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(p, prefix) && strings.HasSuffix(prefix, "/") {
				h.ServeHTTP(r.w, r.r)
				return
			}
		}
		http.NotFound(r.w, r.r)
	}
}

// connectTo hands the connection on to a node, pod or service.
func (r *request) connectTo() {
	if r.s.cfg.Nodes == nil {
		http.NotFound(r.w, r.r)
		return
	}
	if err := r.admitConnect(); err != nil {
		r.fail(err)
		return
	}
	r.s.cfg.Nodes.Connect(r.w, r.r, nodeproxy.Request{
		Kind: r.kind.Kind, Subresource: r.sub, Namespace: r.namespaceOfObject(), Name: r.name, Path: r.rest,
	})
}

func (r *request) namespaceOfObject() string {
	if r.kind.Namespaced {
		return r.namespace
	}
	return ""
}
