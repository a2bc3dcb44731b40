package oidc

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/internal/expression"
)

// rules are a JWTAuthenticator, compiled.
type rules struct {
	username, groups, uid value
	extra                 []extraRule
	claims                []check
	user                  []check
}

// value is a claim, with a prefix, or an expression; neither: nothing.
type value struct {
	claim, prefix string
	program       *expression.Single
}

type extraRule struct {
	key     string
	program *expression.Single
}

// check is a claim that must have a value, or an expression that must be true.
type check struct {
	claim, required string
	program         *expression.Single
	message         string
}

// compiler collects what is wrong while it compiles.
type compiler struct {
	claims, user *expression.Env
	errs         field.ErrorList
}

func newCompiler() (*compiler, error) {
	claims, err := expression.NewEnv("claims", expression.ClaimsType())
	if err != nil {
		return nil, err
	}
	user, err := expression.NewEnv("user", expression.UserType())
	return &compiler{claims: claims, user: user}, err
}

func (c *compiler) bad(p *field.Path, v any, why string) {
	c.errs = append(c.errs, field.Invalid(p, v, why))
}

func (c *compiler) compile(env *expression.Env, source string, p *field.Path, returns ...*cel.Type) *expression.Single {
	single, err := env.Compile(source, returns...)
	if err != nil {
		c.bad(p, source, err.Error())
	}
	return single
}

func (c *compiler) rules(j *apiserverv1.JWTAuthenticator, p *field.Path) *rules {
	out, m := &rules{}, p.Child("claimMappings")
	text := []*cel.Type{cel.StringType, cel.DynType}
	lists := append([]*cel.Type{cel.ListType(cel.StringType), cel.ListType(cel.DynType)}, text...)
	out.username = c.prefixed(j.ClaimMappings.Username, m.Child("username"), true, text)
	out.groups = c.prefixed(j.ClaimMappings.Groups, m.Child("groups"), false, lists)
	uid := j.ClaimMappings.UID
	out.uid = c.prefixed(apiserverv1.PrefixedClaimOrExpression{Claim: uid.Claim, Expression: uid.Expression, Prefix: new(string)}, m.Child("uid"), false, text)
	out.extra = c.extra(j.ClaimMappings.Extra, m.Child("extra"), lists)
	out.claims = c.claimRules(j.ClaimValidationRules, p.Child("claimValidationRules"))
	out.user = c.userRules(j.UserValidationRules, p.Child("userValidationRules"))
	c.verifiedEmail(out, m.Child("username", "expression"))
	return out
}

func (c *compiler) prefixed(v apiserverv1.PrefixedClaimOrExpression, p *field.Path, required bool, returns []*cel.Type) value {
	switch {
	case v.Claim != "" && v.Expression != "":
		c.bad(p, "", "claim and expression can't both be set")
	case v.Claim == "" && v.Expression == "":
		if required {
			c.errs = append(c.errs, field.Required(p, "claim or expression is required"))
		}
	case v.Expression != "":
		if v.Prefix != nil && *v.Prefix != "" {
			c.bad(p.Child("prefix"), *v.Prefix, "may not be specified when expression is set")
		}
		return value{program: c.compile(c.claims, v.Expression, p.Child("expression"), returns...)}
	case v.Prefix == nil:
		c.errs = append(c.errs, field.Required(p.Child("prefix"), "prefix is required when claim is set. It can be set to an empty string to disable prefixing"))
	default:
		return value{claim: v.Claim, prefix: *v.Prefix}
	}
	return value{}
}

func (c *compiler) extra(list []apiserverv1.ExtraMapping, p *field.Path, returns []*cel.Type) []extraRule {
	var out []extraRule
	seen := map[string]bool{}
	for i, e := range list {
		key := p.Index(i).Child("key")
		c.errs = append(c.errs, validation.IsDomainPrefixedPath(key, e.Key)...)
		domain, _, _ := strings.Cut(e.Key, "/")
		switch {
		case e.Key != strings.ToLower(e.Key):
			c.bad(key, e.Key, "must be lowercase")
		case isReserved(domain):
			c.bad(key, e.Key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use")
		case seen[e.Key]:
			c.errs = append(c.errs, field.Duplicate(key, e.Key))
		}
		seen[e.Key] = true
		if e.ValueExpression == "" {
			c.errs = append(c.errs, field.Required(p.Index(i).Child("valueExpression"), ""))
			continue
		}
		out = append(out, extraRule{e.Key, c.compile(c.claims, e.ValueExpression, p.Index(i).Child("valueExpression"), returns...)})
	}
	return out
}

func isReserved(domain string) bool {
	for _, d := range []string{"k8s.io", "kubernetes.io"} {
		if domain == d || strings.HasSuffix(domain, "."+d) {
			return true
		}
	}
	return false
}

func (c *compiler) claimRules(list []apiserverv1.ClaimValidationRule, p *field.Path) []check {
	var out []check
	seen := map[string]bool{}
	for i, r := range list {
		p := p.Index(i)
		switch {
		case r.Claim != "" && r.Expression != "":
			c.bad(p, r.Claim, "claim and expression can't both be set")
		case r.Claim == "" && r.Expression == "":
			c.errs = append(c.errs, field.Required(p, "claim or expression is required"))
		case r.Claim != "":
			if r.Message != "" {
				c.bad(p.Child("message"), r.Message, "may not be specified when claim is set")
			}
			if seen["claim "+r.Claim] {
				c.errs = append(c.errs, field.Duplicate(p.Child("claim"), r.Claim))
			}
			seen["claim "+r.Claim] = true
			out = append(out, check{claim: r.Claim, required: r.RequiredValue})
		default:
			if r.RequiredValue != "" {
				c.bad(p.Child("requiredValue"), r.RequiredValue, "may not be specified when expression is set")
			}
			if seen[r.Expression] {
				c.errs = append(c.errs, field.Duplicate(p.Child("expression"), r.Expression))
			}
			seen[r.Expression] = true
			out = append(out, check{program: c.compile(c.claims, r.Expression, p.Child("expression"), cel.BoolType), message: r.Message})
		}
	}
	return out
}

func (c *compiler) userRules(list []apiserverv1.UserValidationRule, p *field.Path) []check {
	var out []check
	seen := map[string]bool{}
	for i, r := range list {
		at := p.Index(i).Child("expression")
		switch {
		case r.Expression == "":
			c.errs = append(c.errs, field.Required(at, ""))
			continue
		case seen[r.Expression]:
			c.errs = append(c.errs, field.Duplicate(at, r.Expression))
		}
		seen[r.Expression] = true
		out = append(out, check{program: c.compile(c.user, r.Expression, at, cel.BoolType), message: r.Message})
	}
	return out
}

// verifiedEmail: whoever names users by their mail address must ask whether it is verified.
func (c *compiler) verifiedEmail(r *rules, p *field.Path) {
	if !names(r.username.program, "email") || names(r.username.program, "email_verified") {
		return
	}
	for _, e := range r.extra {
		if names(e.program, "email_verified") {
			return
		}
	}
	for _, v := range r.claims {
		if names(v.program, "email_verified") {
			return
		}
	}
	c.bad(p, r.username.program.Source, fmt.Sprintf("claims.email_verified must be used in %s or %s or %s when claims.email is used in %s",
		"claimMappings.username.expression", "claimMappings.extra[*].valueExpression", "claimValidationRules[*].expression", "claimMappings.username.expression"))
}

// names says whether an expression looks at a claim.
func names(s *expression.Single, claim string) bool {
	if s == nil {
		return false
	}
	found := false
	ast.PreOrderVisit(s.AST.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			sel := e.AsSelect()
			found = found || sel.FieldName() == claim && isClaims(sel.Operand())
		case ast.CallKind:
			args := e.AsCall().Args()
			found = found || len(args) == 2 && isClaims(args[0]) && args[1].Kind() == ast.LiteralKind && args[1].AsLiteral().Value() == claim
		}
	}))
	return found
}

func isClaims(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "claims" }
