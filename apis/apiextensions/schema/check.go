package schema

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// Limits of what the rules of a definition may cost, by estimate.
const (
	ruleCost       = 10_000_000
	definitionCost = 100_000_000
)

// Options of Check.
type Options struct {
	Status bool // the version has the status subresource
	// Stored says of a CEL expression that the definition had it before; nil: none.
	Stored func(expression string) bool
	// Unchanged: the schema was accepted before, what its rules cost is not asked again.
	Unchanged bool
}

// Check returns what is wrong with the schema of a definition, whose path (of openAPIV3Schema) is given.
func Check(p *Props, path *field.Path, o Options) field.ErrorList {
	var errs field.ErrorList
	if o.Status {
		errs = append(errs, withStatus(p, path)...)
	}
	if p.Nullable {
		errs = append(errs, field.Forbidden(path.Child("nullable"), "nullable cannot be true at the root"))
	}
	odd := structural(p, atRoot, path)
	errs = append(errs, odd...)
	wrong := keywords(p, path, place{root: true})
	s, err := New(p)
	if err != nil && len(errs)+len(wrong) == 0 {
		return append(errs, field.Invalid(path, "", err.Error()))
	}
	if err == nil && len(odd) == 0 {
		errs = append(errs, s.defaults(path, true, false)...)
	}
	if errs = append(errs, wrong...); len(errs) > 0 {
		return errs
	}
	if !s.anyRule {
		return nil
	}
	stored := o.Stored
	if stored == nil {
		stored = func(string) bool { return false }
	}
	one := uint64(1)
	c := &ruleCheck{stored: stored, unchanged: o.Unchanged}
	c.node(s, s, path, true, &one, nil)
	return append(c.errs, c.total(path)...)
}

// withStatus: the status is a part of the object that is validated by itself.
func withStatus(p *Props, path *field.Path) (errs field.ErrorList) {
	if p.Type != "object" {
		errs = append(errs, field.Invalid(path.Child("type"), p.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`))
	}
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() && !slices.Contains(rootKeywords, v.Type().Field(i).Name) {
			return append(errs, field.Invalid(path, *p, fmt.Sprintf(`only %v fields are allowed at the root of the schema if the status subresource is enabled`, rootKeywords)))
		}
	}
	return errs
}

var rootKeywords = []string{
	"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
	"MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
	"ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
}

// defaults finds defaults that are no valid values.
func (s *Schema) defaults(path *field.Path, whole, inMeta bool) (errs field.ErrorList) {
	if s == nil || !s.anyDefault {
		return nil
	}
	inMeta = inMeta && !s.Embedded
	if s.hasDefault {
		errs = append(errs, s.checkDefault(path.Child("default"), inMeta)...)
	}
	errs = append(errs, s.Items.defaults(path.Child("items"), false, inMeta)...)
	for _, name := range sortedProps(s.props.Properties) {
		meta := inMeta || (whole || s.Embedded) && (name == "metadata" || name == "apiVersion" || name == "kind")
		errs = append(errs, s.Properties[name].defaults(path.Child("properties").Key(name), false, meta)...)
	}
	return append(errs, s.Additional.defaults(path.Child("additionalProperties"), false, inMeta)...)
}

func (s *Schema) checkDefault(path *field.Path, inMeta bool) (errs field.ErrorList) {
	v := s.fallback
	if !inMeta {
		pruned := copyOf(v)
		s.prune(pruned, s.Embedded)
		if !reflect.DeepEqual(pruned, v) {
			errs = append(errs, field.Invalid(path, v, "must not have unknown fields"))
		}
	}
	c := coercer{}
	if err := c.value(s, copyOf(v), path); err != nil {
		return append(errs, field.Invalid(path, v, err.Error()))
	}
	errs = append(errs, s.embedded(path, v, s.Embedded)...)
	wrong := s.values(path, v, nil)
	for _, err := range wrong { // which name values as from the default on
		err.Detail = strings.ReplaceAll(strings.ReplaceAll(err.Detail, path.String()+".", ""), path.String(), "")
	}
	if errs = append(errs, wrong...); len(errs) > 0 {
		return errs
	}
	e := &evaluation{ctx: context.Background(), budget: celconfig.RuntimeCELCostBudget}
	e.value(s, s, s.Embedded, path, v, nil, pair{})
	return e.errs
}

// ruleCheck compiles the rules of a schema and adds up what they may cost.
type ruleCheck struct {
	stored    isStored
	unchanged bool
	errs      field.ErrorList
	sum       uint64
	dear      []ruleSum
}

type ruleSum struct {
	path *field.Path
	cost uint64
}

// node checks the rules of s over values of the schema node. times is how many such values an object can
// have, nil when nothing bounds them; lost is the list in which elements have no past.
func (c *ruleCheck) node(s, node *Schema, path *field.Path, whole bool, times *uint64, lost *field.Path) {
	if s == nil || node == nil || !s.anyRule {
		return
	}
	c.rules(s, node, path.Child("x-kubernetes-validations"), whole, times, lost)
	inside := bound(node, times)
	for _, name := range sortedProps(s.props.Properties) {
		if shape := node.child(name); shape != nil {
			c.node(s.Properties[name], shape, path.Child("properties").Key(name), shape.Embedded, inside, lost)
		}
	}
	if s.Additional != nil && node.Additional != nil {
		c.node(s.Additional, node.Additional, path.Child("additionalProperties"), node.Additional.Embedded, inside, lost)
	}
	if s.Items != nil && node.Items != nil {
		if lost == nil && node.listType != "map" {
			lost = path
		}
		c.node(s.Items, node.Items, path.Child("items"), node.Items.Embedded, inside, lost)
	}
	for i, one := range s.allOf {
		c.node(one, node, path.Child("allOf").Index(i), whole, times, lost)
	}
}

// bound is how many values there can be within those of a node.
func bound(s *Schema, times *uint64) *uint64 {
	most := int64(1)
	switch {
	case times == nil:
		return nil
	case s.jsonType() == "array" && s.props.MaxItems == nil, s.jsonType() == "object" && s.props.AdditionalProperties != nil && s.props.MaxProperties == nil:
		return nil
	case s.jsonType() == "array":
		most = *s.props.MaxItems
	case s.jsonType() == "object" && s.props.AdditionalProperties != nil:
		most = *s.props.MaxProperties
	}
	product := multiply(*times, uint64(max(most, 0)))
	return &product
}

func multiply(a, b uint64) uint64 {
	if a != 0 && b > math.MaxUint64/a {
		return math.MaxUint64
	}
	return a * b
}

func (c *ruleCheck) rules(s, node *Schema, path *field.Path, whole bool, times *uint64, lost *field.Path) {
	set := s.compileRules(node, whole, c.stored)
	if set.failed != nil {
		c.errs = append(c.errs, field.InternalError(path, fmt.Errorf("internal error: failed to construct type information for x-kubernetes-validations rules: %w", set.failed)))
		return
	}
	if len(set.rules) == 0 {
		return
	}
	often := uint64(0)
	if times != nil {
		often = *times
	} else if declared := node.declared(whole); declared != nil {
		often = uint64(celconfig.MaxRequestSizeBytes / (declared.MinSerializedSize + 1))
	}
	for i := range set.rules {
		r, at := &set.rules[i], path.Index(i)
		c.spend(at.Child("rule"), "estimated rule cost", multiply(r.cost, often))
		if r.fault != "" {
			c.errs = append(c.errs, field.Invalid(at.Child("rule"), shown(r.source), r.fault))
		}
		if r.messageFault != "" {
			c.errs = append(c.errs, field.Invalid(at.Child("messageExpression"), shown(r.source), r.messageFault))
		} else if r.message != nil {
			c.spend(at.Child("messageExpression"), "estimated messageExpression cost", r.messageCost)
		}
		switch {
		case r.usesOld && lost != nil:
			c.errs = append(c.errs, field.Invalid(at.Child("rule"), r.source.Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", lost)))
		case !r.usesOld && r.source.OptionalOldSelf != nil:
			c.errs = append(c.errs, field.Invalid(at.Child("optionalOldSelf"), *r.source.OptionalOldSelf, "may not be set if oldSelf is not used in rule"))
		}
	}
}

func (c *ruleCheck) spend(path *field.Path, what string, cost uint64) {
	if cost > ruleCost && !c.unchanged {
		c.errs = append(c.errs, field.Forbidden(path, exceeds(what, cost, ruleCost)))
	}
	if c.sum += cost; c.sum < cost {
		c.sum = math.MaxUint64
	}
	if cost >= definitionCost/100 {
		c.dear = append(c.dear, ruleSum{path, cost})
	}
}

// total refuses rules that cost too much together, and names the dearest.
func (c *ruleCheck) total(path *field.Path) (errs field.ErrorList) {
	if c.sum <= definitionCost {
		return nil
	}
	slices.SortStableFunc(c.dear, func(a, b ruleSum) int {
		switch {
		case a.cost > b.cost:
			return -1
		case a.cost < b.cost:
			return 1
		}
		return 0
	})
	for _, d := range c.dear[:min(len(c.dear), 4)] {
		errs = append(errs, field.Forbidden(d.path, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"))
	}
	return append(errs, field.Forbidden(path, exceeds("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", c.sum, definitionCost)))
}

func exceeds(what string, cost, limit uint64) string {
	times := float64(cost) / float64(limit)
	factor := fmt.Sprintf("%.1fx", times)
	switch {
	case times > 100:
		factor = "more than 100x"
	case times < 1.5:
		factor = fmt.Sprintf("%fx", times)
	}
	return fmt.Sprintf("%s exceeds budget by factor of %s (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)", what, factor)
}

// shown is a rule as messages spell it.
func shown(r *apiextensionsv1.ValidationRule) any {
	return struct {
		Rule, Message, MessageExpression string
		Reason                           *apiextensionsv1.FieldValueErrorReason
		FieldPath                        string
		OptionalOldSelf                  *bool
	}{r.Rule, r.Message, r.MessageExpression, r.Reason, r.FieldPath, r.OptionalOldSelf}
}

// Expressions notes all CEL expressions of a schema.
func Expressions(p *Props, into map[string]bool) {
	if p == nil {
		return
	}
	for _, r := range p.XValidations {
		into[r.Rule], into[r.MessageExpression] = true, true
	}
	for _, name := range sortedProps(p.Properties) {
		child := p.Properties[name]
		Expressions(&child, into)
	}
	if p.Items != nil {
		Expressions(p.Items.Schema, into)
	}
	if p.AdditionalProperties != nil {
		Expressions(p.AdditionalProperties.Schema, into)
	}
	for i := range p.AllOf {
		Expressions(&p.AllOf[i], into)
	}
}
