package schema

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

// Names of the variables of rules.
const (
	selfName    = "self"
	oldSelfName = "oldSelf"
)

// ruleSet is the compiled rules of one node, in their order.
type ruleSet struct {
	failed  error // of all of them
	rules   []compiledRule
	usesOld bool
}

// compiledRule is one rule; program is nil for an empty one and one with a fault.
type compiledRule struct {
	source       *apiextensionsv1.ValidationRule
	program      cel.Program
	fault        string
	usesOld      bool
	cost         uint64 // at most, for one evaluation
	message      cel.Program
	messageFault string
	messageCost  uint64
}

// isStored says of an expression that it was accepted before, by perhaps an older or newer
// server: then it is compiled with all that any server knows.
type isStored func(expression string) bool

func always(string) bool { return true }

// environments gives the base of all rules' environments; made on first use, as it is large.
var environments = sync.OnceValue(func() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
})

// declared is the CEL type of values of a node, nil when rules cannot see them.
func (s *Schema) declared(whole bool) *apiservercel.DeclType {
	return common.SchemaDeclType(typed{s}, whole)
}

// compileRules compiles the rules of a node, whose values are of the schema node (the same but within allOf).
func (s *Schema) compileRules(node *Schema, whole bool, stored isStored) *ruleSet {
	set := &ruleSet{}
	if len(s.props.XValidations) == 0 {
		return set
	}
	self := node.declared(whole)
	if self == nil {
		set.failed = fmt.Errorf("unable to convert structural schema to CEL declarations")
		return set
	}
	named := self.MaybeAssignTypeName("selfType")
	plain, err := withVariables(named, named.CelType())
	if err != nil {
		set.failed = err
		return set
	}
	optional, err := withVariables(named, types.NewOptionalType(named.CelType()))
	if err != nil {
		set.failed = err
		return set
	}
	costs := &library.CostEstimator{SizeEstimator: sizes{self}}
	for i := range s.props.XValidations {
		source := &s.props.XValidations[i]
		env := plain
		if isTrue(source.OptionalOldSelf) {
			env = optional
		}
		one := compileRule(source, env, costs, stored)
		set.usesOld = set.usesOld || one.usesOld
		set.rules = append(set.rules, one)
	}
	return set
}

func withVariables(self *apiservercel.DeclType, old *cel.Type) (*environment.EnvSet, error) {
	return environments().Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        []cel.EnvOption{cel.Variable(selfName, self.CelType()), cel.Variable(oldSelfName, old)},
		DeclTypes:         []*apiservercel.DeclType{self},
	})
}

func envFor(set *environment.EnvSet, expression string, stored isStored) *cel.Env {
	if stored(expression) {
		return set.StoredExpressionsEnv()
	}
	return set.NewExpressionsEnv()
}

func compileRule(source *apiextensionsv1.ValidationRule, set *environment.EnvSet, costs *library.CostEstimator, stored isStored) compiledRule {
	c := compiledRule{source: source}
	if strings.TrimSpace(source.Rule) == "" {
		return c
	}
	env := envFor(set, source.Rule, stored)
	ast, issues := env.Compile(source.Rule)
	switch {
	case issues != nil:
		c.fault = "compilation failed: " + issues.String()
		return c
	case ast.OutputType() != cel.BoolType:
		c.fault = "cel expression must evaluate to a bool"
		return c
	}
	for _, ref := range ast.NativeRep().ReferenceMap() {
		c.usesOld = c.usesOld || ref.Name == oldSelfName
	}
	program, cost, fault := programOf(env, ast, costs, "")
	if fault != "" {
		c.fault = fault
		return c
	}
	c.program, c.cost = program, cost
	if source.MessageExpression == "" {
		return c
	}
	env = envFor(set, source.MessageExpression, stored)
	ast, issues = env.Compile(source.MessageExpression)
	switch {
	case issues != nil:
		c.messageFault = "messageExpression compilation failed: " + issues.String()
	case ast.OutputType() != cel.StringType:
		c.messageFault = "messageExpression must evaluate to a string"
	default:
		c.message, c.messageCost, c.messageFault = programOf(env, ast, costs, "messageExpression ")
	}
	return c
}

// programOf makes a program with its limits, and estimates its cost.
func programOf(env *cel.Env, ast *cel.Ast, costs *library.CostEstimator, what string) (cel.Program, uint64, string) {
	if what == "" {
		what = "program "
	}
	program, err := env.Program(ast, cel.CostLimit(celconfig.PerCallLimit), cel.CostTracking(costs), cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, 0, what + "instantiation failed: " + err.Error()
	}
	estimate, err := env.EstimateCost(ast, costs)
	if err != nil {
		return nil, 0, "cost estimation failed: " + err.Error()
	}
	return program, estimate.Max, ""
}

// sizes tells the cost estimator how large what it finds by a path can be.
type sizes struct{ root *apiservercel.DeclType }

func (s sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 {
		return nil
	}
	at := s.root
	for _, name := range path[1:] { // the first is the variable
		switch name {
		case "@items", "@values":
			at = at.ElemType
		case "@keys":
			at = at.KeyType
		default:
			f, ok := at.Fields[name]
			if !ok {
				return nil
			}
			at = f.Type
		}
		if at == nil {
			return nil
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(at.MaxElements)}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
