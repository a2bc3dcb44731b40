package access

import (
	"context"

	"github.com/proa-dev/proa/apis/api"
)

// Authorizers asks one after the other: the first that allows or denies decides.
type Authorizers []Authorizer

// Authorize gives, when nobody has an opinion, the reasons of all.
func (list Authorizers) Authorize(ctx context.Context, a *Attributes) (Decision, string) {
	var reasons string
	for _, z := range list {
		d, reason := z.Authorize(ctx, a)
		if d != NoOpinion {
			return d, reason
		}
		if reason != "" {
			if reasons != "" {
				reasons += ", "
			}
			reasons += reason
		}
	}
	return NoOpinion, reasons
}

// masters allows everything to system:masters, whatever the stored roles say: the way back
// in for an administrator who locked himself out.
type masters struct{}

func (masters) Authorize(_ context.Context, a *Attributes) (Decision, string) {
	if a.User != nil && hasGroup(a.User, Masters) {
		return Allow, ""
	}
	return NoOpinion, ""
}

// always decides everything alike.
type always struct {
	decision Decision
	reason   string
}

func (f always) Authorize(context.Context, *Attributes) (Decision, string) {
	return f.decision, f.reason
}

// Builtin are the authorizers that a configuration can name, by type.
func Builtin(reader api.Reader, rbac *RBAC) map[string]Authorizer {
	return map[string]Authorizer{
		"Node": NewNode(reader), "RBAC": rbac,
		"AlwaysAllow": always{Allow, ""}, "AlwaysDeny": always{NoOpinion, "Everything is forbidden."},
	}
}

// NewAuthorizer is the chain of a cluster: system:masters, then those given; by default
// nodes and RBAC.
func NewAuthorizer(reader api.Reader, rbac *RBAC, given ...Authorizer) Authorizers {
	if len(given) == 0 {
		given = []Authorizer{NewNode(reader), rbac}
	}
	return append(Authorizers{masters{}}, given...)
}
