package api

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Custom is what a kind has more that is defined while the server runs. Its objects are
// *unstructured.Unstructured, and stored in whatever version they were written in.
type Custom struct {
	// View gives stored objects as they are in this version: converted, pruned and with their defaults. What
	// it gives is read-only, and may be what it was given. It may take as long as a webhook takes.
	View func(ctx context.Context, stored []Object) ([]Object, error)
	// ToStored gives what is stored of an object in this version.
	ToStored func(ctx context.Context, obj Object) (Object, error)
	// Convert gives an object of any version of the kind in another one.
	Convert func(ctx context.Context, obj Object, to schema.GroupVersion) (Object, error)
	// Own says that a stored object is the same in this version.
	Own func(stored Object) bool
	// Admit brings what a client sent into form: fields that the kind does not have are
	// removed, and unknown has their paths.
	Admit func(obj Object) (unknown []string, err error)
	// Types tell which fields of an object have which owner. It is called once, on first need.
	Types func() (managedfields.TypeConverter, error)
	// Slot is where this version's JSON is kept with an item; no other kind ever has the same.
	Slot int
	// Scaled tells why an object cannot be shown as a Scale.
	Scaled func(obj Object) error
	// Deprecated is what clients of this version are warned of.
	Deprecated string
	// Ending: the definition is being deleted, nothing new is created.
	Ending bool
}
