package openapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apis/api"
)

// paths describes the operations of one group version in the terms of version 2; types
// are defined as they are met.
type paths struct {
	models   *models
	group    string // as operation ids write it: RbacAuthorizationV1
	tag      string // rbacAuthorization_v1
	root     string // /apis/rbac.authorization.k8s.io/v1
	items    map[string]spec.PathItem
	response *spec.Response // 401, of every operation
	cbor     bool           // it is spoken
}

func emptyPaths(m *models, cbor bool) *paths {
	return &paths{models: m, items: map[string]spec.PathItem{}, response: answer(http.StatusUnauthorized), cbor: cbor}
}

func newPaths(m *models, v version) *paths {
	gv, title := v.GroupVersion, groupTitle(v.Group)
	p := emptyPaths(m, v.cbor)
	p.group, p.tag, p.root = title+upper(gv.Version), lower(title)+"_"+gv.Version, root(gv)
	p.add(p.root+"/", nil, &operation{
		verb: http.MethodGet, id: "get" + p.group + "APIResources", description: "get available resources",
		answer: m.meta(reflect.TypeFor[metav1.APIResourceList]()), produces: object, consumes: object,
	})
	return p
}

// root is the path of a group version.
func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// groupTitle is how operation ids name a group: Core, Apps, RbacAuthorization.
func groupTitle(group string) string {
	if group == "" {
		return "Core"
	}
	var b strings.Builder
	for label := range strings.SplitSeq(strings.TrimSuffix(group, ".k8s.io"), ".") {
		b.WriteString(upper(strings.ReplaceAll(label, "-", "")))
	}
	return b.String()
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return string(unicode.ToUpper(rune(s[0]))) + s[1:]
}

func lower(s string) string { return string(unicode.ToLower(rune(s[0]))) + s[1:] }

// operation is one verb on one path.
type operation struct {
	verb, id, action, description string
	kind                          schema.GroupVersionKind
	parameters                    []spec.Parameter
	body, answer                  string // definitions
	bodyOptional                  bool
	codes                         []int // with the answer as body; default 200
	consumes, produces            []string
	text                          bool // answers a string instead of an object
}

// add puts operations on a path. Parameters are those of the path; those that all operations have
// are added to them.
func (p *paths) add(path string, parameters []spec.Parameter, operations ...*operation) {
	item := spec.PathItem{}
	common := shared(operations)
	item.Parameters = slices.Concat(parameters, common)
	for _, o := range operations {
		o.parameters = slices.DeleteFunc(slices.Clone(o.parameters), func(p spec.Parameter) bool { return has(common, p) })
		op := p.operation(o)
		switch o.verb {
		case http.MethodGet:
			item.Get = op
		case http.MethodPost:
			item.Post = op
		case http.MethodPut:
			item.Put = op
		case http.MethodPatch:
			item.Patch = op
		case http.MethodDelete:
			item.Delete = op
		case http.MethodHead:
			item.Head = op
		case http.MethodOptions:
			item.Options = op
		}
	}
	p.items[path] = item
}

// shared are the query parameters that all operations have.
func shared(operations []*operation) []spec.Parameter {
	common := slices.Clone(operations[0].parameters)
	return slices.DeleteFunc(common, func(p spec.Parameter) bool {
		return slices.ContainsFunc(operations[1:], func(o *operation) bool { return !has(o.parameters, p) })
	})
}

func has(list []spec.Parameter, one spec.Parameter) bool {
	return slices.ContainsFunc(list, func(p spec.Parameter) bool { return p.Name == one.Name && p.In == one.In })
}

func (p *paths) operation(o *operation) *spec.Operation {
	op := &spec.Operation{}
	op.ID, op.Description = o.id, o.description
	op.Tags = []string{p.tag}
	op.Schemes = []string{"https"}
	op.Consumes, op.Produces = o.consumes, o.produces
	if op.Consumes == nil {
		op.Consumes = anything
	}
	if p.cbor {
		op.Consumes, op.Produces = withCBOR(op.Consumes), withCBOR(op.Produces)
	}
	if o.action != "" {
		op.AddExtension(extension+"action", o.action)
	}
	if o.kind.Kind != "" {
		op.AddExtension(extension+"group-version-kind", kindExtension(o.kind))
	}
	if o.body != "" {
		body := spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Schema: ref(o.body), Required: !o.bodyOptional}}
		op.Parameters = append(op.Parameters, body)
	}
	op.Parameters = append(op.Parameters, o.parameters...)
	codes := o.codes
	if codes == nil {
		codes = []int{http.StatusOK}
	}
	op.Responses = &spec.Responses{}
	op.Responses.StatusCodeResponses = map[int]spec.Response{http.StatusUnauthorized: *p.response}
	for _, code := range codes {
		r := answer(code)
		switch {
		case o.text:
			r.Schema = spec.StringProperty()
		case o.answer != "":
			r.Schema = ref(o.answer)
		}
		op.Responses.StatusCodeResponses[code] = *r
	}
	return op
}

func answer(code int) *spec.Response {
	r := spec.NewResponse()
	r.Description = http.StatusText(code)
	return r
}

// ref refers to a definition, as version 2 does.
func ref(name string) *spec.Schema { return spec.RefSchema("#/definitions/" + name) }

// kind describes all operations on a kind.
func (p *paths) kind(k *api.Kind) {
	r := newResourcePaths(p, k)
	if k.Computed != nil {
		r.reads()
		return
	}
	if k.Virtual != nil {
		p.add(r.collection, slices.Concat(r.scope, prettyOnly), r.create(r.scoped, k.GroupVersionKind, r.object))
		return
	}
	r.objects()
	r.watches()
	if k.HasStatus {
		r.view("status", "Status", k.GroupVersionKind, r.object, "read", "patch", "replace")
	}
	if k.Scale != nil {
		gvk := schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		r.view("scale", "Scale", gvk, p.models.tag(reflect.TypeFor[autoscalingv1.Scale](), gvk), "read", "patch", "replace")
	}
	for _, u := range k.Updates {
		verbs := []string{"replace"}
		if !u.NoGet {
			verbs = append(verbs, "read")
		}
		if !u.NoPatch {
			verbs = append(verbs, "patch")
		}
		r.view(u.Name, upper(u.Name), k.GroupVersionKind, r.object, verbs...)
	}
	for _, a := range k.Actions {
		r.action(a)
	}
	for _, c := range k.Connects {
		r.connect(c)
	}
}
