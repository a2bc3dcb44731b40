package admissionregistration

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/internal/expression"
)

const maxMatchConditions = 64

func validateMatchConditions(conditions []admissionv1.MatchCondition, params bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(conditions) > maxMatchConditions {
		return field.ErrorList{field.TooMany(path, len(conditions), maxMatchConditions)}
	}
	seen := map[string]bool{}
	for i, c := range conditions {
		path := path.Index(i)
		if text := strings.TrimSpace(c.Expression); text == "" {
			errs = append(errs, field.Required(path.Child("expression"), ""))
		} else {
			uses := expression.Uses{Params: params, Authorizer: true}
			errs = append(errs, compiles(expression.Plain(), text, uses, path.Child("expression"), cel.BoolType)...)
		}
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(path.Child("name"), ""))
		default:
			errs = append(errs, qualified(c.Name, path.Child("name"))...)
		}
		if c.Name != "" && seen[c.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		}
		seen[c.Name] = true
	}
	return errs
}

func qualified(name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

// compiles refuses an expression that does not.
func compiles(c *expression.Compiler, text string, uses expression.Uses, path *field.Path, returns ...*cel.Type) field.ErrorList {
	if _, err := c.Compile(text, uses, returns...); err != nil {
		return field.ErrorList{field.Invalid(path, text, err.Error())}
	}
	return nil
}

// reserved words of CEL cannot name a variable.
var reserved = []string{
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
	"loop", "package", "namespace", "return", "var", "void", "while",
}

func isIdentifier(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && !slices.Contains(reserved, name)
}

// validateVariables makes a compiler that knows them.
func validateVariables(variables []admissionv1.Variable, params bool, path *field.Path) (*expression.Compiler, field.ErrorList) {
	var errs field.ErrorList
	c := expression.NewCompiler()
	for i, v := range variables {
		path := path.Index(i)
		switch {
		case strings.TrimSpace(v.Name) == "":
			errs = append(errs, field.Required(path.Child("name"), "name is not specified"))
		case !isIdentifier(v.Name):
			errs = append(errs, field.Invalid(path.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
			continue
		}
		if err := c.Variable(v.Name, v.Expression, expression.Uses{Params: params, Authorizer: true}); err != nil {
			errs = append(errs, field.Invalid(path.Child("expression"), v.Expression, err.Error()))
		}
	}
	return c, errs
}

func validateParamKind(k *admissionv1.ParamKind, path *field.Path) field.ErrorList {
	if k == nil {
		return nil
	}
	errs := validateParamVersion(k.APIVersion, path.Child("apiVersion"))
	if k.Kind == "" {
		return append(errs, field.Required(path.Child("kind"), ""))
	}
	if msgs := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(path.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

func validateParamVersion(text string, path *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if strings.Count(text, "/") > 1 {
		return field.ErrorList{field.Invalid(path, text, "unexpected GroupVersion string: "+text)}
	}
	group, version, both := strings.Cut(text, "/")
	if !both {
		group, version = "", text
	}
	var errs field.ErrorList
	if group != "" {
		if msgs := validation.IsDNS1123Subdomain(group); len(msgs) > 0 {
			errs = append(errs, field.Invalid(path, group, strings.Join(msgs, ",")))
		}
	}
	if version == "" {
		return append(errs, field.Invalid(path, text, "version must be specified"))
	}
	if msgs := validation.IsDNS1035Label(version); len(msgs) > 0 {
		errs = append(errs, field.Invalid(path, version, strings.Join(msgs, ",")))
	}
	return errs
}
