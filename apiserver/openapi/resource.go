package openapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apis/api"
)

// resourcePaths describes the paths of one resource.
type resourcePaths struct {
	*paths
	k                *api.Kind
	object, list     string // definitions
	scoped           string // NamespacedPod, Node: the end of operation ids
	collection, item string // paths
	scope, name      []spec.Parameter
}

func newResourcePaths(p *paths, k *api.Kind) *resourcePaths {
	r := &resourcePaths{paths: p, k: k, scoped: k.Kind}
	r.object = p.models.kind(k)
	r.collection = p.root + "/" + k.Resource.Resource
	if k.Namespaced {
		r.scoped = "Namespaced" + k.Kind
		r.collection = p.root + "/namespaces/{namespace}/" + k.Resource.Resource
		r.scope = []spec.Parameter{pathParameter("namespace", "object name and auth scope, such as for teams and projects")}
	}
	r.item = r.collection + "/{name}"
	r.name = append([]spec.Parameter{pathParameter("name", "name of the "+k.Kind)}, r.scope...)
	return r
}

func (r *resourcePaths) id(verb, what, rest string) string { return verb + r.group + what + rest }

// objects are the collection and the single object.
func (r *resourcePaths) objects() {
	r.list = r.models.list(r.k, r.object)
	k, gvk := r.k, r.k.GroupVersionKind
	status := r.models.meta(reflect.TypeFor[metav1.Status]())
	removal := r.common(reflect.TypeFor[metav1.DeleteOptions]())
	list := &operation{
		verb: http.MethodGet, id: r.id("list", r.scoped, ""), action: "list", kind: gvk, answer: r.list,
		description: "list or watch objects of kind " + k.Kind, parameters: listParameters, produces: stream,
	}
	collection := []*operation{list, r.create(r.scoped, gvk, r.object)}
	if !k.NoDeleteCollection {
		collection = append(collection, &operation{
			verb: http.MethodDelete, id: r.id("delete", "Collection"+r.scoped, ""), action: "deletecollection", kind: gvk,
			description: "delete collection of " + k.Kind, body: removal, bodyOptional: true, answer: status,
			parameters: union(deleteParameters, selectParameters), produces: object,
		})
	}
	r.add(r.collection, slices.Concat(r.scope, prettyOnly), collection...)
	if k.Namespaced {
		all := *list
		all.id = r.id("list", k.Kind, "ForAllNamespaces")
		r.add(r.root+"/"+k.Resource.Resource, prettyOnly, &all)
	}
	answer := status
	if api.AnswersDeleted(k.GroupResource()) {
		answer = r.object
	}
	r.add(r.item, slices.Concat(r.name, prettyOnly), append(r.views("", "", gvk, r.object, "read", "patch", "replace"), &operation{
		verb: http.MethodDelete, id: r.id("delete", r.scoped, ""), action: "delete", kind: gvk,
		description: "delete " + article(k.Kind), body: removal, bodyOptional: true, answer: answer,
		codes: []int{http.StatusOK, http.StatusAccepted}, parameters: deleteParameters, produces: object,
	})...)
}

// reads are the operations on a kind that is only read.
func (r *resourcePaths) reads() {
	list := &operation{
		verb: http.MethodGet, id: r.id("list", r.scoped, ""), action: "list", kind: r.k.GroupVersionKind,
		answer: r.models.list(r.k, r.object), description: "list objects of kind " + r.k.Kind, parameters: listParameters, produces: stream,
	}
	r.add(r.collection, slices.Concat(r.scope, prettyOnly), list)
	if r.k.Namespaced {
		all := *list
		all.id = r.id("list", r.k.Kind, "ForAllNamespaces")
		r.add(r.root+"/"+r.k.Resource.Resource, prettyOnly, &all)
	}
	r.add(r.item, slices.Concat(r.name, prettyOnly), r.views("", "", r.k.GroupVersionKind, r.object, "read")...)
}

func (r *resourcePaths) create(scoped string, gvk schema.GroupVersionKind, definition string) *operation {
	return &operation{
		verb: http.MethodPost, id: r.id("create", scoped, ""), action: "post", kind: gvk,
		description: "create " + article(gvk.Kind), body: definition, answer: definition, parameters: changeParameters,
		codes: []int{http.StatusOK, http.StatusCreated, http.StatusAccepted}, produces: object,
	}
}

// common is a kind that there is in each group version.
func (r *resourcePaths) common(t reflect.Type) string {
	return r.models.tag(t, r.k.GroupVersion().WithKind(t.Name()))
}

// view is a subresource that is read and written like the object.
func (r *resourcePaths) view(subresource, suffix string, gvk schema.GroupVersionKind, definition string, verbs ...string) {
	r.add(r.item+"/"+subresource, slices.Concat(r.name, prettyOnly), r.views(subresource, suffix, gvk, definition, verbs...)...)
}

// views are the operations on it, or with no name of a subresource on the object itself.
func (r *resourcePaths) views(subresource, suffix string, gvk schema.GroupVersionKind, definition string, verbs ...string) []*operation {
	of := "the specified " + gvk.Kind
	if subresource != "" {
		of = subresource + " of the specified " + r.k.Kind
	}
	var all []*operation
	for _, verb := range verbs {
		o := &operation{id: r.id(verb, r.scoped, suffix), kind: gvk, answer: definition, produces: object}
		switch verb {
		case "read":
			o.verb, o.action, o.description = http.MethodGet, "get", "read "+of
		case "replace":
			o.verb, o.action, o.description = http.MethodPut, "put", "replace "+of
			o.body, o.parameters = definition, changeParameters
			o.codes = []int{http.StatusOK, http.StatusCreated}
		case "patch":
			o.verb, o.action, o.description = http.MethodPatch, "patch", "partially update "+of
			o.body, o.parameters, o.consumes = r.models.add(reflect.TypeFor[metav1.Patch]()), patchParameters, patches
			if custom(r.k) {
				o.consumes = customPatches
			}
			o.codes = []int{http.StatusOK, http.StatusCreated}
		}
		all = append(all, o)
	}
	return all
}

// watches are the paths under watch/, which clients of old use.
func (r *resourcePaths) watches() {
	watch := func(path, id, action string, parameters []spec.Parameter) {
		r.add(r.root+"/watch"+strings.TrimPrefix(path, r.root), slices.Concat(parameters, prettyOnly, listParameters), &operation{
			verb: http.MethodGet, id: id, action: action, kind: r.k.GroupVersionKind, produces: stream,
			description: "watch changes to " + article(r.k.Kind) + ". deprecated: use the 'watch' parameter with a list operation instead.",
			answer:      r.common(reflect.TypeFor[metav1.WatchEvent]()),
		})
	}
	watch(r.collection, r.id("watch", r.scoped, "List"), "watchlist", r.scope)
	watch(r.item, r.id("watch", r.scoped, ""), "watch", r.name)
	if r.k.Namespaced {
		watch(r.root+"/"+r.k.Resource.Resource, r.id("watch", r.k.Kind, "ListForAllNamespaces"), "watchlist", nil)
	}
}

// action is a subresource that another kind is posted to.
func (r *resourcePaths) action(a api.Action) {
	gvk := schema.GroupVersionKind{Group: a.Group, Version: a.Version, Kind: a.Kind}
	o := r.create(r.scoped+upper(a.Name), gvk, r.models.tag(deref(reflect.TypeOf(a.New())), gvk))
	o.description = "create " + a.Name + " of " + article(r.k.Kind)
	r.add(r.item+"/"+a.Name, slices.Concat(r.name, prettyOnly), o)
}

// connect is a subresource that upgrades or proxies; log alone is read like an object.
func (r *resourcePaths) connect(c api.Connect) {
	parameters := slices.Clone(r.name)
	if c.Name != "log" {
		parameters[0] = pathParameter("name", "name of the "+c.Kind)
	}
	if c.New != nil {
		parameters = append(parameters, options(deref(reflect.TypeOf(c.New())))...)
	}
	gvk := r.k.GroupVersion().WithKind(c.Kind)
	path := r.item + "/" + c.Name
	if c.Name == "log" {
		r.add(path, slices.Concat(parameters, prettyOnly), &operation{
			verb: http.MethodGet, id: r.id("read", r.scoped, "Log"), action: "get", kind: r.k.GroupVersionKind, text: true,
			description: "read log of the specified " + r.k.Kind, produces: slices.Concat([]string{"text/plain"}, object),
		})
		return
	}
	verbs := []string{http.MethodGet, http.MethodPost}
	if c.Name == "proxy" {
		verbs = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions}
	}
	for _, rest := range []string{"", "WithPath"} {
		var all []*operation
		for _, verb := range verbs {
			method := upper(strings.ToLower(verb))
			all = append(all, &operation{
				verb: verb, id: r.id("connect", method+r.scoped, upper(c.Name)+rest), action: "connect", kind: gvk, text: true,
				description: "connect " + strings.ToUpper(verb) + " requests to " + c.Name + " of " + r.k.Kind, produces: anything,
			})
		}
		r.add(path, parameters, all...)
		if c.Name != "proxy" {
			return
		}
		path += "/{path}"
		parameters = append(slices.Clone(parameters), pathParameter("path", "path to the resource"))
	}
}

// union is both lists without a name twice.
func union(a, b []spec.Parameter) []spec.Parameter {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y spec.Parameter) int { return strings.Compare(x.Name, y.Name) })
	return slices.CompactFunc(all, func(x, y spec.Parameter) bool { return x.Name == y.Name })
}

func article(kind string) string {
	if strings.ContainsRune("AEIOU", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}
