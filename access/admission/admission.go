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
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	// ObjectKind is what Object and Old are where they are not of Kind: the body of a
	// subresource (Scale, Eviction, PodExecOptions). Zero: they are of Kind.
	ObjectKind schema.GroupVersionKind
	// Warn adds a Warning header to the answer.
	Warn func(text string)
	// Annotate adds an annotation to the request's audit events; nil: nobody keeps them.
	Annotate func(key, value string)
	// Observer is told what took how long; nil: nobody is.
	Observer Observer

	again, second bool
	kept          map[any]any
}

// GVK is the kind of Object and Old.
func (a *Attributes) GVK() schema.GroupVersionKind {
	if a.ObjectKind.Empty() {
		return a.Kind.GroupVersionKind
	}
	return a.ObjectKind
}

// annotate is Annotate when somebody keeps annotations.
func (a *Attributes) annotate(key, value string) {
	if a.Annotate != nil {
		a.Annotate(key, value)
	}
}

// Whole says that Object and Old are objects of Kind, not the body of a subresource.
func (a *Attributes) Whole() bool { return a.ObjectKind.Empty() }

// Again has all mutators asked a second time, because this one changed what others have seen.
func (a *Attributes) Again() { a.again = true }

// Second says that this is the second time.
func (a *Attributes) Second() bool { return a.second }

// Keep remembers something of a step's first time for its second; see Kept.
func (a *Attributes) Keep(key, value any) {
	if a.kept == nil {
		a.kept = map[any]any{}
	}
	a.kept[key] = value
}

// Kept is what Keep was given, or nil.
func (a *Attributes) Kept(key any) any { return a.kept[key] }

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
	Off bool // unless enabled, see Switched
}

// Chain runs the steps in order: all mutators, later all validators.
type Chain []Step

// Mutate asks each mutator in order and stops at the first error; all a second time when
// one of them wants it.
func (c Chain) Mutate(ctx context.Context, a *Attributes) error {
	a.again, a.second = false, false
	return c.phase(a, Admit, func(s *Step) (bool, error) {
		if s.Mutator == nil {
			return false, nil
		}
		return true, s.Mutator.Mutate(ctx, a)
	})
}

// Validate asks each validator in order and stops at the first error.
func (c Chain) Validate(ctx context.Context, a *Attributes) error {
	return c.phase(a, Validate, func(s *Step) (bool, error) {
		if s.Validator == nil {
			return false, nil
		}
		return true, s.Validator.Validate(ctx, a)
	})
}

// phase asks each step and tells the observer how long it took.
func (c Chain) phase(a *Attributes, phase Phase, ask func(*Step) (asked bool, err error)) error {
	watch := stopwatch{a: a, phase: phase}
	begun := watch.start()
	err := c.each(ask, &watch)
	if err == nil && phase == Admit && a.again {
		a.second = true
		err = c.each(ask, &watch)
	}
	if a.Observer != nil {
		a.Observer.Phase(phase, a.Operation, err != nil, watch.last.Sub(begun))
	}
	return err
}

func (c Chain) each(ask func(*Step) (asked bool, err error), watch *stopwatch) error {
	for i := range c {
		asked, err := ask(&c[i])
		if asked {
			watch.lap(c[i].Name, err != nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
