package policy

import (
	"github.com/google/cel-go/common/types/ref"

	"github.com/proa-dev/proa/internal/expression"
)

// evaluate runs a program, or says why there is none.
func evaluate(run *expression.Run, p program) (ref.Val, error) {
	if p.err != nil {
		return nil, p.err
	}
	return run.Eval(p.Program)
}
