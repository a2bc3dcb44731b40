package apiextensions

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	crdschema "github.com/proa-dev/proa/apis/apiextensions/schema"
)

func validate(d *Definition) (errs field.ErrorList) {
	if want := d.Spec.Names.Plural + "." + d.Spec.Group; d.Name != want { // it is named after what it defines
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`))
	}
	return append(errs, check(d, nil)...)
}

func validateUpdate(d, old *Definition) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if IsTrue(old, apiextensionsv1.Established) {
		errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Scope, old.Spec.Scope, spec.Child("scope"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Names.Kind, old.Spec.Names.Kind, spec.Child("names", "kind"))...)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Group, old.Spec.Group, spec.Child("group"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Names.Plural, old.Spec.Names.Plural, spec.Child("names", "plural"))...)
	return append(check(d, old), errs...)
}

func validateStatus(d, _ *Definition) field.ErrorList {
	return checkNames(&d.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
}

// check is what is wrong with a definition; old is nil on create.
func check(d, old *Definition) (errs field.ErrorList) {
	errs = checkSpec(d, old)
	errs = append(errs, checkNames(&d.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))...)
	errs = append(errs, checkStored(d, field.NewPath("status", "storedVersions"))...)
	errs = append(errs, checkApproval(d, old)...)
	if d.Spec.PreserveUnknownFields && (old == nil || !old.Spec.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	return errs
}

func checkSpec(d, old *Definition) (errs field.ErrorList) {
	spec, path := &d.Spec, field.NewPath("spec")
	switch msgs := validation.IsDNS1123Subdomain(spec.Group); {
	case spec.Group == "":
		errs = append(errs, field.Required(path.Child("group"), ""))
	case len(msgs) > 0:
		errs = append(errs, field.Invalid(path.Child("group"), spec.Group, strings.Join(msgs, ",")))
	case !strings.Contains(spec.Group, "."):
		errs = append(errs, field.Invalid(path.Child("group"), spec.Group, "should be a domain with at least one dot"))
	}
	scopes := []string{string(apiextensionsv1.ClusterScoped), string(apiextensionsv1.NamespaceScoped)}
	errs = append(errs, oneOf(path.Child("scope"), string(spec.Scope), scopes)...)
	for i, v := range spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Required(path.Child("versions").Index(i).Child("schema").Child("openAPIV3Schema"), ""))
		}
	}
	if spec.PreserveUnknownFields && slices.ContainsFunc(spec.Versions, hasDefaults) {
		errs = append(errs, field.Invalid(path.Child("preserveUnknownFields"), true, "must be false in order to use defaults in the schema"))
	}
	errs = append(errs, checkVersions(d, old, path)...)
	if len(spec.Versions) > 0 { // said once more of the field that versions had before there were several
		if msgs := validation.IsDNS1035Label(spec.Versions[0].Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(path.Child("version"), spec.Versions[0].Name, strings.Join(msgs, ",")))
		}
	}
	for _, n := range []struct{ name, value string }{
		{"plural", spec.Names.Plural}, {"singular", spec.Names.Singular}, {"kind", spec.Names.Kind}, {"listKind", spec.Names.ListKind},
	} {
		if n.value == "" {
			errs = append(errs, field.Required(path.Child("names", n.name), ""))
		}
	}
	errs = append(errs, checkNames(&spec.Names, path.Child("names"))...)
	return append(errs, checkConversion(spec.Conversion, d, old, path.Child("conversion"))...)
}

func hasDefaults(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
	return v.Schema != nil && crdschema.HasDefaults(v.Schema.OpenAPIV3Schema)
}

func oneOf(path *field.Path, value string, allowed []string) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(allowed, value):
		return field.ErrorList{field.NotSupported(path, value, allowed)}
	}
	return nil
}

// checkVersions checks each version, and what they must be together.
func checkVersions(d, old *Definition, path *field.Path) (errs field.ErrorList) {
	versions, names, storage := d.Spec.Versions, map[string]bool{}, 0
	for i := range versions {
		v, at := &versions[i], path.Child("versions").Index(i)
		if v.Storage {
			storage++
		}
		names[v.Name] = true
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, strings.Join(msgs, ",")))
		}
		errs = append(errs, checkVersion(d, old, i, at)...)
	}
	if len(names) != len(versions) {
		errs = append(errs, field.Invalid(path.Child("versions"), versions, "must contain unique version names"))
	}
	if storage != 1 {
		errs = append(errs, field.Invalid(path.Child("versions"), versions, "must have exactly one version marked as storage version"))
	}
	return errs
}

func checkVersion(d, old *Definition, i int, path *field.Path) (errs field.ErrorList) {
	v, spec := &d.Spec.Versions[i], field.NewPath("spec")
	if text := v.DeprecationWarning; text != nil {
		for _, msg := range deprecationFaults(v.Deprecated, *text) {
			errs = append(errs, field.Invalid(path.Child("deprecationWarning"), *text, msg))
		}
	}
	// What all versions have alike is known, and reported, as one for all of them, once.
	at := func(same bool, one, all string) *field.Path {
		if same {
			return spec.Child(all)
		}
		return path.Child(one)
	}
	alike := func(part func(*apiextensionsv1.CustomResourceDefinitionVersion) any) (same, first bool) {
		for j := range d.Spec.Versions {
			if !reflect.DeepEqual(part(&d.Spec.Versions[j]), part(v)) {
				return false, true
			}
		}
		return true, i == 0
	}
	same, first := alike(func(v *apiextensionsv1.CustomResourceDefinitionVersion) any { return v.Schema })
	if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil && first {
		errs = append(errs, crdschema.Check(v.Schema.OpenAPIV3Schema, at(same, "schema", "validation").Child("openAPIV3Schema"), schemaOptions(v, old))...)
	}
	if same, first := alike(func(v *apiextensionsv1.CustomResourceDefinitionVersion) any { return v.Subresources }); first {
		errs = append(errs, checkSubresources(v.Subresources, at(same, "subresources", "subresources"))...)
	}
	if same, first := alike(func(v *apiextensionsv1.CustomResourceDefinitionVersion) any { return v.AdditionalPrinterColumns }); first {
		for j := range v.AdditionalPrinterColumns {
			errs = append(errs, checkColumn(&v.AdditionalPrinterColumns[j], at(same, "additionalPrinterColumns", "additionalPrinterColumns").Index(j))...)
		}
	}
	if same, first := alike(func(v *apiextensionsv1.CustomResourceDefinitionVersion) any { return v.SelectableFields }); first {
		errs = append(errs, checkSelectable(v, at(same, "selectableFields", "selectableFields"))...)
	}
	return errs
}

// schemaOptions finds what of a version's schema was accepted before.
func schemaOptions(v *apiextensionsv1.CustomResourceDefinitionVersion, old *Definition) crdschema.Options {
	o := crdschema.Options{Status: v.Subresources != nil && v.Subresources.Status != nil}
	if old == nil {
		return o
	}
	known := map[string]bool{}
	for _, was := range old.Spec.Versions {
		if was.Schema == nil || was.Schema.OpenAPIV3Schema == nil {
			continue
		}
		crdschema.Expressions(was.Schema.OpenAPIV3Schema, known)
		if was.Name == v.Name && reflect.DeepEqual(was.Schema, v.Schema) {
			o.Unchanged = true
		}
	}
	o.Stored = func(expression string) bool { return known[expression] }
	return o
}

func deprecationFaults(deprecated bool, text string) (msgs []string) {
	if !deprecated {
		return []string{"can only be set for deprecated versions"}
	}
	if len(text) > 256 {
		msgs = append(msgs, "must be <= 256 characters long")
	}
	if text == "" {
		msgs = append(msgs, "must not be an empty string")
	}
	for i, r := range text {
		if !unicode.IsPrint(r) {
			msgs = append(msgs, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))
			break
		}
	}
	if !utf8.ValidString(text) {
		msgs = append(msgs, "must only contain printable UTF-8 characters")
	}
	return msgs
}

func checkNames(n *apiextensionsv1.CustomResourceDefinitionNames, path *field.Path) (errs field.ErrorList) {
	label := func(path *field.Path, value, lower, prefix string) {
		if msgs := validation.IsDNS1035Label(lower); value != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(path, value, prefix+strings.Join(msgs, ",")))
		}
	}
	label(path.Child("plural"), n.Plural, n.Plural, "")
	label(path.Child("singular"), n.Singular, n.Singular, "")
	const mixed = "may have mixed case, but should otherwise match: "
	label(path.Child("kind"), n.Kind, strings.ToLower(n.Kind), mixed)
	label(path.Child("listKind"), n.ListKind, strings.ToLower(n.ListKind), mixed)
	each := func(path *field.Path, values []string) {
		for i, v := range values {
			if msgs := validation.IsDNS1035Label(v); len(msgs) > 0 {
				errs = append(errs, field.Invalid(path.Index(i), v, strings.Join(msgs, ",")))
			}
		}
	}
	each(path.Child("shortNames"), n.ShortNames)
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(path.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	each(path.Child("categories"), n.Categories)
	return errs
}

// checkStored: a version in which objects may be stored cannot go.
func checkStored(d *Definition, path *field.Path) (errs field.ErrorList) {
	stored := d.Status.StoredVersions
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(path, stored, "must have at least one stored version")}
	}
	names := map[string]bool{}
	for _, v := range d.Spec.Versions {
		// Of two versions with one name the first is the one that was stored.
		if again := names[v.Name]; v.Storage && (again || !slices.Contains(stored, v.Name)) {
			errs = append(errs, field.Invalid(path, stored, "must have the storage version "+v.Name))
		}
		names[v.Name] = true
	}
	for i, v := range stored {
		if !names[v] {
			errs = append(errs, field.Invalid(path.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)))
		}
	}
	return errs
}

// Approval is what a definition in a group of the Kubernetes project says about its approval: a reason of the
// condition ("" for other groups), and the text beside it.
func Approval(d *Definition) (reason, text string) {
	const key = apiextensionsv1.KubeAPIApprovedAnnotation
	protected := false
	for _, domain := range []string{"k8s.io", "kubernetes.io"} {
		protected = protected || d.Spec.Group == domain || strings.HasSuffix(d.Spec.Group, "."+domain)
	}
	if !protected {
		return "", ""
	}
	said := d.Annotations[key]
	switch u, err := url.ParseRequestURI(said); {
	case said == "":
		return "MissingAnnotation", fmt.Sprintf("protected groups must have approval annotation %q, see https://github.com/kubernetes/enhancements/pull/1111", key)
	case strings.HasPrefix(said, "unapproved"):
		return "UnapprovedAnnotation", fmt.Sprintf("not approved: %q", said)
	case err == nil && u.Host != "" && u.Scheme != "":
		return "ApprovedAnnotation", fmt.Sprintf("approved in %v", said)
	}
	return "InvalidAnnotation", fmt.Sprintf("protected groups must have approval annotation %q with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111", key)
}

func checkApproval(d, old *Definition) field.ErrorList {
	reason, text := Approval(d)
	if old != nil {
		if was, _ := Approval(old); was == reason {
			return nil
		}
	}
	path := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	switch reason {
	case "MissingAnnotation":
		return field.ErrorList{field.Required(path, text)}
	case "InvalidAnnotation":
		return field.ErrorList{field.Invalid(path, d.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation], text)}
	}
	return nil
}

// invalidBundle is why a bundle of CA certificates cannot be used; nil when it can.
func invalidBundle(bundle []byte) error {
	found := false
	for rest := bundle; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return fmt.Errorf("data does not contain any valid RSA or ECDSA certificates")
	}
	return nil
}
