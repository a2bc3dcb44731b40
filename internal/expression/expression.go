// Package expression compiles and runs the CEL expressions of admission: the match
// conditions of webhooks, and everything in admission policies.
//
// The one idea: compiling is pure and its result is kept by whoever owns the expression;
// running binds one request's values and counts what it costs, so that no request pays
// more than its budget.
//
// Used by apis/admissionregistration (to refuse what does not compile) and by access
// (to decide).
package expression

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Names of the variables that expressions see.
const (
	object, oldObject, params     = "object", "oldObject", "params"
	request, namespaceObject      = "request", "namespaceObject"
	authorizer, requestAuthorizer = "authorizer", "authorizer.requestResource"
	variables                     = "variables"
)

// Budgets, in CEL's cost units.
const (
	Budget                = celconfig.RuntimeCELCostBudget                // of all expressions of a policy in one request
	BudgetMatchConditions = celconfig.RuntimeCELCostBudgetMatchConditions // of the match conditions of one webhook or policy
)

// Uses says which of the optional variables an expression may name.
type Uses struct {
	Params     bool
	Authorizer bool
	Patch      bool // the types Object and JSONPatch
}

// Program is a compiled expression; safe for concurrent use.
type Program struct {
	Source  string
	Output  *cel.Type
	program cel.Program
}

// Compiler compiles expressions. One with variables belongs to one policy: a variable can
// be named by what is compiled after it. Safe for concurrent use but for Variable.
type Compiler struct {
	vars   *apicel.DeclType // nil: none
	types  *Types           // nil: objects are not typed
	mu     sync.Mutex
	envs   map[Uses]*environment.EnvSet
	stored []Variable
}

// Variable is a named expression of a policy.
type Variable struct {
	Name    string
	Program *Program
	Err     error // why it does not compile
}

// Types are what object, oldObject and params are, for type checking.
type Types struct{ Object, Params *apicel.DeclType }

var shared = sync.OnceValue(func() *Compiler { return &Compiler{envs: map[Uses]*environment.EnvSet{}} })

// Plain gives the compiler of expressions without variables.
func Plain() *Compiler { return shared() }

// NewCompiler makes a compiler whose expressions may name variables.
func NewCompiler() *Compiler {
	return &Compiler{
		vars: apicel.NewObjectType("kubernetes.variables", map[string]*apicel.DeclField{}),
		envs: map[Uses]*environment.EnvSet{},
	}
}

// NewChecker makes a compiler that knows what types the objects have, and so finds fields that are not there.
func NewChecker(t Types) *Compiler {
	c := NewCompiler()
	c.types = &t
	return c
}

// Compile compiles an expression that gives one of the types. Errors say why it does not,
// in the words of Kubernetes ("compilation failed: ERROR: ...").
func (c *Compiler) Compile(source string, uses Uses, returns ...*cel.Type) (*Program, error) {
	env, err := c.env(uses)
	if err != nil {
		return nil, fmt.Errorf("unexpected error loading CEL environment: %w", err)
	}
	ast, issues := env.Compile(source)
	if issues != nil {
		return nil, fmt.Errorf("compilation failed: %s", issues.String())
	}
	if !gives(ast.OutputType(), returns) {
		if len(returns) == 1 {
			return nil, fmt.Errorf("must evaluate to %v but got %v", returns[0], ast.OutputType())
		}
		return nil, fmt.Errorf("must evaluate to one of %v but got %v", returns, ast.OutputType())
	}
	program, err := env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, fmt.Errorf("program instantiation failed: %w", err)
	}
	return &Program{Source: source, Output: ast.OutputType(), program: program}, nil
}

func gives(got *cel.Type, wanted []*cel.Type) bool {
	for _, w := range wanted {
		if got.IsExactType(w) || cel.AnyType.IsExactType(w) {
			return true
		}
	}
	return false
}

// Variable compiles a variable; later expressions may name it.
func (c *Compiler) Variable(name, source string, uses Uses) error {
	p, err := c.Compile(source, uses, cel.AnyType, cel.DynType)
	if c.vars == nil {
		return fmt.Errorf("variable composition is not allowed")
	}
	output := apicel.DynType
	if p != nil {
		output = declared(p.Output)
	}
	c.vars.Fields[name] = apicel.NewDeclField(name, output, true, nil, nil)
	c.stored = append(c.stored, Variable{Name: name, Program: p, Err: err})
	return err
}

// Variables are those compiled so far, for Run.
func (c *Compiler) Variables() []Variable { return c.stored }

// VariablesType is the type of what Variables become.
func (c *Compiler) VariablesType() *apicel.DeclType { return c.vars }

// declared is the declaration of a type that an expression has.
func declared(t *cel.Type) *apicel.DeclType {
	if t == nil {
		return apicel.DynType
	}
	for from, to := range map[*cel.Type]*apicel.DeclType{
		cel.AnyType: apicel.AnyType, cel.BoolType: apicel.BoolType, cel.BytesType: apicel.BytesType, cel.DoubleType: apicel.DoubleType,
		cel.DurationType: apicel.DurationType, cel.IntType: apicel.IntType, cel.NullType: apicel.NullType,
		cel.StringType: apicel.StringType, cel.TimestampType: apicel.TimestampType, cel.UintType: apicel.UintType,
	} {
		if t == from {
			return to
		}
	}
	if !t.HasTrait(traits.ContainerType) || !t.HasTrait(traits.IndexerType) {
		return apicel.DynType
	}
	switch of := t.Parameters(); len(of) {
	case 1:
		return apicel.NewListType(declared(of[0]), -1)
	case 2:
		return apicel.NewMapType(declared(of[0]), declared(of[1]), -1)
	}
	return apicel.DynType
}

// env gives the environment with the variables, made on first use.
func (c *Compiler) env(uses Uses) (*cel.Env, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set, ok := c.envs[uses]
	if !ok {
		var err error
		if set, err = c.extend(uses); err != nil {
			return nil, err
		}
		c.envs[uses] = set
	}
	return set.NewExpressionsEnv(), nil
}

// always is the version that options have which hold whatever the cluster's version is.
var always = version.MajorMinor(1, 0)

func (c *Compiler) extend(uses Uses) (*environment.EnvSet, error) {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	requestType, namespaceType := requestType(), namespaceType()
	declared := []*apicel.DeclType{requestType, namespaceType}
	objectType, paramsType := cel.DynType, cel.DynType
	if t := c.types; t != nil {
		if t.Object != nil {
			objectType, declared = t.Object.CelType(), append(declared, t.Object)
		}
		if t.Params != nil {
			paramsType, declared = t.Params.CelType(), append(declared, t.Params)
		}
	}
	options := []cel.EnvOption{
		cel.Variable(object, objectType), cel.Variable(oldObject, objectType),
		cel.Variable(request, requestType.CelType()), cel.Variable(namespaceObject, namespaceType.CelType()),
	}
	if uses.Params {
		options = append(options, cel.Variable(params, paramsType))
	}
	if uses.Authorizer {
		options = append(options, cel.Variable(authorizer, library.AuthorizerType), cel.Variable(requestAuthorizer, library.ResourceCheckType))
	}
	if c.vars != nil {
		options, declared = append(options, cel.Variable(variables, c.vars.CelType())), append(declared, c.vars)
	}
	all := []environment.VersionedOptions{
		{IntroducedVersion: always, EnvOptions: options, DeclTypes: declared}, environment.StrictCostOpt,
	}
	set, err := base.Extend(all...)
	if err != nil || !uses.Patch {
		return set, err
	}
	return set.Extend(environment.VersionedOptions{IntroducedVersion: always, EnvOptions: []cel.EnvOption{
		common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), environment.UnversionedLib(library.JSONPatch),
	}})
}
