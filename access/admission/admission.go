// Package admission looks at each object on its way in: first it may change it, then
// refuse it. One ordered list (see Chain), because the order is part of the meaning.
//
// The one idea: a step is a small value that knows nothing of HTTP or storage; it reads
// cached state through api.Reader and is told everything else in Attributes.
//
// Used by apiserver between decoding and validation.
package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// Operation is what is done to the object.
type Operation string

// The operations of the admission API.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes describe one write on its way in.
type Attributes struct {
	Kind        *api.Kind // of the resource in the URL
	Subresource string
	Namespace   string
	Name        string // empty on create with generateName
	Operation   Operation
	// Object is the new object (of a subresource: its body, such as a Binding or Eviction);
	// Mutate may change it. Nil on delete. Old is the stored one, read-only; nil on create.
	Object  runtime.Object
	Old     api.Object
	User    *api.User
	DryRun  bool
	Options runtime.Object // CreateOptions, UpdateOptions, DeleteOptions
	// Warn adds a Warning header to the answer.
	Warn func(text string)
}

// Mutator changes objects. Errors are *apierrors.StatusError, as the client shall see them.
type Mutator interface {
	Mutate(ctx context.Context, a *Attributes) error
}

// Validator refuses objects.
type Validator interface {
	Validate(ctx context.Context, a *Attributes) error
}

// Step is one entry of the chain: a name and at least one of the two abilities.
type Step struct {
	Name string // as in upstream's --enable-admission-plugins: "NamespaceLifecycle"
	Mutator
	Validator
}

// Chain runs the steps in order: all mutators, later all validators.
type Chain []Step

// Mutate asks each mutator in order and stops at the first error.
func (c Chain) Mutate(ctx context.Context, a *Attributes) error {
	for _, s := range c {
		if s.Mutator != nil {
			if err := s.Mutator.Mutate(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Validate asks each validator in order and stops at the first error.
func (c Chain) Validate(ctx context.Context, a *Attributes) error {
	for _, s := range c {
		if s.Validator != nil {
			if err := s.Validator.Validate(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}
