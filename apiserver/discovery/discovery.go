// Package discovery answers what the server serves: /api, /apis and below, in the old
// form (one document a group version) and aggregated (one document in all,
// KEP-3352).
//
// The one idea: both forms are derived from the same list of kinds, encoded once per
// format, and kept until the list changes.
//
// Used by apiserver for GET requests on these paths.
package discovery

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// Handler serves discovery; safe for concurrent use.
type Handler struct {
	list    *catalog.Catalog
	host    string // host:port, for the old form's server addresses
	cbor    bool
	mu      sync.Mutex
	current atomic.Pointer[documents]
}

// New makes a handler for the list; serverAddress is the API's host:port, which the old form
// of /api tells clients.
func New(list *catalog.Catalog, serverAddress string) *Handler {
	return &Handler{list: list, host: serverAddress}
}

// SpeakCBOR has answers be CBOR where clients like. It is called before the first request.
func (h *Handler) SpeakCBOR() { h.cbor = true }

// documents are those of the present state, made when somebody first asks.
func (h *Handler) documents() *documents {
	state := h.list.State()
	if d := h.current.Load(); d != nil && d.state == state {
		return d
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.current.Load(); d != nil && d.state == h.list.State() {
		return d
	}
	d := newDocuments(h.host, h.list.State())
	h.current.Store(d)
	return d
}

// documents holds all answers of one state of the list.
type documents struct {
	state          *catalog.State
	legacy, groups *document            // /api, /apis; aggregated by Accept
	group          map[string]*document // /apis/<group>
	version        map[string]*document // <group>/<version>, or v1
}

func newDocuments(host string, state *catalog.State) *documents {
	d := &documents{state: state, group: map[string]*document{}, version: map[string]*document{}}
	list := &metav1.APIGroupList{TypeMeta: typeMeta("APIGroupList", "v1"), Groups: []metav1.APIGroup{}}
	versions := &metav1.APIVersions{
		TypeMeta: typeMeta("APIVersions", ""), Versions: []string{},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: host}},
	}
	var core, named []apidiscoveryv2.APIGroupDiscovery
	for _, g := range groupKinds(state) {
		if g.name == "" {
			for _, v := range g.versions {
				versions.Versions = append(versions.Versions, v.version)
			}
			core = append(core, aggregated(g))
		} else {
			one := apiGroup(g)
			list.Groups = append(list.Groups, one)
			one.TypeMeta = typeMeta("APIGroup", "v1")
			d.group[g.name] = newDocument(&one)
			named = append(named, aggregated(g))
		}
		for _, v := range g.versions {
			if v.remote != nil {
				continue // its server answers
			}
			d.version[schema.GroupVersion{Group: g.name, Version: v.version}.String()] = newDocument(resourceList(g.name, v))
		}
	}
	d.legacy = newAggregatedDocument(versions, core)
	d.groups = newAggregatedDocument(list, named)
	return d
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		writeStatus(w, apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "", 0, false))
		return
	}
	docs := h.documents()
	doc := docs.find(r.URL.Path)
	if doc == nil {
		docs.notFound(w, r)
		return
	}
	doc.serve(w, r, h.media())
}

// media are the types of answers that there are.
func (h *Handler) media() []string {
	if h.cbor {
		return []string{typeJSON, typeYAML, typeProtobuf, typeCBOR}
	}
	return []string{typeJSON, typeYAML, typeProtobuf}
}

// notFound answers for a version that is not served in the API's form, for an unknown group in plain text.
func (d *documents) notFound(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "apis" && d.group[parts[1]] == nil {
		http.NotFound(w, r)
		return
	}
	writeStatus(w, apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false))
}

// find gives the document of a path, nil when there is none.
func (d *documents) find(path string) *document {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "api":
		return d.legacy
	case len(parts) == 1 && parts[0] == "apis":
		return d.groups
	case len(parts) == 2 && parts[0] == "api":
		return d.version[parts[1]]
	case len(parts) == 2 && parts[0] == "apis":
		return d.group[parts[1]]
	case len(parts) == 3 && parts[0] == "apis":
		return d.version[parts[1]+"/"+parts[2]]
	}
	return nil
}

func typeMeta(kind, version string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: version}
}

func apiGroup(g group) metav1.APIGroup {
	one := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		one.Versions = append(one.Versions, metav1.GroupVersionForDiscovery{
			GroupVersion: g.name + "/" + v.version, Version: v.version,
		})
	}
	one.PreferredVersion = one.Versions[0]
	return one
}

func resourceList(groupName string, v versionKinds) *metav1.APIResourceList {
	list := &metav1.APIResourceList{
		TypeMeta:     typeMeta("APIResourceList", "v1"),
		GroupVersion: schema.GroupVersion{Group: groupName, Version: v.version}.String(),
		APIResources: []metav1.APIResource{},
	}
	if groupName == "" {
		list.APIVersion = "" // as it has always been
	}
	for _, r := range v.resources {
		one := metav1.APIResource{
			Name: r.kind.Resource.Resource, SingularName: r.kind.Singular, Namespaced: r.kind.Namespaced,
			Kind: r.kind.Kind, Verbs: r.verbs, ShortNames: r.kind.Short, Categories: r.kind.Categories,
			StorageVersionHash: storageVersionHash(r.kind),
		}
		list.APIResources = append(list.APIResources, one)
		for _, s := range r.subresources {
			sub := metav1.APIResource{
				Name: one.Name + "/" + s.name, Namespaced: one.Namespaced, Verbs: s.verbs, Kind: s.kind.Kind,
			}
			// Only a subresource of another group version than the document's names its own.
			if s.kind.GroupVersion().String() != list.GroupVersion {
				sub.Group, sub.Version = s.kind.Group, s.kind.Version
			}
			list.APIResources = append(list.APIResources, sub)
		}
	}
	return list
}

func aggregated(g group) apidiscoveryv2.APIGroupDiscovery {
	one := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
	for _, v := range g.versions {
		av := apidiscoveryv2.APIVersionDiscovery{Version: v.version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		if v.remote != nil {
			av.Resources = v.remote.Resources
			if v.remote.Stale {
				av.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
			}
		}
		for _, r := range v.resources {
			ar := apidiscoveryv2.APIResourceDiscovery{
				Resource: r.kind.Resource.Resource, ResponseKind: metaKind(r.kind.GroupVersionKind, g.name),
				Scope: scope(r.kind), SingularResource: r.kind.Singular, Verbs: r.verbs,
				ShortNames: r.kind.Short, Categories: r.kind.Categories,
			}
			for _, s := range r.subresources {
				ar.Subresources = append(ar.Subresources, apidiscoveryv2.APISubresourceDiscovery{
					Subresource: s.name, ResponseKind: metaKind(s.kind, g.name), Verbs: s.verbs,
				})
			}
			av.Resources = append(av.Resources, ar)
		}
		one.Versions = append(one.Versions, av)
	}
	return one
}

// metaKind is the kind that a resource of a group answers. Within the group that has no name, the version is left out.
func metaKind(k schema.GroupVersionKind, group string) *metav1.GroupVersionKind {
	if group == "" && k.Group == "" {
		k.Version = ""
	}
	return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

func scope(k *api.Kind) apidiscoveryv2.ResourceScope {
	if k.Namespaced {
		return apidiscoveryv2.ScopeNamespace
	}
	return apidiscoveryv2.ScopeCluster
}

var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{apidiscoveryv2.AddToScheme, apidiscoveryv2beta1.AddToScheme} {
		if err := add(s); err != nil {
			panic("discovery: types register twice: " + err.Error())
		}
	}
	return s
}
