package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type deviceClass = *resourcev1.DeviceClass

var deviceClasses = api.Define(api.Resource[deviceClass]{
	Group: resourcev1.GroupName, Version: "v1", Kind: "DeviceClass", Plural: "deviceclasses",
	Alike:               []string{"v1beta2", "v1beta1"},
	UnconditionalUpdate: true,
	HasGeneration:       true,
	Validate: func(c deviceClass) field.ErrorList {
		path := field.NewPath("spec")
		errs := each(c.Spec.Selectors, resourcev1.DeviceSelectorsMaxSize, path.Child("selectors"), selector)
		errs = append(errs, each(c.Spec.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"),
			func(c *resourcev1.DeviceClassConfiguration, at *field.Path) field.ErrorList {
				return configuration(&c.DeviceConfiguration, at)
			})...)
		return append(errs, extendedName(c.Spec.ExtendedResourceName, path.Child("extendedResourceName"))...)
	},
	Columns: []api.Column[deviceClass]{api.Age[deviceClass]()},
})

func extendedName(name *string, path *field.Path) field.ErrorList {
	if name == nil {
		return nil
	}
	bad := func(text string) field.ErrorList { return field.ErrorList{field.Invalid(path, *name, text)} }
	switch {
	case !strings.Contains(*name, "/") || strings.Contains(*name, "kubernetes.io/"):
		return bad("must be a fully qualified name outside of the kubernetes.io domain")
	case strings.HasPrefix(*name, "requests."):
		return bad("must not begin with requests.")
	}
	return check.Each(path, *name, validation.IsQualifiedName(*name))
}

func selector(s *resourcev1.DeviceSelector, path *field.Path) field.ErrorList {
	if s.CEL == nil {
		return field.ErrorList{field.Required(path.Child("cel"), "")}
	}
	at := path.Child("cel", "expression")
	if s.CEL.Expression == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if errs := check.Longest(at, s.CEL.Expression, resourcev1.CELSelectorExpressionMaxLength); len(errs) > 0 {
		return errs
	}
	return expression(s.CEL.Expression, at)
}

func configuration(c *resourcev1.DeviceConfiguration, path *field.Path) field.ErrorList {
	at := path.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := driver(c.Opaque.Driver, at.Child("driver"))
	return append(errs, jsonObject(c.Opaque.Parameters, true, resourcev1.OpaqueParametersMaxLength, at.Child("parameters"))...)
}

// jsonObject wants an object in JSON, of limited size.
func jsonObject(raw runtime.RawExtension, required bool, limit int, path *field.Path) field.ErrorList {
	const hidden = "<value omitted>"
	switch {
	case len(raw.Raw) == 0:
		if required {
			return field.ErrorList{field.Required(path, "")}
		}
		return nil
	case len(raw.Raw) > limit:
		return field.ErrorList{field.TooLong(path, "", limit)}
	}
	var value any
	if err := json.Unmarshal(raw.Raw, &value); err != nil {
		return field.ErrorList{field.Invalid(path, hidden, fmt.Sprintf("error parsing data as JSON: %v", err.Error()))}
	}
	if value == nil || !bytes.HasPrefix(bytes.TrimSpace(raw.Raw), []byte("{")) {
		return field.ErrorList{field.Invalid(path, hidden, "must be a valid JSON object")}
	}
	return nil
}
