package expression

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Env compiles expressions over one variable that is not about admission: the claims of a
// token, a user, a question to an authorizer. Safe for concurrent use.
type Env struct {
	name string
	env  *cel.Env
}

// NewEnv makes an environment whose expressions see one variable of a type.
func NewEnv(name string, t *apicel.DeclType) (*Env, error) {
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: always, EnvOptions: []cel.EnvOption{cel.Variable(name, t.CelType())}, DeclTypes: []*apicel.DeclType{t},
	})
	if err != nil {
		return nil, fmt.Errorf("declare %s: %w", name, err)
	}
	return &Env{name: name, env: set.StoredExpressionsEnv()}, nil
}

// Single is a compiled expression over one variable.
type Single struct {
	Source  string
	AST     *cel.Ast
	name    string
	program cel.Program
}

// Compile compiles an expression that gives one of the types.
func (e *Env) Compile(source string, returns ...*cel.Type) (*Single, error) {
	ast, issues := e.env.Compile(source)
	if issues != nil {
		return nil, fmt.Errorf("compilation failed: %s", issues.String())
	}
	if !gives(ast.OutputType(), returns) {
		if len(returns) == 1 {
			return nil, fmt.Errorf("must evaluate to %v", returns[0])
		}
		return nil, fmt.Errorf("must evaluate to one of %v", returns)
	}
	program, err := e.env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency), cel.CostLimit(celconfig.RuntimeCELCostBudget))
	if err != nil {
		return nil, fmt.Errorf("program instantiation failed: %w", err)
	}
	return &Single{Source: source, AST: ast, name: e.name, program: program}, nil
}

// Eval evaluates it for a value of the variable.
func (s *Single) Eval(ctx context.Context, value any) (ref.Val, error) {
	v, _, err := s.program.ContextEval(ctx, map[string]any{s.name: value})
	if err != nil {
		return nil, fmt.Errorf("expression '%s' resulted in error: %w", s.Source, err)
	}
	return v, nil
}

// True evaluates an expression that gives a bool.
func (s *Single) True(ctx context.Context, value any) (bool, error) {
	v, err := s.Eval(ctx, value)
	if err != nil {
		return false, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, errors.New("expression '" + s.Source + "' did not give a bool")
	}
	return b, nil
}

// UserType is a user with all parts optional, as Kubernetes' authentication expressions see it.
func UserType() *apicel.DeclType {
	text := apicel.StringType
	return structType("UserInfo", fields{"username": text, "uid": text, "groups": list(text), "extra": table(list(text))},
		"username", "uid", "groups", "extra")
}

// ClaimsType is what the claims of a token are: anything, so that lists in them can be walked through.
func ClaimsType() *apicel.DeclType { return table(apicel.DynType) }
