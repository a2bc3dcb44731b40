package apiserver

import (
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// selection is what a list, watch or deletecollection looks at.
type selection struct {
	labels labels.Selector
	fields fields.Selector
	// name, index and value narrow down before anything is looked at.
	name, index, value string
}

// selected reads the selectors of the query.
func (r *request) selected() (*selection, error) {
	s := &selection{}
	var err error
	if s.labels, err = labels.Parse(r.query.Get("labelSelector")); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if s.fields, err = fields.ParseSelector(r.query.Get("fieldSelector")); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	for _, q := range s.fields.Requirements() {
		if r.kind.Fields[q.Field] == nil {
			return nil, apierrors.NewBadRequest(r.kind.UnknownField(q.Field))
		}
	}
	if r.name != "" { // a watch of one object, by its path
		if name, ok := s.fields.RequiresExactMatch("metadata.name"); ok && name != r.name {
			return nil, apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
		}
		s.name = r.name
	}
	if name, ok := s.fields.RequiresExactMatch("metadata.name"); ok && r.name == "" {
		s.name = name
	}
	for _, index := range r.kind.Indexes {
		if value, ok := s.fields.RequiresExactMatch(index); ok {
			s.index, s.value = index, value
			break
		}
	}
	return s, nil
}

func (s *selection) everything() bool {
	return s.labels.Empty() && s.fields.Empty() && s.name == ""
}

// match says whether an object, in the kind's version, is selected.
func (s *selection) match(k *api.Kind, obj api.Object) bool {
	if s.name != "" && obj.GetName() != s.name {
		return false
	}
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	return s.fields.Empty() || s.fields.Matches(fieldsOf{k, obj})
}

// filter is match on stored objects, nil when everything is selected.
func (r *request) filter(s *selection) func(api.Object) bool {
	if s.everything() {
		return nil
	}
	versioned := r.versioned(s)
	return func(obj api.Object) bool {
		if obj == nil {
			return false
		}
		if r.kind.FromStored != nil {
			obj = r.kind.FromStored(obj)
		}
		if versioned {
			var err error
			if obj, err = r.kind.viewObject(r.r.Context(), obj); err != nil {
				r.s.log.Error("convert an object that is watched", "path", r.r.URL.Path, "err", err)
				return false
			}
		}
		return s.match(r.kind.Kind, obj)
	}
}

// fieldsOf computes only the fields that a selector asks for.
type fieldsOf struct {
	kind *api.Kind
	obj  api.Object
}

func (f fieldsOf) Has(name string) bool { return f.kind.Fields[name] != nil }
func (f fieldsOf) Get(name string) string {
	get := f.kind.Fields[name]
	if get == nil {
		return ""
	}
	return get(f.obj)
}

// revisionAsked reads resourceVersion: how fresh a read must be.
func (r *request) revisionAsked() (int64, error) {
	switch v := r.query.Get("resourceVersion"); v {
	case "":
		return store.Latest, nil
	case "0":
		return store.Any, nil
	default:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			_, err := strconv.ParseUint(v, 10, 64)
			if err == nil {
				err = strconv.ErrRange
			}
			return 0, apierrors.NewBadRequest("invalid resource version: " + field.Invalid(field.NewPath("resourceVersion"), v, err.Error()).Error())
		}
		return n, nil
	}
}

// checkListOptions refuses combinations that have no meaning, as documented.
func (r *request) checkListOptions() error {
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&r.query, &metav1.ListOptions{}, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	errs := listOptionErrors(r.query, r.verb == "watch")
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", errs)
}

func listOptionErrors(q url.Values, watch bool) (errs field.ErrorList) {
	const exact, newer = metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan
	path, initial := field.NewPath("resourceVersionMatch"), q.Get("sendInitialEvents") != ""
	match, version := metav1.ResourceVersionMatch(q.Get("resourceVersionMatch")), q.Get("resourceVersion")
	forbid := func(when bool, path *field.Path, text string) {
		if when {
			errs = append(errs, field.Forbidden(path, text))
		}
	}
	if watch {
		forbid(initial && match != newer, path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
		if match == "" {
			return errs
		}
		forbid(!initial, path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
		if match != newer {
			errs = append(errs, field.NotSupported(path, match, []metav1.ResourceVersionMatch{newer}))
		}
		forbid(q.Get("continue") != "", path, "resourceVersionMatch is forbidden when continue is provided")
		return errs
	}
	forbid(initial, field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list")
	if match == "" {
		return errs
	}
	forbid(version == "", path, "resourceVersionMatch is forbidden unless resourceVersion is provided")
	forbid(q.Get("continue") != "", path, "resourceVersionMatch is forbidden when continue is provided")
	if match != exact && match != newer {
		errs = append(errs, field.NotSupported(path, match, []metav1.ResourceVersionMatch{exact, newer, ""}))
	}
	forbid(match == exact && version == "0", path, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`)
	return errs
}
