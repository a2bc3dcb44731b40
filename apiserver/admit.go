package apiserver

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
)

// optionsVersion is what the options of writes say they are to admission.
const optionsVersion = "meta.k8s.io/v1"

// admissionOptions are the options of a create or update, as admission is shown them.
func (r *request) admissionOptions(op admission.Operation) runtime.Object {
	dry, manager, validation := r.query["dryRun"], r.query.Get("fieldManager"), r.query.Get("fieldValidation")
	switch op {
	case admission.Create:
		return &metav1.CreateOptions{
			TypeMeta: metav1.TypeMeta{Kind: "CreateOptions", APIVersion: optionsVersion},
			DryRun:   dry, FieldManager: manager, FieldValidation: validation,
		}
	case admission.Update:
		return &metav1.UpdateOptions{
			TypeMeta: metav1.TypeMeta{Kind: "UpdateOptions", APIVersion: optionsVersion},
			DryRun:   dry, FieldManager: manager, FieldValidation: validation,
		}
	}
	return nil
}

// changeFor is what admission is told of a change: the objects, or their Scales when that
// is what the client changes. adopt takes over what mutation made of a Scale.
func (r *request) changeFor(obj, old api.Object, dryRun bool) (a *admission.Attributes, adopt func()) {
	if !r.scaled {
		return r.attributesFor(admission.Update, obj, old, dryRun), func() {}
	}
	scale := r.scaleOf(obj)
	a = r.attributesFor(admission.Update, scale, r.scaleOf(old), dryRun)
	a.Subresource, a.ObjectKind = "scale", scale.GroupVersionKind()
	return a, func() {
		if s, ok := a.Object.(*autoscalingv1.Scale); ok {
			r.kind.Scale.Set(obj, s.Spec.Replicas)
		}
	}
}

// admitBody asks admission about what a client sends to a subresource that is no part of
// the object: an action's body, the options of a connection.
func (r *request) admitBody(op admission.Operation, body runtime.Object, gvk schema.GroupVersionKind, dryRun bool) error {
	a := r.attributesFor(op, nil, nil, dryRun)
	a.Object, a.ObjectKind = body, gvk
	if r.kind.Virtual != nil && a.Name == "" {
		if m, ok := body.(metav1.Object); ok {
			a.Name = m.GetName()
		}
	}
	if err := r.s.cfg.Admission.Mutate(r.r.Context(), a); err != nil {
		return err
	}
	return r.s.cfg.Admission.Validate(r.r.Context(), a)
}

// admitConnect asks admission about a connection; logs are only read.
func (r *request) admitConnect() error {
	if r.sub == "log" || r.connect.New == nil {
		return nil
	}
	options := r.connect.New()
	gvk := schema.GroupVersionKind{Version: "v1", Kind: r.connect.Kind}
	readQuery(options, r.query)
	if f := reflect.ValueOf(options).Elem().FieldByName("Path"); f.IsValid() && f.Kind() == reflect.String {
		f.SetString(r.rest)
	}
	options.GetObjectKind().SetGroupVersionKind(gvk)
	return r.admitBody(admission.Connect, options, gvk, false)
}

// readQuery fills in a struct of options from a query, by its JSON names. What cannot be
// read is left out: the other end of the connection judges it.
func readQuery(into runtime.Object, query url.Values) {
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		values := query[name]
		if name == "" || len(values) == 0 {
			continue
		}
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(values[0])
		case reflect.Bool:
			f.SetBool(values[0] != "0" && !strings.EqualFold(values[0], "false"))
		case reflect.Slice:
			readList(f, values)
		}
	}
}

func readList(f reflect.Value, values []string) {
	switch f.Type().Elem().Kind() {
	case reflect.String:
		f.Set(reflect.ValueOf(values))
	case reflect.Int32:
		for _, text := range values {
			if n, err := strconv.ParseInt(text, 10, 32); err == nil {
				f.Set(reflect.Append(f, reflect.ValueOf(int32(n))))
			}
		}
	}
}

// Merge applies a configuration to an object of a kind that is served, for admission.
func (s *Server) Merge(k *api.Kind, obj runtime.Object, configuration map[string]any) (runtime.Object, error) {
	served := s.table.Load().kinds[k]
	if served == nil {
		return nil, fmt.Errorf("%s is not served", k.GroupVersionKind)
	}
	f, err := served.managed(s.cfg.Scheme)
	if err != nil {
		return nil, err
	}
	return f.Merge(obj, configuration)
}
