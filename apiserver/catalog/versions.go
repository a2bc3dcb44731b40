package catalog

import (
	"context"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// Versions knows which kinds are the same objects in other versions, and how to get from
// one to the other: for admission, which shows an object as a webhook or policy knows it.
// Safe for concurrent use.
type Versions struct {
	catalog *Catalog
	current atomic.Pointer[index]
}

// index is one state, by what is asked for.
type index struct {
	state  *State
	stored map[schema.GroupResource][]*api.Kind
	kinds  map[schema.GroupVersionKind]*api.Kind
}

// NewVersions follows a catalog.
func NewVersions(c *Catalog) *Versions { return &Versions{catalog: c} }

func storage(k *api.Kind) schema.GroupResource {
	gr := k.GroupResource()
	if k.Stored != nil {
		gr.Group = k.Stored.Group
	}
	return gr
}

func (v *Versions) index() *index {
	state := v.catalog.State()
	if i := v.current.Load(); i != nil && i.state == state {
		return i
	}
	i := &index{state: state, stored: map[schema.GroupResource][]*api.Kind{}, kinds: map[schema.GroupVersionKind]*api.Kind{}}
	for _, k := range state.Kinds {
		i.kinds[k.GroupVersionKind] = k
		if k.Virtual == nil {
			i.stored[storage(k)] = append(i.stored[storage(k)], k)
		}
	}
	v.current.Store(i)
	return i
}

// Equivalents are the other kinds that the same stored objects are served as.
func (v *Versions) Equivalents(k *api.Kind) []*api.Kind {
	var out []*api.Kind
	if k.Virtual != nil {
		return nil
	}
	for _, other := range v.index().stored[storage(k)] {
		if other.GroupVersionKind != k.GroupVersionKind {
			out = append(out, other)
		}
	}
	return out
}

// Find gives the kind of a name, nil when it is not served.
func (v *Versions) Find(gvk schema.GroupVersionKind) *api.Kind { return v.index().kinds[gvk] }

// Convert gives an object, which may be changed, as another of its kind's Equivalents.
func (v *Versions) Convert(ctx context.Context, obj api.Object, from, to *api.Kind) (api.Object, error) {
	if from.Custom != nil {
		return from.Custom.Convert(ctx, obj, to.GroupVersion())
	}
	if from.ToStored != nil {
		obj = from.ToStored(obj)
	}
	if to.FromStored != nil {
		obj = to.FromStored(obj)
	}
	return obj, nil
}

// View gives a stored object as the kind; it is read-only.
func (v *Versions) View(ctx context.Context, k *api.Kind, stored api.Object) (api.Object, error) {
	if k.Custom == nil {
		if k.FromStored != nil {
			return k.FromStored(stored), nil
		}
		return stored, nil
	}
	if k.Custom.Own(stored) {
		return stored, nil
	}
	all, err := k.Custom.View(ctx, []api.Object{stored})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Tidy brings an object that admission changed into form: without fields that are none,
// and with its defaults.
func (v *Versions) Tidy(k *api.Kind, obj api.Object) error {
	if k.Custom != nil {
		if _, err := k.Custom.Admit(obj); err != nil { // what it does not know, it drops
			return err
		}
	}
	k.Default(obj)
	return nil
}
