package oidc

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/proa-dev/proa/apis/api"
)

// person makes a user of claims whose signature, issuer, audience and times were checked.
func (r *rules) person(ctx context.Context, claims map[string]any) (*api.User, error) {
	name, err := r.username.text(ctx, claims)
	if err != nil {
		return nil, fmt.Errorf("username: %w", err)
	}
	if name == "" {
		return nil, errors.New("the username is empty")
	}
	if r.username.claim == "email" {
		if verified, ok := claims["email_verified"]; ok && verified != true {
			return nil, errors.New("email not verified")
		}
	}
	u := &api.User{Name: name}
	if u.Groups, err = r.groups.list(ctx, claims); err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	if u.UID, err = r.uid.text(ctx, claims); err != nil {
		return nil, fmt.Errorf("uid: %w", err)
	}
	for _, e := range r.extra {
		values, err := (value{program: e.program}).list(ctx, claims)
		if err != nil {
			return nil, fmt.Errorf("extra %s: %w", e.key, err)
		}
		if len(values) == 0 {
			continue
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[e.key] = values
	}
	if err := passes(ctx, r.claims, claims, claims); err != nil {
		return nil, err
	}
	return u, passes(ctx, r.user, nil, forRules(u))
}

// forRules is a user as expressions see it.
func forRules(u *api.User) map[string]any {
	return map[string]any{"username": u.Name, "uid": u.UID, "groups": u.Groups, "extra": u.Extra}
}

func passes(ctx context.Context, list []check, claims map[string]any, variable any) error {
	for _, c := range list {
		if c.program == nil {
			if got, ok := claims[c.claim].(string); !ok || got != c.required {
				return fmt.Errorf("required claim %s does not have the value %q", c.claim, c.required)
			}
			continue
		}
		ok, err := c.program.True(ctx, variable)
		switch {
		case err != nil:
			return err
		case !ok && c.message != "":
			return errors.New("validation expression '" + c.program.Source + "' failed: " + c.message)
		case !ok:
			return errors.New("validation expression '" + c.program.Source + "' failed")
		}
	}
	return nil
}

func (v value) text(ctx context.Context, claims map[string]any) (string, error) {
	switch {
	case v.claim != "":
		got, ok := claims[v.claim]
		if !ok {
			return "", fmt.Errorf("claim %q is not there", v.claim)
		}
		s, ok := got.(string)
		if !ok {
			return "", fmt.Errorf("claim %q is not a string", v.claim)
		}
		if s == "" {
			return "", nil
		}
		return v.prefix + s, nil
	case v.program == nil:
		return "", nil
	}
	out, err := v.program.Eval(ctx, claims)
	if err != nil {
		return "", err
	}
	s, ok := out.Value().(string)
	if !ok {
		return "", fmt.Errorf("expression '%s' gives no string but %s", v.program.Source, out.Type())
	}
	return s, nil
}

// list is a string or several; what is not there or null is none.
func (v value) list(ctx context.Context, claims map[string]any) ([]string, error) {
	switch {
	case v.claim != "":
		return claimList(claims[v.claim], v.prefix)
	case v.program == nil:
		return nil, nil
	}
	out, err := v.program.Eval(ctx, claims)
	if err != nil {
		return nil, err
	}
	return stringsOf(out)
}

func claimList(claim any, prefix string) ([]string, error) {
	switch claim := claim.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{prefix + claim}, nil
	case []any:
		out := make([]string, 0, len(claim))
		for _, item := range claim {
			s, ok := item.(string)
			if !ok {
				return nil, errors.New("the claim holds what is not a string")
			}
			out = append(out, prefix+s)
		}
		return out, nil
	}
	return nil, errors.New("the claim is neither a string nor a list of strings")
}

func stringsOf(v ref.Val) ([]string, error) {
	switch v := v.(type) {
	case types.String:
		if v == "" {
			return nil, nil
		}
		return []string{string(v)}, nil
	case types.Null:
		return nil, nil
	case traits.Lister:
		var out []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			s, ok := it.Next().(types.String)
			if !ok {
				return nil, errors.New("a list holds what is not a string")
			}
			if s != "" {
				out = append(out, string(s))
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("neither a string nor a list of strings but %s", v.Type())
}
