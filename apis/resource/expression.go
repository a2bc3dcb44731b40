package resource

import (
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/library"
)

// environment is what selectors are written against: a device with its driver, attributes
// and capacity by domain. The types of these are known only once a driver publishes them.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("device", cel.MapType(cel.StringType, cel.DynType)),
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(),
		ext.Strings(ext.StringsVersion(2)), ext.Sets(), ext.Bindings(), ext.TwoVarComprehensions(),
		library.URLs(), library.Regex(), library.Lists(), library.Quantity(), library.IP(), library.CIDR(), library.Format(), library.SemverLib(),
	)
})

// expression compiles a selector, to refuse it now rather than when a pod waits for it.
func expression(text string, path *field.Path) field.ErrorList {
	env, err := environment()
	if err != nil {
		return field.ErrorList{field.InternalError(path, err)}
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return field.ErrorList{field.Invalid(path, text, "compilation failed: "+issues.String())}
	}
	if out := ast.OutputType(); out != cel.BoolType && out != cel.AnyType && out != cel.DynType {
		return field.ErrorList{field.Invalid(path, text, "must evaluate to bool or the unknown type, not "+out.String())}
	}
	return nil
}
