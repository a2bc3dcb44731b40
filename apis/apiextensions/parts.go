package apiextensions

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	crdschema "github.com/proa-dev/proa/apis/apiextensions/schema"
)

func checkSubresources(s *apiextensionsv1.CustomResourceSubresources, path *field.Path) (errs field.ErrorList) {
	if s == nil || s.Scale == nil {
		return nil
	}
	replicas := func(at *field.Path, value, part string) {
		switch faults := checkJSONPath(value, at); {
		case value == "":
			errs = append(errs, field.Required(at, ""))
		case len(faults) > 0:
			errs = append(errs, faults...)
		case !strings.HasPrefix(value, part+"."):
			errs = append(errs, field.Invalid(at, value, "should be a json path under "+part))
		}
	}
	replicas(path.Child("scale.specReplicasPath"), s.Scale.SpecReplicasPath, ".spec")
	replicas(path.Child("scale.statusReplicasPath"), s.Scale.StatusReplicasPath, ".status")
	if selector := s.Scale.LabelSelectorPath; selector != nil && *selector != "" {
		at := path.Child("scale.labelSelectorPath")
		if faults := checkJSONPath(*selector, at); len(faults) > 0 {
			errs = append(errs, faults...)
		} else if !strings.HasPrefix(*selector, ".spec.") && !strings.HasPrefix(*selector, ".status.") {
			errs = append(errs, field.Invalid(at, *selector, "should be a json path under either .spec or .status"))
		}
	}
	return errs
}

func checkJSONPath(s string, path *field.Path) field.ErrorList {
	switch {
	case s == "":
		return field.ErrorList{field.Invalid(path, s, "must not be empty")}
	case s[0] != '.':
		return field.ErrorList{field.Invalid(path, s, "must be a simple json path starting with .")}
	}
	return nil
}

var (
	columnTypes   = []string{"boolean", "date", "integer", "number", "string"}
	columnFormats = []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
)

func checkColumn(c *apiextensionsv1.CustomResourceColumnDefinition, path *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	types := "must be one of " + strings.Join(columnTypes, ",")
	if c.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), types))
	} else if !slices.Contains(columnTypes, c.Type) {
		errs = append(errs, field.Invalid(path.Child("type"), c.Type, types))
	}
	if c.Format != "" && !slices.Contains(columnFormats, c.Format) {
		errs = append(errs, field.Invalid(path.Child("format"), c.Format, "must be one of "+strings.Join(columnFormats, ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(path.Child("JSONPath"), ""))
	}
	return append(errs, checkJSONPath(c.JSONPath, path.Child("JSONPath"))...)
}

const maxSelectable = 8

func checkSelectable(v *apiextensionsv1.CustomResourceDefinitionVersion, path *field.Path) (errs field.ErrorList) {
	if len(v.SelectableFields) == 0 {
		return nil
	}
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return field.ErrorList{field.Invalid(path, "", "may only be set when validations.schema is included")}
	}
	s, err := crdschema.New(v.Schema.OpenAPIV3Schema)
	if err != nil {
		return nil // said of the schema
	}
	seen := map[string]bool{}
	for i, f := range v.SelectableFields {
		at := path.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		found, names, err := s.At(f.JSONPath, false)
		if err != nil {
			errs = append(errs, field.Invalid(at, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err)))
			continue
		}
		if names[0] == "metadata" {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must not point to fields in metadata"))
		}
		if !slices.Contains([]string{"string", "boolean", "integer"}, found.Props().Type) {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if seen[f.JSONPath] {
			errs = append(errs, field.Duplicate(at, f.JSONPath))
		}
		seen[f.JSONPath] = true
	}
	if len(seen) > maxSelectable {
		errs = append(errs, field.TooMany(path, len(seen), maxSelectable))
	}
	return errs
}

func checkConversion(c *apiextensionsv1.CustomResourceConversion, _, old *Definition, path *field.Path) (errs field.ErrorList) {
	if c == nil {
		return nil
	}
	errs = oneOf(path.Child("strategy"), string(c.Strategy), []string{string(apiextensionsv1.NoneConverter), string(apiextensionsv1.WebhookConverter)})
	if c.Strategy != apiextensionsv1.WebhookConverter {
		if c.Webhook != nil && c.Webhook.ClientConfig != nil {
			errs = append(errs, field.Forbidden(path.Child("webhookClientConfig"), "should not be set when strategy is not set to Webhook"))
		}
		if c.Webhook != nil && len(c.Webhook.ConversionReviewVersions) > 0 {
			errs = append(errs, field.Forbidden(path.Child("conversionReviewVersions"), "should not be set when strategy is not set to Webhook"))
		}
		return errs
	}
	w := c.Webhook
	if w == nil {
		w = &apiextensionsv1.WebhookConversion{}
	}
	errs = append(errs, checkClient(w.ClientConfig, old, path.Child("webhookClientConfig"))...)
	return append(errs, checkReviewVersions(w.ConversionReviewVersions, path.Child("conversionReviewVersions"))...)
}

func checkClient(c *apiextensionsv1.WebhookClientConfig, old *Definition, path *field.Path) (errs field.ErrorList) {
	switch {
	case c == nil:
		return field.ErrorList{field.Required(path, "required when strategy is set to Webhook")}
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(path, "exactly one of url or service is required"))
	case c.URL != nil:
		errs = append(errs, checkURL(*c.URL, path.Child("url"))...)
	default:
		errs = append(errs, checkService(c.Service, path.Child("service"))...)
	}
	// A bundle may come after the definition, and one that was accepted once may stay.
	if len(c.CABundle) > 0 && old != nil && IsTrue(old, apiextensionsv1.Established) && !hadInvalidBundle(old) {
		if err := invalidBundle(c.CABundle); err != nil {
			errs = append(errs, field.Invalid(path.Child("caBundle"), c.CABundle, fmt.Sprintf("unable to load root certificates: %v", err)))
		}
	}
	return errs
}

func hadInvalidBundle(old *Definition) bool {
	c := old.Spec.Conversion
	if c == nil || c.Webhook == nil || c.Webhook.ClientConfig == nil || len(c.Webhook.ClientConfig.CABundle) == 0 {
		return false
	}
	return invalidBundle(c.Webhook.ClientConfig.CABundle) != nil
}

func checkURL(s string, path *field.Path) (errs field.ErrorList) {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(s)
	if err != nil {
		return field.ErrorList{field.Required(path, "url must be a valid URL: "+err.Error()+form)}
	}
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(path, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(path, u.Host, "host must be specified"+form))
	}
	for _, part := range []struct {
		set        bool
		what, text string
	}{
		{u.User != nil, u.User.String(), "user information is not permitted in the URL"},
		{u.Fragment != "", u.Fragment, "fragments are not permitted in the URL"},
		{u.RawQuery != "", u.RawQuery, "query parameters are not permitted in the URL"},
	} {
		if part.set {
			errs = append(errs, field.Invalid(path, part.what, part.text))
		}
	}
	return errs
}

func checkService(s *apiextensionsv1.ServiceReference, path *field.Path) (errs field.ErrorList) {
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	if s.Namespace == "" {
		errs = append(errs, field.Required(path.Child("namespace"), ""))
	}
	if p := s.Port; p != nil {
		if msgs := validation.IsValidPortNum(int(*p)); len(msgs) > 0 {
			errs = append(errs, field.Invalid(path.Child("port"), *p, "port is not valid: "+strings.Join(msgs, ",")))
		}
	}
	if s.Path == nil || *s.Path == "/" || *s.Path == "" {
		return errs
	}
	at := path.Child("path")
	if *s.Path == "//" {
		return append(errs, field.Invalid(at, *s.Path, "segment[0] may not be empty"))
	}
	if !strings.HasPrefix(*s.Path, "/") {
		errs = append(errs, field.Invalid(at, *s.Path, "must start with a '/'"))
	}
	for i, part := range strings.Split(strings.TrimSuffix((*s.Path)[1:], "/"), "/") {
		if part == "" {
			errs = append(errs, field.Invalid(at, *s.Path, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(part) {
			errs = append(errs, field.Invalid(at, *s.Path, fmt.Sprintf("segment[%d]: %v", i, msg)))
		}
	}
	return errs
}

func checkReviewVersions(versions []string, path *field.Path) (errs field.ErrorList) {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	accepted := false
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(path.Index(i), v, "duplicate version"))
			continue
		}
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(path.Index(i), v, msg))
		}
		accepted = accepted || v == "v1" || v == "v1beta1"
	}
	if !accepted {
		errs = append(errs, field.Invalid(path, versions, "must include at least one of v1, v1beta1"))
	}
	return errs
}
